"""What the public client cannot show: square brackets, and addresses of an API."""

from datetime import UTC, datetime

import msgspec
import pytest

from arena_core.domain.errors import Rejected
from arena_core.entrypoints.http.arena_cli.experiments import ExperimentRow
from arena_core.entrypoints.http.errors import problem

REMEDY = "It is not installed: pip install 'arena-core[sb3]'"
PLAIN = "It is not installed: pip install 'arena-core(sb3)'"


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/api/v1/experiments", REMEDY),
        ("/api/cli/v1/experiments", PLAIN),
        ("/api/users/me", PLAIN),
        ("/inference/x/get_action", PLAIN),
        ("/v2/models/x", PLAIN),
    ],
)
def test_an_error_keeps_its_brackets_only_for_clients_that_show_it_as_it_is(
    path, shown
):
    answer = problem(Rejected(REMEDY), path)
    assert msgspec.json.decode(answer.body)["detail"] == shown


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/api/v1/experiments", "There is no http://h/api/v1/."),
        ("/api/cli/v1/experiments", "There is no http: //h/api/v1/."),
        ("/inference/x/get_action", "There is no http: //h/api/v1/."),
    ],
)
def test_a_name_that_is_an_address_does_not_hide_the_message(path, shown):
    answer = problem(Rejected("There is no http://h/api/v1/."), path)
    assert msgspec.json.decode(answer.body)["detail"] == shown


def test_the_public_client_is_told_reasons_without_brackets():
    row = ExperimentRow("1", "a", "b", "PPO", None, "Failed", REMEDY, datetime.now(UTC))
    assert row.reason == PLAIN
    now = datetime.now(UTC)
    assert ExperimentRow("1", "a", "b", "PPO", None, "Failed", None, now).reason is None
