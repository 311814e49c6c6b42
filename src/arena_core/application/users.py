"""Use cases of users: what they say of themselves, and where they act."""

from attrs import frozen

from arena_core.application.callers import acting_user
from arena_core.application.handling import Change
from arena_core.application.memberships import profile, views_of_all
from arena_core.application.resources import UserView
from arena_core.application.session import Session
from arena_core.domain import user
from arena_core.domain.errors import Forbidden
from arena_core.domain.ids import OrganisationId


@frozen
class Users:
    session: Session

    def me(self) -> UserView:
        """Return who asks.  Of whom is no registered user, only the name is known."""
        caller, found = self.session.caller, profile(self.session)
        current = None if found is None else found.current
        return UserView(
            name=caller.actor.name if found is None else found.name,
            email="" if found is None else found.email,
            first_name="" if found is None else found.first_name,
            last_name="" if found is None else found.last_name,
            current_organisation=current or caller.organisation,
            organisations=views_of_all(self.session),
        )

    def edit(
        self,
        *,
        first_name: str | None = None,
        last_name: str | None = None,
        email: str | None = None,
        current_organisation: str | None = None,
    ) -> UserView:
        """Describe oneself, and choose where to act; None leaves as it is."""
        found = acting_user(self.session)
        if found is None:
            raise Forbidden("This credential is none of a registered user.")
        commands: list[object] = [user.DescribeUser(first_name, last_name, email)]
        if current_organisation is not None:
            chosen = OrganisationId(current_organisation)
            commands.append(user.ChooseOrganisation(chosen))
        self.session.execute(*(Change(user, found.id, c) for c in commands))
        return self.me()
