"""A headless Chromium that tests talk to through pipes, with nothing but the standard library.

Its protocol: https://chromedevtools.github.io/devtools-protocol/
"""

from __future__ import annotations

import base64
import itertools
import json
import os
import shutil
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


def executable() -> str | None:
    """Where it is; None where it is not installed."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    """One page. What it reports as an error is kept in `errors`."""

    def __init__(self, profile: Path, *, width: int = 1280, height: int = 900) -> None:
        """profile: an empty folder for its files."""
        path = executable()
        assert path is not None
        # It reads commands from descriptor 3 and writes to 4, each ended by a zero byte.
        commands, self._to = os.pipe()
        self._from, answers = os.pipe()
        options = "--headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage"
        words = f"exec {path} {options} --remote-debugging-pipe --user-data-dir='{profile}' "
        self._process = subprocess.Popen(
            ["bash", "-c", f"{words} about:blank 3<&{commands} 4>&{answers}"],
            pass_fds=(commands, answers),
            stderr=subprocess.DEVNULL,
        )
        os.close(commands)
        os.close(answers)
        self._numbers = itertools.count(1)
        self._heard = b""
        self.errors: list[str] = []

        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        attached = self._call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.resize(width, height)

    def __enter__(self) -> Browser:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._to)  # it ends when nobody can command it any more
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._from)

    def call(self, method: str, **values: Any) -> Any:
        """Give the page a command, and wait for its result."""
        return self._call(method, session=self._session, **values)

    def open(self, path: Path, fragment: str = "") -> None:
        self.call("Page.navigate", url=path.resolve().as_uri() + fragment)
        self.run("new Promise(r => document.readyState == 'complete' ? r() : (onload = r))")

    def run(self, script: str) -> Any:
        """The value of an expression, awaited where it is a promise."""
        found = self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def press(self, key: str) -> None:
        for kind in ("keyDown", "keyUp"):
            text = key if len(key) == 1 and kind == "keyDown" else ""
            self.call("Input.dispatchKeyEvent", type=kind, key=key, text=text)

    def resize(self, width: int, height: int, *, is_dark: bool = False) -> None:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if is_dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def picture(self, path: Path) -> None:
        """What is to be seen now, as PNG."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))

    def _call(self, method: str, *, session: str = "", **values: Any) -> Any:
        number = next(self._numbers)
        message: dict[str, Any] = {"id": number, "method": method, "params": values}
        if session:
            message["sessionId"] = session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            heard = self._next()
            if heard.get("id") == number:
                assert "error" not in heard, heard
                return heard["result"]
            self._note(heard)

    def _next(self) -> Any:
        while b"\0" not in self._heard:
            part = os.read(self._from, 1 << 20)
            assert part, "the browser has ended"
            self._heard += part
        message, _, self._heard = self._heard.partition(b"\0")
        return json.loads(message)

    def _note(self, event: Any) -> None:
        values = event.get("params", {})
        match event.get("method"):
            case "Runtime.exceptionThrown":
                self.errors.append(str(values["exceptionDetails"]))
            case "Runtime.consoleAPICalled" if values["type"] in ("error", "warning", "assert"):
                self.errors.append(str(values["args"]))
            case "Log.entryAdded" if values["entry"]["level"] in ("error", "warning"):
                self.errors.append(str(values["entry"]))
            case "Network.requestWillBeSent":
                url = values["request"]["url"]
                if not url.startswith(("file:", "data:", "about:")):
                    self.errors.append(f"asked for {url}")
