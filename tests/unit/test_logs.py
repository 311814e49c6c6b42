"""What a server says of itself: in which form, how much, and never a secret."""

import io
import json
import logging
import sys
import threading
from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arena_core.adapters.json_web_tokens import JsonWebTokens
from arena_core.application.keys import DeploymentKeys
from arena_core.application.secrets import sealed
from arena_core.application.signing import Claims
from arena_core.domain.errors import Rejected
from arena_core.entrypoints import logs
from arena_core.entrypoints.http import tracing
from arena_core.entrypoints.settings import LogFormat, LogLevel, Settings

OURS = logging.getLogger("arena_core.x")
OTHERS = logging.getLogger("somebody.else")
REQUEST = tracing.Request("r-1", "GET", "/x", "00-a-b-01")


@pytest.fixture
def said(restored_logs):
    """Set the logs up; give what returns all that was said since."""
    del restored_logs

    def begin(form="json", level="debug"):
        stream = io.StringIO()
        logs.configure(LogFormat(form), LogLevel(level), stream)

        def read():
            text = stream.getvalue()
            return (
                [json.loads(x) for x in text.splitlines()] if form == "json" else text
            )

        return read

    return begin


@pytest.fixture
def in_a_request():
    token = tracing._current.set(REQUEST)
    yield
    tracing._current.reset(token)


# --- form -----------------------------------------------------------------------------


def test_as_json_each_line_is_one_object(said):
    read = said()
    OURS.warning("A %s\nof %d", "line", 2)
    (line,) = read()
    moment = line.pop("time")
    assert moment.endswith("Z")
    assert len(moment) == len("2026-01-31T14:03:00.000Z")
    assert line == {
        "level": "warning",
        "logger": "arena_core.x",
        "message": "A line\nof 2",
    }


def test_a_line_names_the_request_that_it_is_about(said, in_a_request):
    del in_a_request
    read = said()
    OURS.warning("x", extra={"fields": {"status": 200, "route": None, "actor": "a"}})
    (line,) = read()
    del line["time"]
    assert line == {
        "level": "warning",
        "logger": "arena_core.x",
        "message": "x",
        "request_id": "r-1",
        "traceparent": "00-a-b-01",
        "status": 200,
        "route": None,
        "actor": "a",
    }


def test_an_exception_is_in_the_line_too(said):
    read = said()
    OURS.error("It failed", exc_info=ValueError("the reason"))
    (line,) = read()
    assert line["message"] == "It failed"
    assert line["exception"] == "ValueError: the reason"


def test_as_text_a_line_can_be_read_and_not_be_forged(said, in_a_request):
    del in_a_request
    read = said("text")
    OURS.warning("one\n2026 CRITICAL two\x1b[31m\u2028")
    (line,) = read().splitlines()
    assert line.endswith(
        r"Z WARNING arena_core.x: one\n2026 CRITICAL two\x1b[31m\u2028 (request r-1)"
    )


def test_as_text_an_exception_comes_below(said):
    read = said("text")
    OURS.error("It failed", exc_info=ValueError("the reason"))
    first, *_, last = read().splitlines()
    assert first.endswith("ERROR arena_core.x: It failed")
    assert last == "ValueError: the reason"


@pytest.mark.parametrize("form", ["text", "json"])
def test_what_no_encoding_can_hold_is_said_somehow(said, form):
    read = said(form)
    OURS.warning("half \ud800", extra={"fields": {"actor": "\udfff"}})
    assert "half" in str(read())


@pytest.mark.parametrize("form", ["text", "json"])
def test_what_cannot_be_said_tells_only_where_it_came_from(said, form):
    read = said("text") if form == "text" else None
    stream = io.StringIO()
    if read is None:
        logs.configure(LogFormat.JSON, LogLevel.DEBUG, stream)
        read = stream.getvalue
    OURS.warning("%d", "arena_pat_secret")
    assert read() == "A line of arena_core.x could not be logged.\n"


def test_where_nothing_can_be_written_what_is_being_done_goes_on(restored_logs):
    del restored_logs
    stream = io.StringIO()
    logs.configure(LogFormat.JSON, LogLevel.DEBUG, stream)
    stream.close()
    OURS.warning("whatever")


