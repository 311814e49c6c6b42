"""What is said of episodes: figures, and one sentence on a difference."""

import pytest

from arena_core.entrypoints.play.episodes import ALONE, Episode
from arena_core.entrypoints.play.report import COLUMNS, Report, sentence
from arena_core.entrypoints.play.statistics import compare


def episode(total=1.0, *, length=2, latencies=(1.0, 3.0), violations=None, totals=None):
    return Episode(7, total, totals or {ALONE: total}, length, latencies, violations)


def test_the_figures_are_those_of_all_episodes():
    report = Report.of("it", [episode(1.0), episode(4.0, length=5, latencies=(2.0,))])
    assert (report.episodes, report.mean_return, report.calls) == (2, 2.5, 3)
    assert (report.returns, report.lengths) == ([1.0, 4.0], [2, 5])
    assert report.latency_ms.p50 == 2.0
    assert 2.9 <= report.latency_ms.p95 < report.latency_ms.p99 <= 3.0
    assert report.mean_return_of == {}


def test_violations_are_counted_only_where_there_was_a_mask():
    assert Report.of("it", [episode()] * 2).mask_violations is None
    with_mask = [episode(violations=0), episode(), episode(violations=2)]
    assert Report.of("it", with_mask).mask_violations == 2
    assert Report.of("it", with_mask[:2]).mask_violations == 0


def test_the_shares_of_a_team_add_up_to_its_mean_return():
    first = episode(3.0, totals={"a": 1.0, "b": 2.0})
    second = episode(5.0, totals={"a": 5.0})
    report = Report.of("team", [first, second])
    assert report.mean_return_of == {"a": 3.0, "b": 1.0}
    assert sum(report.mean_return_of.values()) == report.mean_return
    assert report.shares() == [("a", "3.00"), ("b", "1.00")]


def test_a_row_has_a_cell_for_each_column():
    alike = Report.of("it", [episode()] * 2).row()
    unlike = Report.of("it", [episode(), episode(3.0, length=9)]).row()
    assert len(alike) == len(COLUMNS)
    assert alike[COLUMNS.index("LENGTH")] == "2.0"
    assert unlike[COLUMNS.index("LENGTH")] == "5.5 (2 to 9)"
    assert unlike[COLUMNS.index("95% INTERVAL")] == "1.00 to 3.00"
    assert alike[-1] == "no mask"


def test_one_episode_says_that_it_has_no_interval():
    assert "one episode has none" in Report.of("it", [episode()]).row()


BETTER = """
new is better than old: its mean return of 6 episodes is higher, the difference is 1.00
(95% interval 1.00 to 1.00).
"""
WORSE = """
new is worse than old: its mean return of 6 episodes is lower, the difference is -0.5
(95% interval -0.5 to -0.5).
"""
UNCLEAR = """
No difference that 6 episodes could show: the mean return of new less that of old is
0.00 (95% interval -0.667 to 0.667).
"""
EQUAL = """
No difference at all: new and old returned the same in each of 6 episodes.
"""
TOO_FEW = "Too few episodes to tell new from old: play at least 6."


@pytest.mark.parametrize(
    ("ours", "theirs", "said"),
    [
        ([2.0] * 6, [1.0] * 6, BETTER),
        ([1.0] * 6, [1.5] * 6, WORSE),
        ([1.0, -1.0] * 3, [0.0] * 6, UNCLEAR),
        ([3.0] * 6, [3.0] * 6, EQUAL),
        ([3.0], [1.0], TOO_FEW),
    ],
)
def test_a_comparison_is_told_in_a_sentence(ours, theirs, said):
    assert sentence("new", "old", compare(ours, theirs)).split() == said.split()
