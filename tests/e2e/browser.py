"""A real Chromium without a window, by the WebDriver protocol (W3C): nothing to install but the browser itself."""

from __future__ import annotations

import base64
import contextlib
import os
import shutil
import time
from typing import TYPE_CHECKING, Any

import requests

from run import Process, RunError, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MISSING = "make test-page needs Chromium and its driver. On Debian: apt install chromium chromium-driver"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
GUARD_SECONDS = 90  # against hanging only
FLAGS = [
    "--headless",
    "--no-sandbox",  # in containers there is often no other way, and it opens pages of ours only
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--no-proxy-server",
    "--mute-audio",
    "--autoplay-policy=no-user-gesture-required",
    "--window-size=1180,900",
]
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # WebDriver, "Elements": how an element is named in JSON

# Looks again at every change of the page and every event of a video, so that nothing is asked in a loop.
WAIT = """
const [done] = [...arguments].slice(-1), given = [...arguments].slice(0, -1);
const card = (name) => [...document.querySelectorAll('.job')].find((c) => c.querySelector('h2').textContent === name);
const wanted = (...given) => { %s };
const events = ['playing', 'timeupdate', 'loadedmetadata', 'seeked', 'load', 'error', 'toggle'];
const watcher = new MutationObserver(look);
function look() {
  let found;
  try { found = wanted(...given); } catch (error) { found = null; }
  if (!found) return;
  watcher.disconnect();
  for (const name of events) document.removeEventListener(name, look, true);
  done(found);
}
watcher.observe(document, {subtree: true, childList: true, attributes: true, characterData: true});
for (const name of events) document.addEventListener(name, look, true);
look();
"""


class Browser:
    """One window. JavaScript given to it may use ``card(name)``, the card of a job."""

    def __init__(self, session: str) -> None:
        self._session = session
        self._call("POST", "timeouts", {"script": GUARD_SECONDS * 1000, "pageLoad": GUARD_SECONDS * 1000})

    def _call(self, method: str, command: str, body: dict[str, Any] | None = None) -> Any:
        # one connection a command: two of one connection at once would be mixed up
        answer = requests.request(method, f"{self._session}/{command}", json=body, timeout=GUARD_SECONDS + 30)
        value = answer.json()["value"]
        if not answer.ok:
            raise AssertionError(f"{command}: {value['error']}: {value['message']}")
        return value

    def open(self, address: str) -> None:
        """Go to an address and wait until it is loaded."""
        self._call("POST", "url", {"url": address})

    def wait(self, wanted: str, *given: object) -> Any:
        """Wait until a JavaScript expression of ``given`` is truthy; return its value."""
        return self._call("POST", "execute/async", {"script": WAIT % f"return {wanted};", "args": list(given)})

    def run(self, script: str, *given: object) -> Any:
        """Run JavaScript (a function's body of ``given``) and return what it returns."""
        card = WAIT.strip().splitlines()[1]
        body = f"{card}\nreturn ((...given) => {{ {script} }})(...arguments);"
        return self._call("POST", "execute/sync", {"script": body, "args": list(given)})

    def type_into(self, selector: str, text: str) -> None:
        """Type into a field; into one for files, the paths, a line each."""
        found = self._call("POST", "element", {"using": "css selector", "value": selector})
        self._call("POST", f"element/{found[ELEMENT]}/value", {"text": text})

    def click(self, selector: str) -> None:
        """Click on an element."""
        found = self._call("POST", "element", {"using": "css selector", "value": selector})
        self._call("POST", f"element/{found[ELEMENT]}/click", {})

    def devtools(self, command: str, **parameters: object) -> Any:
        """Send a command of the DevTools protocol."""
        return self._call("POST", "goog/cdp/execute", {"cmd": command, "params": parameters})

    def wide(self) -> None:
        """Be as wide as a window on a desk."""
        self._size(1180, 900)

    def narrow(self) -> None:
        """Be as wide as a telephone."""
        self._size(390, 844)

    def _size(self, width: int, height: int) -> None:
        self.devtools(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
        )

    def complaints(self) -> list[str]:
        """Return what the browser has written to its console as an error since it was last asked."""
        return [entry["message"] for entry in self._call("POST", "se/log", {"type": "browser"})]

    def picture(self, path: Path, height: int) -> None:
        """Save what the upper `height` px of the page look like."""
        width = self.run("return innerWidth")
        clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
        shot = self.devtools("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        path.write_bytes(base64.b64decode(shot["data"]))


@contextlib.contextmanager
def chromium(work: Path) -> Iterator[Browser]:
    """Start a Chromium with a profile of its own in `work`; RunError if there is none on this machine."""
    driver = shutil.which("chromedriver")
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if not driver or not program:
        raise RunError(MISSING)
    address = f"http://127.0.0.1:{free_port()}"
    environment = {"PATH": os.environ["PATH"], "HOME": str(work), "TMPDIR": str(work), "LANG": "C.UTF-8"}
    process = Process(
        "browser", [driver, f"--port={address.rpartition(':')[2]}"], environment, work / "chromedriver.log"
    )
    try:
        _await_driver(process, address)
        options = {"binary": program, "args": [*FLAGS, f"--user-data-dir={work / 'profile'}"]}
        wishes = {"alwaysMatch": {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "SEVERE"}}}
        answer = requests.post(f"{address}/session", json={"capabilities": wishes}, timeout=GUARD_SECONDS)
        if not answer.ok:
            raise RunError(f"Chromium doesn't start: {answer.text}")
        session = f"{address}/session/{answer.json()['value']['sessionId']}"
        try:
            yield Browser(session)
        finally:
            requests.delete(session, timeout=GUARD_SECONDS)
    finally:
        process.end()


def _await_driver(process: Process, address: str) -> None:
    deadline = time.monotonic() + GUARD_SECONDS
    while time.monotonic() < deadline:
        if not process.running():
            raise process.died()
        with contextlib.suppress(requests.ConnectionError):
            if requests.get(f"{address}/status", timeout=5).json()["value"]["ready"]:
                return
        time.sleep(0.05)
    raise RunError(f"chromedriver was not ready after {GUARD_SECONDS} s")
