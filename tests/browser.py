"""A headless Chromium driven through its pipe: no driver program, no package, no port.

Chromium reads commands of the DevTools protocol from descriptor 3 and answers on 4, each a JSON
text that ends with a zero byte.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-extensions",
    "--disable-background-networking",
    "--disable-component-update",
    "--force-color-profile=srgb",
    "--hide-scrollbars",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--proxy-server=127.0.0.1:9",
)
KEYS = {
    " ": ("Space", 32),
    "ArrowLeft": ("ArrowLeft", 37),
    "ArrowUp": ("ArrowUp", 38),
    "ArrowRight": ("ArrowRight", 39),
    "ArrowDown": ("ArrowDown", 40),
    "Tab": ("Tab", 9),
    "Enter": ("Enter", 13),
    "Home": ("Home", 36),
    "End": ("End", 35),
}
TYPED = {" ": {"text": " "}, "Enter": {"text": "\r"}}
SHIFT = 8
COMPLAINTS = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")


class Browser:
    """One page of a Chromium without a network. events: all that it reported, oldest first."""

    def __init__(self, folder: Path, seconds: float = 120):
        self.seconds, self.events, self._last, self._buffer = seconds, [], 0, b""
        pipes = *os.pipe(), *os.pipe()
        # away from 3 and 4, which the shell is about to take
        to_read, self._write, self._read, to_write = (
            fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in pipes
        )
        command = [CHROMIUM, *OPTIONS, "--remote-debugging-pipe", f"--user-data-dir={folder}"]
        script = f'exec "$@" 3<&{to_read} 4>&{to_write} {to_read}<&- {to_write}>&-'
        self._process = subprocess.Popen(
            ["bash", "-c", script, "bash", *command],
            pass_fds=(to_read, to_write),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for end in (*pipes, to_read, to_write):
            os.close(end)
        self._session = None
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        attached = self.send("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.send(f"{domain}.enable")
        self.send(
            "Network.emulateNetworkConditions",
            offline=True,
            latency=0,
            downloadThroughput=0,
            uploadThroughput=0,
        )

    def close(self) -> None:
        os.close(self._write)  # Chromium ends when its pipe does
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
        os.close(self._read)

    def send(self, method: str, **parameters) -> dict:
        """The result of a command; what is reported before it goes to `events`."""
        self._last += 1
        message = {"id": self._last, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        content = json.dumps(message).encode() + b"\0"
        while content:
            content = content[os.write(self._write, content) :]
        while True:
            answer = self._receive()
            if answer.get("id") == self._last:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return answer["result"]
            self.events.append(answer)

    def _receive(self) -> dict:
        end = time.monotonic() + self.seconds
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._read], [], [], max(0, end - time.monotonic()))
            part = os.read(self._read, 1 << 20) if ready else b""
            if not part:
                raise RuntimeError("Chromium ended" if ready else f"no answer in {self.seconds} s")
            self._buffer += part
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)

    def open(self, path: Path, fragment: str = "") -> None:
        """The explorer's page, loaded anew, once all of it is there."""
        self.send("Page.navigate", url="about:blank")  # an address with a fragment alone loads not
        self.send("Page.navigate", url=Path(path).resolve().as_uri() + fragment)
        self.evaluate(
            "new Promise(done => { const wait = () => "
            "performance.getEntriesByName('complete').length ? done() : setTimeout(wait, 5);"
            " wait(); })"
        )

    def evaluate(self, script: str):
        """The value of a JavaScript expression, awaited if it is a promise."""
        answer = self.send(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"]["exception"]["description"])
        return answer["result"].get("value")

    def settle(self, seconds: float = 0) -> None:
        """Wait so long, and until what then changed is drawn."""
        self.evaluate(
            f"new Promise(done => setTimeout(() => requestAnimationFrame(() => "
            f"requestAnimationFrame(done)), {1000 * seconds}))"
        )

    def window(self, width: int, height: int, dark: bool = False, scale: float = 1) -> None:
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=width < 600,
        )

    def screenshot(self, path: Path, whole: bool = False) -> None:
        picture = self.send("Page.captureScreenshot", captureBeyondViewport=whole)
        Path(path).write_bytes(base64.b64decode(picture["data"]))

    def point(self, selector: str, x: float = 0.5, y: float = 0.5) -> tuple[float, float]:
        """Where a share (x, y) of the element lies in the window, scrolled there if need be."""
        node = f"document.querySelector({json.dumps(selector)})"
        self.evaluate(f"{node}.scrollIntoView({{block: 'center'}})")
        self.settle()  # what came into sight is drawn
        left, top, width, height = self.evaluate(
            f"(box => [box.left, box.top, box.width, box.height])({node}.getBoundingClientRect())"
        )
        return left + x * width, top + y * height

    def drag(self, *places: tuple[float, float], button: str = "left") -> None:
        """Press the pointer at the first place, move it along the others, release it."""
        for kind, (x, y) in [
            ("mousePressed", places[0]),
            *(("mouseMoved", p) for p in places[1:]),
            ("mouseReleased", places[-1]),
        ]:
            self.send(
                "Input.dispatchMouseEvent",
                type=kind,
                x=x,
                y=y,
                button=button,
                buttons={"left": 1, "right": 2}[button] * (kind != "mouseReleased"),
                clickCount=1,
            )
        self.settle()

    def touch(self, *places: tuple[float, float]) -> None:
        for kind, points in [
            ("touchStart", places[:1]),
            *(("touchMove", [p]) for p in places[1:]),
            ("touchEnd", []),
        ]:
            self.send(
                "Input.dispatchTouchEvent",
                type=kind,
                touchPoints=[{"x": x, "y": y} for x, y in points],
            )
        self.settle()

    def press(self, key: str, times: int = 1, shift: bool = False) -> None:
        code, number = KEYS[key]
        for _ in range(times):
            for kind, text in [("keyDown", TYPED.get(key, {})), ("keyUp", {})]:
                self.send(
                    "Input.dispatchKeyEvent",
                    type=kind,
                    key=key,
                    code=code,
                    **text,
                    windowsVirtualKeyCode=number,
                    modifiers=SHIFT * shift,
                )
        self.settle()

    def complaints(self) -> list[str]:
        """Console messages, errors and requests of anything but the opened file itself."""
        found = []
        for event in self.events:
            method, detail = event.get("method"), event.get("params", {})
            if method in COMPLAINTS:
                found.append(json.dumps(detail)[:500])
            elif method == "Network.requestWillBeSent" and detail["type"] != "Document":
                found.append(f"request of {detail['request']['url'][:100]}")
        return found
