"""`arena-core experiment` as a user types it."""

import csv
import io
import json
import re
import signal

import pytest

from end_to_end.processes import Place, eventually, serving
from end_to_end.typed_commands import on_a_terminal, typed_in


@pytest.fixture
def typed(tmp_path):
    typed = typed_in(tmp_path)
    yield typed
    typed.hold.unlink(missing_ok=True)  # what a test has left running ends


def shown(typed, name):
    return json.loads(typed.said("experiment", "show", name, "--json"))


def test_an_experiment_is_drafted_with_the_settings_of_a_file_and_of_options(
    typed, tmp_path
):
    (tmp_path / "iris.toml").write_text("epochs = 30\nseed = 4\n")
    typed.said(
        "experiment", "create", "iris", "--project", "data", "--algorithm",
        "Supervised", "--dataset", "iris", "--recipe", "supervised", "--config",
        tmp_path / "iris.toml", "--set", "epochs=60",
    )  # fmt: skip
    view = shown(typed, "iris")["experiment"]
    assert view["config"] == {"epochs": 60, "seed": 4}
    assert view["source"] == {"kind": "dataset", "name": "iris"}
    assert view["status"] == "Draft"
    told = typed.said("experiment", "show", "iris")
    assert "epochs" in told
    assert "data" in told


def test_a_program_behind_two_dashes_is_the_recipe_command(typed):
    typed.draft("mine", "echo", "--wait", "a b")
    view = shown(typed, "mine")["experiment"]
    assert view["recipe"] == "command"
    assert view["config"] == {"argv": ["echo", "--wait", "a b"]}


@pytest.mark.parametrize(
    ("options", "said", "status"),
    [
        (["--recipe", "sb3", "--", "true"], "leave one of the two out", 1),
        (["--env", "A-v0", "--", "python", "a.py"], "by its whole path", 1),
        (["--env", "A-v0", "--dataset", "iris"], "not both", 2),
        (["--set", "epochs"], "write --set KEY=VALUE", 1),
    ],
)
def test_what_contradicts_itself_is_refused(typed, options, said, status):
    create = ("experiment", "create", "x", "--project", "lab", "--algorithm", "PPO")
    typed.draft("first")
    told = typed.run(*create, *options, status=status)
    assert said in told.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--env", "CartPole-v1", "--recipe", "sbx3"], "use one of command, sb3"),
        (["--env", "CartPole-v1", "--set", "total=5"], "total_steps"),
        (["--dataset", "iris", "--recipe", "sb3"], "name another recipe"),
        (["--", "true"], "environment or a dataset"),
    ],
)
def test_a_set_up_that_nothing_could_train_is_not_drafted(typed, options, said):
    create = ("experiment", "create", "x", "--project", "lab", "--algorithm", "PPO")
    typed.draft("first")
    assert said in typed.run(*create, *options, status=1).stderr
    listed = json.loads(typed.said("experiment", "list", "--json"))
    assert [it["name"] for it in listed] == ["first"]


def test_what_is_to_hold_uploaded_checkpoints_needs_no_recipe(typed):
    create = ("experiment", "create", "x", "--project", "lab", "--algorithm", "PPO")
    assert "x: Draft" in typed.said(*create)


# --- editing ---------------------------------------------------------------------

IRIS = (
    "experiment", "create", "iris", "--project", "data", "--algorithm", "Supervised",
    "--dataset", "iris", "--recipe", "supervised", "--set", "epochs=60",
    "--set", "seed=4",
)  # fmt: skip


