"""A headless Chromium for tests, driven over WebDriver's plain JSON: no further package needed."""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
CHROMEDRIVER = shutil.which("chromedriver")
MISSING = (
    "" if CHROMIUM and CHROMEDRIVER else "chromium and chromedriver are not installed beside this"
)
ARGUMENTS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-dev-shm-usage", "--hide-scrollbars", "--force-prefers-reduced-motion"),
)


class Browser:
    """One browser window. Use as a context manager.

    Parameters
    ----------
    folder : new; the browser's profile goes there
    width, height : of the page, in CSS pixels; widths that a phone has are emulated
    dark : what the page is told that its reader prefers
    """

    def __init__(
        self, folder: Path, width: int = 1280, height: int = 1600, dark: bool = False
    ) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        folder.mkdir(parents=True, exist_ok=True)
        self._process = subprocess.Popen(
            [str(CHROMEDRIVER), f"--port={self._port}"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"HOME": str(folder)},
        )
        arguments = [*ARGUMENTS, f"--user-data-dir={folder / 'profile'}"]
        if dark:
            arguments.append("--blink-settings=preferredColorScheme=0")
        metrics = {"width": width, "height": height, "pixelRatio": 1, "touch": False}
        options = {
            "binary": CHROMIUM,
            "args": arguments,
            "mobileEmulation": {"deviceMetrics": metrics},
        }
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        try:
            self._wait_for_driver()
            made = self._call("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        except BaseException:
            self._end()
            raise
        self._session = f"/session/{made['sessionId']}"

    def __enter__(self) -> Browser:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self._call("DELETE", self._session)
        finally:
            self._end()

    def open(self, url: str) -> None:
        """Load a page, until its load event."""
        self._call("POST", f"{self._session}/url", {"url": url})

    def run(self, script: str) -> Any:
        """The value that the body of a JavaScript function returns."""
        return self._call("POST", f"{self._session}/execute/sync", {"script": script, "args": []})

    def wait(self, expression: str, timeout_s: float = 30.0) -> Any:
        """The first true value of an expression. Raises AssertionError when the time is up."""
        deadline = time.monotonic() + timeout_s
        while not (value := self.run(f"return {expression}")):
            assert time.monotonic() < deadline, f"never true: {expression}"
            time.sleep(0.05)
        return value

    def press(self, *keys: str) -> None:
        """Press keys one after the other; WebDriver's code points for those without a letter."""
        strokes = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self._act({"type": "key", "id": "keyboard", "actions": strokes})

    def hover(self, x: int, y: int) -> None:
        """Move the mouse to a point of the window."""
        move = {"type": "pointerMove", "duration": 0, "x": x, "y": y}
        mouse = {"parameters": {"pointerType": "mouse"}, "actions": [move]}
        self._act({"type": "pointer", "id": "mouse"} | mouse)

    def screenshot(self, path: Path) -> None:
        """The window as a PNG file."""
        path.write_bytes(base64.b64decode(self._call("GET", f"{self._session}/screenshot")))

    def complaints(self) -> list[str]:
        """What the console says since it was last asked: script errors, blocked content."""
        lines = self._call("POST", f"{self._session}/se/log", {"type": "browser"})
        return [line["message"] for line in lines]

    def _act(self, source: dict[str, Any]) -> None:
        self._call("POST", f"{self._session}/actions", {"actions": [source]})

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self._port}{path}",
            json.dumps(body).encode() if body is not None else None,
            {"Content-Type": "application/json"},
            method=method,
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=60) as answer:
            return json.load(answer)["value"]

    def _wait_for_driver(self) -> None:
        deadline = time.monotonic() + 30
        while True:
            try:
                if self._call("GET", "/status")["ready"]:
                    return
            except OSError:
                assert self._process.poll() is None, "chromedriver ended at once"
                assert time.monotonic() < deadline, "chromedriver doesn't answer"
            time.sleep(0.05)

    def _end(self) -> None:
        self._process.terminate()
        self._process.wait(10)
