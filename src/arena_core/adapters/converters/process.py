"""Conversions in a process of their own: what is read is a stranger's, and may bite."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp
from types import MappingProxyType

from attrs import asdict, field, frozen

from arena_core.adapters import disk
from arena_core.adapters.confined import processes
from arena_core.adapters.confined.confinement import Limits
from arena_core.adapters.confined.messages import Ended, Failed
from arena_core.application import bundles
from arena_core.application.conversion import (
    SPACES_FILE,
    STATISTICS_FILE,
    Format,
    Options,
    Report,
)
from arena_core.domain.errors import Rejected

MODULES: Mapping[Format, str] = MappingProxyType(
    {it: f"arena_core.adapters.converters.{it.value}" for it in Format}
)
"""Where the `Convert` of each format is, under the name `convert`."""
_SPACES_ARE_IN_IT = (
    "The checkpoint says its spaces itself: import it without a file of spaces."
)
_STATISTICS_ARE_IN_SPACES = (
    "A file of statistics is read beside a checkpoint of Stable-Baselines3 only: "
    f"write its means and variances into {SPACES_FILE}, as the normaliser."
)
UNREAD: Mapping[Format, Mapping[str, str]] = MappingProxyType(
    {
        Format.SB3: {SPACES_FILE: _SPACES_ARE_IN_IT},
        Format.AGILERL: {
            SPACES_FILE: _SPACES_ARE_IN_IT,
            STATISTICS_FILE: "A checkpoint of AgileRL has its running statistics in "
            "itself: import it without a file of statistics.",
        },
        Format.TORCH: {STATISTICS_FILE: _STATISTICS_ARE_IN_SPACES},
        Format.ONNX: {STATISTICS_FILE: _STATISTICS_ARE_IN_SPACES},
    }
)
"""What nobody reads beside a model, and the refusal: to ignore it would serve another
function than whoever handed it over believes."""
_WRITTEN = "bundle"


@frozen
class LimitedConverter:
    """Converts in a confined process.  Safe to call from several threads."""

    limits: Limits = field(factory=Limits)
    modules: Mapping[Format, str] = field(default=MODULES)
    importable: Sequence[Path] = ()
    """Where `modules` are found, if they are not installed."""

    def __call__(
        self,
        format: Format,  # noqa: A002 -- the field's word
        order: Path,
        bundle: Path,
        options: Options,
        report: Report,
    ) -> None:
        """Write the bundle of `order` into `bundle`, as the port `Converter` says."""
        if bundle.exists():
            raise ValueError("the folder of the bundle is there already")
        _check_all_read(format, order)
        with _work_folder(bundle.parent) as work:
            self._convert(format, order.resolve(), work, options, report)
            _check(work / _WRITTEN)
            with disk.translated("conversions"):
                (work / _WRITTEN).rename(bundle)

    def _convert(
        self,
        of: Format,
        order: Path,
        work: Path,
        options: Options,
        report: Report,
    ) -> None:
        task = processes.Task(
            "arena_core.adapters.converters.child:convert",
            {
                "module": self.modules[of],
                "order": str(order),
                "bundle": _WRITTEN,
                "options": asdict(options),
            },
            work,
            readable=[order],
            importable=self.importable,
        )
        try:
            processes.run(task, self.limits, report)
        except Failed as error:
            raise Rejected(
                f"The {of.value} file could not be converted: it may be damaged, "
                "too large, or of a kind that is not known; export the model to ONNX "
                "and import that."
            ) from error
        except Ended as error:
            raise Rejected(f"The conversion was ended: it {error}.") from error


def _check_all_read(of: Format, order: Path) -> None:
    for name, refusal in UNREAD.get(of, {}).items():
        if (order / name).exists():
            raise Rejected(refusal, field=name)


@contextmanager
def _work_folder(parent: Path) -> Iterator[Path]:
    """Give a new folder, with one for the bundle in it; delete it afterwards."""
    with disk.translated("conversions"):
        work = Path(mkdtemp(prefix=".converting-", dir=parent))
        (work / _WRITTEN).mkdir(mode=0o700)
    try:
        yield work
    finally:
        with disk.translated("conversions"):
            _clear(work)


def _clear(folder: Path) -> None:
    """Delete `folder`, whatever a hostile process has left in it.

    Folders are moved to the top before they are opened, so that none is too deep.
    """
    pending, moved = [folder], 0
    for path in pending:
        path.chmod(0o700)
        for entry in list(path.iterdir()):
            if entry.is_symlink() or not entry.is_dir():
                entry.unlink()
                continue
            moved += 1
            pending.append(entry.rename(folder / f".moved-{moved}"))
    for path in reversed(pending):
        path.rmdir()


def _check(folder: Path) -> None:
    """Raise `Rejected` unless `folder` holds plain files, each with one name."""
    if folder.is_symlink():
        raise Rejected("The bundle is a link to another folder.")
    for name, path in bundles.files_of(folder).items():
        if path.lstat().st_nlink != 1:
            raise Rejected(f"The bundle holds {name}, which is a link to another file.")
