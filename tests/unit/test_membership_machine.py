"""Users, organisations and tokens against a plain model: who may do what, and where."""

from itertools import count

import pytest
from attrs import define, evolve, field
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)

from arena_core.application.identity import authenticate
from arena_core.application.secrets import id_in
from arena_core.domain.errors import ArenaError, Unauthenticated
from arena_core.domain.ids import OrganisationId
from arena_core.domain.values import Actor, ActorKind, Caller, Role
from unit.workers import World

NAMES = st.sampled_from(["ada", "bob", "cy"])
ROLES = st.sampled_from(Role)
NUMBERS = st.integers(0, 5)


@define
class Person:
    """What the model knows of a user."""

    joined: list[str] = field(factory=list)
    current: str | None = None
    token: str | None = None
    """The text of the live one."""
    most: Role = Role.MANAGER
    issued_in: str = ""

    def join(self, organisation):
        if organisation not in self.joined:
            self.joined.append(organisation)
        self.current = self.current or organisation

    def leave(self, organisation):
        self.joined.remove(organisation)
        if self.current == organisation:
            self.current = next(iter(self.joined), None)


@define
class Group:
    """What the model knows of an organisation."""

    members: dict[str, Role] = field(factory=dict)
    invited: dict[str, tuple[str, Role]] = field(factory=dict)

    def add(self, name, role):
        self.invited.pop(name, None)
        self.members[name] = role

    def is_last_manager(self, name):
        managers = [n for n, role in self.members.items() if role is Role.MANAGER]
        return managers == [name]


def least(*roles):
    return min(roles, key=list(Role).index)


