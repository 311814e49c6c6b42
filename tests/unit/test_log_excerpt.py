"""What a training printed last is told, without the folders of the machine."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from arena_core.application.log_excerpt import with_end_of_log

WHOSE = "Jane"
ODD = st.text(st.sampled_from("abz09-_.+=@#%:,;()[]{}<>|é "), max_size=6)
FOLDERS = st.builds(lambda a, b: f"{a}{WHOSE}{b}", ODD, ODD)
ROOTS = st.sampled_from(["/", "~/", "./", "../", "~Jane/", "C:\\", "c:/", "file:///"])
NAMES = st.sampled_from(["train.py", "iris.csv", "model.pt2", "run-1_b.JSONL"])
AROUND = ["{}", "at {}", "({})", "[{}]", "File {}, line 3", "{}:12: Warning", "--in={}"]


def told(line):
    return with_end_of_log("", [line]).removeprefix(" It printed last: ")


def path(root, folders, name):
    separator = "\\" if root.startswith("C") else "/"
    return root + separator.join([*folders, name])


@given(ROOTS, st.lists(FOLDERS, min_size=1, max_size=5), NAMES, st.sampled_from(AROUND))
@example("/", ["Jane doe", "my Jane"], "train.py", "{}")
def test_a_quoted_path_is_told_by_the_name_of_its_file(root, folders, name, around):
    for quote in ("'", '"', "`"):
        quoted = around.format(f"{quote}{path(root, folders, name)}{quote}")
        assert told(quoted) == around.format(f"{quote}.../{name}{quote}")


@given(
    ROOTS,
    st.lists(FOLDERS.map(lambda f: f.replace(" ", "_")), min_size=1, max_size=5),
    NAMES,
    st.sampled_from(AROUND),
)
def test_a_path_without_spaces_is_told_by_the_name_of_its_file(
    root, folders, name, around
):
    shown = told(around.format(path(root, folders, name)))
    assert WHOSE not in shown
    assert name in shown


@given(
    ROOTS,
    st.lists(FOLDERS.map(lambda f: f.replace(" ", "_")), min_size=1, max_size=5),
    st.sampled_from(["", "/"]),
    st.sampled_from([*AROUND, "'{}'", "-L{}", "PATH=/bin:{}", "x:{}"]),
)
@example("~Jane/", ["Jane"], "", "-L{}")
@example("/", ["Jane"], "", "-L{}")
@example("/", ["Jane"], "/", "-L{}")
def test_of_a_folder_nothing_is_told(root, folders, end, around):
    if not end and len(folders) == 1 and around == "-L{}":
        folders = [*folders, *folders]  # behind a word one slash is no path
    assert WHOSE not in told(around.format(path(root, folders, "")[:-1] + end))


@pytest.mark.parametrize(
    "line",
    [
        "torch is not installed here: pip install 'arena-core[sb3]'",
        "[Errno 28] No space left on device",
        "loss[0] = 3/4 and/or n/a, 12 it/s",
        "data/train.csv has no column y",
        "IndexError: list[int] at x[1]",
    ],
)
def test_what_is_no_path_is_told_as_it_was_printed(line):
    assert told(line) == line


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ('File "/srv/my lab/train.py", line 3', 'File ".../train.py", line 3'),
        ("cannot open /root", "cannot open ..."),
        ("'/srv/data.csv/secret'", "'...'"),
        ("/opt/python3.11/lib: gone", "...: gone"),
        ("/home/Jane/.venv/bin/python: can't open", ".../python: can't open"),
        ("/home/Jane/bin/", "..."),
        ("/bin/Jane/lib: gone", "...: gone"),
        ("cc -L~Jane/lib", "cc -L..."),
        ("http://inside.example/a/b.json?key=1", "http:.../b.json?key=1"),
    ],
)
def test_a_path_is_told_without_its_folders(line, shown):
    assert told(line) == shown


def test_the_last_lines_are_told_and_long_ones_are_cut():
    assert with_end_of_log("Why.", ["", " "]) == "Why."
    lines = ["a", "b", "", "c", "x" * 300]
    assert with_end_of_log("Why.", lines) == (
        f"Why. It printed last: b / c / {'x' * 200}..."
    )
