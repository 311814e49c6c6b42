"""Importing does nothing: no file, no socket, no thread, no look at the environment."""

import subprocess
import sys
from inspect import ismodule
from pathlib import Path

import arena_core

SOURCE = Path(arena_core.__file__).parents[1]
TESTS = Path(__file__).parents[1]

# Others' packages may do as they like: they are there before the world is closed.
IMPORT_ALL = """
import importlib, pkgutil, sys
import arena_core

def import_all():
    found = pkgutil.walk_packages(arena_core.__path__, "arena_core.")
    names = [module.name for module in found]
    # What runs in trainings alone imports the libraries that they are made with.
    trains = "arena_core.entrypoints.recipes."
    alone = [n for n in names if n.startswith(trains) and n != trains + "programs"]
    return [importlib.import_module(name) for name in names if name not in alone]

assert len(import_all()) > 50
"""

CLOSE_THE_WORLD = """
import os, threading
for name in [name for name in sys.modules if name.partition(".")[0] == "arena_core"]:
    del sys.modules[name]
sys.dont_write_bytecode = True

class Closed:
    def refuse(self, *_, **__):
        raise AssertionError("the environment was looked at")
    __getitem__ = __setitem__ = __contains__ = __iter__ = __getattr__ = refuse

    def get(self, name, default=None):
        # click has its words translated, which asks for the language.
        asks = sys._getframe(1).f_globals["__name__"]
        return default if asks == "gettext" else self.refuse()

def refuse(event, arguments):
    if event == "open":
        path, mode, flags = arguments
        writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        assert not writes, f"{path} was opened to be written"
    refused = ("socket.", "sqlite3.", "subprocess.", "os.mkdir", "os.rename", "shutil.")
    assert not event.startswith(refused), event

def start(thread):
    raise AssertionError("a thread was started")

os.environ = Closed()
threading.Thread.start = start
sys.addaudithook(refuse)
import arena_core
"""

SERVE = """
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import arena_core
from arena_core.entrypoints.http.server import Server, listen
from bundles import cartpole, observations

with TemporaryDirectory() as folder, arena_core.open("memory:") as arena:
    bundle = cartpole(Path(folder) / "bundle")
    project = arena.projects.create("p", kind="classic")
    experiment = arena.experiments.create(project.id, name="e", algorithm="PPO")
    arena.experiments.add_checkpoint(experiment.id, step=1, path=bundle)
    agent = arena.agents.create("a", experiment.id, checkpoint=arena_core.final())
    with Server(arena.asgi(), listen("127.0.0.1", 0)).in_background():
        assert arena.agents.connect(agent.id).deployment.connected
        arena.inference(agent.id).get_action(observations(1, 4)[0])
"""


def run(code: str, *paths: Path) -> None:
    path = ":".join(map(str, (*paths, SOURCE, TESTS)))
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={"PYTHONPATH": path, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_importing_any_module_does_nothing():
    run(IMPORT_ALL + CLOSE_THE_WORLD + "assert len(import_all()) > 50\n")


def test_the_library_is_quick_to_import_for_nothing_heavy_comes_with_it():
    heavy = "{'onnx', 'onnxruntime', 'starlette', 'uvicorn', 'gymnasium', 'click'}"
    run(f"import sys, arena_core; assert not {heavy} & set(sys.modules)")


def test_torch_is_imported_neither_by_a_module_nor_by_a_server(tmp_path):
    # Where torch is not installed, this stands in for it: nobody may come upon it.
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").touch()
    run(IMPORT_ALL + SERVE + "assert 'torch' not in sys.modules\n", tmp_path)


def test_what_is_public_is_listed_and_sorted():
    listed = arena_core.__all__
    assert list(listed) == sorted(listed)
    assert len(set(listed)) == len(listed)
    values = {name: getattr(arena_core, name) for name in dir(arena_core)}
    ours = {
        name
        for name, value in values.items()
        if not name.startswith("_")
        and not ismodule(value)
        and getattr(value, "__module__", "").partition(".")[0] == "arena_core"
    }
    assert ours == set(listed)
