"""The rules of the public contract are known by their numbers: each has its test."""

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
WITHOUT_A_TEST = {
    14: "says what a trainer measures; the platform only keeps it",
}
RULES = {*range(1, 52), *range(60, 86), 86}
"""Of projects, experiments, agents, deployments, keys, calls, pipelines and tokens."""


def rules_with_a_test():
    sources = (path.read_text(encoding="utf-8") for path in TESTS.rglob("test_*.py"))
    names = re.findall(r"def test_rule_(\d\d)_\w", "\n".join(sources))
    return {int(number) for number in names}


@pytest.mark.parametrize("rule", sorted(RULES - WITHOUT_A_TEST.keys()))
def test_every_rule_has_a_test_whose_name_says_it(rule):
    assert rule in rules_with_a_test()


def test_no_rule_is_excused_that_has_a_test():
    assert not WITHOUT_A_TEST.keys() & rules_with_a_test()
