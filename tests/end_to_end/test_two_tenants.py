"""Nobody learns anything of others: what A is answered does not depend on what B does.

The same requests of A are sent twice to two servers that differ in nothing but what B
did in between.  Ids and times are given, so that every byte must be the same; only the
positions of the log, which are common to all, are counted anew.
"""

import json
import random
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from attrs import define, field, frozen
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import arena_core
from arena_core.domain.ids import OrganisationId
from arena_core.domain.values import LIBRARY, Role

import bundles
from end_to_end.http_world import World, opened, packed

API = "/api/v1"
BEGUN = datetime(2026, 1, 1, tzinfo=UTC)
POSITIONS = re.compile(r'"(position|next_after)":(\d+)|^id: (\d+)$', re.MULTILINE)
OPAQUE = re.compile(r'"next_cursor":"[^"]*"')
HEADERS = ("content-type", "etag", "location", "retry-after", "cache-control", "allow")
BUNDLE = "a bundle, packed"
NAMES = ("p", "balancer", "ada", "*")


@frozen
class Step:
    """One request, made of what its organisation has got so far."""

    method: str
    path: Callable[["Tenant"], str]
    body: Callable[["Tenant"], object] = lambda tenant: None  # noqa: ARG005
    finds: str | None = None
    """What its answer is one of."""


@define
class Tenant:
    """One organisation, with ids and secrets of its own."""

    name: str
    world: World
    seed: int
    things: dict[str, list[str]] = field(factory=dict)
    clock: int = 0
    _random: random.Random = field(init=False)
    _client: object = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._random = random.Random(self.seed)  # noqa: S311 -- makes ids, guards nothing
        self.turn(self.seed)
        use = self.world.arena.on_behalf_of(
            arena_core.Caller(OrganisationId(self.name), LIBRARY, Role.MANAGER)
        )
        issued = use.tokens.issue(name="t", user=f"{self.name}-ada", role="manager")
        # Else each request would be given an id of its own.
        self._client = self.world.client(issued.token)
        self._client.headers["X-Request-Id"] = "1"

    def turn(self, clock: int) -> None:
        """Let what is done next be this tenant's: its ids, at that time."""
        core = self.world.arena.application.core
        self.clock = clock
        now = BEGUN + timedelta(seconds=self.clock)
        for name, value in {
            "new_id": lambda: UUID(int=self._random.getrandbits(128), version=4),
            "clock": lambda: now,
        }.items():
            object.__setattr__(core, name, value)
        object.__setattr__(core.handler, "clock", core.clock)
        application = self.world.arena.application
        object.__setattr__(application, "random_bytes", self._random.randbytes)
        core.store._clock = core.clock

    def some(self, kind: str) -> str:
        """Return the id of something of a kind, or of nothing."""
        found = self.things.get(kind, [])
        return found[self.clock % len(found)] if found else str(UUID(int=0))

    def ask(self, step: Step, clock: int, folder) -> str:
        self.turn(clock)
        body = step.body(self)
        options = {"content": packed(folder)} if body == BUNDLE else {"json": body}
        answer = self._client.request(
            step.method, step.path(self), **({} if body is None else options)
        )
        if step.finds is not None and answer.status_code == 201:
            self.things.setdefault(step.finds, []).append(answer.json()["id"])
        heads = {name: answer.headers.get(name) for name in HEADERS}
        if '"position":' in answer.text or '"next_cursor":"' in answer.text:
            heads["etag"] = None  # it is a digest of the positions too
        return f"{answer.status_code} {json.dumps(heads)}\n{answer.text}"


def _project(tenant: Tenant) -> dict:
    return {"name": NAMES[tenant.clock % 2], "kind": "classic"}


def _experiment(tenant: Tenant) -> dict:
    return {
        "project_id": tenant.some("project"),
        "name": NAMES[tenant.clock % 3],
        "algorithm": "PPO",
        "source": {"kind": "gym", "name": "CartPole-v1"},
    }


