"""/livez and /readyz: whether the process lives, and whether it can do its work."""

from http import HTTPStatus

from attrs import frozen

from arena_core.domain.errors import ArenaError
from arena_core.entrypoints.http.endpoints import PUBLIC, Call, Endpoint, Reply


@frozen
class Alive:
    status: str


@frozen
class Check:
    """One thing that the server needs; `detail` says what is wrong with it."""

    name: str
    ok: bool
    detail: str | None = None


@frozen
class Readiness:
    ready: bool
    checks: list[Check]


def livez(call: Call) -> Reply:
    del call
    return Reply(Alive("alive"))


def readyz(call: Call) -> Reply:
    core = call.use.session.core
    checks = []
    try:
        core.store.head()
        checks.append(Check("event_store", ok=True))
        core.views.catch_up()
    except ArenaError:
        checks.append(Check("event_store", ok=False, detail="It cannot be read."))
    halt = core.views.halted
    stopped = None if halt is None else f"Stopped after position {halt.position}."
    checks.append(Check("read_model", ok=halt is None, detail=stopped))
    waiting = call.use.set_aside
    if waiting:
        # That is no reason to send callers elsewhere: everything else goes on.
        said = f"{waiting} set aside: see the log of the server."
        checks.append(Check("stages_and_trainings", ok=True, detail=said))
    ready = all(check.ok for check in checks)
    status = HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE
    return Reply(Readiness(ready, checks), status)


ENDPOINTS = (
    Endpoint("GET", "/livez", livez, PUBLIC, "Say that the process lives", Alive),
    Endpoint(
        "GET",
        "/readyz",
        readyz,
        PUBLIC,
        "Say whether it can work",
        Readiness,
        also=HTTPStatus.SERVICE_UNAVAILABLE,
    ),
)