@pytest.mark.parametrize(
    ("options", "changed"),
    [
        (["--name", "flowers"], {"name": "flowers"}),
        (["--set", "epochs=9"], {"config": {"epochs": 9, "seed": 4}}),
        (["--unset", "seed"], {"config": {"epochs": 60}}),
        (["--unset", "seed", "--unset", "epochs"], {"config": {}}),
        (["--config", "lr.toml"], {"config": {"learning_rate": 0.5}}),
        (
            ["--config", "lr.toml", "--set", "seed=1"],
            {"config": {"learning_rate": 0.5, "seed": 1}},
        ),
        (["--dataset", "wine"], {"source": {"kind": "dataset", "name": "wine"}}),
        (["--base-model", "m"], {"base_model": "m"}),
        (
            ["--algorithm", "PPO", "--env", "CartPole-v1", "--recipe", "sb3"],
            {
                "algorithm": "PPO",
                "family": "rl",
                "source": {"kind": "gym", "name": "CartPole-v1"},
                "recipe": "sb3",
                "config": {},
            },
        ),
        (
            ["--", "python", "/srv/train.py"],
            {"recipe": "command", "config": {"argv": ["python", "/srv/train.py"]}},
        ),
    ],
)
def test_an_edit_changes_what_it_names_and_nothing_else(
    typed, tmp_path, options, changed
):
    (tmp_path / "lr.toml").write_text("learning_rate = 0.5\n")
    typed.said(*IRIS)
    before = shown(typed, "iris")["experiment"]
    options = [str(tmp_path / o) if o == "lr.toml" else o for o in options]
    told = typed.said("experiment", "edit", "iris", *options)
    assert told == f"{changed.get('name', 'iris')}: Draft, {before['id']}\n"
    assert shown(typed, before["id"])["experiment"] == before | changed
    again = json.loads(
        typed.said("experiment", "edit", before["id"], "--name", "x", "--json")
    )
    assert again == before | changed | {"name": "x"}


@pytest.mark.parametrize(
    ("options", "said", "status"),
    [
        ([], "Say what is to be changed", 2),
        (["--env", "A-v0", "--dataset", "wine"], "not both", 2),
        (["--unset", "speed"], "there are: epochs, seed", 1),
        (["--set", "speed=3"], "speed", 1),
        (["--recipe", "sb3"], "name another recipe", 1),
        (["--algorithm", "PPO"], "name another recipe", 1),
        (["--recipe", "sb3", "--", "true"], "leave one of the two out", 1),
    ],
)
def test_an_edit_that_makes_no_sense_changes_nothing(typed, options, said, status):
    typed.said(*IRIS)
    before = shown(typed, "iris")
    assert said in typed.said("experiment", "edit", "iris", *options, status=status)
    assert shown(typed, "iris") == before


def test_what_has_been_trained_can_be_renamed_but_keeps_its_set_up(typed):
    typed.draft("ppo")
    typed.said("experiment", "train", "ppo", "--wait")
    before = shown(typed, "ppo")["experiment"]
    told = typed.said("experiment", "edit", "ppo", "--set", "argv=[]", status=1)
    assert "Draft" in told
    typed.said("experiment", "edit", "ppo", "--name", "best of all")
    assert shown(typed, before["id"])["experiment"] == before | {"name": "best of all"}


def test_the_program_stays_where_only_the_environment_is_another(typed):
    typed.draft("mine", "echo", "me")
    typed.said("experiment", "edit", "mine", "--env", "Acrobot-v1")
    view = shown(typed, "mine")["experiment"]
    assert view["source"]["name"] == "Acrobot-v1"
    assert view["config"] == {"argv": ["echo", "me"]}


def test_what_is_to_hold_uploads_can_be_edited_without_a_recipe(typed):
    create = ("experiment", "create", "up", "--project", "lab", "--algorithm", "PPO")
    typed.said(*create)
    typed.said("experiment", "edit", "up", "--algorithm", "DQN")
    assert shown(typed, "up")["experiment"]["algorithm"] == "DQN"


def test_who_has_asked_without_a_server_is_told_what_does_it(typed):
    typed.draft("mine")
    told = typed.said("experiment", "train", "mine", "--max-steps", 10)
    assert "arena-core experiment watch mine --serve" in told
    watched = typed.run("experiment", "watch", "mine", "--serve")
    assert "mine  Succeeded" in watched.stdout


