"""Settings: read from the environment once, and refused where they make no sense."""

import math
from pathlib import Path

import pytest
from attrs import evolve, fields

from arena_core.domain.errors import Rejected
from arena_core.entrypoints.settings import Settings

WHOLE = ["threads", "max_body_bytes", "max_upload_bytes", "deadline_ms",
         "max_deadline_ms", "workers", "max_streams", "trainings", "max_log_bytes",
         "max_training_bytes", "max_training_memory_bytes"]  # fmt: skip
WORD = "swordfish"
NUMBERS = [
    "rate_limit",
    "body_timeout_s",
    "keep_warm_s",
    "probe_interval_s",
    "failed_auth_rate",
    "training_time_limit_s",
]


def of(**environ: str) -> Settings:
    return Settings.from_environment({"ARENA_STORE": "memory:", **environ})


def variable(name: str) -> str:
    return f"ARENA_{name.upper()}"


def test_every_setting_of_the_environment_has_the_default_of_its_field():
    found = of()
    for name in WHOLE + NUMBERS:
        assert getattr(found, name) == getattr(fields(Settings), name).default
    assert (found.rate_limit, found.workers, found.deadline_ms) == (None, 1, 1000)


@pytest.mark.parametrize("name", WHOLE)
def test_whole_numbers_are_read_from_the_environment(name):
    assert getattr(of(**{variable(name): "4096"}), name) == 4096


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_are_read_from_the_environment(name):
    assert getattr(of(**{variable(name): "2.5"}), name) == 2.5


@pytest.mark.parametrize("name", WHOLE + NUMBERS)
def test_an_empty_variable_is_none(name):
    assert of(**{variable(name): ""}) == of()


@pytest.mark.parametrize("name", WHOLE + NUMBERS)
def test_what_is_no_number_is_refused_by_the_name_of_its_variable(name):
    with pytest.raises(Rejected, match=f"^{variable(name)} must be a") as refused:
        of(**{variable(name): "many"})
    assert refused.value.field == variable(name)


@pytest.mark.parametrize("text", ["0", "-1"])
@pytest.mark.parametrize("name", WHOLE)
def test_whole_numbers_are_above_0(name, text):
    with pytest.raises(Rejected, match=f"^{name} must be a whole number above 0"):
        of(**{variable(name): text})


@pytest.mark.parametrize("text", ["-0.1", "nan", "inf"])
@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_are_finite_and_not_below_0(name, text):
    with pytest.raises(Rejected, match=f"^{name} must be") as refused:
        of(**{variable(name): text})
    assert refused.value.field == name


def test_only_what_can_be_switched_off_may_be_0():
    assert of(ARENA_PROBE_INTERVAL_S="0").probe_interval_s == 0
    assert of(ARENA_KEEP_WARM_S="0").keep_warm_s == 0
    assert of(ARENA_FAILED_AUTH_RATE="0").failed_auth_rate == 0
    for name in (
        "rate_limit",
        "body_timeout_s",
        "episode_idle_s",
        "training_time_limit_s",
    ):
        with pytest.raises(Rejected, match=f"^{name} must be a number above 0"):
            of(**{variable(name): "0"})


@pytest.mark.parametrize("value", [True, "4", 1.0, None])
def test_in_the_library_too_a_whole_number_is_one(value):
    with pytest.raises(Rejected, match="threads must be a whole number"):
        Settings("memory:", threads=value)


@pytest.mark.parametrize("value", ["4", None, math.nan])
def test_in_the_library_too_a_number_is_one(value):
    with pytest.raises(Rejected, match="probe_interval_s must be 0 or a number"):
        Settings("memory:", probe_interval_s=value)


def test_the_latest_deadline_is_not_before_the_usual_one():
    assert of(ARENA_DEADLINE_MS="60000").deadline_ms == 60_000
    with pytest.raises(Rejected, match="below the deadline_ms of 60001") as refused:
        of(ARENA_DEADLINE_MS="60001")
    assert refused.value.field == "max_deadline_ms"


def test_what_trains_is_kept_beside_the_store_unless_said_otherwise():
    given = Settings("/var/arena.db")
    assert given.runs_folder == Path("/var/arena.db.runs")
    assert given.datasets_folder == Path("/var/arena.db.datasets")
    said = of(ARENA_STORE="/var/arena.db", ARENA_RUNS="/runs", ARENA_DATASETS="/data")
    assert (said.runs_folder, said.datasets_folder) == (Path("/runs"), Path("/data"))
    assert (of().runs_folder, of().datasets_folder) == (None, None)


def test_programs_and_another_interpreter_are_only_used_if_it_is_said():
    assert (of().allow_commands, of().agilerl_python) == (False, None)
    said = of(ARENA_ALLOW_COMMANDS="1", ARENA_AGILERL_PYTHON="/rl/bin/python")
    assert (said.allow_commands, said.agilerl_python) == (True, Path("/rl/bin/python"))
    with pytest.raises(Rejected, match="must be 0 or 1"):
        of(ARENA_ALLOW_COMMANDS="yes")


def test_the_secrets_are_not_shown():
    given = Settings("memory:", secret_key=WORD, tls_certificate="a", tls_key="b")
    given = evolve(given, tls_key_password=WORD)
    assert given.tls.password == WORD
    assert WORD not in repr(given)
    assert WORD not in repr(given.tls)


def test_hosts_and_origins_are_lists_in_lower_case():
    found = of(
        ARENA_ALLOWED_HOSTS=" Arena.Example, [::1],,10.0.0.1 ",
        ARENA_ALLOWED_ORIGINS="HTTPS://Page.example,http://localhost:3000",
    )
    assert found.allowed_hosts == ("arena.example", "[::1]", "10.0.0.1")
    assert found.allowed_origins == ("https://page.example", "http://localhost:3000")
    assert Settings("memory:", allowed_hosts=["Here"]).allowed_hosts == ("here",)
    assert of(ARENA_ALLOWED_HOSTS="").allowed_hosts is None
    assert of(ARENA_ALLOWED_HOSTS="*").allowed_hosts == ("*",)


@pytest.mark.parametrize("host", ["a b", "http://here", "here:80", "*.here", "here/x"])
def test_a_host_is_a_name_or_an_address(host):
    with pytest.raises(Rejected, match="allowed_hosts must be names") as refused:
        of(ARENA_ALLOWED_HOSTS=f"here,{host}")
    assert refused.value.field == "allowed_hosts"


@pytest.mark.parametrize("origin", ["here", "*", "null", "ftp://here", "http://here/"])
def test_an_origin_is_a_scheme_and_a_host(origin):
    with pytest.raises(Rejected, match="allowed_origins must be origins") as refused:
        of(ARENA_ALLOWED_ORIGINS=f"http://here,{origin}")
    assert refused.value.field == "allowed_origins"


@pytest.mark.parametrize("name", ["tls_certificate", "tls_key"])
def test_tls_needs_two_files(name):
    (other,) = {"tls_certificate", "tls_key"} - {name}
    assert of().tls is None
    with pytest.raises(Rejected, match="both a certificate and its key") as refused:
        _ = of(**{variable(name): "file"}).tls
    assert refused.value.field == other
