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


def test_while_nothing_happens_no_other_look_is_begun(scene, monkeypatch):
    looked = []
    store = type(scene.arena.application.core.store)

    def head(_, *, beyond=-1, timeout_s=0.0):
        if timeout_s:
            signal.raise_signal(signal.SIGINT)
        return beyond

    monkeypatch.setattr(store, "head", head)
    with pytest.raises(SystemExit) as left, detachable("It goes on.") as watcher:
        list(looks(scene.arena, watcher, lambda: looked.append(True) or "something"))
    assert (left.value.code, looked) == (INTERRUPTED, [True])


def test_a_job_of_a_shell_goes_on_ignoring_it():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with detachable("It goes on.") as watcher:
            signal.raise_signal(signal.SIGINT)
            assert not watcher.leaves
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


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
