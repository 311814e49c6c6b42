"""Which rights somebody has, once it is known who they are."""

from collections.abc import Callable, Iterator, Sequence
from uuid import UUID

from arena_core.application.ports import Row, Write
from arena_core.application.session import Core, Session
from arena_core.domain import credential, organisation, sign_in, user
from arena_core.domain.errors import (
    Conflict,
    Corrupt,
    Flaw,
    Forbidden,
    Unauthenticated,
)
from arena_core.domain.ids import (
    OrganisationId,
    TokenId,
    UserId,
    organisation_of,
    user_of,
)
from arena_core.domain.values import Actor, ActorKind, Caller, Role

REFUSAL = (
    "The credential is missing, unknown, rotated, revoked or of a kind that is not "
    "taken here: use a live token."
)
"""The same whatever is wrong: it tells nobody how near they are."""
CHANGED = "What you may do has changed while you asked: ask again."
OPERATORS = (ActorKind.OPERATOR, ActorKind.LIBRARY)
"""They have the store itself, and so whatever it holds."""


def latest(core: Core, row_id: UUID) -> Row | None:
    """Return the row as it is now; of the log itself if the read model has stopped."""
    core.views.catch_up()
    if core.views.halted is None:
        return core.views.rows.get(row_id)
    try:
        return core.views.present(row_id)
    except Corrupt:
        return None


def caller_of_user(
    core: Core,
    name: str,
    *,
    token_id: TokenId | None = None,
    most: Role = Role.MANAGER,
) -> Caller:
    """Return the user in their current organisation, with their role there.

    `most`: what they may do at most, wherever it is.  Raises `Unauthenticated` for
    somebody who is not known, or who belongs to no organisation.
    """
    row = latest(core, user_of(name))
    if row is None:
        raise Unauthenticated(REFUSAL)
    found: user.User = row.state
    where = found.current
    role = None if where is None else role_in(core, where, found.id)
    if where is None or role is None:
        raise Unauthenticated(REFUSAL, flaw=Flaw.REVOKED)
    actor = Actor(ActorKind.USER, found.name, token_id)
    return Caller(where, actor, role.at_most(most))


def role_in(core: Core, where: OrganisationId, user_id: UserId) -> Role | None:
    """Return the user's role in an organisation; None if they do not belong to it."""
    row = latest(core, organisation_of(where))
    state: organisation.Organisation | None = None if row is None else row.state
    member = None if state is None else state.member(user_id)
    return None if member is None else member.role


def acting_user(session: Session) -> user.User | None:
    """Return the user who acts in this session; None if it is not one.

    A token from before there were users bears a name, which proves nothing of the
    user who has been registered under it since.
    """
    actor = session.caller.actor
    if actor.kind is not ActorKind.USER:
        return None
    row = latest(session.core, user_of(actor.name))
    if row is None:
        return None
    found: user.User = row.state
    return None if _is_older(session.core, actor, found) else found


def _is_older(core: Core, actor: Actor, found: user.User) -> bool:
    if actor.token_id is None or actor.token_id == found.token:
        return False
    row = latest(core, actor.token_id)
    return row is not None and row.kind == credential.KIND


def unchanged(
    core: Core, caller: Caller, again: Callable[[], Caller]
) -> Sequence[Write]:
    """Return what the caller's rights hang on, as it is: to be guarded by an append.

    So nothing is ever appended by somebody who had lost the right before.  `again`
    authenticates them once more.  Raises what that raises, and `Conflict` if they are
    not the caller that they were.
    """
    core.views.catch_up()
    rows = ((stream, core.views.rows.get(stream)) for stream in _hung_on(core, caller))
    versions = [Write(s, 0 if row is None else row.version, ()) for s, row in rows]
    require_same(caller, again())
    return versions


def require_same(before: Caller, now: Caller) -> None:
    """Raise `Conflict` unless whoever asks is and may what they were and might."""
    if now != before:
        raise Conflict(CHANGED)


def _hung_on(core: Core, caller: Caller) -> Iterator[UUID]:
    actor = caller.actor
    if actor.token_id is not None:
        yield actor.token_id
        row = core.views.rows.get(actor.token_id)
        if row is not None and row.kind == sign_in.KIND:
            yield row.state.token_id
    if actor.kind is ActorKind.USER:
        yield user_of(actor.name)
        yield organisation_of(caller.organisation)


def require_role(caller: Caller, needed: Role) -> None:
    """Raise `Forbidden` unless the caller's role covers what is needed."""
    if not caller.role.covers(needed):
        raise Forbidden(
            f"This needs the role {needed.value}; in the current organisation this "
            f"credential has the role {caller.role.value}."
        )


def is_operator(caller: Caller) -> bool:
    """Say whether whoever asks has the store itself."""
    return caller.actor.kind in OPERATORS and caller.role is Role.MANAGER
