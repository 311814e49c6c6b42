"""The real checkpoints that are committed, and what their libraries said of them.

Each lies in `checkpoints/<format>/` beside `<name>.npz`, a golden trace that the
library itself has recorded, and whatever else its import needs; `make.py` has made
them, with the versions in `versions.txt`.
"""

from pathlib import Path

from attrs import frozen

from arena_core.application.conversion import (
    MODEL_FILE,
    SPACES_FILE,
    STATISTICS_FILE,
    TRACE_FILE,
    Format,
)

CHECKPOINTS = Path(__file__).parent / "checkpoints"
_SUFFIXES = {
    Format.SB3: ".zip",
    Format.AGILERL: ".pt",
    Format.TORCH: ".pt2",
    Format.ONNX: ".onnx",
}
_COMPANIONS = {".spaces.json": SPACES_FILE, ".pkl": STATISTICS_FILE, ".npz": TRACE_FILE}


@frozen
class Checkpoint:
    """One real checkpoint."""

    source: Format
    file: Path

    def __str__(self) -> str:
        return f"{self.source.value}-{self.file.stem}"

    def beside(self, suffix: str) -> Path:
        return self.file.with_name(self.file.stem + suffix)

    @property
    def recorded(self) -> Path:
        """The golden trace that the library has recorded."""
        return self.beside(".npz")

    @property
    def order(self) -> dict[str, Path]:
        """The files that it is imported from, with the recorded trace."""
        beside = {
            name: self.beside(suffix)
            for suffix, name in _COMPANIONS.items()
            if self.beside(suffix).exists()
        }
        return {MODEL_FILE: self.file, **beside}


ALL = [
    Checkpoint(source, file)
    for source, suffix in _SUFFIXES.items()
    for file in sorted((CHECKPOINTS / source.value).glob(f"*{suffix}"))
]
