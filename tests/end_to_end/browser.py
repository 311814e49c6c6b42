"""A real browser, driven over the WebDriver protocol: no more than our page needs."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from attrs import frozen

from end_to_end.processes import eventually

DRIVER = shutil.which("chromedriver")
ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",  # in containers the tests run as root, where it refuses to
    "--disable-dev-shm-usage",
    "--disable-gpu",
)
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
"""How the protocol calls the reference to an element."""
ENTER, TAB = "\ue007", "\ue004"


@frozen
class Browser:
    """One window.  Whatever it is asked and cannot do fails the test."""

    port: int
    session: str = ""

    @classmethod
    @contextmanager
    def opened(cls, folder: Path) -> Iterator["Browser"]:
        """Give a window of a new browser, which knows nothing and ends afterwards."""
        assert DRIVER is not None
        said = folder / "chromedriver.txt"
        with said.open("wb") as output:
            process = subprocess.Popen([DRIVER, "--port=0"], stdout=output)
        try:
            port = eventually(lambda: _port(said), what="the driver listens")
            session = cls(port).begin(folder / "profile")
            browser = cls(port, session)
            try:
                yield browser
            finally:
                browser.ask("DELETE", "")
        finally:
            process.kill()
            process.wait()

    def begin(self, profile: Path) -> str:
        options = {"args": [*ARGUMENTS, f"--user-data-dir={profile}"]}
        wanted = {
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL"},
        }
        capabilities = {"capabilities": {"alwaysMatch": wanted}}
        begun: str = self._ask("POST", "/session", capabilities)["sessionId"]
        return begun

    def ask(self, method: str, path: str, body: object = None) -> Any:
        return self._ask(method, f"/session/{self.session}{path}", body)

    def _ask(self, method: str, path: str, body: object = None) -> Any:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, None if body is None else json.dumps(body))
            answer = connection.getresponse()
            value = json.loads(answer.read())["value"]
        finally:
            connection.close()
        assert answer.status == 200, value
        return value

    # --- what a person does ------------------------------------------------------

    def open(self, url: str) -> None:
        self.ask("POST", "/url", {"url": url})

    def type(self, keys: str) -> None:
        """Press `keys`, wherever the focus is."""
        strokes = [
            {"type": kind, "value": key}
            for key in keys
            for kind in ("keyDown", "keyUp")
        ]
        actions = [{"type": "key", "id": "keyboard", "actions": strokes}]
        self.ask("POST", "/actions", {"actions": actions})

    def fill(self, selector: str, text: str) -> None:
        element = self._find(selector)
        self.ask("POST", f"/element/{element}/clear", {})
        self.ask("POST", f"/element/{element}/value", {"text": text})

    def click(self, selector: str) -> None:
        self.ask("POST", f"/element/{self._find(selector)}/click", {})

    # --- what a person sees ------------------------------------------------------

    def text(self, selector: str) -> str:
        shown: str = self.ask("GET", f"/element/{self._find(selector)}/text")
        return shown

    def count(self, selector: str) -> int:
        return len(self.ask("POST", "/elements", _by(selector)))

    def value(self, selector: str) -> str:
        element = self._find(selector)
        return str(self.ask("GET", f"/element/{element}/property/value"))

    @property
    def focus(self) -> str:
        """The id of the element that has the focus."""
        element = self.ask("GET", "/element/active")[ELEMENT]
        return str(self.ask("GET", f"/element/{element}/property/id"))

    def style(self, selector: str, name: str) -> str:
        return str(self.ask("GET", f"/element/{self._find(selector)}/css/{name}"))

    def label(self, selector: str) -> str:
        """Return what assistive technology calls the element."""
        element = self._find(selector)
        return str(self.ask("GET", f"/element/{element}/computedlabel"))

    def run(self, script: str) -> Any:
        return self.ask("POST", "/execute/sync", {"script": script, "args": []})

    def complaints(self) -> list[str]:
        """Return what the console has said: of policies, errors, missing files."""
        return [
            line["message"] for line in self.ask("POST", "/se/log", {"type": "browser"})
        ]

    def prefer(self, scheme: str) -> None:
        """Have the person prefer `light` or `dark`."""
        feature = {"name": "prefers-color-scheme", "value": scheme}
        command = {
            "cmd": "Emulation.setEmulatedMedia",
            "params": {"features": [feature]},
        }
        self.ask("POST", "/goog/cdp/execute", command)

    def _find(self, selector: str) -> str:
        found: str = self.ask("POST", "/element", _by(selector))[ELEMENT]
        return found


def _by(selector: str) -> dict[str, str]:
    return {"using": "css selector", "value": selector}


def _port(said: Path) -> int:
    found = re.search(r"started successfully on port (\d+)", said.read_text())
    return int(found[1]) if found else 0
