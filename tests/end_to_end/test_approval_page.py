"""The approval page in a real browser, by keyboard only, against a real server."""

import json
import re
from collections.abc import Iterator
from http.client import HTTPConnection
from urllib.parse import urlencode

import pytest

from end_to_end.browser import DRIVER, ENTER, TAB, Browser
from end_to_end.processes import Place, Process, eventually, serving

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(DRIVER is None, reason="needs Chromium and its chromedriver"),
]

OPENID = "/realms/arena/protocol/openid-connect"
DEVICE_CODE = "urn:ietf:params:oauth:grant-type:device_code"
LEAST_CONTRAST = 4.5
"""Of text with what is behind it (WCAG 2.2, 1.4.3)."""


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Process]:
    with serving(Place(tmp_path_factory.mktemp("server"))) as server:
        yield server


@pytest.fixture(scope="module")
def window(tmp_path_factory) -> Iterator[Browser]:
    with Browser.opened(tmp_path_factory.mktemp("browser")) as browser:
        yield browser


@pytest.fixture
def browser(window) -> Iterator[Browser]:
    window.complaints()
    yield window
    window.open("about:blank")


def post(server: Process, route: str, **form: str) -> dict:
    connection = HTTPConnection(server.address, timeout=30)
    try:
        head = {"Content-Type": "application/x-www-form-urlencoded"}
        body = urlencode({"client_id": "arena-cli", **form})
        connection.request("POST", f"{OPENID}/{route}", body, head)
        return json.loads(connection.getresponse().read())
    finally:
        connection.close()


def poll(server: Process, begun: dict) -> dict:
    code = begun["device_code"]
    return post(server, "token", grant_type=DEVICE_CODE, device_code=code)


def outcome(browser: Browser) -> str:
    return eventually(lambda: browser.text("#outcome"), what="the page says something")


def test_a_person_approves_with_the_keyboard_alone(server, browser):
    begun = post(server, "auth/device")
    browser.open(begun["verification_uri_complete"])
    assert browser.value("#user-code") == begun["user_code"]
    assert browser.focus == "token"
    browser.type(server.place.token + ENTER)
    assert outcome(browser).startswith("Approved. arena-cli is signed in")
    assert browser.focus == "outcome"
    assert browser.count("form") == 0
    assert poll(server, begun)["expires_in"] == 900
    assert browser.complaints() == []


def test_a_person_denies_with_the_keyboard_alone(server, browser):
    begun = post(server, "auth/device")
    browser.open(begun["verification_uri_complete"])
    browser.type(server.place.token + TAB + TAB + ENTER)
    assert outcome(browser).startswith("Denied. arena-cli does not get in")
    assert poll(server, begun)["error"] == "access_denied"
    assert browser.complaints() == []


def test_a_person_types_the_code_and_is_told_of_a_mistake_at_once(server, browser):
    begun = post(server, "auth/device")
    browser.open(begun["verification_uri"])
    assert browser.focus == "user-code"
    browser.type("BCDF-GHJK-LMNP" + TAB + server.place.token + ENTER)
    assert "mistyped" in outcome(browser)
    assert browser.value("#token") == ""
    browser.fill("#user-code", begun["user_code"].lower().replace("-", " "))
    browser.fill("#token", f"  {server.place.token}  ")
    browser.click("button[value=approve]")
    eventually(lambda: browser.count("form") == 0, what="it is approved")
    assert poll(server, begun)["expires_in"] == 900


@pytest.mark.parametrize(
    "token", ["arena_pat_00_11", "eyJ.eyJ.eyJ", "not a token", "ключ"]
)
def test_a_token_that_is_none_is_called_so_and_the_page_can_be_used_again(
    server, browser, token
):
    begun = post(server, "auth/device")
    browser.open(begun["verification_uri_complete"])
    browser.fill("#token", token)
    browser.click("button[value=approve]")
    assert outcome(browser).startswith("This token is not known here")
    assert browser.value("#token") == ""
    assert poll(server, begun)["error"] == "authorization_pending"


def test_nothing_happens_without_a_code_and_a_token(server, browser):
    browser.open(post(server, "auth/device")["verification_uri"])
    browser.click("button[value=approve]")
    browser.fill("#user-code", "BCDF-GHJK-LMNP")
    browser.click("button[value=approve]")
    assert browser.text("#outcome") == ""


def test_the_page_keeps_nothing_of_the_token(server, browser):
    begun = post(server, "auth/device")
    browser.open(begun["verification_uri_complete"])
    browser.type(server.place.token + ENTER)
    outcome(browser)
    kept = browser.run(
        "return [document.cookie, localStorage.length, sessionStorage.length, "
        "location.href, document.documentElement.outerHTML]"
    )
    assert kept[:3] == ["", 0, 0]
    assert server.place.token not in str(kept)


def test_what_stands_in_the_address_is_text_and_no_markup(server, browser):
    page = post(server, "auth/device")["verification_uri"]
    markup = '"><img src=x onerror="document.title=1">'
    browser.open(f"{page}?{urlencode({'user_code': markup})}")
    assert browser.value("#user-code") == markup
    assert browser.count("img") == 0
    browser.fill("#token", server.place.token)
    browser.click("button[value=approve]")
    assert "mistyped" in outcome(browser)


def test_every_control_has_a_name_for_those_who_do_not_see_it(server, browser):
    browser.open(post(server, "auth/device")["verification_uri"])
    assert browser.label("#user-code") == "Code"
    assert browser.label("#token") == "Your personal token"
    assert browser.label("button[value=deny]") == "Deny"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_can_be_read_in_light_and_dark(server, browser, scheme):
    browser.prefer(scheme)
    browser.open(post(server, "auth/device")["verification_uri"])
    ground = browser.style("body", "background-color")
    assert (luminance(ground) > 0.5) is (scheme == "light")
    for selector in ("h1", ".hint", "label", "button.quiet", "#user-code"):
        assert contrast(browser.style(selector, "color"), ground) >= LEAST_CONTRAST
    button = "button[value=approve]"
    text, behind = (browser.style(button, n) for n in ("color", "background-color"))
    assert contrast(text, behind) >= LEAST_CONTRAST


def test_a_server_that_is_gone_is_called_so(browser, tmp_path):
    with serving(Place(tmp_path)) as server:
        browser.open(post(server, "auth/device")["verification_uri_complete"])
        server.kill()
        browser.type(server.place.token + ENTER)
        assert outcome(browser) == "The server cannot be reached: try again."


def luminance(color: str) -> float:
    red, green, blue = (
        part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4
        for part in (int(number) / 255 for number in re.findall(r"\d+", color)[:3])
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)
