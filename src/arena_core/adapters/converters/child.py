"""The part of a conversion that is done in the confined process."""

import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from arena_core.application import golden
from arena_core.application.bundles import MANIFEST_FILE
from arena_core.application.conversion import Convert, Converted, Options, Report


def convert(arguments: Mapping[str, Any], report: Report) -> None:
    """Convert the order that `arguments` describe into the folder that they name."""
    module = importlib.import_module(arguments["module"])
    converted = cast("Convert", module.convert)(
        Path(arguments["order"]), Options(**arguments["options"]), report
    )
    report("writing the bundle")
    write(Path(arguments["bundle"]), converted)


def write(folder: Path, converted: Converted) -> None:
    """Write the files of a bundle into `folder`, all of them side by side."""
    files = {
        **converted.weights,
        MANIFEST_FILE: _json(converted.checkpoint),
        golden.FILE: golden.write(converted.trace),
    }
    if len(files) != len(converted.weights) + 2 or any("/" in name for name in files):
        raise ValueError("a file of weights has a name that is taken, or a folder")
    for name, content in files.items():
        (folder / name).write_bytes(content)


def _json(described: Mapping[str, Any]) -> bytes:
    text = json.dumps(described, indent=2, allow_nan=False, ensure_ascii=False)
    return (text + "\n").encode()
