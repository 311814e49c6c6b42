"""Tables fit the terminal of whoever looks."""

import re

import pytest

from arena_core.entrypoints.cli.output import clauses, print_figures

COLUMNS = ("AGENT", "MEAN RETURN", "95% INTERVAL", "MASK VIOLATIONS")
ROWS = [("older", "483.00", "461.90 to 500.00", 0), ("[new]", "500.00", None, 0)]
STYLE = re.compile(r"\x1b\[[0-9;]*m")


@pytest.fixture
def shown(monkeypatch, capsys):
    """Return the lines that a terminal of a width shows."""

    def show(width):
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setenv("COLUMNS", str(width))
        print_figures(COLUMNS, ROWS)
        lines = STYLE.sub("", capsys.readouterr().out).splitlines()
        return [line.rstrip() for line in lines]

    return show


def test_figures_are_rows_where_there_is_room(shown):
    assert shown(53) == [
        "AGENT  MEAN RETURN  95% INTERVAL      MASK VIOLATIONS",
        "older  483.00       461.90 to 500.00  0",
        "[new]  500.00                         0",
    ]


def test_they_are_columns_where_there_is_none(shown):
    assert shown(52) == [
        "AGENT            older             [new]",
        "MEAN RETURN      483.00            500.00",
        "95% INTERVAL     461.90 to 500.00",
        "MASK VIOLATIONS  0                 0",
    ]


@pytest.mark.parametrize(
    ("parts", "line"),
    [
        (("It broke.", None, "because of 4"), "It broke; because of 4"),
        (("It broke.",), "It broke."),
        (("Stopped", "It was slow."), "Stopped; It was slow."),
        ((None, ""), ""),
    ],
)
def test_a_line_has_a_full_stop_at_its_end_only(parts, line):
    assert clauses(*parts) == line
