import types
from datetime import UTC, datetime
from enum import Enum
from typing import Union, get_args, get_origin, get_type_hints
from uuid import UUID, uuid4

import attrs
import pytest
from attrs import frozen
from hypothesis import given, settings
from hypothesis import strategies as st

from arena_core.adapters.codec import (
    CATALOGUE,
    Body,
    Catalogue,
    EventType,
    decode,
    encode,
)
from arena_core.domain.credential import Secret
from arena_core.domain.deployment import Connected
from arena_core.domain.errors import Rejected, UnknownEvent
from arena_core.domain.ids import Digest, WorkerId
from arena_core.domain.project import ProjectRenamed

DIGEST = Digest("ab" * 32)
text = st.text(st.characters(exclude_categories=["Cs"]))
digests = st.binary(min_size=32, max_size=32).map(bytes.hex)
names = st.text(
    st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=200
).filter(str.strip)
LEAVES = {
    Digest: digests,
    Secret: st.builds(
        Secret, digests, st.from_regex(r"[0-9A-Za-z]{4}", fullmatch=True)
    ),
    UUID: st.uuids(),
    str: text,
    bool: st.booleans(),
    int: st.integers(0, 2**70),
    float: st.floats(allow_nan=False, allow_infinity=False),
    datetime: st.datetimes(timezones=st.just(UTC)),
    types.NoneType: st.none(),
}


def values(annotation):
    """Return a strategy for everything that events are made of."""
    if annotation in LEAVES:
        return LEAVES[annotation]
    if hasattr(annotation, "__supertype__"):
        return values(annotation.__supertype__)
    if get_origin(annotation) in (types.UnionType, Union):
        return st.one_of(*map(values, get_args(annotation)))
    if get_origin(annotation) is tuple:
        return st.lists(values(get_args(annotation)[0])).map(tuple)
    if issubclass(annotation, Enum):
        return st.sampled_from(annotation)
    return instances(annotation)


printable = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1)
NAMED = {
    "sha256": LEAVES[Digest],
    "last_four": st.from_regex("[a-z0-9]{4}", fullmatch=True),
    **dict.fromkeys(("bake_s", "p99_ms"), st.floats(0.001, 1000.0)),
    **dict.fromkeys(
        ("error_rate", "mask_violation_rate", "action_shift"), st.floats(0, 1)
    ),
    "slow_seconds": st.floats(0, 1e9),
    "seed": st.none() | st.integers(0, 2**31 - 1),
    "most": st.integers(0, 20),
    "first_wait_s": st.floats(0, 3600),
    "time_limit_s": st.none() | st.floats(1, 3600),
    "better_than_live": st.just(value=True),
}
"""Fields that may hold less than their type says."""


def instances(cls):
    hints = get_type_hints(cls)
    fields = {f.name: values(hints[f.name]) for f in attrs.fields(cls)}
    for field in attrs.fields(cls):
        if field.name in NAMED:
            fields[field.name] = NAMED[field.name]
        elif field.name == "reason" or (
            field.converter is not None and hints[field.name] in (str, str | None)
        ):
            fields[field.name] = printable.filter(
                lambda name: 0 < len(name.strip()) < 200
            )
    return st.builds(cls, **fields)


@pytest.mark.parametrize("kind", CATALOGUE.types, ids=lambda kind: kind.name)
def test_every_event_comes_back_as_it_was(kind):
    @settings(max_examples=20, deadline=None, database=None)
    @given(instances(kind.cls))
    def check(event):
        name, version, body = encode(event)
        assert (name, version) == (kind.name, kind.version)
        assert decode(name, version, body) == event
        assert encode(decode(name, version, body)) == (name, version, body)

    check()


@frozen
class Moved:
    to: str
    metres: int


def _distance_was_in_kilometres(body: Body) -> Body:
    return {"to": body["to"], "metres": body["kilometres"] * 1000}


def _destination_was_called_target(body: Body) -> Body:
    rest = {k: v for k, v in body.items() if k != "target"}
    return {"to": body["target"], **rest}


THRICE = Catalogue(
    [
        EventType(
            "robot.moved",
            Moved,
            (_destination_was_called_target, _distance_was_in_kilometres),
        )
    ]
)


@pytest.mark.parametrize(
    ("version", "body"),
    [
        (1, b'{"target":"home","kilometres":3}'),
        (2, b'{"to":"home","kilometres":3}'),
        (3, b'{"to":"home","metres":3000}'),
    ],
)
def test_every_older_version_is_read_as_todays_class(version, body):
    assert THRICE.decode("robot.moved", version, body) == Moved("home", 3000)


def test_todays_version_is_what_is_written():
    assert THRICE.encode(Moved("x", 1)) == (
        "robot.moved",
        3,
        b'{"metres":1,"to":"x"}',
    )


@pytest.mark.parametrize(
    ("name", "version"),
    [("robot.moved", 4), ("robot.moved", 0), ("robot.moved", -1), ("robot.flown", 1)],
)
def test_what_a_newer_release_wrote_is_refused_by_name(name, version):
    with pytest.raises(UnknownEvent, match=f"{name} version {version}.*newer release"):
        THRICE.decode(name, version, b'{"to":"home","metres":3000}')


@pytest.mark.parametrize(
    ("version", "body"),
    [
        (3, b""),
        (3, b"[]"),
        (3, b'{"to":"home"}'),
        (3, b'{"to":"home","metres":"3"}'),
        (3, b'{"to":"home","metres":3'),
        (3, b"\xff"),
        (2, b'{"to":"home"}'),
        (2, b"[]"),
        (2, b'{"to":"home","kilometres":null}'),
        (1, b"nonsense"),
    ],
)
def test_a_body_that_does_not_fit_is_refused(version, body):
    with pytest.raises(UnknownEvent, match=f"robot.moved version {version}"):
        THRICE.decode("robot.moved", version, body)


def test_members_that_are_not_known_are_ignored():
    body = b'{"to":"home","metres":3000,"mood":"good"}'
    assert THRICE.decode("robot.moved", 3, body) == Moved("home", 3000)


@pytest.mark.parametrize(
    ("good", "bad"),
    [(DIGEST.encode(), b"no digest"), (b'"load_ms":1.5', b'"load_ms":1e400')],
)
def test_what_an_event_may_not_hold_is_not_read_either(good, bad):
    event = Connected(WorkerId(uuid4()), DIGEST, "onnxruntime", "cpu", 1.5)
    name, version, body = encode(event)
    assert good in body
    assert decode(name, version, body) == event
    with pytest.raises(UnknownEvent):
        decode(name, version, body.replace(good, bad))


def test_what_json_cannot_hold_is_not_written():
    with pytest.raises(Rejected, match="surrogate"):
        encode(ProjectRenamed("\ud800"))
