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


@pytest.mark.parametrize("url", ["https://data.example.org/wine.csv", "s3://h/api/v1/"])
def test_what_the_public_client_shows_is_left_as_it_is(url):
    answer = problem(Rejected(f"There is no {url}."), "/api/cli/v1/experiments")
    assert msgspec.json.decode(answer.body)["detail"] == f"There is no {url}."


def test_a_field_that_is_an_address_is_pointed_at():
    answer = problem(Rejected("No.", field="env.http://h/api/v1/"), "/api/v1/x")
    pointers = [e["pointer"] for e in msgspec.json.decode(answer.body)["errors"]]
    assert pointers == ["/env/http:~1~1h~1api~1v1~1"]


def test_the_public_client_is_told_reasons_without_brackets():
    row = ExperimentRow("1", "a", "b", "PPO", None, "Failed", REMEDY, datetime.now(UTC))
    assert row.reason == PLAIN
    now = datetime.now(UTC)
    assert ExperimentRow("1", "a", "b", "PPO", None, "Failed", None, now).reason is None
