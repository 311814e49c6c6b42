"""A pipeline over HTTP, whose trainings are done by hand: nothing runs by itself.

What people do goes through the API; what processes do is a pass of the runner or of the
supervisor, or what a trainer records.
"""

from collections.abc import Mapping
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from attrs import evolve, field, frozen

from arena_core.application.handling import Change
from arena_core.application.pipeline_runner import PipelineRunner
from arena_core.application.ports import MetricPoint
from arena_core.domain import experiment
from arena_core.domain.experiment import Experiment
from arena_core.domain.ids import Digest, ExperimentId, WorkerId
from measuring import of_training
from unit.scenes import CONTEXT

import bundles
from end_to_end.http_world import World

API = "/api/v1"
CARTPOLE = {"kind": "gym", "name": "CartPole-v1"}
DIGITS = {"kind": "dataset", "name": "digits"}
COMMAND = {"recipe": "command", "config": {"argv": ["train"]}}
_TRAINER = WorkerId(UUID(int=77))


@frozen(eq=False)
class Line:
    """A member of an organisation, with a project and a pipeline in it."""

    world: World
    folder: Path
    client: Any
    project: str
    at: str
    """The address of the pipeline."""
    _numbers: count = field(factory=count)

    @classmethod
    def of(cls, world: World, folder: Path) -> "Line":
        client = world.member()
        body = {"name": "lab", "kind": "advanced"}
        project = client.post(f"{API}/projects", json=body).json()["id"]
        made = client.post(
            f"{API}/pipelines", json={"project_id": project, "name": "line"}
        )
        assert made.status_code == 201, made.text
        return cls(
            world, folder, client, project, f"{API}/pipelines/{made.json()['id']}"
        )

    @property
    def core(self):
        return self.world.arena.application.core

    # --- what people do --------------------------------------------------------------

    def ask(self, method: str, path: str = "", **body: Any):
        """Return the answer to a request to an address below the pipeline's."""
        options = {} if method == "GET" else {"json": body}
        return self.client.request(method, self.at + path, **options)

    def done(self, method: str, path: str = "", **body: Any) -> Any:
        answer = self.ask(method, path, **body)
        assert answer.is_success, answer.text
        return answer.json()

    def experiment(self, name: str = "ppo", **said: Any) -> str:
        body = {"project_id": self.project, "name": name, "algorithm": "PPO"}
        body |= {"source": CARTPOLE, **COMMAND, **said}
        made = self.client.post(f"{API}/experiments", json=body)
        assert made.status_code == 201, made.text
        return made.json()["id"]

    def insert(self, kind: str = "experiment", **said: Any):
        """Return the answer to an insertion; an Experiment stage has a new one."""
        if kind == "experiment":
            said.setdefault("experiment_id", self.experiment())
        return self.ask("POST", "/stages", type=kind, **said)

    def lay_out(self, *kinds: str, trigger: str = "auto") -> list[str | None]:
        """Insert stages behind each other; return what they are bound to."""
        for number, kind in enumerate(kinds):
            when = trigger if number else "manual"
            assert self.insert(kind, trigger=when).status_code == 201
        return [stage["experiment_id"] for stage in self.stages()]

    def show(self) -> Any:
        return self.done("GET")

    def stages(self) -> list[Any]:
        return self.show()["stages"]

    def stage(self, position: int) -> Any:
        return self.stages()[position - 1]

    def statuses(self) -> list[str]:
        return [stage["status"] for stage in self.stages()]

    def path(self, position: int, verb: str = "") -> str:
        return f"/stages/{self.stage(position)['id']}" + (verb and f"/{verb}")

    def order(self, position: int, verb: str, **body: Any):
        """Return the answer to an order, and have the runner carry it out."""
        answer = self.ask("POST", self.path(position, verb), **body)
        self.go_on()
        return answer

    def trigger(self, position: int = 1) -> None:
        assert self.order(position, "trigger").status_code == 202

    # --- what processes do -----------------------------------------------------------

    def go_on(self) -> None:
        PipelineRunner(self.core).reconcile()

    def connect(self) -> None:
        """Have the supervisor put live what is to be, and the runner see it."""
        for _ in range(3):
            self.world.arena.supervisor.reconcile()
            self.go_on()

    def succeed(
        self,
        experiment_id: str,
        scores: Mapping[int, float | None] | None = None,
        *,
        seed: int | None = None,
    ) -> list[str]:
        """Train to the end, with a checkpoint for each score; return their digests.

        `seed`: of the first network; the same gives the same digests.
        """
        self.begin(experiment_id)
        first = next(self._numbers) * 1000 if seed is None else seed
        steps = {10: 1.0} if scores is None else scores
        written = [
            self.write(experiment_id, step, fitness, seed=first + number)
            for number, (step, fitness) in enumerate(steps.items())
        ]
        self._do(experiment_id, experiment.FinishTraining(*self._claim(experiment_id)))
        self.go_on()
        return written

    def fail(self, experiment_id: str, reason: str = "It crashed.") -> None:
        self.begin(experiment_id)
        failing = experiment.FailTraining(*self._claim(experiment_id), reason)
        self._do(experiment_id, failing)
        self.go_on()

    def begin(self, experiment_id: str) -> None:
        lease_until = self.core.clock() + timedelta(hours=1)
        self._do(experiment_id, experiment.ClaimTraining(_TRAINER, lease_until))
        self._do(experiment_id, experiment.StartTraining(*self._claim(experiment_id)))

    def end_stop(self, experiment_id: str) -> None:
        self._do(experiment_id, experiment.AcknowledgeStop(*self._claim(experiment_id)))
        self.go_on()

    def write(
        self, experiment_id: str, step: int, fitness: float | None, *, seed: int
    ) -> Digest:
        network = bundles.Network.of(4, 2, seed=seed)
        folder = self.folder / f"bundle{next(self._numbers)}"
        bundle = bundles.cartpole(folder, network=network)
        digest = self.core.blobs.put(bundle)
        if fitness is not None:
            self.core.metrics.record(
                ExperimentId(UUID(experiment_id)),
                of_training(
                    len(self._state(experiment_id).begun),
                    [MetricPoint(step, "fitness", fitness)],
                ),
                log_position=self.core.store.head(),
            )
        claimed = self._claim(experiment_id)
        self._do(
            experiment_id,
            experiment.RecordTrainedCheckpoint(*claimed, step, digest, 1),
        )
        return digest

    def _state(self, experiment_id: str) -> Experiment:
        find = self.world.arena.experiments.session.find
        state: Experiment = find(experiment.KIND, UUID(experiment_id)).state
        return state

    def _claim(self, experiment_id: str) -> tuple[WorkerId, int]:
        training = self._state(experiment_id).training
        assert training is not None
        return _TRAINER, training.claims

    def _do(self, experiment_id: str, command: object) -> None:
        context = evolve(CONTEXT, command_id=uuid4())
        change = Change(experiment, UUID(experiment_id), command)
        self.core.handler.handle(context, change)
