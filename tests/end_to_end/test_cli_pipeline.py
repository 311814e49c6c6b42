"""`arena-core pipeline` as a user types it, from an empty store to what answers."""

import json
import re
import signal
import tomllib
from itertools import pairwise
from xml.etree import ElementTree as ET

import pytest

import bundles
from end_to_end.processes import eventually
from end_to_end.typed_commands import on_a_terminal, typed_in

FAILS = ("sh", "-c", "echo the disk is on fire; exit 3")


@pytest.fixture
def typed(tmp_path):
    typed = typed_in(tmp_path)
    yield typed
    typed.hold.unlink(missing_ok=True)  # what a test has left running ends


@pytest.fixture
def chain(typed):
    """A pipeline of two trainings, the second of which is Auto, that never ran."""
    typed.draft("first")
    typed.draft("second")
    typed.said("pipeline", "create", "chain", "--project", "lab")
    typed.said("pipeline", "stage", "add", "chain", "--experiment", "first")
    typed.said(
        "pipeline", "stage", "add", "chain", "--experiment", "second",
        "--trigger", "auto",
    )  # fmt: skip
    return typed


def shown(typed, name="chain"):
    return json.loads(typed.said("pipeline", "show", name, "--json"))


def statuses(typed):
    return [stage["status"] for stage in shown(typed)["stages"]]


def untimed(told):
    """Return the lines without the times that they begin with."""
    lines = told.splitlines()
    assert all(re.match(r"\S{10} \S{8}Z  ", line) for line in lines)
    return [line.split("  ", 1)[1] for line in lines]


# --- structure -----------------------------------------------------------------------


def test_there_are_none_and_it_is_said_how_to_make_one(typed):
    typed.draft("first")
    assert "No pipelines found: make one" in typed.said("pipeline", "list")


def test_stages_are_added_edited_moved_and_removed(chain):
    said = chain.said("pipeline", "stage", "move", "chain", "second", 1)
    assert said == "1 second: experiment, manual\n2 first: experiment, manual\n"
    chain.said(
        "pipeline", "stage", "edit", "chain", 2, "--trigger", "auto", "--retries", 3,
        "--min-fitness", 0.5, "--approval", "--time-limit", 60, "--auto-add", "best",
    )  # fmt: skip
    stage = shown(chain)["stages"][1]
    assert stage["retries"] == {"most": 3, "first_wait_s": 10.0}
    assert stage["condition"] == {"min_fitness": 0.5, "better_than_live": False}
    assert (stage["approval"], stage["time_limit_s"]) == (True, 60.0)
    listed = chain.said("pipeline", "show", "chain")
    assert "adds its best; only if fitness >= 0.5; needs an approval" in listed
    chain.said(
        "pipeline", "stage", "edit", "chain", "first", "--no-condition",
        "--no-approval", "--time-limit", "none", "--first-wait", 2,
    )  # fmt: skip
    stage = shown(chain)["stages"][1]
    assert (stage["condition"], stage["approval"]) == (None, False)
    assert stage["time_limit_s"] is None
    assert stage["retries"] == {"most": 3, "first_wait_s": 2.0}
    said = chain.said("pipeline", "stage", "remove", "chain", "second", "--yes")
    assert said == "1 first: experiment, manual\n"


