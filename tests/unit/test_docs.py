"""The documents are true: what they link to is there, what they show runs."""

import asyncio
import re
import runpy
import sqlite3
from enum import Enum
from pathlib import Path

import click
import pytest

import arena_core
from arena_core.entrypoints.cli.main import cli
from arena_core.entrypoints.settings import Settings

import bundles

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PACKAGE = Path(arena_core.__file__).parent
PAGES = sorted([*DOCS.rglob("*.md"), *ROOT.glob("*.md")])
FENCED = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
RUNNABLE = re.compile(r"^```python runnable\n(.*?)^```$", re.DOTALL | re.MULTILINE)
SHELL = re.compile(r"^```sh(?: runnable)?\n(.*?)^```$", re.DOTALL | re.MULTILINE)
COMMAND = re.compile(r"^arena-core (\w+)(?: ([a-z-]+))?", re.MULTILINE)
TREE = re.compile(r"^```text\nsrc/arena_core/\n(.*?)^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)


def named(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def section(page: Path, heading: str) -> str:
    return text_of(page).partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


# --- links -------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    """Return the fragments that the headings of a page can be linked by."""
    headings = HEADING.findall(FENCED.sub("", text_of(page)))
    kept = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.replace(" ", "-") for heading in kept}


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_relative_link_leads_to_a_page_and_a_heading_of_it(page):
    for link in LINK.findall(FENCED.sub("", text_of(page))):
        path, _, fragment = link.partition("#")
        if "://" in path or link.startswith("mailto:"):
            continue
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{named(page)} links to {link}"
        if fragment:
            assert fragment in anchors(target), f"{named(page)} links to {link}"


@pytest.mark.parametrize("folder", [DOCS, DOCS / "how-to", DOCS / "decisions"])
def test_the_map_names_every_page(folder):
    linked = set(LINK.findall(text_of(DOCS / "index.md")))
    pages = {page.relative_to(DOCS).as_posix() for page in folder.glob("*.md")}
    assert not pages - linked - {"index.md"}


# --- examples ----------------------------------------------------------------------


def run(page: Path) -> dict[str, object]:
    """Run the runnable blocks of a page, one after the other; return their names."""
    names: dict[str, object] = {"__name__": "an_example"}
    for code in RUNNABLE.findall(text_of(page)):
        exec(compile(code, named(page), "exec"), names)  # noqa: S102 -- our own page
    return names


WITH_EXAMPLES = [page for page in PAGES if RUNNABLE.search(text_of(page))]


@pytest.mark.parametrize("page", WITH_EXAMPLES, ids=named)
def test_every_runnable_example_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run(page)


def test_at_least_these_pages_show_something_that_runs():
    assert {"docs/bundle.md", "docs/events.md"} <= set(map(named, WITH_EXAMPLES))


@pytest.fixture
def log(tmp_path):
    """Return the path of a real log of several streams."""
    path = tmp_path / "arena.db"
    with arena_core.open(path) as arena:
        project = arena.projects.create('a name with "quotes", ü and \\u00fc')
        arena.projects.edit(project.id, name='","h":"', description="x")
        issued = arena.tokens.issue(name="laptop", user="ann")
        arena.tokens.revoke(issued.view.id, reason='","d":{')
    return path


def test_the_script_of_the_events_page_finds_a_real_log_intact(log):
    assert run(DOCS / "events.md")["verify"](log) == 11


@pytest.mark.parametrize("position", range(1, 12))
def test_the_script_of_the_events_page_finds_any_event_that_was_changed(log, position):
    ours = b'"organisation":"default"'
    database = sqlite3.connect(log)
    database.execute("DROP TRIGGER arena_events_are_not_changed")
    changed = database.execute(
        "UPDATE arena_events SET state = CAST(replace(state, ?, ?) AS BLOB)"
        " WHERE rowid = ? AND instr(state, ?)",
        (ours, b'"organisation":"rivals!"', position, ours),
    )
    assert changed.rowcount == 1
    database.commit()
    database.close()
    with pytest.raises(ValueError, match=f"the event at {position} was changed"):
        run(DOCS / "events.md")["verify"](log)


# --- what is generated, and what is listed -----------------------------------------


def test_the_page_of_events_is_what_the_catalogue_gives():
    script = runpy.run_path(str(DOCS / "generate_events.py"))
    assert script["page"]() == text_of(script["PAGE"]), (
        "run: python docs/generate_events.py"
    )


class Asked(dict[str, str]):
    """An environment that remembers what it was asked for."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def get(self, name, default=None):
        self.names.add(name)
        return default


def test_the_table_of_settings_is_that_of_the_code():
    environ = Asked()
    defaults = Settings.from_environment(environ)
    rows = re.findall(
        r"^\| `(ARENA_\w+)` \| `(\w+)` \| (.*?) \|",
        section(DOCS / "http.md", "Settings"),
        re.MULTILINE,
    )
    asked = {name for name in environ.names if name.startswith("ARENA_")}
    assert {name for name, _, _ in rows} == asked
    for name, field, default in rows:
        assert name == f"ARENA_{field.upper()}"
        found = getattr(defaults, field)
        if isinstance(found, Enum):
            assert default == f"`{found.value}`", name
        elif isinstance(found, int):
            assert default == f"`{found}`", name
        else:
            assert found is None or field == "store" or default == f"`{found}`", name


def modules_of(page: Path) -> dict[str, str]:
    """Return what the tree on a page says of each module, by path."""
    (tree,) = TREE.findall(text_of(page))
    found, folders = {}, []
    for line in tree.splitlines():
        indent, name, said = re.fullmatch(r"( *)(\S+) *(.*)", line).groups()
        folders[len(indent) // 2 - 1 :] = [name]
        if name.endswith(".py"):
            found["".join(folders)] = said
    return found


def test_the_tree_of_modules_names_every_module_and_no_other():
    sources = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if path.name != "__init__.py" or path.parent == PACKAGE
    }
    listed = modules_of(DOCS / "architecture.md")
    assert set(listed) == sources
    assert all(listed.values()), "each module has its line"


def test_the_glossary_names_modules_that_exist():
    named_there = set(re.findall(r"`([\w/]+\.py)`", text_of(DOCS / "glossary.md")))
    assert named_there
    assert not {name for name in named_there if not (PACKAGE / name).exists()}


def test_every_command_that_is_shown_exists():
    for page in PAGES:
        shell = "\n".join(SHELL.findall(text_of(page)))
        for first, second in COMMAND.findall(shell):
            command = cli.get_command(click.Context(cli), first)
            assert command is not None, f"{named(page)}: arena-core {first}"
            known = getattr(command, "commands", None)
            assert known is None or second in known, f"{named(page)}: {first} {second}"


def test_a_back_up_made_as_the_page_says_is_whole_and_serves_again(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    store = tmp_path / "arena.db"
    bundles.cartpole(tmp_path / "bundle")
    with arena_core.open(store) as arena:
        project = arena.projects.create("cartpole")
        experiment = arena.experiments.create(project.id, name="ppo", algorithm="PPO")
        arena.experiments.add_checkpoint(experiment.id, step=1, path="bundle")
        agent = arena.agents.create(
            "balancer", experiment.id, checkpoint=arena_core.final()
        )
        arena.agents.connect(agent.id)
        key = arena.agents.access(agent.id).api_key
        run(DOCS / "operations.md")["back_up"](store, tmp_path / "copy")
    with arena_core.open(tmp_path / "copy" / "arena.db") as restored:
        assert list(restored.audit.verify()) == []
        assert restored.inference(agent.id).get_action([0.0] * 4) in (0, 1)
        assert restored.agents.access(agent.id).api_key == key


def test_the_program_of_the_operations_page_answers_under_its_prefix(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    app = run(DOCS / "operations.md")["app"]
    statuses = []

    async def ask():
        async with app.router.lifespan_context(app):
            scope = {"type": "http", "method": "GET", "path": "/arena/livez"}
            headers = [(b"host", b"arena.example")]
            scope |= {"headers": headers, "query_string": b"", "root_path": ""}
            await app(scope, receive, send)

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        statuses.append(message.get("status"))

    asyncio.run(ask())
    assert statuses[0] == 200
