"""Whoever names a value that there is not is told those that there are."""

from enum import Enum
from typing import Annotated, Literal

import msgspec
import pytest
from attrs import frozen

from arena_core.application import strict_json
from arena_core.application.choices import choices
from arena_core.domain.errors import Rejected


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Part(msgspec.Struct):
    mode: Literal["fast", "slow"] = "fast"


@frozen
class Whole:
    colour: Colour | None
    name: str
    one: Part
    many: list[Part]
    some: dict[str, Part]
    pair: tuple[int, Colour]
    row: tuple[Colour, ...]
    size: Annotated[Literal[1, 2], msgspec.Meta(title="size")] = 1


COLOURS, MODES = ["red", "blue"], ["fast", "slow"]


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("colour", COLOURS),
        ("one.mode", MODES),
        ("many[3].mode", MODES),
        ("many.3.mode", MODES),
        ("some[...].mode", MODES),
        ("pair[1]", COLOURS),
        ("row[7]", COLOURS),
        ("size", ["1", "2"]),
        ("name", []),
        ("name.mode", []),
        ("nothing", []),
        ("", []),
    ],
)
def test_what_may_stand_in_a_place_is_found_by_its_path(where, expected):
    assert choices(Whole, where) == expected


def test_a_refusal_names_them():
    with pytest.raises(Rejected, match="Use one of fast, slow") as refused:
        strict_json.convert({"mode": "idle"}, Part, at="config")
    assert refused.value.field == "config.mode"


def test_another_mistake_names_none():
    with pytest.raises(Rejected) as refused:
        strict_json.convert({"mode": 3}, Part)
    assert "Use one of" not in str(refused.value)
