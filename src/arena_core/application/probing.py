"""Health probes: whether what is live still answers, and answers as training did.

Every so often each model that is live here is asked for one row: the first of its
golden trace, compared with what training answered, or else zeros.  Requests that went
well are no reason to skip that, for none of them was compared with training; and it
takes a hundredth of one processor's time at most.  Each question has a thread of its
own, so that one that never comes back is noticed by another.

A model that fails is dropped and never used again.  The worker that serves it hands
that over to one that has joined, or records that the connection is lost, and it is
loaded anew; one that has only joined drops it in silence and joins again.
"""

import logging
import random
import threading
import time
from collections.abc import Callable
from datetime import timedelta

from attrs import define, field, frozen

from arena_core.application import questions
from arena_core.application.handling import Change
from arena_core.application.models import Model
from arena_core.application.ports import BlobStore, Context, Row
from arena_core.application.questions import Question
from arena_core.application.serving import Live, Registry
from arena_core.application.session import Core
from arena_core.domain import deployment
from arena_core.domain.deployment import Deployment
from arena_core.domain.errors import ArenaError, Conflict, NotFound
from arena_core.domain.ids import DeploymentId, Digest, WorkerId
from arena_core.domain.values import system

log = logging.getLogger(__name__)

MOST_LOSSES = 3
"""How often a deployment may be lost to probes within the time below."""
LOSSES_WITHIN_S = 600.0
LARGEST_SHARE = 0.01
"""Of one processor's time, for the probes of one model."""
JITTER = 0.1
"""By which share an interval is longer or shorter: models must not keep step."""
LEASE = timedelta(seconds=30)
"""Of a claim that is given back in the same breath."""


@frozen
class Schedule:
    interval_s: float
    bound_s: float = 30.0
    """A model that has not answered after this time is taken to hang."""
    patience_s: float = 0.1
    """How long a pass waits for one answer before it goes on to the next model."""


_chance = random.Random().random  # noqa: S311 -- spreads probes, guards nothing
"""Its own, for probes must not disturb those who have seeded everybody's."""