def test_experiments_are_listed_copied_and_deleted(typed):
    typed.draft("mine")
    assert "mine (copy): Draft" in typed.said("experiment", "duplicate", "mine")
    table = typed.said("experiment", "list", "--project", "lab")
    assert [line.split()[0] for line in table.splitlines()[1:]] == ["mine", "mine"]
    listed = json.loads(typed.said("experiment", "list", "--json"))
    assert [it["name"] for it in listed] == ["mine", "mine (copy)"]
    typed.said("experiment", "delete", "mine (copy)", "--yes")
    assert "no experiment called mine (copy)" in typed.said(
        "experiment", "show", "mine (copy)", status=1
    )


def test_experiments_of_one_name_are_told_apart_in_the_refusal(typed):
    typed.draft("mine")
    typed.draft("mine")
    told = typed.said("experiment", "show", "mine", status=1)
    assert "2 experiments are called mine: " in told
    assert told.count("in the project lab, Draft") == 2


@pytest.mark.slow
def test_a_training_is_waited_for_and_what_it_measured_can_be_seen(typed):
    typed.draft("mine")
    waited = typed.run("experiment", "train", "mine", "--max-steps", 40, "--wait")
    assert "this command does the work" in waited.stderr
    assert re.match("mine: (Pending|Running)", waited.stdout)
    assert waited.stdout.splitlines()[-1].startswith("mine  Succeeded  step 40")

    table = typed.said("experiment", "metrics", "mine")
    assert "fitness  40    40       10     40    4       ▁▃▆█" in table
    text = typed.said("experiment", "metrics", "mine", "--csv", "--metric", "score")
    assert list(csv.reader(io.StringIO(text)))[-1] == ["40", "40.0"]
    points = json.loads(typed.said("experiment", "metrics", "mine", "--json"))
    assert len(points) == 8
    before = ("experiment", "metrics", "mine", "--json", "--training", 0)
    assert json.loads(typed.said(*before)) == []
    assert "There is no training 2" in typed.said(*before[:-1], 2, status=1)
    assert [it["step"] for it in shown(typed, "mine")["checkpoints"]] == [
        10, 20, 30, 40,
    ]  # fmt: skip
    assert "CartPole-v1" in typed.said("experiment", "show", "mine")
    assert typed.said("experiment", "log", "mine", "--lines", 1) == "made step 40\n"


@pytest.mark.slow
def test_following_prints_each_line_once_and_none_of_the_run_before(typed):
    typed.draft("mine")
    typed.run("experiment", "train", "mine", "--wait")
    resumed = typed.run(
        "experiment", "resume", "mine", "--max-steps", 50, "--follow"
    ).stdout.splitlines()
    assert resumed[:-1] == [
        "begins at 20",
        "made step 30",
        "made step 40",
        "made step 50",
    ]
    assert resumed[-1].startswith("mine  Succeeded")


@pytest.mark.slow
def test_a_new_experiment_goes_on_from_any_checkpoint(typed):
    typed.draft("mine")
    typed.run("experiment", "train", "mine", "--wait")
    typed.run(
        "experiment", "resume", "mine", "--as", "other", "--checkpoint", 10, "--wait"
    )
    assert "begins at 10" in typed.said("experiment", "log", "other")
    refused = typed.said(
        "experiment", "resume", "mine", "--checkpoint", "best", status=1
    )
    assert "name a new one with --as" in refused


@pytest.mark.slow
def test_a_failure_is_told_and_ends_with_status_1(typed):
    typed.draft("mine", "sh", "-c", "echo no luck; exit 3")
    failed = typed.run("experiment", "train", "mine", "--wait", status=1)
    assert failed.stdout.splitlines()[-2].startswith("mine  Failed")
    assert "no luck" in failed.stdout.splitlines()[-1]
    typed.run("experiment", "watch", "mine", status=1)