def _agent(tenant: Tenant) -> dict:
    return {
        "name": "balancer",
        "experiment_id": tenant.some("experiment"),
        "checkpoint": {"type": "final"},
    }


def _pipeline(tenant: Tenant) -> dict:
    return {"project_id": tenant.some("lab"), "name": NAMES[tenant.clock % 2]}


def _draft(tenant: Tenant) -> dict:
    return {**_experiment(tenant), "project_id": tenant.some("lab")}


def _stage(tenant: Tenant) -> dict:
    return {"type": "experiment", "experiment_id": tenant.some("draft")}


def _at(path: str) -> Callable[[Tenant], str]:
    """Return an address, with ids of things that the tenant has."""
    return lambda tenant: (
        API + re.sub(r"\{(\w+)\}", lambda found: tenant.some(found[1]), path)
    )


def _own(path: str) -> Callable[[Tenant], str]:
    """Return an address of the tenant's organisation itself."""
    return lambda tenant: f"{API}/organisations/{tenant.name}{path}"


def _named(tenant: Tenant) -> dict:
    return {"name": NAMES[tenant.clock % 2], "description": None, "llm_based": False}


STEPS = (
    Step("POST", _at("/projects"), _project, "project"),
    Step("POST", _at("/experiments"), _experiment, "experiment"),
    Step("POST", _at("/experiments/{experiment}/checkpoints?step=1"), lambda _: BUNDLE),
    Step("POST", _at("/agents"), _agent, "agent"),
    Step("POST", _at("/agents/{agent}/connect"), lambda _: {}),
    Step("POST", _at("/agents/{agent}/disconnect"), lambda _: {"reason": "why"}),
    Step("POST", _at("/agents/{agent}/rotate-key"), lambda _: {}),
    Step("PATCH", _at("/projects/{project}"), lambda _: {"name": "renamed"}),
    Step("DELETE", _at("/agents/{agent}"), lambda _: {}),
    Step("DELETE", _at("/projects/{project}")),
    Step("GET", _at("/projects")),
    Step("GET", _at("/projects?limit=1")),
    Step("GET", _at("/projects/{project}")),
    Step("GET", _at("/experiments?name=p")),
    Step("GET", _at("/experiments/{experiment}/checkpoints")),
    Step("GET", _at("/agents")),
    Step("GET", _at("/agents?name=balancer")),
    Step("GET", _at("/agents/{agent}")),
    Step("GET", _at("/agents/{agent}/access")),
    Step("GET", _at("/agents/{agent}/checkpoint")),
    Step("GET", _at("/experiments/{experiment}/checkpoints/1")),
    Step("GET", _at("/agents/sources?kind=classic")),
    Step("POST", _at("/projects"), lambda _: {"name": "lab", "kind": "advanced"},
         "lab"),
    Step("POST", _at("/experiments"), _draft, "draft"),
    Step("POST", _at("/pipelines"), _pipeline, "pipeline"),
    Step("POST", _at("/pipelines/{pipeline}/stages"), _stage),
    Step("PATCH", _at("/pipelines/{pipeline}"), lambda _: {"name": "renamed"}),
    Step("POST", _at("/pipelines/{pipeline}/duplicate"), lambda _: {}, "pipeline"),
    Step("GET", _at("/pipelines")),
    Step("GET", _at("/pipelines?name=p")),
    Step("GET", _at("/pipelines/{pipeline}")),
    Step("GET", _at("/pipelines/{pipeline}/candidates")),
    Step("GET", _at("/pipelines/{pipeline}/graph.svg")),
    Step("POST", _at("/experiments/{draft}/duplicate"), lambda _: {}, "draft"),
    Step("POST", _at("/experiments/{draft}/train"), lambda _: {}),
    Step("GET", _at("/experiments/{draft}/log")),
    Step("GET", _at("/experiments/{experiment}/metrics?format=csv")),
    Step("DELETE", _at("/pipelines/{pipeline}")),
    Step("GET", _at("/tokens")),
    Step("POST", _at("/tokens"), lambda _: {"name": "k", "kind": "org"}, "token"),
    Step("POST", _at("/tokens/{token}/rotate"), lambda _: {}),
    Step("DELETE", _at("/tokens/{token}")),
    Step("GET", _at("/users/me")),
    Step("PATCH", _at("/users/me"), lambda _: {"first_name": "Ada"}),
    Step("GET", _at("/organisations")),
    Step("GET", _own("/members")),
    Step("GET", _own("/invitations")),
    # Both invite the same people, and each other's.
    Step("POST", _own("/invitations"), lambda _: {"user": "grace", "role": "viewer"}),
    Step("POST", _own("/invitations"), lambda _: {"user": "ours-ada"}),
    Step("POST", _own("/invitations"), lambda _: {"user": "theirs-ada"}),
    Step("GET", lambda _: "/api/users/current"),
    Step("GET", lambda _: "/api/cli/v1/projects"),
    Step("POST", lambda _: "/api/cli/v1/projects/create", _named),
    Step("GET", lambda _: "/api/cli/v1/experiments/list?project=p"),
    Step("POST", lambda _: "/api/cli/v1/inference/deploy",
         lambda _: {"experiment_name": "p"}),
    Step("GET", lambda _: "/api/cli/v1/inference/deployments/list"),
    Step("GET", lambda _: "/api/cli/v1/inference/deployments/one?name=balancer"),
    Step("GET", _at("/events")),
)  # fmt: skip


