"""Every shape of observation and action: the gate passes what is faithful."""

import pytest

from arena_core.domain.parity import Verdict
from unit.models import check

import shapes


@pytest.mark.parametrize(
    "write",
    [
        shapes.dict_policy,
        shapes.tuple_policy,
        shapes.image_policy,
        shapes.multi_discrete_policy,
        shapes.multi_binary_policy,
        shapes.scaled_policy,
        shapes.recurrent_policy,
        lambda folder: shapes.recurrent_policy(folder, masked=True),
        shapes.latent_policy,
        shapes.multi_agent_policy,
    ],
)
def test_what_answers_as_in_training_passes(tmp_path, write):
    found = check(write(tmp_path))
    assert found.difference is None
    assert found.verdict is Verdict.PASSED
