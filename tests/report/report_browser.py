"""A headless Chromium, driven through its debugging pipe: widths, colour schemes, mouse, keyboard, pictures
and paper. What the report must do in it is `test_report_browser`."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    "--headless=new",
    "--remote-debugging-pipe",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
)
PATIENCE = 60.0
"""Seconds that an answer may take on a busy machine."""


class Browser:
    """One browser with one page at a time.

    Attributes:
        wrong: What the page complained of since it was opened: exceptions, errors on the console, violations
            of its policy.
    """

    def __init__(self, profile: Path) -> None:
        assert BROWSER is not None
        read_end, self._to = os.pipe()
        self._from, write_end = os.pipe()

        # Chromium reads commands from descriptor 3 and writes to 4, which the pipes' own ends may be.
        def pipes() -> None:
            high = [os.dup(end) for end in (read_end, write_end) for _ in range(5)]
            os.dup2(high[4], 3)
            os.dup2(high[9], 4)

        self._process = subprocess.Popen(
            [BROWSER, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=pipes, close_fds=False,
        )  # fmt: skip
        os.close(read_end)
        os.close(write_end)
        os.set_blocking(self._from, False)
        self._rest = b""
        self._last = 0
        self._events: list[dict[str, Any]] = []
        self._session = ""
        self.wrong: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def close(self) -> None:
        """Ends the browser."""
        self._process.terminate()
        self._process.wait(timeout=PATIENCE)
        os.close(self._to)
        os.close(self._from)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """One command of the debugging protocol, and its answer."""
        self._last += 1
        message = {"id": self._last, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._last:
                assert "error" not in answer, (method, answer["error"])
                result: dict[str, Any] = answer["result"]
                return result
            self._note(answer)

    def open(
        self, page: Path, width: int, *, dark: bool = False, height: int = 900, scale: float = 1
    ) -> None:
        """Opens a file at a width in pixels and a colour scheme, and waits until its charts are drawn."""
        self.wrong.clear()
        self.resize(width, height, scale)
        self.media(dark=dark)
        self._events.clear()
        self.call("Page.navigate", url=page.resolve().as_uri())
        deadline = time.monotonic() + PATIENCE
        while not any(event["method"] == "Page.loadEventFired" for event in self._events):
            assert time.monotonic() < deadline, "the page never loaded"
            self._note(self._read())
        self.settle()

    def resize(self, width: int, height: int = 900, scale: float = 1) -> None:
        """Makes the window so wide and high."""
        size = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **size)

    def media(self, *, dark: bool = False, medium: str = "") -> None:
        """What style sheets are told: the colour scheme, and ``print`` or nothing."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", media=medium, features=[scheme])

    def settle(self) -> None:
        """Waits for two frames, in which charts draw themselves anew."""
        self.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(1))))")

    def run(self, script: str) -> Any:
        """What a script's value is, waited for if it is a promise."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Presses the mouse at one place and lets go at another."""
        self._mouse("mouseMoved", start)
        self._mouse("mousePressed", start, 1)
        for step in range(1, 9):
            x, y = (a + (b - a) * step / 8 for a, b in zip(start, end, strict=True))
            self._mouse("mouseMoved", (x, y), 1)
        self._mouse("mouseReleased", end)
        self.settle()

    def press(self, key: str, *, text: str = "") -> None:
        """One key, down and up; ``text`` is what it types."""
        codes = {"Tab": 9, "Enter": 13, " ": 32, "ArrowDown": 40, "ArrowUp": 38}
        code = codes.get(key, ord(text[:1] or "\0"))
        common = {"key": key, "windowsVirtualKeyCode": code}
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **common)
        self.call("Input.dispatchKeyEvent", type="keyUp", **common)

    def type(self, text: str) -> None:
        """Puts a text where the focus is, in place of what was selected."""
        self.call("Input.insertText", text=text)

    def picture(self, *, whole: bool = True) -> bytes:
        """The page as a PNG, from its top to its foot or as far as the window shows it."""
        return base64.b64decode(self.call("Page.captureScreenshot", captureBeyondViewport=whole)["data"])

    def paper(self) -> bytes:
        """The page printed to a PDF."""
        made = self.call("Page.printToPDF", printBackground=True, paperWidth=8.27, paperHeight=11.69)
        return base64.b64decode(made["data"])

    def _mouse(self, kind: str, place: tuple[float, float], buttons: int = 0) -> None:
        self.call(
            "Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], buttons=buttons,
            button="none" if kind == "mouseMoved" and not buttons else "left",
            clickCount=0 if kind == "mouseMoved" else 1,
        )  # fmt: skip

    def _read(self) -> dict[str, Any]:
        deadline = time.monotonic() + PATIENCE
        while b"\0" not in self._rest:
            assert time.monotonic() < deadline and self._process.poll() is None, "the browser gave no answer"
            try:
                part = os.read(self._from, 1 << 20)
            except BlockingIOError:
                time.sleep(0.005)
                continue
            assert part, "the browser closed"
            self._rest += part
        line, _, self._rest = self._rest.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        return message

    def _note(self, event: dict[str, Any]) -> None:
        if event.get("sessionId") != self._session:
            return
        method, params = event.get("method", ""), event.get("params", {})
        if method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.wrong.append(details.get("exception", {}).get("description") or details["text"])
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.wrong.append(" ".join(str(one.get("value")) for one in params["args"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.wrong.append(params["entry"]["text"])
        self._events.append({"method": method})
