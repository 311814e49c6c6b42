"""What is missing here is said of a stage before it is queued, or else in its run."""

import pytest

from arena_core.domain.errors import Rejected
from unit.pipelines_at_work import Works


@pytest.fixture
def works(tmp_path):
    works = Works(tmp_path)
    yield works
    works.close()


def missing(setup):
    del setup
    raise Rejected("There is no dataset.", field="source.name")


def test_whoever_triggers_a_stage_is_told_and_nothing_is_queued(works):
    works.train()
    object.__setattr__(works.worker.core, "check_here", missing)
    with pytest.raises(Rejected, match="There is no dataset"):
        works.trigger()
    assert works.statuses() == ["NotStarted"]


def test_a_stage_that_starts_by_itself_fails_and_says_so(works):
    first = works.train()
    works.train()
    works.trigger()
    object.__setattr__(works.worker.core, "check_here", missing)
    works.succeed(first)
    assert works.statuses() == ["Succeeded", "Failed"]
    assert works.run(2).reason == "There is no dataset."
