"""What every trainer promises."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from uuid import uuid4

import pytest
from attrs import evolve

from arena_core.application.ports import MetricPoint
from arena_core.application.trainer import Order, Resumable, RunState, Trainer
from arena_core.domain.errors import NotFound, Rejected
from arena_core.domain.ids import ExperimentId, RunId
from arena_core.domain.values import Family, Source, SourceKind

from contract.trainings import POINTS

PATIENCE_S = 60.0


def an_order(
    script, *, seed=0, max_steps=None, resume_step=None, resume_of=None, **config
):
    return Order(
        RunId(uuid4()),
        ExperimentId(uuid4()),
        "command",
        "PPO",
        Family.RL,
        Source(SourceKind.GYM, "CartPole-v1"),
        None,
        {"script": script, **config},
        seed,
        max_steps,
        resume_step,
        resume_of,
    )  # fmt: skip


def nothing(folder):
    del folder


def until(condition):
    """Return what the condition says as soon as it says something."""
    deadline = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.005)
    return found


def ended(trainer, run_id):
    """Wait for the end of a run; return how it ended."""

    def sight():
        seen = trainer.look(run_id)
        return None if seen.state is RunState.RUNNING else seen

    return until(sight)


def run(trainer, script, **more):
    order = an_order(script, **more)
    trainer.start(order, nothing)
    return order.run_id, ended(trainer, order.run_id)


def states(trainer, *run_ids):
    """Return of which steps a run that goes on from each would be given the state."""
    return [[n for n in (2, 3) if _has_state(trainer, each, n)] for each in run_ids]


def _has_state(trainer, run_id, step):
    order = an_order("tells_what_it_was_told", resume_step=step, resume_of=run_id)

    def lay_out(folder):
        (folder / "resume").mkdir()
        (folder / "resume" / "weights").touch()

    trainer.start(order, lay_out)
    assert ended(trainer, order.run_id).succeeded
    return json.loads(trainer.log(order.run_id, 1)[0])["state"] is not None


def all_news(trainer, run_id):
    """Return all points and checkpoints, each acknowledged."""
    points, checkpoints = [], []
    while True:
        news = trainer.news(run_id)
        assert news.fault is None
        if not news.points and not news.checkpoints:
            return points, checkpoints
        points += news.points
        checkpoints += [
            (found.step, (found.folder / "weights").read_text())
            for found in news.checkpoints
        ]
        trainer.acknowledge(run_id, news.mark)


class TrainerContract:
    @pytest.fixture
    def trainer(self) -> Trainer:
        raise NotImplementedError("the subclass makes the trainer")

    @pytest.fixture
    def another(self, trainer) -> Trainer:
        """Of another owner of the same place, such as a server that comes after."""
        raise NotImplementedError("the subclass makes another one")

    @pytest.fixture
    def ledger(self, tmp_path):
        return tmp_path / "ledger"

    # --- starting ----------------------------------------------------------------

    def test_of_a_run_that_nobody_started_nothing_is_known(self, trainer):
        run_id = RunId(uuid4())
        assert trainer.look(run_id).state is RunState.ABSENT
        news = trainer.news(run_id)
        assert (news.points, news.checkpoints, news.fault) == ([], [], None)
        assert list(trainer.log(run_id, 10)) == []
        assert trainer.pace(run_id) is None
        trainer.tidy([run_id], None)
        trainer.acknowledge(run_id, news.mark)
        assert trainer.look(run_id).state is RunState.ABSENT

    def test_a_training_says_points_and_checkpoints_and_ends_well(
        self, trainer, ledger
    ):
        run_id, seen = run(trainer, "says_things", ledger=str(ledger))
        assert seen.succeeded
        assert (seen.code, seen.reason, seen.stopped) == (0, None, False)
        points, checkpoints = all_news(trainer, run_id)
        assert points == [
            *(
                MetricPoint(step, name, value)
                for step in (1, 2, 3)
                for name, value in (("score", step / 2), ("loss", 0.5))
            ),
            MetricPoint(10, "fitness", 7.0),
        ]
        assert checkpoints == [(3, "three"), (10, "ten")]
        assert list(trainer.log(run_id, 10)) == ["hello"]

    def test_a_run_is_started_once_for_ever(self, trainer, another, ledger):
        order = an_order("says_things", ledger=str(ledger))
        for each in (trainer, another, trainer):
            each.start(order, nothing)
        ended(trainer, order.run_id)
        for each in (another, trainer):
            each.start(order, nothing)
        assert ended(another, order.run_id).succeeded
        assert ledger.read_text() == "started\n"

    def test_of_many_who_start_it_at_once_one_does(self, trainer, another, ledger):
        order = an_order("says_things", ledger=str(ledger))
        with ThreadPoolExecutor(6) as pool:
            starting = [
                pool.submit((trainer, another)[n % 2].start, order, nothing)
                for n in range(6)
            ]
            for each in starting:
                each.result()
        assert ended(trainer, order.run_id).succeeded
        assert ledger.read_text() == "started\n"

    def test_it_is_told_what_was_ordered_and_given_what_it_begins_with(self, trainer):
        def lay_out(folder):
            for name in ("start", "decoder"):
                (folder / name).mkdir()
                (folder / name / "weights").write_text(f"the {name}")

        order = an_order("tells_what_it_was_told", seed=7, max_steps=99, more=[1])
        trainer.start(order, lay_out)
        assert ended(trainer, order.run_id).succeeded
        assert json.loads(trainer.log(order.run_id, 1)[0]) == {
            "recipe": "command",
            "source": "CartPole-v1",
            "config": {"script": "tells_what_it_was_told", "more": [1]},
            "seed": 7,
            "max_steps": 99,
            "first_step": 0,
            "start": "the start",
            "decoder": "the decoder",
            "resume": None,
            "state": None,
        }

    @pytest.mark.parametrize(("step", "state"), [(3, "state 3"), (2, None)])
    def test_a_resumed_run_has_the_state_of_that_very_step_if_it_is_there_still(
        self, trainer, step, state
    ):
        earlier, _ = run(trainer, "keeps_states")
        trainer.tidy([earlier], Resumable(earlier, 3))

        def lay_out(folder):
            (folder / "resume").mkdir()
            (folder / "resume" / "weights").write_text("bundle")

        order = an_order("tells_what_it_was_told", resume_step=step, resume_of=earlier)
        trainer.start(order, lay_out)
        assert ended(trainer, order.run_id).succeeded
        told = json.loads(trainer.log(order.run_id, 1)[0])
        assert told["resume"] == [step, "bundle"]
        assert told["first_step"] == step
        assert told["state"] == state

    def test_if_what_it_begins_with_is_missing_nothing_is_started(
        self, trainer, ledger
    ):
        def lay_out(folder):
            (folder / "start").mkdir()
            raise NotFound("There is no such checkpoint.")

        order = an_order("says_things", ledger=str(ledger))
        with pytest.raises(NotFound, match="no such checkpoint"):
            trainer.start(order, lay_out)
        assert trainer.look(order.run_id).state is RunState.ABSENT
        trainer.start(order, nothing)
        assert ended(trainer, order.run_id).succeeded

    def test_what_can_never_be_started_is_rejected(self, trainer):
        order = an_order("unheard of")
        with pytest.raises(Rejected):
            trainer.start(order, nothing)
        assert trainer.look(order.run_id).state is RunState.ABSENT

    # --- ending ------------------------------------------------------------------

    def test_another_owner_adopts_what_runs(self, trainer, another):
        order = an_order("goes_on")
        trainer.start(order, nothing)
        seen = another.look(order.run_id)
        assert seen.state is RunState.RUNNING
        assert seen.started_at == trainer.look(order.run_id).started_at
        until(lambda: another.news(order.run_id).points)
        another.stop(order.run_id)
        for each in (another, trainer):
            assert ended(each, order.run_id).stopped
            assert [f.step for f in each.news(order.run_id).checkpoints] == [2]

    def test_a_stopped_training_may_end_in_its_own_way(self, trainer):
        order = an_order("goes_on")
        trainer.start(order, nothing)
        until(lambda: trainer.news(order.run_id).points)
        trainer.stop(order.run_id)
        trainer.stop(order.run_id)
        seen = ended(trainer, order.run_id)
        assert (seen.state, seen.stopped, seen.code) == (RunState.ENDED, True, 0)
        assert all_news(trainer, order.run_id)[1] == [(2, "last")]

    def test_what_does_not_stop_is_killed(self, trainer):
        order = an_order("ignores_stop")
        trainer.start(order, nothing)
        until(lambda: trainer.news(order.run_id).points)
        trainer.stop(order.run_id)
        seen = ended(trainer, order.run_id)
        assert (seen.state, seen.stopped, seen.code) == (RunState.ENDED, True, None)

    def test_what_was_stopped_before_it_was_started_never_starts(
        self, trainer, another, ledger
    ):
        order = an_order("says_things", ledger=str(ledger))
        trainer.stop(order.run_id)
        for each in (trainer, another):
            each.start(order, nothing)
            seen = each.look(order.run_id)
            assert (seen.state, seen.stopped) == (RunState.ENDED, True)
        assert not ledger.exists()

    def test_stopping_what_has_ended_changes_nothing(self, trainer, another, ledger):
        run_id, seen = run(trainer, "says_things", ledger=str(ledger))
        trainer.stop(run_id)
        for each in (trainer, another):
            assert each.look(run_id) == seen

    def test_a_crash_is_told_with_its_exit_code_and_its_log(self, trainer, another):
        run_id, seen = run(trainer, "crashes")
        assert (seen.state, seen.code, seen.stopped) == (RunState.ENDED, 1, False)
        assert seen.reason == (
            "The training ended with exit code 1: see the end of its log."
        )
        assert not seen.succeeded
        assert another.look(run_id) == seen
        log = trainer.log(run_id, 100)
        assert log[0] == "about to fail"
        assert log[-1] == "RuntimeError: it went wrong"
        assert list(trainer.log(run_id, 1)) == list(log[-1:])

    def test_the_exit_code_is_what_the_program_says(self, trainer):
        _, seen = run(trainer, "exits")
        assert (seen.code, seen.succeeded) == (7, False)

    # --- what it says ------------------------------------------------------------

    def test_the_log_has_no_control_characters_and_no_endless_lines(self, trainer):
        run_id, _ = run(trainer, "prints_strange_things")
        log = trainer.log(run_id, 100)
        assert list(log[:2]) == ["red", "set"]
        assert "".join(log[2:-2]).replace(" ", "") == "abcde"
        assert log[-2] == "x" * 2_000
        assert log[-1] == "last"
        assert list(trainer.log(run_id, 0)) == []

    def test_what_was_acknowledged_is_not_told_again(self, trainer, another):
        order = an_order("goes_on")
        trainer.start(order, nothing)
        first = until(lambda: (n := trainer.news(order.run_id)).points and n)
        assert trainer.news(order.run_id) == first
        trainer.acknowledge(order.run_id, first.mark)
        trainer.acknowledge(order.run_id, first.mark)
        assert list(another.news(order.run_id).points) == []
        trainer.stop(order.run_id)
        ended(trainer, order.run_id)
        last = another.news(order.run_id)
        assert [f.step for f in last.checkpoints] == [2]
        another.acknowledge(order.run_id, last.mark)
        assert list(trainer.news(order.run_id).checkpoints) == []
        assert not last.checkpoints[0].folder.exists()

    def test_a_checkpoint_that_was_written_again_meanwhile_is_told_again(self, trainer):
        order = an_order("writes_a_checkpoint_again")
        trainer.start(order, nothing)
        first = until(lambda: (n := trainer.news(order.run_id)).checkpoints and n)
        trainer.stop(order.run_id)
        ended(trainer, order.run_id)
        trainer.acknowledge(order.run_id, first.mark)
        assert all_news(trainer, order.run_id)[1] == [(1, "second")]

    def test_much_is_told_in_parts_and_a_checkpoint_after_what_was_logged_before_it(
        self, trainer
    ):
        run_id, _ = run(trainer, "says_much")
        first = trainer.news(run_id)
        assert 0 < len(first.points) < POINTS
        assert list(first.checkpoints) == []
        points, checkpoints = all_news(trainer, run_id)
        assert [p.step for p in points] == list(range(POINTS))
        assert checkpoints == [(POINTS, "much")]

    def test_an_unfinished_line_waits(self, trainer):
        order = an_order("writes_a_line_in_two_parts")
        trainer.start(order, nothing)
        news = until(lambda: (n := trainer.news(order.run_id)).points and n)
        assert (list(news.points), news.fault) == ([MetricPoint(1, "score", 1.0)], None)
        trainer.acknowledge(order.run_id, news.mark)
        assert list(trainer.news(order.run_id).points) == []
        trainer.stop(order.run_id)
        ended(trainer, order.run_id)
        assert all_news(trainer, order.run_id)[0] == [MetricPoint(2, "score", 2.0)]

    @pytest.mark.parametrize(
        ("line", "problem"),
        [
            ("nonsense", "no JSON object of finite numbers"),
            ("[1]", "no JSON object of finite numbers"),
            ('{"score": 1}', "no step"),
            ('{"step": 1.5, "score": 1}', "step is no whole number"),
            ('{"step": -1, "score": 1}', "step is out of range"),
            ('{"step": 9223372036854775808}', "step is out of range"),
            ('{"step": true}', "no JSON object of finite numbers"),
            ('{"step": 1, "score": "high"}', "no JSON object of finite numbers"),
            ('{"step": 1, "score": null}', "no JSON object of finite numbers"),
            ('{"step": 1, "score": NaN}', "no JSON object of finite numbers"),
            ('{"step": 1, "score": 1e999}', "no JSON object of finite numbers"),
            ('{"step": 1, "score": 1' + "0" * 400 + "}", "finite numbers"),
            ('{"step": 1, "": 1}', "name is missing"),
            ('{"step": 1, "a\\u0000b": 1}', "control character"),
            ('{"step": 1, "' + "n" * 201 + '": 1}', "201 characters"),
            ('{"step": 1, "score": \xff}', "no JSON object of finite numbers"),
            ("[" * 5000, "no JSON object of finite numbers"),
            ("x" * 70_000, "more than 65536 bytes"),
        ],
    )
    def test_a_broken_line_is_named_and_what_is_before_it_is_told(
        self, trainer, line, problem
    ):
        lines = ['{"step": 1, "score": 1}\n', "\n", line + "\n", '{"step": 2}\n']
        run_id, _ = run(trainer, "writes_lines", lines=lines)
        for _ in range(2):
            news = trainer.news(run_id)
            assert list(news.points) == [MetricPoint(1, "score", 1.0)]
            assert news.fault.startswith("Line 3 of metrics.jsonl cannot be")
            assert problem in news.fault
        trainer.acknowledge(run_id, news.mark)
        again = trainer.news(run_id)
        assert (list(again.points), again.fault) == ([], news.fault)

    @pytest.mark.parametrize("size", [70_000, 400_000])
    def test_a_line_without_an_end_is_not_waited_for_beyond_its_limit(
        self, trainer, size
    ):
        run_id, _ = run(trainer, "writes_lines", lines=["x" * size])
        assert "Line 1 of metrics.jsonl" in trainer.news(run_id).fault

    def test_a_line_may_be_as_long_as_is_promised_before_its_break(self, trainer):
        fits = '{"step": 1, "score": 1}'.ljust(65_536)
        lines = [fits + "\n", fits + " \n"]
        run_id, _ = run(trainer, "writes_lines", lines=lines)
        news = trainer.news(run_id)
        assert list(news.points) == [MetricPoint(1, "score", 1.0)]
        assert "Line 2" in news.fault

    def test_metrics_that_become_shorter_are_a_fault(self, trainer):
        order = an_order("shortens_its_metrics")
        trainer.start(order, nothing)
        news = until(lambda: (n := trainer.news(order.run_id)).points and n)
        trainer.acknowledge(order.run_id, news.mark)
        trainer.stop(order.run_id)
        ended(trainer, order.run_id)
        assert "shorter" in trainer.news(order.run_id).fault

    @pytest.mark.parametrize(
        ("kind", "name", "problem"),
        [
            ("folder", "latest", "checkpoints holds latest"),
            ("folder", "06", "checkpoints holds 06"),
            ("folder", "-6", "checkpoints holds -6"),
            ("folder", "9223372036854775808", "name each checkpoint by its step"),
            ("folder", "6\n", "checkpoints holds 6?"),
            ("folder", "\u0666", "checkpoints holds ?"),
            ("file", "6", "checkpoints/6 is no plain folder"),
            ("link", "6", "checkpoints/6 is no plain folder"),
        ],
    )
    def test_what_is_no_checkpoint_is_a_fault(self, trainer, kind, name, problem):
        run_id, _ = run(
            trainer, "writes_entries", entries=[["folder", ".tmp"], [kind, name]]
        )
        news = trainer.news(run_id)
        assert problem in news.fault
        assert {f.step for f in news.checkpoints} <= {5}

    def test_what_is_not_finished_is_not_seen(self, trainer):
        entries = [["folder", ".6"], ["file", ".7"], ["folder", "8"]]
        run_id, _ = run(trainer, "writes_entries", entries=entries)
        news = trainer.news(run_id)
        assert ([f.step for f in news.checkpoints], news.fault) == ([5, 8], None)

    @pytest.mark.parametrize("kind", ["link", "other"])
    def test_what_is_not_the_kind_of_file_that_it_should_be_is_a_fault(
        self, trainer, kind
    ):
        run_id, _ = run(trainer, "has_other_kinds", kind=kind)
        news = trainer.news(run_id)
        assert "no plain" in news.fault
        assert (list(news.points), list(news.checkpoints)) == ([], [])

    def test_how_far_it_is_is_told_from_its_first_line(self, trainer):
        order = an_order("goes_on", max_steps=5)
        trainer.start(order, nothing)
        until(lambda: trainer.news(order.run_id).points)
        pace = trainer.pace(order.run_id)
        assert (pace.step, pace.max_steps) == (1, 5)
        assert (pace.steps_per_s, pace.left_s) == (None, None)
        assert pace.started_at == trainer.look(order.run_id).started_at
        trainer.stop(order.run_id)
        ended(trainer, order.run_id)
        assert trainer.pace(order.run_id) is None

    def test_the_rate_is_that_of_the_steps_and_not_of_what_was_before(self, trainer):
        order = an_order("sets_out", first=10**6, loads_s=3.0, total="{}")
        trainer.start(order, nothing)
        pace = until(lambda: self._with_a_rate(trainer, order.run_id))
        # A thousand steps in a second, were it not for the pauses of the machine.
        assert 100 < pace.steps_per_s < 1100
        assert pace.step > 10**6
        assert (pace.max_steps, pace.left_s) == (None, None)
        trainer.stop(order.run_id)
        ended(trainer, order.run_id)

    @staticmethod
    def _with_a_rate(trainer, run_id):
        trainer.look(run_id)
        pace = trainer.pace(run_id)
        return pace if pace and pace.steps_per_s else None

    @pytest.mark.parametrize(
        ("said", "total"),
        [
            ('{"total": 9000000}', 9_000_000),
            ('{"total": 9000000, "of": "epochs"}\n', 9_000_000),
            ('{"total": 0}', 777),
            ('{"total": 1e9}', 777),
            ('{"total": "many"}', 777),
            ("{", 777),
        ],
    )
    def test_how_many_steps_it_makes_is_what_it_says_itself(self, trainer, said, total):
        order = an_order("sets_out", max_steps=777, loads_s=0, total=said)
        trainer.start(order, nothing)
        pace = until(lambda: trainer.pace(order.run_id))
        assert pace.max_steps == total
        trainer.stop(order.run_id)
        assert ended(trainer, order.run_id).stopped

    # --- afterwards --------------------------------------------------------------

    def test_tidying_keeps_the_log_and_how_it_ended(self, trainer, another):
        run_id, seen = run(trainer, "crashes")
        log = list(trainer.log(run_id, 100))
        trainer.tidy([run_id], None)
        trainer.tidy([run_id], None)
        for each in (trainer, another):
            assert each.look(run_id) == seen
            assert list(each.log(run_id, 100)) == log
            assert list(each.news(run_id).checkpoints) == []

    def test_of_runs_that_follow_each_other_one_state_and_the_last_log_stay(
        self, trainer, another
    ):
        first, was = run(trainer, "keeps_states")
        second, _ = run(trainer, "keeps_states")
        third, seen = run(trainer, "crashes")
        log = list(trainer.log(third, 100))
        for _ in range(2):
            trainer.tidy([third, second, first], Resumable(second, 2))
            assert states(trainer, first, second) == [[], [2]]
        assert (list(another.log(third, 100)), log != []) == (log, True)
        fourth, _ = run(trainer, "keeps_states")
        trainer.tidy([fourth, third, second, first], Resumable(fourth, 3))
        assert states(trainer, first, second, fourth) == [[], [], [3]]
        for each in (trainer, another):
            assert (each.look(first), each.look(third)) == (was, seen)
            assert list(each.log(third, 100)) == []
        trainer.start(evolve(an_order("goes_on"), run_id=third), nothing)
        assert another.look(third) == seen, "it is never started again"

    def test_where_nothing_can_be_resumed_no_state_stays(self, trainer):
        first, _ = run(trainer, "keeps_states")
        second, _ = run(trainer, "keeps_states")
        trainer.tidy([second, first], None)
        assert states(trainer, first, second) == [[], []]

    def test_what_is_discarded_ends_and_leaves_nothing_and_never_starts_again(
        self, trainer, another, ledger
    ):
        order = an_order("ignores_stop", ledger=str(ledger))
        trainer.start(order, nothing)
        until(lambda: trainer.news(order.run_id).points)
        for _ in range(2):
            trainer.discard(order.run_id)
            for each in (trainer, another):
                each.start(order, nothing)
                seen = each.look(order.run_id)
                assert (seen.state, seen.stopped) == (RunState.ENDED, True)
                assert list(each.news(order.run_id).points) == []
                assert list(each.log(order.run_id, 10)) == []

    def test_closing_twice_is_harmless(self, trainer):
        run(trainer, "exits")
        with suppress(RuntimeError):
            trainer.close()
        trainer.close()