# --- how much -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("level", "ours", "others"),
    [
        ("debug", "debug info warning error", "warning error"),
        ("info", "info warning error", "warning error"),
        ("warning", "warning error", "warning error"),
        ("error", "error", "error"),
    ],
)
def test_the_level_is_that_of_ours_and_of_others_warnings_at_most(
    said, level, ours, others
):
    for logger, expected in ((OURS, ours), (OTHERS, others)):
        read = said(level=level)
        for name in ("debug", "info", "warning", "error"):
            getattr(logger, name)("x")
        assert [line["level"] for line in read()] == expected.split()


def test_the_settings_name_form_and_level():
    settings = Settings.from_environment(
        {"ARENA_LOG_FORMAT": "json", "ARENA_LOG_LEVEL": "info"}
    )
    assert settings.log_format is LogFormat.JSON
    assert settings.log_level is LogLevel.INFO
    plain = Settings.from_environment({})
    assert (plain.log_format, plain.log_level) == (LogFormat.TEXT, LogLevel.WARNING)
    for name in ("log_format", "log_level"):
        with pytest.raises(Rejected, match="use one of"):
            Settings("memory:", **{name: "loud"})


def test_to_be_set_up_twice_says_nothing_twice(said):
    said()
    read = said()
    OURS.warning("x")
    assert len(read()) == 1


# --- never a secret -------------------------------------------------------------------

TOKEN = UUID(int=2**127 + 12345)
NOW = datetime(2026, 9, 1, tzinfo=UTC)
KINDS = ("pat", "org", "inv", "ref", "new")
SECRETS = {
    **{kind: sealed(f"arena_{kind}_{TOKEN.hex}", bytes(range(32))) for kind in KINDS},
    "dep": DeploymentKeys(b"master").issue(TOKEN, 3),
    "dvc": sealed("arena_dvc_29733120_BCDFGHJK", bytes(range(32))),
    "jwt": JsonWebTokens(bytes(32)).sign(Claims(TOKEN, "ann", NOW, NOW)),
}


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("secret", SECRETS.values(), ids=SECRETS)
def test_no_secret_is_said_wherever_it_stands(said, form, secret):
    read = said(form)
    OURS.warning(f"in the message {secret}")
    OURS.warning("in an argument %s, %r, %s", secret, {"a": secret}, secret.encode())
    OURS.warning("\n%s\t%s", secret, secret)
    OURS.warning("cut %s...", secret[:50])
    OURS.warning("a field", extra={"fields": {"actor": secret}})
    error = ValueError(secret)
    error.__cause__ = KeyError(secret)
    OURS.error("in a traceback", exc_info=error)
    logging.getLogger(secret).warning("in a name")
    text = str(read())
    rest = secret.rpartition("_")[2] if secret.startswith("arena") else secret[10:40]
    assert rest[:8] not in text
    assert text.count(logs.HIDDEN) >= 10


@pytest.mark.parametrize("scheme", ["Bearer ", "bearer "])
def test_the_bearer_of_anything_is_not_said(said, scheme):
    read = said()
    OURS.warning("%r", {"authorization": f"{scheme}abc.def"})
    assert read()[0]["message"] == f"{{'authorization': '{scheme}(secret)'}}"


def test_what_ends_a_thread_is_logged_without_secrets(said):
    read = said()

    def fail():
        raise ValueError(SECRETS["pat"])

    thread = threading.Thread(target=fail, name="one")
    thread.start()
    thread.join()
    (line,) = read()
    assert line["level"] == "critical"
    assert line["message"] == "The thread one has ended"
    assert line["exception"].endswith("ValueError: (secret)")


def test_what_ends_the_process_is_logged_without_secrets(said):
    read = said()
    error = ValueError(SECRETS["pat"])
    sys.excepthook(ValueError, error, None)
    (line,) = read()
    assert line["exception"].endswith("ValueError: (secret)")


@pytest.mark.parametrize(
    "plain",
    [
        "arena_core.entrypoints.http.app",
        "arena_deployment_transitions_total",
        "arena_action_mask_violations_total",
        "0f88b0bd-12f6-4327-9883-e4d7b1f47162",
        "eyJ",
        "a bearer of news",
        "0" * 64,
    ],
)
def test_what_is_no_secret_is_said(plain):
    assert logs.redacted(plain).replace("(secret)", "?") in (plain, "a bearer ? news")


@given(st.text())
def test_whatever_is_logged_is_one_object_of_json(text):
    record = logging.LogRecord("x", logging.INFO, "", 0, text, None, None)
    line = logs._JSON().format(record)
    assert isinstance(json.loads(line), dict)
    assert "\n" not in line