@pytest.mark.slow
def test_a_terminal_shows_a_bar_and_ctrl_c_leaves_the_training_running(typed):
    typed.draft("mine")
    typed.run("experiment", "train", "mine", "--max-steps", 10, "--wait")
    typed.hold.touch()
    resume = ("experiment", "resume", "mine", "--max-steps", 40, "--wait")
    with on_a_terminal(typed, *resume) as terminal:
        eventually(lambda: "step 10 of 40" in terminal.drawn, what="it draws a step")
        eventually(lambda: "Running" in terminal.drawn, what="it runs")
        terminal.popen.send_signal(signal.SIGINT)
        assert terminal.wait() == 130
    assert "━  25%" in terminal.drawn
    assert "The training goes on." in terminal.drawn
    typed.hold.unlink()
    watched = typed.run("experiment", "watch", "mine", "--serve")
    assert "mine  Succeeded  step 40" in watched.stdout
    assert typed.said("experiment", "log", "mine").count("begins at 10") == 1


@pytest.mark.slow
def test_a_server_does_the_work_where_one_runs(typed):
    typed.draft("mine")
    typed.hold.touch()
    with serving(Place(typed.folder)):
        asked = typed.run("experiment", "train", "mine")
        assert asked.stderr == ""
        eventually(
            lambda: shown(typed, "mine")["experiment"]["status"] == "Running",
            what="it runs",
        )
        said = typed.said("experiment", "stop", "mine", "--reason", "enough")
        assert said == "mine: Stopping\n"
        watched = typed.run("experiment", "watch", "mine", "--json", status=1)
    assert json.loads(watched.stdout.splitlines()[-1])["status"] == "Stopped"
    assert "enough" in typed.said("audit", "log")


@pytest.mark.slow
def test_a_log_is_followed_to_its_end(typed):
    typed.draft("mine")
    typed.hold.touch()
    with serving(Place(typed.folder)):
        typed.said("experiment", "train", "mine")
        with on_a_terminal(typed, "experiment", "log", "mine", "--follow") as terminal:
            eventually(lambda: "begins at 0" in terminal.drawn, what="the first line")
            typed.hold.unlink()
            assert terminal.wait() == 0
    assert terminal.drawn.split("\r\n")[:-1] == [
        "begins at 0",
        "made step 10",
        "made step 20",
    ]


def test_who_waits_no_longer_than_they_say_ends_with_a_status_of_its_own(typed):
    typed.draft("one")
    typed.hold.touch()
    waited = typed.run(
        "experiment", "train", "one", "--wait", "--timeout", 1, status=124
    )
    assert "The time is over. The training goes on." in waited.stderr
    typed.said("experiment", "resume", "one", "--timeout", 1, status=2)
    typed.hold.unlink()
    typed.run("experiment", "watch", "one", "--serve", "--timeout", 60)


def test_the_log_of_another_training_is_named_by_its_number(typed):
    typed.draft("one")
    typed.run("experiment", "train", "one", "--wait")
    assert "begins at 0" in typed.said("experiment", "log", "one", "--training", 1)
    typed.run("experiment", "train", "one", "--wait")
    told = typed.said("experiment", "log", "one", "--training", 1, status=1)
    assert "Nothing that training 1 has printed is kept" in told
    typed.said("experiment", "log", "one", "--training", 1, "--follow", status=2)


def test_the_list_tells_the_project_and_when_a_training_ended(typed):
    typed.draft("one")
    typed.run("experiment", "train", "one", "--wait")
    head, row = typed.said("experiment", "list").splitlines()
    assert head.split()[:2] == ["NAME", "PROJECT"]
    assert row.split()[:2] == ["one", "lab"]
    shown = typed.said("experiment", "show", "one")
    ended = re.search(r"ended +(\S+ \S+Z)", shown).group(1)
    assert ended in row
    assert re.search(r"asked for +\S+ \S+Z by operator:\w+\s*$", shown, re.MULTILINE)
    assert "RECORDED" in shown