def _plain(answers: list[str]) -> list[str]:
    """Return the answers with positions counted from 1, in their order."""
    text = "\0".join(answers)
    found = sorted({int(a or b) for _, a, b in POSITIONS.findall(text)})
    ranks = {str(position): str(rank) for rank, position in enumerate(found, 1)}

    def counted(match: re.Match[str]) -> str:
        position = match[2] or match[3]
        return match[0].replace(position, ranks[position])

    return OPAQUE.sub('"next_cursor":"..."', POSITIONS.sub(counted, text)).split("\0")


def _answers(program: list[tuple[bool, int]], folder, *, with_b: bool) -> list[str]:
    with opened(serve=False) as world:
        ours = Tenant("ours", world, 1)
        theirs = Tenant("theirs", world, 2) if with_b else None
        answers = []
        for clock, (is_ours, number) in enumerate(program, start=10):
            if is_ours:
                answers.append(ours.ask(STEPS[number], clock, folder))
            elif theirs is not None:
                theirs.ask(STEPS[number], clock, folder)
        return _plain(answers)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return bundles.cartpole(tmp_path_factory.mktemp("bundle"))


def _programs() -> Iterator[st.SearchStrategy]:
    step = st.tuples(st.booleans(), st.integers(0, len(STEPS) - 1))
    return st.lists(step, min_size=1, max_size=40)


@pytest.mark.slow
@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(program=_programs())
def test_what_one_tenant_does_changes_no_byte_of_what_another_is_answered(
    program, folder
):
    assert _answers(program, folder, with_b=True) == _answers(
        program, folder, with_b=False
    )


def test_all_of_it_done_by_both_changes_no_byte_either(folder):
    everything = [(ours, n) for n in range(len(STEPS)) for ours in (False, True)] * 2
    apart = _answers(everything, folder, with_b=False)
    assert _answers(everything, folder, with_b=True) == apart
    assert {answer[:3] for answer in apart} >= {"200", "201", "202", "404"}


def test_the_comparison_tells_what_leaks(folder, monkeypatch):
    """Were one list not confined to its organisation, it would be seen."""
    monkeypatch.setattr(
        "arena_core.application.session.Query",
        lambda kind, organisation, *rest, **named: arena_core.application.ports.Query(  # noqa: ARG005
            kind, None, *rest, **named
        ),
    )
    program = [(False, 0), (True, 0), (True, 10)]
    apart = _answers(program, folder, with_b=False)
    assert _answers(program, folder, with_b=True) != apart
