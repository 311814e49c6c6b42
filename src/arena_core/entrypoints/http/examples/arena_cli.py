"""Commands of the public client, which has none that asks for actions."""

from arena_core.application.resources import Example, Language, Tab
from arena_core.entrypoints.http.examples.literals import shell
from arena_core.entrypoints.http.examples.subject import Subject


def examples(subject: Subject) -> list[Example]:
    name = shell(subject.callee.name)
    ends_options = "-- " if subject.callee.name.startswith("-") else ""
    lines = [
        f"export ARENA_BASE_URL={shell(subject.base_url)}",
        f"export ARENA_KEYCLOAK_URL={shell(subject.base_url + '/')}",
        "arena login  # opens a browser, unless ARENA_API_KEY holds a token",
        f"arena agent list --name {name}",
    ]
    if subject.callee.is_only:
        lines += [
            "",
            "# From now on it is the agent that other commands mean.",
            f"arena agent run {ends_options}{name}",
        ]
    code = "\n".join(lines) + "\n"
    return [Example(Tab.ARENA_CLI, "Find the agent", Language.SHELL, code)]
