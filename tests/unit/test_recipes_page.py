"""The page of the recipes says of each setting what is true."""

import json
import re
from pathlib import Path

import msgspec
import pytest

from arena_core.application.recipes import RECIPES

PAGE = (Path(__file__).parents[2] / "docs" / "recipes.md").read_text()
ROW = re.compile(r"^\| `(\w+)` \| (?:`([^`]+)`|(must be given)) \|", re.MULTILINE)


def section(name):
    """Return what the page says below the heading of a recipe."""
    found = re.search(
        rf"^## `{name}`\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE
    )
    assert found, f"the page has no section on {name}"
    return found[1]


def described(field):
    """Return what the page is to say of a setting's default."""
    default = field.default
    if field.default_factory is not msgspec.NODEFAULT:
        default = field.default_factory()
    if default is msgspec.NODEFAULT:
        return "must be given"
    return json.dumps(msgspec.to_builtins(default))


@pytest.mark.parametrize("name", RECIPES)
def test_every_setting_is_told_with_its_default(name):
    told = {row[1]: row[2] or row[3] for row in ROW.finditer(section(name))}
    fields = msgspec.structs.fields(RECIPES[name].config)
    assert told == {field.name: described(field) for field in fields}


def test_every_recipe_is_in_the_table_with_its_extra():
    for name, recipe in RECIPES.items():
        (row,) = [line for line in PAGE.splitlines() if f"| [`{name}`]" in line]
        assert (recipe.extra is None) == (
            "needs nothing" in row or "| nothing |" in row
        )
        if recipe.extra is not None:
            assert f"'arena-core[{recipe.extra}]'" in row
