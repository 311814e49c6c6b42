"""What users call things reaches a terminal as text, and does nothing to it."""

import json
import tomllib
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arena_core.entrypoints.cli import output
from arena_core.entrypoints.cli.documents import toml_table
from arena_core.entrypoints.visible import visible, visible_json

UNSEEN = ["\x1b", "\x07", "\r", "\x7f", "\x9b", "\u200e", "\u202e", "\u2066", "\ufeff"]


@given(st.text())
def test_nothing_is_left_that_acts_on_a_terminal_or_hides_what_follows(text):
    shown = visible(text)
    left = {unicodedata.category(c) for c in shown if c not in "\n\t"}
    assert not left & {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}


@pytest.mark.parametrize("text", ["", "plain", "北京 ü", "a\u00a0b", "a\nb\tc", "🤖"])
def test_what_is_to_be_seen_stays_as_it_is(text):
    assert visible(text) == text
    assert visible_json(text) == text


@pytest.mark.parametrize("unseen", UNSEEN)
def test_what_is_not_to_be_seen_is_an_escape_everywhere(capsys, unseen):
    name = f"a{unseen}b"
    output.print_table(("NAME",), [(name,)])
    output.print_figures(("NAME", "N"), [(name, 1)])
    output.say(name)
    output.print_json({"name": name})
    output.print_json_lines([{"name": name}])
    told = capsys.readouterr().out
    assert unseen not in told
    assert told.count("a\\") == 5


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_json_means_the_same_with_escapes(text):
    printed = json.dumps({text: text}, ensure_ascii=False)
    assert json.loads(visible_json(printed)) == {text: text}


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_file_means_the_same_with_escapes(text):
    written = toml_table({"name": text})
    assert tomllib.loads(written) == {"name": text}
    assert visible(written) == written
