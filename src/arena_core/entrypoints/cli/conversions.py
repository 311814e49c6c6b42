"""Converting a file of other training code on the command line, into a bundle."""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from attrs import frozen
from rich.console import Console
from rich.text import Text

from arena_core.application import bundles, orders, parity
from arena_core.application.conversion import Format, Options, Report
from arena_core.domain.checkpoint import Manifest
from arena_core.domain.errors import Rejected
from arena_core.domain.ids import Digest
from arena_core.domain.parity import Parity, Verdict

_STEP = "step"
"""Where the provenance of a bundle says how far training was."""


@frozen
class Foreign:
    """What training code has saved, and what is said about it."""

    format: Format
    files: Mapping[str, Path | bytes]
    options: Options


@frozen
class Converted:
    """A bundle, and what was found of it."""

    folder: Path
    manifest: Manifest
    digest: Digest
    parity: Parity
    step: int
    """As its provenance says; 0 if that says nothing."""


def convert(foreign: Foreign, scratch: Path, out: Path | None) -> Converted:
    """Convert into `out`, or below `scratch`, and check what came of it."""
    from arena_core.entrypoints.wiring import converter, load_bundle  # noqa: PLC0415 -- --help needs no adapters

    order, bundle = scratch / "order", out or scratch / "bundle"
    if bundle.exists():
        raise Rejected("The folder is there already: name a new one.", field="out")
    with orders.writing():
        bundle.parent.mkdir(parents=True, exist_ok=True)
    orders.lay_out(order, foreign.files)
    orders.check(order)
    with _shown() as report:
        converter()(foreign.format, order, bundle, foreign.options, report)
        report("checking the bundle")
        with _gone_if_refused(bundle):
            manifest = bundles.check(bundle)
            loaded = load_bundle(bundle)
            loaded.model.close()
            if loaded.parity.verdict is Verdict.FAILED:
                raise Rejected(parity.sentence(loaded.parity))
    digest = bundles.listing(bundle).digest
    return Converted(bundle, manifest, digest, loaded.parity, _step(bundle))


@contextmanager
def _gone_if_refused(bundle: Path) -> Iterator[None]:
    """Delete the folder if there is an error: what is refused is not to be used."""
    try:
        yield
    except BaseException:
        shutil.rmtree(bundle, ignore_errors=True)
        raise


class _Described(msgspec.Struct):
    provenance: dict[str, Any] = {}


def _step(bundle: Path) -> int:
    """Return the step that the bundle says it is of; 0 if it says none."""
    content = (bundle / bundles.MANIFEST_FILE).read_bytes()
    said = msgspec.json.decode(content, type=_Described).provenance
    step = said.get(_STEP)
    return step if type(step) is int else 0


@contextmanager
def _shown() -> Iterator[Report]:
    """Give what shows the progress, if somebody looks."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda what: None  # noqa: ARG005 -- nobody looks
        return
    with console.status(Text("starting")) as status:
        yield lambda what: status.update(Text(what))
