"""Files of settings that people write: TOML and JSON."""

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arena_core.domain.errors import Rejected
from arena_core.entrypoints.cli import documents

values = st.text() | st.booleans() | st.integers(-(2**53), 2**53)
tables = st.dictionaries(st.from_regex(r"[a-z_]{1,10}", fullmatch=True), values)


@given(tables | st.just({"name": '\x7f\x00"\\\n\U0001f600'}))
def test_what_is_written_as_toml_is_read_as_it_was(table):
    assert tomllib.loads(documents.toml_table(table)) == table


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_are_read_as_they_were(number):
    assert tomllib.loads(documents.toml_table({"it": number})) == {"it": number}


def test_the_end_of_its_name_says_what_a_file_is(tmp_path):
    (tmp_path / "a.json").write_text('{"epochs": 3}')
    (tmp_path / "a.toml").write_text("epochs = 3")
    for name in ("a.json", "a.toml"):
        assert documents.table(tmp_path / name) == {"epochs": 3}


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.toml", b"epochs = ", "is not TOML"),
        ("a.toml", b"\xff", "is not TOML"),
        ("a.toml", b"a = " + b"[" * 5000, "is not TOML"),
        ("a.json", b"{", "not JSON"),
        ("a.json", b"[]", "must hold a table"),
        ("a.json", b"[" * 5000 + b"]" * 5000, "nested too deeply"),
        ("a.json", b" " * (documents.MOST_BYTES + 1), "larger than"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_in_one_sentence(
    tmp_path, name, content, said
):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(Rejected, match=said) as refused:
        documents.table(tmp_path / name)
    assert str(tmp_path) not in str(refused.value)


def test_a_file_that_is_not_there_is_refused_without_its_folder(tmp_path):
    with pytest.raises(Rejected, match=r"gone\.toml cannot be read") as refused:
        documents.read(tmp_path / "gone.toml")
    assert str(tmp_path) not in str(refused.value)


def test_assignments_are_json_or_else_text():
    words = ["epochs=3", "rate=1e-3", "name=iris", 'other="3"', "nets=[64,64]", "a==b"]
    assert documents.assignments(words, option="--set") == {
        "epochs": 3,
        "rate": 1e-3,
        "name": "iris",
        "other": "3",
        "nets": [64, 64],
        "a": "=b",
    }


@pytest.mark.parametrize("word", ["epochs", "=3", " =3"])
def test_what_is_no_assignment_is_refused(word):
    with pytest.raises(Rejected, match="write --set KEY=VALUE"):
        documents.assignments([word], option="--set")
