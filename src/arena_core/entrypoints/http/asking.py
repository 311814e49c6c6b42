"""What the head of a data-plane request says, however it was parsed."""

import re
from collections.abc import Iterable

from attrs import field, frozen
from starlette.datastructures import QueryParams

from arena_core.application.inference import GREEDY, VERBS, Choice, Verb
from arena_core.application.raw_arrays import FIELD, Names, names_of
from arena_core.domain.errors import Rejected

RAW_ARRAYS = "application/x-npy"
DEADLINE = "arena-timeout-ms"
_OBS: Names = ("obs",)
_INPUTS: Names = ("inputs",)
_MILLISECONDS = re.compile(r"[1-9][0-9]{0,8}")
_FIELDS = {
    name.encode(): name for name in ("authorization", "content-type", DEADLINE, FIELD)
}


@frozen(eq=False)
class Asking:
    """One request to one deployment, but for its body."""

    deployment_id: str
    verb: Verb
    choice: Choice
    names: Names | None
    """Of raw arrays; None: the body is JSON."""
    authorization: str = field(repr=False)
    timeout_s: float | None
    """What the caller waits at most before it is served; None: it does not say."""
    length: int = 0
    """Of the body, in bytes, where that is known."""
    is_plain: bool = field(init=False)
    """Whether its body may be a plain request."""
    lane: tuple[str, str] = field(init=False)
    """What its lane is found by."""
    credential: str = field(init=False, repr=False)
    """The same however the header that bears it is spelled."""
    bearer: bytes = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        may_be = self.choice == GREEDY and self.names in (None, _OBS)
        # The only way for a frozen class to derive what it holds.
        object.__setattr__(self, "is_plain", may_be)
        object.__setattr__(self, "lane", (self.deployment_id, self.verb.name))
        credential = self.authorization.partition(" ")[2].strip()
        object.__setattr__(self, "credential", credential)
        object.__setattr__(self, "bearer", self.authorization.encode("latin-1"))


def read_head(
    deployment_id: str,
    verb: str,
    query: bytes,
    headers: Iterable[tuple[bytes, bytes]],
    length: int = 0,
) -> Asking:
    """Return what a head says; `verb` is one of `VERBS`.

    `headers`: their names in lower case; of those of one name the first counts, as it
    does for who is asking.  Raises `Rejected`.
    """
    said: dict[str, str] = {}
    for name, value in headers:
        if name in _FIELDS:
            said.setdefault(_FIELDS[name], value.decode("latin-1"))
    return Asking(
        deployment_id,
        VERBS[verb],
        _choice(query),
        _names(said, verb),
        said.get("authorization", ""),
        _timeout_s(said.get(DEADLINE)),
        length,
    )


def _choice(query: bytes) -> Choice:
    if not query:
        return GREEDY
    said = QueryParams(query)
    return Choice.of(said.get("mode", GREEDY.mode.value), said.get("seed"))


def _names(said: dict[str, str], verb: str) -> Names | None:
    kind = said.get("content-type", "").partition(";")[0].strip().lower()
    if kind != RAW_ARRAYS:
        return None
    if FIELD not in said:
        return _OBS if verb == "get_action" else _INPUTS
    return names_of(said[FIELD])


def _timeout_s(text: str | None) -> float | None:
    if text is None:
        return None
    if not _MILLISECONDS.fullmatch(text):
        raise Rejected(
            "The header Arena-Timeout-Ms must be a whole number of milliseconds above "
            "0.",
            field=DEADLINE,
        )
    return int(text) / 1000
