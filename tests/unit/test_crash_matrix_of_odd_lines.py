"""What fails, is stopped, retried or refused ends alike wherever its process dies."""

import shutil

import pytest
from attrs import evolve

from arena_core.adapters.blobs.files import FileBlobStore
from arena_core.domain.errors import Corrupt
from unit.lines import teach
from unit.matrices import ORDERS, Matrix
from unit.mortal import Fate
from unit.odd_lines import (
    Again,
    Decoded,
    Doomed,
    Taught,
    TurnedDown,
    Withdrawn,
    teach_a_decoder,
    teach_again,
    teach_wrongly,
)
from unit.power import power_never_fails

__all__ = ["power_never_fails"]

pytestmark = pytest.mark.usefixtures("power_never_fails")


@pytest.fixture(scope="module")
def again(tmp_path_factory):
    return Matrix.of(tmp_path_factory.mktemp("again"), Again, teach_again)


def test_what_is_retried_and_resumed_by_hand_has_run_three_times(again):
    life, _ = again.without_a_crash(1)
    ((status, _, number, attempt, *_),) = life.outcome.stages
    assert (status, number, attempt) == ("Succeeded", 3, 1)
    ((_, _, written, _),) = life.outcome.experiments
    assert [step for step, *_ in written] == [10, 20, 30]
    assert life.count("start") == [1, 1, 1]


@pytest.mark.slow
@pytest.mark.parametrize("seed", ORDERS)
def test_what_is_retried_and_resumed_ends_alike_wherever_its_process_dies(again, seed):
    for death in again.points(seed):
        again.check(seed, death)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "script", "expected"),
    [
        (
            TurnedDown,
            teach,
            [
                ("Stopped", "It was not approved."),
                ("Stopped", "The fitness 1 is below the least that is asked, 9."),
            ],
        ),
        (Doomed, teach_wrongly, [("Failed", "Parity failed: ")]),
        (Withdrawn, teach, [("Stopped", "It was stopped.")]),
        (Decoded, teach_a_decoder, [("Succeeded", "")]),
    ],
)
def test_what_follows_a_training_ends_alike_wherever_its_process_dies(
    kind, script, expected, tmp_path
):
    matrix = Matrix.behind(tmp_path, kind, script)
    life, _ = matrix.without_a_crash(1)
    _, *behind = life.outcome.stages
    for (status, *_, reason), (ends, because) in zip(behind, expected, strict=True):
        assert status == ends
        assert (reason or "").startswith(because)
    for seed in ORDERS:
        for death in matrix.points(seed):
            matrix.check(seed, death)


# --- in the middle of what it writes -------------------------------------------------


@pytest.fixture
def file_by_file(tmp_path):
    matrix = Matrix.of(tmp_path, Taught, teach)
    return evolve(matrix, file_by_file=True)


@pytest.mark.slow
@pytest.mark.parametrize("seed", ORDERS)
def test_it_ends_alike_though_its_process_dies_before_any_file_that_it_writes(
    file_by_file, seed
):
    _, points = file_by_file.without_a_crash(seed)
    within = {point.partition(":")[0] for point in points}
    for call in ("start", "put", "acknowledge", "tidy"):
        assert f"within {call}" in within
    for death in file_by_file.points(seed, "within"):
        file_by_file.check(seed, death)


def a_bundle_is_laid_where_it_is_read_file_by_file(store, staging, digest):
    if not store._place(digest).exists():
        shutil.copytree(staging, store._place(digest))


@pytest.mark.slow
def test_it_is_found_that_half_a_bundle_was_kept(file_by_file, monkeypatch):
    expected, _ = file_by_file.without_a_crash(1)
    bug = a_bundle_is_laid_where_it_is_read_file_by_file
    monkeypatch.setattr(FileBlobStore, "_publish", bug)
    fate = Fate(file_by_file=True)
    assert file_by_file.live(1, fate) == expected, "nobody dies, and it is seen"
    put = [n for n, p in enumerate(fate.points, 1) if p.startswith("within put")]
    with pytest.raises((AssertionError, Corrupt)):  # noqa: PT012 -- at whichever it is
        for death in put:
            file_by_file.check(1, death)


@pytest.mark.slow
def test_who_dies_while_the_rows_are_made_anew_is_followed_by_one_who_makes_them(
    tmp_path,
):
    matrix = Matrix.of_second_runs(tmp_path)
    matrix = evolve(matrix, template=evolve(matrix.template, rebuilds=True))
    _, points = matrix.without_a_crash(1)
    replacing = [n for n, point in enumerate(points, 1) if point.endswith("replace")]
    assert len(replacing) == 2
    for death in replacing:
        matrix.check(1, death, death)
