"""Open a page in headless Chromium through the DevTools protocol, and report what a reader would meet.

    page = open_page(path, width=400)
    page.errors, page.requests, page.images, page.overflow, page.evaluate(...)

Not a test module: tests import it. `find_chromium()` is None where there is no browser; such tests skip.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-port=0",
    "--remote-allow-origins=*",
)
PATIENCE = 60.0  # seconds; a loaded machine starts a browser slowly

# words of a table's cells that stand on more than one line
BROKEN_WORDS = """[...document.querySelectorAll("table th, table td")].flatMap(cell => {
  const walker = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT), broken = [];
  for (let node; (node = walker.nextNode()); )
    for (const word of node.data.matchAll(/\\S+/g)) {
      const range = document.createRange();
      range.setStart(node, word.index);
      range.setEnd(node, word.index + word[0].length);
      const lines = new Set([...range.getClientRects()].filter(box => box.width > 0).map(box => Math.round(box.top)));
      if (lines.size > 1) broken.push(word[0]);
    }
  return broken;
})"""


def find_chromium() -> str | None:
    """Path of a Chromium or Chrome, or None."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return next((found for name in names if (found := shutil.which(name))), None)


@dataclasses.dataclass(frozen=True)
class Page:
    """What was seen while a page was open.

    Attributes:
        errors: console errors, uncaught exceptions and failed loads.
        requests: every address that is neither the page itself nor data within it.
        images: (alt, width in pixels) of every image; width 0 means that it did not load.
        overflow: pixels by which the content is wider than the window.
        title: of the page.
        text: all visible text.
        screenshot: PNG of the whole page.
        result: what `act` returned.
    """

    errors: list[str]
    requests: list[str]
    images: list[tuple[str, int]]
    overflow: int
    title: str
    text: str
    screenshot: bytes
    result: Any = None


class Tab:
    """A page under remote control."""

    def __init__(self, socket: Any) -> None:
        self.socket = socket
        self.count = 0
        self.events: list[dict[str, Any]] = []

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self.count += 1
        self.socket.send(json.dumps({"id": self.count, "method": method, "params": parameters}))
        while True:
            message = json.loads(self.socket.recv())
            if message.get("id") == self.count:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']}")
                return message["result"]
            self.events.append(message)

    def wait_for(self, method: str) -> None:
        while not any(event.get("method") == method for event in self.events):
            self.events.append(json.loads(self.socket.recv()))

    def go(self, path: Path) -> None:
        """Open another local page, and wait until it is loaded."""
        self.events = [event for event in self.events if event.get("method") != "Page.loadEventFired"]
        self.call("Page.navigate", url=path.resolve().as_uri())
        self.wait_for("Page.loadEventFired")

    def press(self, key: str) -> None:
        """Press and release a key where the focus is: a letter, "Tab", "ArrowRight", "Enter", " "."""
        code = {"Tab": 9, "Enter": 13, " ": 32, "ArrowLeft": 37, "ArrowRight": 39, "Home": 36, "End": 35}.get(key)
        text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
        event = {"key": key, "windowsVirtualKeyCode": code or ord(key.upper()), "code": key}
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **event)
        self.call("Input.dispatchKeyEvent", type="keyUp", **event)

    def resize(self, width: int, height: int = 900) -> None:
        """Set the size of the window, in CSS pixels."""
        # not `mobile`: a telephone widens its viewport to fit, which would hide an overflow
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def overflow(self) -> int:
        """Pixels by which the content is wider than the window."""
        return self.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")

    def evaluate(self, expression: str) -> Any:
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in result:
            raise RuntimeError(str(result["exceptionDetails"]))
        return result["result"].get("value")


def open_page(
    path: Path,
    *,
    width: int = 1200,
    height: int = 900,
    dark: bool = False,
    act: Callable[[Tab], Any] | None = None,
) -> Page:
    """Open a local page and look at it.

    Args:
        path: the file.
        width: of the window, in CSS pixels.
        height: of the window.
        dark: prefer the dark colour scheme.
        act: plays with the page once it is loaded.
    """
    address = path.resolve().as_uri()
    with _tab() as tab:
        for domain in ("Page", "Runtime", "Log", "Network"):
            tab.call(f"{domain}.enable")
        tab.resize(width, height)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        tab.call("Emulation.setEmulatedMedia", features=[scheme])
        tab.call("Page.navigate", url=address)
        tab.wait_for("Page.loadEventFired")
        tab.evaluate("Promise.all([...document.images].map(i => i.decode().catch(() => 0))).then(() => 0)")
        result = None if act is None else act(tab)
        time.sleep(0.2)  # late requests and errors
        images = tab.evaluate("[...document.images].map(i => [i.alt, i.complete ? i.naturalWidth : 0])")
        overflow = tab.overflow()
        title, text = tab.evaluate("document.title"), tab.evaluate("document.body.innerText")
        shot = tab.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        return Page(
            errors=[problem for event in tab.events if (problem := _problem(event))],
            requests=[url for event in tab.events if (url := _requested(event)) and url != address],
            images=[(alt, int(pixels)) for alt, pixels in images],
            overflow=int(overflow),
            title=title,
            text=text,
            screenshot=base64.b64decode(shot["data"]),
            result=result,
        )


def _problem(event: dict[str, Any]) -> str:
    parameters = event.get("params", {})
    if event.get("method") == "Runtime.exceptionThrown":
        return str(parameters["exceptionDetails"].get("text"))
    if event.get("method") == "Runtime.consoleAPICalled" and parameters["type"] in ("error", "assert"):
        return str([argument.get("value") for argument in parameters["args"]])
    if event.get("method") == "Log.entryAdded" and parameters["entry"]["level"] == "error":
        return str(parameters["entry"]["text"])
    return ""


def _requested(event: dict[str, Any]) -> str:
    if event.get("method") != "Network.requestWillBeSent":
        return ""
    url = event["params"]["request"]["url"]
    return "" if url.startswith("data:") else url


@contextlib.contextmanager
def _tab() -> Iterator[Tab]:
    import websocket

    browser = find_chromium()
    if browser is None:
        raise RuntimeError("no Chromium found")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [browser, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            port = _port(Path(profile), process)
            socket = websocket.create_connection(f"ws://127.0.0.1:{port[0]}{port[1]}", timeout=PATIENCE)
            try:
                target = Tab(socket).call("Target.createTarget", url="about:blank")["targetId"]
                page = websocket.create_connection(f"ws://127.0.0.1:{port[0]}/devtools/page/{target}", timeout=PATIENCE)
                try:
                    yield Tab(page)
                finally:
                    page.close()
            finally:
                socket.close()
        finally:
            process.terminate()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _port(profile: Path, process: subprocess.Popen[bytes]) -> tuple[str, str]:
    """Read the port that the browser chose, and the address of its own socket."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, ValueError):
            number, address = (profile / "DevToolsActivePort").read_text().split("\n")[:2]
            return number, address
        if process.poll() is not None:
            raise RuntimeError(f"Chromium ended with code {process.returncode}")
        time.sleep(0.05)
    raise RuntimeError("Chromium did not open its debugging port")
