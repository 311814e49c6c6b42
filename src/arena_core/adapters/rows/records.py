"""A row as a record of an SQL table, whichever database keeps it."""

import hashlib
from collections.abc import Mapping
from datetime import datetime
from enum import Enum
from functools import cache
from typing import Any, get_args, get_origin, get_type_hints
from uuid import UUID

import msgspec
from attrs import fields, has

from arena_core.application.decoding import decoder
from arena_core.application.deeds import Deed
from arena_core.application.ports import Row
from arena_core.domain import (
    agent,
    checkpoint_import,
    credential,
    deployment,
    experiment,
    keyed_request,
    organisation,
    pipeline,
    project,
    sign_in,
    stage,
    user,
)
from arena_core.domain.ids import OrganisationId

_ID_BYTES = 16
_Deeds = tuple[Deed, ...]
STATES: Mapping[str, type] = {
    project.KIND: project.Project,
    experiment.KIND: experiment.Experiment,
    checkpoint_import.KIND: checkpoint_import.Import,
    agent.KIND: agent.Agent,
    deployment.KIND: deployment.Deployment,
    credential.KIND: credential.AccessToken,
    keyed_request.KIND: keyed_request.KeyedRequest,
    user.KIND: user.User,
    organisation.KIND: organisation.Organisation,
    sign_in.KIND: sign_in.SignIn,
    pipeline.KIND: pipeline.Pipeline,
    stage.KIND: stage.Stage,
}


def to_record(row: Row) -> tuple[Any, ...]:
    """Return the row's columns.  Raises `TypeError` for a state of another kind."""
    if type(row.state) is not STATES.get(row.kind):
        raise TypeError(f"a {row.kind} cannot be in the state {row.state!r}")
    return (
        row.id.bytes,
        row.kind,
        row.organisation,
        None if row.parent is None else row.parent.bytes,
        row.name,
        row.deleted,
        row.created_by,
        row.version,
        row.created_position,
        row.created_at.isoformat(),
        row.position,
        row.changed_at.isoformat(),
        msgspec.json.encode(row.state),
        b"".join(sorted(each.bytes for each in row.refers)),
        msgspec.json.encode(row.deeds) if row.deeds else b"",
    )


def from_record(record: tuple[Any, ...]) -> Row:
    """Return the row.  Raises `ValueError` if it is not what `to_record` has made."""
    if record[1] not in STATES:
        raise ValueError(f"no aggregate is of the kind {record[1]!r}")
    try:
        state: Any = decoder(STATES[record[1]]).decode(record[12])
        deeds = decoder(_Deeds).decode(record[14]) if record[14] else ()
    except msgspec.MsgspecError as error:
        raise ValueError(f"no state of the kind {record[1]!r}") from error
    return Row(
        id=UUID(bytes=record[0]),
        kind=record[1],
        organisation=OrganisationId(record[2]),
        parent=None if record[3] is None else UUID(bytes=record[3]),
        name=record[4],
        deleted=bool(record[5]),
        created_by=record[6],
        version=record[7],
        created_position=record[8],
        created_at=datetime.fromisoformat(record[9]),
        position=record[10],
        changed_at=datetime.fromisoformat(record[11]),
        state=state,
        refers=_ids(record[13]),
        deeds=deeds,
    )


def _ids(joined: bytes) -> frozenset[UUID]:
    parts = range(0, len(joined), _ID_BYTES)
    return frozenset(UUID(bytes=joined[at : at + _ID_BYTES]) for at in parts)


def fingerprint(*parts: str) -> str:
    """Return a digest of `parts` and of all fields that the states have."""
    states = [f"{kind}={_shape(state)}" for kind, state in sorted(STATES.items())]
    text = "\n".join([*parts, *states, _shape(_Deeds)])
    return hashlib.sha256(text.encode()).hexdigest()


def _shape(of: Any) -> str:  # noqa: ANN401 -- any form that a type can have
    """Return the fields and types of `of`, down to what JSON itself knows."""
    if has(of):
        inner = _fields(of)
    elif isinstance(of, type) and issubclass(of, Enum):
        inner = [repr(member.value) for member in of]
    elif hasattr(of, "__supertype__"):
        return _shape(of.__supertype__)
    elif get_args(of):
        inner = [_shape(argument) for argument in get_args(of)]
        of = get_origin(of)
    else:
        return str(of)
    return f"{of.__qualname__}({', '.join(inner)})"


@cache
def _fields(of: type) -> list[str]:
    hints = get_type_hints(of)
    return [f"{field.name}: {_shape(hints[field.name])}" for field in fields(of)]
