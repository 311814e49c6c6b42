"""A program is not looked for where nothing is: in the empty folder of its own run."""

import pytest

from arena_core.application import command_lines
from arena_core.domain.errors import Rejected
from unit.spec import assert_plain


@pytest.mark.parametrize(
    ("argv", "place"),
    [
        (["./train.sh"], 0),
        (["bin/train", "--fast"], 0),
        (["../train"], 0),
        (["python", "train.py"], 1),
        (["python", "-u", "train.py"], 2),
        (["/usr/bin/python3", "my project/train.PY"], 1),
        (["bash", "-x", "./train.sh", "a"], 2),
        (["Rscript", "train.R"], 1),
    ],
)
def test_what_is_relative_to_nothing_is_refused_with_the_remedy(argv, place):
    with pytest.raises(Rejected, match="name the file by its whole path") as refusal:
        command_lines.check(argv)
    assert refusal.value.field == f"config.argv {place}"
    assert argv[place] in str(refusal.value)
    assert_plain(refusal.value)


@pytest.mark.parametrize(
    "argv",
    [
        ["train"],
        ["/srv/train.sh", "data.py"],
        ["python", "/srv/train.py", "other.py"],
        ["python", "-m", "train.py"],
        ["sh", "-c", "./train.sh"],
        ["sh", "-c", "train.sh"],
        ["perl", "-e", "a.pl"],
        ["echo", "me"],
        ["python"],
        ["python", "-u"],
        ["mytool", "train.py"],
        ["python", "-W", "error", "train.py"],
        ["train", "--fast"],
        ["train", "out.csv"],
    ],
)
def test_what_can_be_found_or_is_no_script_is_let_be(argv):
    command_lines.check(argv)
