"""The command `arena` of the public client, as a process, against a real server.

What is in scope ends with 0; what the server refuses, and what it has not, with 1 and
one plain sentence; what is misspelled with 2.  Nothing ever ends in a traceback.
"""

import pytest
from attrs import evolve

from end_to_end.arena_platform import MANIFEST, a_name
from end_to_end.arena_users import Ended, Shell
from end_to_end.public_client import NEW, OLD

pytestmark = pytest.mark.slow

HOSTED = (
    "user credits",
    "resources list",
    "env list",
    "env exists mine",
    "env delete mine --yes",
    "datasets list",
    "datasets exists mine",
    "datasets delete mine --yes",
)
"""What only the hosted platform has."""
HOSTED_SINCE = ("models list", "models info meta/llama")
"""The same, for all but the oldest version."""


def each(arena: Shell, *commands: str) -> dict[str, Ended]:
    return {command: arena(*command.split()) for command in commands}


def done(ended: Ended) -> str:
    """Assert that a command did what it was asked; return what it printed."""
    assert ended.code == 0, ended
    assert "Error:" not in ended.said, ended
    return ended.said


def refused(ended: Ended, *words: str) -> str:
    """Assert that a command ended in one plain sentence; return what it printed."""
    assert ended.code == 1, ended
    said = ended.said.partition("Error: ")[2]
    assert said, ended
    assert not set("[]{}") & set(said), ended
    assert "http" not in said, ended
    assert all(word in said for word in words), ended
    return said


# --- projects and experiments --------------------------------------------------------


def test_projects_are_managed_by_their_names(arena):
    name = a_name("project")
    said = done(arena("projects", "get-default"))
    assert said.startswith("No default project set.")
    done(arena("projects", "create", name, "--description", "poles", "--llm-based"))
    said = done(arena("projects", "list"))
    assert all(word in said for word in (name, "Advanced Training", "poles"))
    done(arena("projects", "set-default", name))
    assert done(arena("projects", "get-default")) == name
    # Without a terminal nobody can confirm.
    assert arena("projects", "delete", name).code == 1
    done(arena("projects", "delete", name, "--yes"))
    refused(arena("projects", "delete", name, "--yes"), "404", name)


def test_an_experiment_goes_from_its_manifest_to_an_agent(program, platform, bundle):
    project, name = platform.project(), a_name("run")
    done(
        program(
            "experiments",
            *("submit", MANIFEST, "--project", project, "--experiment-name", name),
        )
    )
    said = done(program("experiments", "list", "--project", project))
    assert name in said
    assert "Pending" in said or "Running" in said
    done(program("experiments", "stop", name))
    platform.stopped(name)
    platform.write(platform.id_of(name), bundle, step=4096, fitness=480.0)
    said = done(program("experiments", "checkpoints", name))
    assert all(word in said for word in ("steps", "4096", "480.0", "240.0"))
    done(program("experiments", "resume", name, "--max-steps", 8192))
    said = done(program("experiments", "metrics", name, "--metric", "fitness"))
    assert ("fitness" in said, "score" in said) == (True, False)
    downloaded = (program.home / f"{name}_metrics.csv").read_text()
    assert downloaded.splitlines()[-1].endswith("480.0")
    said = done(program("agent", "deploy", name, "--checkpoint", "step_4096"))
    assert name in said
    platform.deployed(name)
    done(program("agent", "run", name))


def test_what_is_wrong_is_told_in_one_sentence(arena, platform):
    name = platform.experiment()
    met = each(
        arena,
        "experiments list --project nowhere",
        "experiments checkpoints nothing",
        "experiments metrics nothing",
        "experiments resume nothing --max-steps 10",
        f"experiments stop {name}",
        f"experiments submit {MANIFEST} --project nowhere",
        f"agent deploy {name}",
        "agent deploy nothing",
        "agent run nothing",
    )
    said = {command: refused(ended) for command, ended in met.items()}
    assert "404" in said["experiments list --project nowhere"]
    assert "409" in said[f"experiments stop {name}"]


def test_no_name_ends_a_table_in_a_traceback(arena, platform):
    project = platform.project()
    described = {"name": "[/red] a run", "algorithm": "PPO"}
    described["project_id"] = platform._of(project, "projects")["id"]
    platform.control.post("/api/v1/experiments", described)
    said = done(arena("experiments", "list", "--project", project))
    assert "a run" in said


# --- agents --------------------------------------------------------------------------


