"""Ctrl-C while something is watched: it ends the watching, and nothing is torn."""

import signal

import pytest

from arena_core.entrypoints.cli.following import (
    INTERRUPTED,
    TIMED_OUT,
    detachable,
    looks,
)


def test_a_look_that_has_begun_is_finished(scene, capsys):
    finished = []

    def look():
        signal.raise_signal(signal.SIGINT)
        finished.append(True)
        return "something"

    with pytest.raises(SystemExit) as left, detachable("It goes on.") as watcher:
        finished.extend(looks(scene.arena, watcher, look))
    assert left.value.code == INTERRUPTED
    assert finished == [True, "something"]
    assert "It goes on." in capsys.readouterr().err


def test_a_second_one_interrupts_what_does_not_end(scene, capsys):
    def look():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("it was not interrupted")

    with pytest.raises(SystemExit) as left, detachable("It goes on.") as watcher:
        list(looks(scene.arena, watcher, look))
    assert left.value.code == INTERRUPTED
    assert "It goes on." in capsys.readouterr().err


def test_whoever_has_watched_gets_their_own_ctrl_c_back(scene):
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(SystemExit) as left, detachable("It goes on.") as watcher:
        list(looks(scene.arena, watcher, lambda: "something", timeout_s=0))
    assert left.value.code == TIMED_OUT
    assert signal.getsignal(signal.SIGINT) is before
