"""Where datasets are: shipped with scikit-learn, or in the operator's folder.

A name is no path: nothing outside of that folder is ever read.
"""

from pathlib import Path

from arena_core.domain.errors import Rejected, TooLarge
from arena_core.domain.values import shown

VARIABLE = "ARENA_DATASETS"
"""The environment variable that names the operator's folder."""
SHIPPED = ("breast_cancer", "diabetes", "digits", "iris", "wine")
TABLES = (".csv", ".parquet")
ARRAYS = ".npz"
MOST_BYTES = 512 << 20


def suffix(name: str) -> str:
    return Path(name).suffix.lower()


def located(name: str, folder: Path | None) -> Path | None:
    """Return the file of that name; None: it is shipped.

    Raises `Rejected` or `TooLarge` for what is not there, or is no dataset.
    """
    if name in SHIPPED:
        return None
    if folder is None:
        raise Rejected(
            f"The dataset {shown(name)} is not one of {', '.join(SHIPPED)}, and there "
            f"is no folder of datasets: set {VARIABLE}.",
            field="source.name",
        )
    if not name or name.startswith(".") or set(name) & set("/\\:\0"):
        raise Rejected(
            f"The dataset {shown(name)} is no plain name of a file: give one without "
            "slashes, colons and a leading dot.",
            field="source.name",
        )
    try:
        path = _found(name, folder)
    except OSError as error:
        raise not_there(name) from error
    if suffix(name) not in (*TABLES, ARRAYS):
        raise Rejected(
            f"The dataset {shown(name)} is of no kind that is read: use "
            f"{', '.join(TABLES)} or {ARRAYS}.",
            field="source.name",
        )
    return path


def not_there(name: str) -> Rejected:
    return Rejected(
        f"There is no dataset {shown(name)} that can be read: put the file itself "
        f"into the folder of datasets, or use one of {', '.join(SHIPPED)}.",
        field="source.name",
    )


def _found(name: str, folder: Path) -> Path:
    path = (folder / name).resolve(strict=True)
    if path.parent != folder.resolve() or not path.is_file():
        raise FileNotFoundError(name)
    if path.stat().st_size > MOST_BYTES:
        raise TooLarge(
            f"The dataset {shown(name)} has more than {MOST_BYTES} bytes: use "
            "fewer rows.",
            field="source.name",
        )
    return path
