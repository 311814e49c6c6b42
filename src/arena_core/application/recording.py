"""The rows of all deployments as the log has them, and recording what became of one."""

import logging
from collections.abc import Sequence

from arena_core.application.handling import Change
from arena_core.application.ports import Context, Query, Recorded, Row
from arena_core.application.serving import Registry
from arena_core.application.session import Core
from arena_core.domain import deployment
from arena_core.domain.deployment import Deployment
from arena_core.domain.errors import Conflict, Corrupt, NotFound
from arena_core.domain.ids import DeploymentId
from arena_core.domain.values import system

log = logging.getLogger(__name__)


class Recording:
    """Reads and writes for the supervisor, and has the registry follow."""

    def __init__(self, core: Core, registry: Registry) -> None:
        self._core = core
        self._registry = registry

    def rows(self) -> list[Row]:
        """Return the latest row of every deployment of every organisation."""
        self._core.views.catch_up()
        query = Query(deployment.KIND, organisation=None, deleted=True)
        rows = list(self._core.views.rows.find(query))
        if self._core.views.halted is None:
            return rows
        # The read model has stopped: what is served must be true all the same.
        return [true for row in rows if (true := self.truth(row)) is not None]

    def truth(self, row: Row) -> Row | None:
        """Return the row as the log has it; None, and nothing served, if unreadable.

        What cannot be read may be the rotation of a key, or a Disconnect.
        """
        try:
            return self._core.views.present(row.id)
        except Corrupt:
            log.exception("The log of deployment %s cannot be read", row.id)
            self._registry.release(DeploymentId(row.id))
            return None

    def record(
        self, row: Row, *commands: object, cause: Recorded | None = None
    ) -> Deployment | None:
        """Record the commands and serve accordingly; None if they come too late.

        `cause`: as of `change`.
        """
        changes = [Change(deployment, row.id, command) for command in commands]
        return self.change(row, changes, cause)

    def change(
        self, row: Row, changes: Sequence[Change], cause: Recorded | None = None
    ) -> Deployment | None:
        """Record changes of the deployment, and of other things in the same breath.

        `cause`: the order that they carry out, which tells why.  None if they come
        too late.
        """
        try:
            handled = self._core.handler.handle(self._context(row, cause), *changes)
        except (Conflict, NotFound):
            log.info("Deployment %s has moved on meanwhile", row.id)
            return None
        self.follow(row)
        state: Deployment = handled.states[row.id]
        return state

    def last(self, row: Row, kind: type) -> Recorded | None:
        """Return the last event of a kind that has happened to the deployment."""
        history = reversed(self._core.store.read(row.id))
        return next((r for r in history if isinstance(r.event, kind)), None)

    def follow(self, row: Row) -> None:
        """Have the registry serve as the log has the deployment now."""
        self._core.views.catch_up()
        self._registry.follow(self.truth(row))

    def _context(self, row: Row, cause: Recorded | None) -> Context:
        command_id = self._core.new_id()
        actor = system("supervisor")
        if cause is None:
            return Context(row.organisation, actor, command_id, command_id)
        return Context(
            row.organisation,
            actor,
            command_id,
            cause.context.correlation_id,
            cause.event_id,
            cause.context.reason,
            cause.context.traceparent,
        )
