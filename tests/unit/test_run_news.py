"""What a training has written, as it is read."""

from arena_core.adapters.trainers import run_news


def test_checkpoints_come_by_step_also_beside_one_that_is_none(tmp_path):
    for name in ("100", "20", "last"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    news = run_news.read(tmp_path, run_news.Mark())
    assert [found.step for found in news.checkpoints] == [20, 100]
    assert "name each checkpoint by its step" in news.fault
