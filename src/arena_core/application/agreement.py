"""What the workers of one store have done, each told to all.

The log says what is to be served, and every worker follows it in its own time.  Some
answers must wait until all have: a rotated key is dead in every worker before its
rotation is answered, and no worker may learn of a swap whose weights it still has to
load.  So each worker tells how far it is, and whoever has to wait looks at that.
"""

import threading
import time
from collections.abc import Callable, Iterator
from uuid import UUID

from attrs import evolve

from arena_core.application.ports import Note, Presence
from arena_core.domain.ids import DeploymentId, Digest, WorkerId

AGREEMENT_S = 5.0
"""How long an answer waits for other workers to do as it says."""
LOOK_AGAIN_S = 0.002
"""How often one who waits looks at what the others have told."""


class Agreement:
    """One worker among those of a store.  Safe to use from several threads.

    Questions are about the others: what this worker itself has done, its own code
    knows.  One that dies is not waited for.  Where there are no others, nothing waits.
    """

    def __init__(self, worker: WorkerId, presence: Presence | None) -> None:
        """`presence`: where the others are found; None if there are none."""
        self._worker = worker
        self._presence = presence
        self._note = Note()
        self._telling = threading.Lock()

    @classmethod
    def alone(cls) -> "Agreement":
        """Return the agreement of one who has no others beside it."""
        return cls(WorkerId(UUID(int=0)), None)

    # --- telling -------------------------------------------------------------------

    def followed(self, position: int) -> None:
        """Say that this worker serves what the log says up to `position`."""
        self._tell(lambda note: evolve(note, position=max(note.position, position)))

    def prepared(self, deployment_id: DeploymentId, digest: Digest) -> None:
        """Say that this worker can answer with these weights at once."""
        weights = frozenset({(deployment_id, digest)})
        self._tell(lambda note: evolve(note, prepared=note.prepared | weights))

    def dropped(self, deployment_id: DeploymentId, digest: Digest) -> None:
        """Say that it cannot do so any more."""
        weights = frozenset({(deployment_id, digest)})
        self._tell(lambda note: evolve(note, prepared=note.prepared - weights))

    def leave(self) -> None:
        """Say that this worker is about to end."""
        self._tell(lambda note: evolve(note, leaving=True))

    def _tell(self, change: Callable[[Note], Note]) -> None:
        """Tell what is new; what is not costs nothing."""
        if self._presence is None:
            return
        with self._telling:
            note = change(self._note)
            if note != self._note:
                self._presence.tell(self._worker, note)
                self._note = note

    # --- asking --------------------------------------------------------------------

    def all_followed(self, position: int, timeout_s: float = AGREEMENT_S) -> bool:
        """Wait until all others serve as the log was at `position`; say whether."""
        return self._all(lambda note: note.position >= position, timeout_s)

    def all_prepared(
        self, deployment_id: DeploymentId, digest: Digest, timeout_s: float = 30.0
    ) -> bool:
        """Wait until all others that stay have these weights; say whether they do."""
        weights = (deployment_id, digest)
        return self._all(
            lambda note: weights in note.prepared or note.leaving, timeout_s
        )

    def other_with(
        self, deployment_id: DeploymentId, digest: Digest
    ) -> WorkerId | None:
        """Return another worker that stays and has these weights, if there is one."""
        weights = (deployment_id, digest)
        return next(
            self._others(lambda note: weights in note.prepared and not note.leaving),
            None,
        )

    def _all(self, has: Callable[[Note], bool], timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s
        while next(self._others(lambda note: not has(note)), None) is not None:
            if time.monotonic() >= deadline:
                return False
            time.sleep(LOOK_AGAIN_S)
        return True

    def _others(self, like: Callable[[Note], bool]) -> Iterator[WorkerId]:
        """Yield the living others whose notes are `like` that."""
        if self._presence is None:
            return
        for worker, note in self._presence.notes().items():
            # Looking whether somebody lives takes longer than reading what they told.
            if (
                worker != self._worker
                and like(note)
                and self._presence.is_alive(worker)
            ):
                yield worker