def test_a_pipeline_is_renamed_described_duplicated_and_deleted(chain):
    chain.said("pipeline", "rename", "chain", "line")
    chain.said("pipeline", "describe", "line", "From one to the other")
    assert "line (copy): 2 stages" in chain.said("pipeline", "duplicate", "line")
    copy = shown(chain, "line (copy)")
    assert copy["description"] == "From one to the other"
    assert [it["experiment_name"] for it in copy["stages"]] == [
        "first (copy)",
        "second (copy)",
    ]
    assert chain.said("pipeline", "delete", "line", "--yes") == "Deleted line.\n"
    listed = json.loads(chain.said("pipeline", "list", "--json"))
    assert [it["name"] for it in listed] == ["line (copy)"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["pipeline", "show", "nothing"], "There is no pipeline called nothing."),
        (
            ["pipeline", "trigger", "chain", "third"],
            "The pipeline chain has no stage third. There are: 1 first; 2 second.",
        ),
        (["pipeline", "trigger", "chain", 3], "has no stage 3"),
        (["pipeline", "trigger", "chain", 2], "An Auto stage starts when"),
        (["pipeline", "approve", "chain", 1], "The stage has never run."),
        (["pipeline", "stage", "add", "chain", "--experiment", "x"], "no experiment"),
        (
            ["pipeline", "stage", "add", "chain", "--experiment", "first"],
            "say duplicate",
        ),
        (
            ["pipeline", "stage", "move", "chain", 1, 7],
            "use one between 1 and 2",
        ),
    ],
)
def test_what_is_wrong_is_refused_in_a_sentence_that_says_what_to_do(
    chain, words, said
):
    refused = chain.run(*words, status=1)
    assert refused.stdout == ""
    assert refused.stderr.startswith("Error: ")
    assert said in refused.stderr
    assert refused.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "words",
    [
        ["pipeline", "stage", "add", "chain"],
        ["pipeline", "stage", "add", "chain", "--experiment", "first", "--deployment"],
        ["pipeline", "stage", "edit", "chain", 1, "--time-limit", "soon"],
        ["pipeline", "create"],
    ],
)
def test_half_an_order_is_refused_as_misuse(chain, words):
    assert "Error: " in chain.said(*words, status=2)


def test_pipelines_of_one_name_are_told_apart_in_the_refusal(chain):
    chain.said("pipeline", "create", "chain", "--project", "other")
    told = chain.said("pipeline", "show", "chain", status=1)
    assert "2 pipelines are called chain" in told
    assert "in the project lab" in told
    assert "in the project other" in told


# --- files ---------------------------------------------------------------------------


def test_a_pipeline_is_written_to_a_file_and_made_of_it_again(chain, tmp_path):
    chain.said(
        "pipeline", "stage", "add", "chain", "--deployment", "--trigger", "auto",
        "--checkpoint", "final", "--min-fitness", 0.25, "--agent-name", 'the "one"',
        "--approval", "--retries", 2, "--better-than-live",
    )  # fmt: skip
    file = tmp_path / "chain.toml"
    file.write_text(chain.said("pipeline", "show", "chain", "--toml"))
    stages = tomllib.loads(file.read_text())["stages"]
    assert stages[2]["condition"] == {"min_fitness": 0.25, "better_than_live": True}
    for name in ("first", "second"):
        text = file.read_text().replace(
            f'experiment = "{name}"', f'experiment = "{name}"\nduplicate = true'
        )
        file.write_text(text)
    chain.said("pipeline", "create", "again", "--from", file)
    again = chain.said("pipeline", "show", "again", "--toml")
    assert again.replace(" (copy)", "").replace('"again"', '"chain"') == chain.said(
        "pipeline", "show", "chain", "--toml"
    )


def test_a_file_of_which_a_stage_is_refused_leaves_nothing(chain, tmp_path):
    file = tmp_path / "bad.json"
    stages = [
        {"experiment": "first", "duplicate": True},
        {"type": "deployment", "auto_add": "best"},
    ]
    file.write_text(json.dumps({"name": "bad", "project": "lab", "stages": stages}))
    refused = chain.said("pipeline", "create", "--from", file, status=1)
    assert "leave auto_add out" in refused
    listed = json.loads(chain.said("pipeline", "list", "--json"))
    assert [it["name"] for it in listed] == ["chain"]
    drafts = json.loads(chain.said("experiment", "list", "--json"))
    assert [it["name"] for it in drafts] == ["first", "second"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('name = "x"\nstagse = []', "stagse"),
        ('name = "x"\n[[stages]]\nexperiment = 3', "stages"),
        ("name = ", "is not TOML"),
    ],
)
def test_a_file_with_a_slip_in_it_is_refused_and_the_slip_named(
    chain, tmp_path, content, said
):
    (tmp_path / "slip.toml").write_text(content)
    told = chain.said(
        "pipeline", "create", "--from", tmp_path / "slip.toml", "--project", "lab",
        status=1,
    )  # fmt: skip
    assert said in told


