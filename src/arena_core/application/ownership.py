"""Who owns what: whoever made it, until they are removed from the organisation."""

from collections.abc import Sequence

from attrs import frozen

from arena_core.application.ports import Row
from arena_core.application.session import Session
from arena_core.domain.ids import UserId, organisation_of, user_of
from arena_core.domain.organisation import MemberRemoved
from arena_core.domain.values import Actor, ActorKind

_USER = f"{ActorKind.USER.value}:"


@frozen
class _Removal:
    position: int
    user_id: UserId
    successor: str


def owner_of(session: Session, row: Row) -> str:
    """Return the owner of what the row is about, as an actor is written.

    Each removal of the owner of the day passes it on.  Whoever comes back owns what
    they make from then on.
    """
    owner = row.created_by
    for removal in _removals(session):
        if removal.position > row.created_position and _is(removal.user_id, owner):
            owner = str(Actor(ActorKind.USER, removal.successor))
    return owner


def _is(user_id: UserId, actor: str) -> bool:
    return actor.startswith(_USER) and user_of(actor.removeprefix(_USER)) == user_id


def _removals(session: Session) -> Sequence[_Removal]:
    """Return all that passed something on, in their order.

    Read from the log, for only that has their order among everything else.
    """
    core, up_to = session.core, session.as_of
    stream = organisation_of(session.caller.organisation)

    def find() -> Sequence[_Removal]:
        return [
            _Removal(r.position, user_of(r.event.user), r.event.successor)
            for r in core.store.read(stream, up_to=up_to)
            if isinstance(r.event, MemberRemoved) and r.event.successor is not None
        ]

    return core.views.known(("removals", stream, up_to), find)
