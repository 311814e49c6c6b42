"""A checkpoint is named by the beginning of its digest, and never another one."""

import pytest

from arena_core.domain.errors import Ambiguous, Conflict, Rejected
from arena_core.domain.experiment_commands import RecordCheckpoint
from arena_core.entrypoints.cli.digests import whole_digest
from unit.chains import Chain


@pytest.fixture
def chain(scene):
    """Return a pipeline whose second stage asks about the checkpoint `bbb...`."""
    chain = Chain.begin(scene)
    chain.insert()
    chain.insert(approval=True)
    chain.run(1, "b")
    chain.trigger(2)
    chain.step(2)
    return chain


@pytest.mark.parametrize("named", ["b" * 6, "b" * 10, "B" * 12, f" {'b' * 64} "])
def test_its_first_digits_name_the_checkpoint_that_a_stage_asks_about(chain, named):
    assert whole_digest(chain.use, chain.stage(2), named) == "b" * 64


@pytest.mark.parametrize("named", ["", "b" * 5, "beginning", "b" * 65, "-" * 6])
def test_what_begins_no_digest_is_refused_and_says_what_does(chain, named):
    with pytest.raises(Rejected, match="6 of its first digits at least"):
        whole_digest(chain.use, chain.stage(2), named)


@pytest.mark.parametrize("named", ["deadbeef", "c" * 64, "b" * 6 + "c"])
def test_another_checkpoint_is_refused_and_says_which_it_is_about(chain, named):
    with pytest.raises(Conflict, match=r"asks about bbbbbbbbbbbb at step 10.*another"):
        whole_digest(chain.use, chain.stage(2), named)


def test_what_several_begin_with_names_none_of_them(chain):
    other = "b" * 8 + "c" * 56
    chain.training(1).do(RecordCheckpoint(20, other, 1))
    with pytest.raises(Ambiguous, match=f"{'b' * 64}, {other}"):
        whole_digest(chain.use, chain.stage(2), "b" * 8)
    assert whole_digest(chain.use, chain.stage(2), "b" * 9) == "b" * 64


def test_a_beginning_from_scratch_is_no_checkpoint(chain):
    chain.use.pipelines.reject(chain.id, chain.stage(2).id)
    chain.edit(1, approval=True)
    chain.trigger(1)
    chain.step(1)
    with pytest.raises(Conflict, match="a beginning from scratch"):
        whole_digest(chain.use, chain.stage(1), "b" * 6)


def test_what_asks_nothing_is_left_to_who_refuses_that(chain):
    assert whole_digest(chain.use, chain.stage(1), "b" * 6) is None