def test_the_audit_shows_the_life_of_a_pipeline_and_of_each_stage(chain):
    chain.said("pipeline", "trigger", "chain", 1, "--reason", "let it run")

    def names(*words):
        printed = chain.said("audit", "show", *words, "--json")
        return [json.loads(line)["name"] for line in printed.splitlines()]

    made = ["pipeline.created", "pipeline.stage_inserted", "pipeline.stage_inserted"]
    of_pipeline = names("chain")
    assert [n for n in of_pipeline if n.startswith("pipeline.")] == made
    assert names("chain", "first") == [n for n in of_pipeline if n.startswith("stage.")]
    assert names("chain", 1) == names(shown(chain)["stages"][0]["id"])
    assert "stage.triggered" in names("chain", 1)
    assert "let it run" in chain.said("audit", "show", "chain", 1)
    assert names("first")[0] == "experiment.drafted"
    assert names("lab") == ["project.created"]
    chain.run("pipeline", "watch", "chain", "--serve")
    for made in ("first", "second"):
        (ended,) = [
            row for row in chain.said("audit", "show", made).splitlines()
            if "training_succeeded" in row
        ]  # fmt: skip
        assert "stage.triggered by operator:" in " ".join(ended.split())
        assert ended.count("let it run") == 1


def test_the_audit_tells_namesakes_apart_and_finds_what_was_deleted(chain):
    chain.said("pipeline", "create", "first", "--project", "lab")
    told = chain.said("audit", "show", "first", status=1)
    assert "--kind" in told
    of_kind = chain.said("audit", "show", "first", "--kind", "pipeline")
    assert "pipeline.created" in of_kind
    assert "experiment." not in of_kind
    assert "No agent is called first." in chain.said(
        "audit", "show", "first", "--kind", "agent", status=1
    )
    chain.said("audit", "show", "chain", 1, "--kind", "experiment", status=2)
    assert re.search(r"experiment \S{36}; pipeline \S{36}\. Name one", told)
    gone = shown(chain, "first")["id"]
    chain.said("pipeline", "delete", "first", "--yes")
    assert "pipeline.deleted" not in chain.said("audit", "show", "first")
    assert "pipeline.deleted" in chain.said("audit", "show", gone)
    assert "found by its id" in chain.said("audit", "show", "nobody", status=1)
    unknown = "11111111-1111-4111-8111-111111111111"
    assert "nothing with this id" in chain.said("audit", "show", unknown, status=1)
    assert "no stage 9" in chain.said("audit", "show", "chain", 9, status=1)
    assert "never run" in chain.said("audit", "show", "chain", 2, status=1)


# --- runs ----------------------------------------------------------------------------