def test_agents_are_listed_without_their_keys(arena, platform, pole):
    key = platform.row(pole)["api_key"]
    met = each(
        arena,
        "agent list",
        f"agent list --name {pole} --experiment-name {pole}",
        "agent list --project-name nowhere",
    )
    everything, this, nothing = map(done, met.values())
    for said in (everything, this):
        words = (pole, "Deployed", "memory_scope", "user", platform.row(pole)["url"])
        assert all(word in said for word in words)
        assert key not in said
    assert pole not in nothing
    if arena.version == OLD:
        assert key in done(arena("agent", "list", "--show-api-keys"))


def test_an_agent_that_is_run_is_remembered(arena, pole):
    done(arena("agent", "run", pole, "--experiment-name", pole))
    said = refused(arena("agent", "generate", "--prompt", "Hello"))
    assert "not an LLM" in said


def test_of_agents_with_one_name_it_must_be_said_which(
    arena, platform, trained, unscored
):
    first, second = trained, unscored
    name = platform.live(first)
    platform.live(second, name=name)
    said = refused(arena("agent", "run", name), "409", first, second)
    assert "--experiment-name" in said
    done(arena("agent", "run", name, "--experiment-name", second))


def test_an_agent_that_is_not_deployed_is_waited_for(arena, platform, trained):
    name = platform.agent(trained)
    said = refused(arena("agent", "run", name))
    assert "Wait until provisioning completes" in said


def test_there_are_no_conversations_yet(arena, pole):
    sessions = f"agent sessions list {pole}", f"agent sessions get mine {pole}"
    delete = f"agent sessions delete mine {pole} --yes"
    met = each(arena, *sessions, delete, f"agent generate {pole} --prompt Hello")
    if arena.version == OLD:
        assert "No such command" in met.pop(sessions[0]).said
        assert {met.pop(sessions[1]).code, met.pop(delete).code} == {2}
    for ended in met.values():
        assert "not an LLM" in refused(ended)


def test_the_scope_of_memory_is_chosen_when_an_agent_is_new(arena, platform, bundle):
    name = platform.experiment(bundle)
    deploy = ("agent", "deploy", name, "--memory-scope")
    if arena.version == OLD:
        assert arena(*deploy, "user").code == 2
        return
    done(arena(*deploy, "organization"))
    platform.deployed(name)
    refused(arena(*deploy, "user"), "409")


# --- who asks ------------------------------------------------------------------------


def test_help_is_shown_to_everybody(arena):
    keys = [{}, {"ARENA_API_KEY": "arena_pat_nonsense"}, {"ARENA_API_KEY": ""}]
    for page in [done(arena("--help", **key)) for key in keys]:
        assert all(word in page for word in ("projects", "experiments", "agent"))


def test_no_login_is_needed_with_a_token(arena):
    assert "login not required" in done(arena("login"))
    done(arena("logout"))


def test_a_profile_is_shown(arena):
    said = done(arena("user", "profile"))
    assert (said.startswith("User:"), "None" in said) == (True, False)


def test_who_is_not_known_is_told_so(arena):
    said = refused(arena("--api-key", "nonsense", "projects", "list"))
    assert "API key" in said
    anonymous = evolve(arena, environ={**arena.environ, "ARENA_API_KEY": ""})
    assert "arena login" in refused(anonymous("projects", "list"))


def test_a_partner_uses_the_commands_too(arena, platform, pole):
    if arena.version == OLD:
        assert arena("--org-key", "x", "agent", "list").code == 2
        return
    key = platform.token(kind="org")
    given = {"ARENA_ORG_KEY": key, "ARENA_EXTERNAL_USER_ID": "customer-7"}
    assert pole in done(arena("agent", "list", **given))


# --- what there is without a server --------------------------------------------------


def test_what_is_local_needs_no_server(arena, pole):
    local = ["agent sessions clear " + pole] if arena.version != OLD else []
    if arena.version == NEW:
        local += [f"manifest validate {MANIFEST}", "manifest schema"]
        local += ["models supported", "memory --help"]
    alone = evolve(arena, environ={"ARENA_BASE_URL": "http://127.0.0.1:9"})
    for ended in each(alone, "projects get-default", *local).values():
        done(ended)


# --- what there is not ---------------------------------------------------------------


def test_what_only_the_hosted_platform_has_is_a_plain_sentence(arena):
    hosted = HOSTED if arena.version == OLD else HOSTED + HOSTED_SINCE
    for command, ended in each(arena, *hosted).items():
        assert "404" in refused(ended), command


def test_misspelled_commands_are_usage_errors(arena):
    met = each(
        arena,
        "inference list",  # of clients that were never released
        "agent deploy",
        "agent generate --prompt Hello",  # and no agent was ever run
        "experiments resume nothing",
        "on-prem classes list",
    )
    assert {ended.code for ended in met.values()} == {2}