class Membership(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.world = World()
        self.workers = [self.world.worker(), self.world.worker()]
        self.people: dict[str, Person] = {}
        self.groups: dict[str, Group] = {"default": Group()}
        self.dead: set[str] = set()
        self.turn = 0
        self.secrets = count(1)

    # --- asking one worker or the other -------------------------------------------

    def use(self, caller):
        """Return what a caller can do, by one process and then by the other."""
        self.turn += 1
        application = self.workers[self.turn % 2].application
        random = lambda size: next(self.secrets).to_bytes(size)  # noqa: E731 -- short
        return evolve(application, random_bytes=random).on_behalf_of(caller)

    def operator(self, organisation="default"):
        actor = Actor(ActorKind.OPERATOR, "root")
        caller = Caller(OrganisationId(organisation), actor, Role.MANAGER)
        return self.use(caller)

    def acting(self, name):
        """Return what a user can do, where and as what; None if nothing."""
        person = self.people.get(name)
        if person is None or person.token is None or person.current is None:
            return None, None, None
        role = least(self.groups[person.current].members[name], person.most)
        caller = authenticate(self.workers[0].core, person.token)
        return self.use(caller), person.current, role

    def may(self, allowed, command, *arguments, **options):
        """Carry out what must succeed if it is `allowed`, and be refused if not."""
        try:
            answer = command(*arguments, **options)
        except ArenaError:
            assert not allowed, (command, arguments)
            return None
        assert allowed, (command, arguments)
        return answer

    def group(self, number):
        return list(self.groups)[number % len(self.groups)]

    # --- what people do -----------------------------------------------------------

    @rule(name=NAMES, number=NUMBERS, role=ROLES)
    def operator_issues(self, name, number, role):
        where = self.group(number)
        person = self.people.get(name, Person())
        issued = self.may(
            person.token is None,
            self.operator(where).tokens.issue,
            name="t",
            user=name.upper(),
            role=role,
        )
        if issued is not None:
            self.people[name] = person
            group = self.groups[where]
            before = group.members.get(name, role)
            group.add(name, max(before, role, key=list(Role).index))
            person.join(where)
            person.current = where
            person.token, person.most, person.issued_in = issued.token, role, where

    @rule(name=NAMES)
    def user_creates(self, name):
        use, _, role = self.acting(name)
        if use is not None and len(self.groups) < 4:
            assert role is not None
            made = use.organisations.create(f"{name}'s")
            self.groups[made.id] = Group({name: Role.MANAGER})
            self.people[name].join(made.id)

    @rule(name=NAMES, number=NUMBERS)
    def user_chooses(self, name, number):
        use, _, _ = self.acting(name)
        if use is not None:
            where, person = self.group(number), self.people[name]
            allowed = where in person.joined
            self.may(allowed, use.users.edit, current_organisation=where)
            person.current = where if allowed else person.current

    @rule(name=NAMES, other=NAMES, number=NUMBERS, role=ROLES)
    def user_invites(self, name, other, number, role):
        use, current, mine = self.acting(name)
        # That it takes a manager is the endpoint's rule, and tested with the others.
        if use is not None and mine is Role.MANAGER:
            where = self.group(number)
            group = self.groups[where]
            allowed = where == current and other not in group.members
            invited = self.may(allowed, use.invitations.invite, where, other, role=role)
            if invited is not None:
                if other in group.invited:
                    self.dead.add(group.invited[other][0])
                group.invited[other] = (invited.token, role)

    @rule(number=NUMBERS, invited=NAMES, bearer=st.none() | NAMES)
    def somebody_accepts(self, number, invited, bearer):
        where = self.group(number)
        group = self.groups[where]
        if invited not in group.invited:
            return
        text, role = group.invited[invited]
        bearing = None if bearer is None else self.people.get(bearer, Person()).token
        known = self.people.get(invited)
        allowed = known is None or (bearing is not None and bearer == invited)
        accept = self.operator().invitations.accept
        accepted = self.may(allowed, accept, text, bearing=bearing)
        if accepted is not None:
            assert (accepted.token is None) == (known is not None)
            person = self.people.setdefault(invited, Person(issued_in=where))
            person.token = accepted.token or person.token
            person.join(where)
            group.add(invited, role)
            self.dead.add(text)

    @rule(name=NAMES, other=NAMES, role=ROLES)
    def user_changes_a_role(self, name, other, role):
        use, current, mine = self.acting(name)
        if use is not None and mine is Role.MANAGER:
            group = self.groups[current]
            same = group.members.get(other) is role
            allowed = other in group.members and (
                same or not group.is_last_manager(other)
            )
            self.may(allowed, use.organisations.change_role, current, other, role)
            if allowed:
                group.members[other] = role

    @rule(name=NAMES, other=NAMES, number=NUMBERS)
    def user_removes(self, name, other, number):
        use, current, mine = self.acting(name)
        if use is None:
            return
        where = self.group(number)
        group = self.groups[where]
        allowed = (
            where == current
            and (mine is Role.MANAGER or name == other)
            and other in group.members
            and not group.is_last_manager(other)
        )
        self.may(allowed, use.organisations.remove, where, other)
        if allowed:
            del group.members[other]
            self.people[other].leave(where)

    @rule(name=NAMES, other=NAMES, command=st.sampled_from(["rotate", "revoke"]))
    def user_ends_a_token(self, name, other, command):
        use, current, mine = self.acting(name)
        owner = self.people.get(other, Person())
        if use is None or owner.token is None:
            return
        over = (
            mine is Role.MANAGER
            and owner.issued_in == current
            and other in self.groups[current].members
        )
        allowed = name == other or (over and command == "revoke")
        token_id = id_in(owner.token)
        answer = self.may(allowed, getattr(use.tokens, command), token_id)
        if allowed:
            self.dead.add(owner.token)
            owner.token = None if answer is None else answer.token

    # --- what must be so ----------------------------------------------------------

    @invariant()
    def every_token_does_what_it_may_and_no_more(self):
        for worker in self.workers:
            for name, person in self.people.items():
                if person.token is None:
                    continue
                if person.current is None:
                    self.refuses(worker, person.token)
                    continue
                caller = authenticate(worker.core, person.token)
                role = self.groups[person.current].members[name]
                assert caller.organisation == person.current
                assert caller.role is least(role, person.most)
                assert caller.actor.name.casefold() == name

    @invariant()
    def what_is_dead_stays_dead(self):
        for text in self.dead:
            self.refuses(self.workers[0], text)

    def refuses(self, worker, text):
        try:
            authenticate(worker.core, text)
        except Unauthenticated:
            return
        raise AssertionError(text)

    @invariant()
    def members_are_those_of_the_model(self):
        for where, group in self.groups.items():
            listed = self.operator(where).organisations.members(where)
            assert {m.user.casefold(): m.role for m in listed} == group.members
            invitations = self.operator(where).invitations.list(where)
            assert {i.user for i in invitations} == group.invited.keys()

    @invariant()
    def everybody_sees_their_own_organisations_and_tokens(self):
        for name, person in self.people.items():
            use, current, role = self.acting(name)
            if use is None:
                continue
            assert [o.id for o in use.organisations.list()] == person.joined
            for where in self.groups:
                self.may(where in person.joined, use.organisations.get, where)
                self.may(where == current, use.organisations.members, where)
            seen = {t.user.casefold() for t in use.tokens.list()}
            others = {
                other
                for other, them in self.people.items()
                if them.token is not None
                and them.issued_in == current
                and other in self.groups[current].members
            }
            assert seen == {name} | (others if role is Role.MANAGER else set())


@pytest.mark.slow
def test_rule_03_everybody_may_do_what_the_model_says_and_nothing_else():
    run_state_machine_as_test(
        Membership,
        settings=settings(max_examples=20, stateful_step_count=25, deadline=None),
    )