@pytest.mark.slow
def test_from_an_empty_store_to_an_agent_that_plays(chain, tmp_path):
    chain.said("pipeline", "stage", "add", "chain", "--deployment", "--trigger", "auto")
    ended = chain.run("pipeline", "trigger", "chain", 1, "--wait")
    assert "this command does the work" in ended.stderr
    lines = untimed(ended.stdout)
    assert re.match("1 first: (Pending|Running)", lines[0])
    assert lines[-1].startswith("3 Deployment: Succeeded; put live ")
    assert "arena-core serve serves it" in ended.stderr
    assert statuses(chain) == ["Succeeded"] * 3

    picture = tmp_path / "chain.svg"
    chain.said("pipeline", "graph", "chain", "--svg", picture)
    drawn = ET.parse(picture)  # noqa: S314 -- it is our own
    words = [text.text for text in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert words.count("Succeeded") == 3
    # What has served it has ended: whoever serves next puts it live again.
    assert "endpoint Pending" in words
    assert "step 20 · fitness 20" in words

    runs = json.loads(chain.said("pipeline", "runs", "chain", 3, "--json"))
    assert [run["cause"] for run in runs] == ["auto"]
    (agent,) = json.loads(chain.said("agent", "list", "--json"))
    assert agent["id"] == runs[0]["agent_id"]
    played = chain.run(
        "agent", "play", agent["name"], "--env", "CartPole-v1", "--episodes", 1,
        "--json",
    )  # fmt: skip
    assert json.loads(played.stdout)["agent"]["mean_return"] > 0


@pytest.mark.slow
def test_a_stage_that_is_stale_says_why_until_it_is_run_again(chain):
    chain.run("pipeline", "trigger", "chain", 1, "--wait")
    chain.said("pipeline", "stage", "edit", "chain", 2, "--trigger", "manual")
    bundles.cartpole(chain.bundle, network=bundles.CARTPOLE.swapped())
    chain.run("experiment", "train", "first", "--wait")
    told = chain.said("pipeline", "show", "chain")
    assert "Succeeded (stale)" in told
    why = re.search(r"Stage 2 is stale: (.*) \(events? [\d, ]+\)", told)
    assert why is not None
    chain.run("pipeline", "trigger", "chain", 2, "--wait")
    assert "stale" not in chain.said("pipeline", "show", "chain")
    told = chain.said("pipeline", "runs", "chain", 1)
    assert [line.split()[:3] for line in told.splitlines()[1:]] == [
        ["2", "Succeeded", "train"],
        ["1", "Succeeded", "manual"],
    ]


@pytest.mark.slow
def test_a_stage_that_fails_says_why_and_can_be_retried(typed):
    typed.draft("broken", *FAILS)
    typed.said("pipeline", "create", "chain", "--project", "lab")
    typed.said("pipeline", "stage", "add", "chain", "--experiment", "broken")
    failed = typed.run("pipeline", "trigger", "chain", "broken", "--wait", status=1)
    assert "1 broken: Failed; " in failed.stdout
    assert "the disk is on fire" in failed.stdout
    assert "the disk is on fire" in typed.said("experiment", "log", "broken")
    typed.run("pipeline", "retry", "chain", "broken", "--wait", status=1)
    runs = json.loads(typed.said("pipeline", "runs", "chain", 1, "--json"))
    assert [run["cause"] for run in runs] == ["retry", "manual"]
    typed.run("pipeline", "watch", "chain", status=1)


@pytest.mark.slow
def test_approval_is_of_the_checkpoint_that_was_seen(chain):
    chain.said(
        "pipeline", "stage", "edit", "chain", 2, "--trigger", "manual", "--approval"
    )
    chain.run("pipeline", "trigger", "chain", 1, "--wait")
    assert "2 second: Pending" in chain.said("pipeline", "trigger", "chain", 2)
    with on_a_terminal(chain, "pipeline", "watch", "chain", "--serve") as terminal:
        eventually(
            lambda: "waits until somebody approves" in terminal.drawn, what="it asks"
        )
        typed = "arena-core pipeline approve chain 2 --digest "
        assert typed in chain.said("pipeline", "show", "chain")
        other = chain.said(
            "pipeline", "approve", "chain", 2, "--digest", "0" * 64, status=1
        )
        assert "another checkpoint" in other
        asked = shown(chain)["stages"][1]["run"]["to_approve"]["candidate"]["digest"]
        chain.said("pipeline", "approve", "chain", 2, "--digest", asked[:10])
        assert terminal.wait() == 0
    assert statuses(chain) == ["Succeeded", "Succeeded"]

    chain.said("pipeline", "trigger", "chain", 2)
    with on_a_terminal(chain, "pipeline", "watch", "chain", "--serve") as terminal:
        eventually(
            lambda: shown(chain)["stages"][1]["run"]["awaits_approval"], what="it asks"
        )
        said = chain.said("pipeline", "reject", "chain", 2, "--reason", "too old")
        assert said == "2 second: Stopped\n"
        assert terminal.wait() == 1
    why = r"It was not approved\. Rejected by operator:\S+: too old\."
    assert re.search(why, chain.said("pipeline", "show", "chain"))
    (rejected, approved) = json.loads(
        chain.said("pipeline", "runs", "chain", 2, "--json")
    )
    assert rejected["rejected_by"]["reason"] == "too old"
    assert approved["approved_by"]["actor"].startswith("operator:")


@pytest.mark.slow
def test_following_what_a_stage_trains_prints_nothing_of_the_run_before(chain):
    chain.run("pipeline", "trigger", "chain", 1, "--wait")
    again = chain.run("experiment", "train", "first", "--follow").stdout
    assert again.splitlines()[:-1] == ["begins at 0", "made step 10", "made step 20"]


# --- watching ------------------------------------------------------------------------


@pytest.mark.slow
def test_a_terminal_shows_the_tree_anew_until_all_has_ended(chain):
    chain.hold.touch()
    with on_a_terminal(chain, "pipeline", "trigger", "chain", 1, "--wait") as terminal:
        eventually(lambda: "● first  " in terminal.drawn, what="the first is running")
        assert "○ second  " in terminal.drawn
        chain.hold.unlink()
        assert terminal.wait() == 0
    last = terminal.drawn.rsplit("chain", 1)[-1]
    assert "✔ first  " in last
    assert "✔ second  " in last
    assert "fitness 20" in last


@pytest.mark.slow
def test_what_was_never_run_is_told_instead_of_nothing(chain):
    told = chain.run("pipeline", "watch", "chain").stdout
    assert untimed(told) == ["1 first: NotStarted", "2 second: NotStarted"]


def test_who_waits_no_longer_than_they_say_ends_with_a_status_of_its_own(chain):
    chain.hold.touch()
    waited = chain.run(
        "pipeline", "trigger", "chain", 1, "--wait", "--timeout", 1, status=124
    )
    assert "The time is over." in waited.stderr
    assert statuses(chain)[0] in ("Pending", "Running")
    watched = chain.run("pipeline", "watch", "chain", "--timeout", 0.1, status=124)
    assert "1 first: " in watched.stdout
    chain.said("pipeline", "retry", "chain", 1, "--timeout", 1, status=2)
    chain.hold.unlink()
    chain.run("pipeline", "watch", "chain", "--serve")


def test_who_has_triggered_without_a_server_is_told_what_does_it(chain):
    told = chain.said("pipeline", "trigger", "chain", 1)
    assert "arena-core pipeline watch chain --serve" in told


def test_ctrl_c_ends_the_watching_and_another_one_goes_on_where_it_was(chain):
    chain.hold.touch()
    with on_a_terminal(chain, "pipeline", "trigger", "chain", 1, "--wait") as terminal:
        eventually(lambda: "● first  " in terminal.drawn, what="the first is running")
        terminal.popen.send_signal(signal.SIGINT)
        assert terminal.wait() == 130
    assert "What trains goes on by itself" in terminal.drawn.replace("\r\n", " ")
    assert statuses(chain)[0] == "Running"
    chain.hold.unlink()
    watched = chain.run("pipeline", "watch", "chain", "--serve")
    assert untimed(watched.stdout)[0].startswith("1 first: Running")
    assert statuses(chain) == ["Succeeded", "Succeeded"]
    log = chain.said("experiment", "log", "first")
    assert log.count("begins at 0") == 1


@pytest.mark.slow
def test_programs_get_a_line_of_json_for_each_change(chain):
    chain.said("pipeline", "trigger", "chain", 1)
    watched = chain.run("pipeline", "watch", "chain", "--serve", "--json")
    views = [json.loads(line) for line in watched.stdout.splitlines()]
    assert all(one != two for one, two in pairwise(views))
    assert [it["status"] for it in views[-1]["stages"]] == ["Succeeded", "Succeeded"]


def test_what_nobody_works_at_is_said_to_wait_for_a_server(chain):
    asked = chain.run("pipeline", "trigger", "chain", 1)
    assert asked.stdout == "1 first: Pending\n"
    assert "start one on this store with arena-core serve" in asked.stderr
    assert chain.said("pipeline", "stop", "chain", 1) == "1 first: Stopped\n"
    watched = chain.run("pipeline", "watch", "chain", status=1).stdout
    assert untimed(watched)[0].startswith("1 first: Stopped")