class Prober:
    """Asks, in this process, what is live whether it is well."""

    def __init__(  # noqa: PLR0913 -- what it works with
        self,
        core: Core,
        registry: Registry,
        worker: WorkerId,
        schedule: Schedule,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = _chance,
    ) -> None:
        self._core = core
        self._registry = registry
        self._worker = worker
        self._schedule = schedule
        self._monotonic = monotonic
        self._chance = chance
        self._watched: dict[DeploymentId, _Watched] = {}
        self._losses: dict[DeploymentId, list[float]] = {}
        self._losing: DeploymentId | None = None

    def probe(self) -> None:
        """Look at every model that is live, and ask those whose time has come."""
        every = tuple(self._registry.all_live().values())
        live = {one.deployment_id: one for one in every}
        for gone in self._watched.keys() - live.keys():
            del self._watched[gone]
        for one in live.values():
            self._attend(one)

    def is_losing(self, deployment_id: DeploymentId) -> bool:
        """Say whether the loss of the deployment's model is just being recorded."""
        return self._losing == deployment_id

    def rests(self, deployment_id: DeploymentId) -> bool:
        """Say whether this worker has dropped it too often to join it again now."""
        return len(self._recent_losses(deployment_id)) >= MOST_LOSSES

    # --- one model -----------------------------------------------------------------

    def _attend(self, live: Live) -> None:
        now_s = self._monotonic()
        watched = self._watched.get(live.deployment_id)
        if watched is None or watched.model is not live.model:
            due_s = now_s + self._chance() * self._schedule.interval_s
            watched = _Watched(live.model, live.digest, due_s)
            self._watched[live.deployment_id] = watched
        if watched.probe is None:
            if now_s < watched.due_s:
                return
            watched.probe = _Probe(
                lambda: watched.ask(self._core.blobs), self._monotonic, now_s
            )
            watched.probe.wait(self._schedule.patience_s)
        self._judge(live, watched, watched.probe)

    def _judge(self, live: Live, watched: "_Watched", probe: "_Probe") -> None:
        now_s = self._monotonic()
        bound_s = self._schedule.bound_s
        if not probe.has_ended:
            if now_s - probe.begun_s >= bound_s:
                self._lose(live, f"it did not answer within {bound_s:g} seconds.")
        elif probe.wrong is not None:
            self._lose(live, probe.wrong)
        else:
            watched.probe = None
            jitter = JITTER * (2 * self._chance() - 1)
            pause_s = self._schedule.interval_s * (1 + jitter)
            watched.due_s = now_s + max(pause_s, probe.took_s / LARGEST_SHARE)

    # --- what is lost --------------------------------------------------------------

    def _lose(self, live: Live, wrong: str) -> None:
        """Drop what `live` is, unless something else answers for it already."""
        deployment_id = live.deployment_id
        self._losing = deployment_id
        try:
            if not self._registry.drop(deployment_id, live.model):
                return
            log.error("The health probe of %s failed: %s", deployment_id, wrong)
            del self._watched[deployment_id]
            losses = [*self._recent_losses(deployment_id), self._monotonic()]
            self._losses[deployment_id] = losses
            self._record_loss(deployment_id, f"The health probe failed: {wrong}")
        finally:
            self._losing = None

    def _recent_losses(self, deployment_id: DeploymentId) -> list[float]:
        since_s = self._monotonic() - LOSSES_WITHIN_S
        return [at for at in self._losses.get(deployment_id, ()) if at > since_s]

    def _record_loss(self, deployment_id: DeploymentId, reason: str) -> None:
        row = self._core.views.present(deployment_id)
        if row is None or row.state.server != self._worker:
            return
        commands = self._after_loss(row.state, reason)
        try:
            self._core.handler.handle(
                self._context(row),
                *(Change(deployment, deployment_id, command) for command in commands),
            )
        except (Conflict, NotFound):
            log.info("Deployment %s has moved on meanwhile", deployment_id)

    def _after_loss(self, state: Deployment, reason: str) -> list[object]:
        heir = self._core.agreement.other_with(state.id, state.digest)
        if heir is not None:
            return [deployment.TakeOver(heir, self._worker, reason)]
        lost = deployment.LoseConnection(self._worker, reason)
        if not self.rests(state.id):
            return [lost]
        del self._losses[state.id]
        claim = deployment.ClaimConnect(self._worker, self._core.clock() + LEASE)
        times = f"{MOST_LOSSES} times within {LOSSES_WITHIN_S / 60:g} minutes"
        why = f"Gave up: it was lost {times}. {reason}"
        return [
            lost,
            claim,
            deployment.FailConnect(self._worker, state.claims + 1, why),
        ]

    def _context(self, row: Row) -> Context:
        command_id = self._core.new_id()
        return Context(row.organisation, system("prober"), command_id, command_id)


@define(eq=False)
class _Watched:
    """A model that is live, and when it is asked next."""

    model: Model
    digest: Digest
    due_s: float
    probe: "_Probe | None" = None
    """That has begun, and was not judged yet."""
    _question: Question | None = None

    def ask(self, blobs: BlobStore) -> str | None:
        """Ask the model, and return what is wrong.  Takes as long as the model does."""
        if self._question is None:
            self._question = questions.of(self.model, blobs, self.digest)
        return self._question(self.model)


@define(eq=False)
class _Probe:
    """A question that is being asked, on a thread of its own."""

    _ask: Callable[[], str | None]
    _monotonic: Callable[[], float]
    begun_s: float
    took_s: float = 0.0
    wrong: str | None = None
    _thread: threading.Thread = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._thread = threading.Thread(
            target=self._run, name="arena-probe", daemon=True
        )
        self._thread.start()

    @property
    def has_ended(self) -> bool:
        return not self._thread.is_alive()

    def wait(self, timeout_s: float) -> None:
        self._thread.join(timeout_s)

    def _run(self) -> None:
        try:
            self.wrong = self._ask()
        except ArenaError as error:
            self.wrong = str(error)
        except Exception:
            log.exception("A health probe met a defect")
            self.wrong = "it failed in a way that has no name."
        self.took_s = self._monotonic() - self.begun_s
