"""A real browser, driven over the pipe of its DevTools protocol: no driver, no socket, no package."""

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
import time

from waiting import HANGING

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
    "--disable-extensions", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--hide-scrollbars", "--remote-debugging-pipe",
)  # fmt: skip
# the browser reads from 3 and writes to 4; subprocess hands descriptors on under their own numbers only
LAUNCH = """
import fcntl, os, sys
read, write = (fcntl.fcntl(int(n), fcntl.F_DUPFD, 10) for n in sys.argv[1:3])
os.dup2(read, 3), os.dup2(write, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


def find():
    """Path of a browser: $INTSNN_BROWSER, or one of the usual names; None if there is none."""
    given = os.environ.get("INTSNN_BROWSER")
    return shutil.which(given) if given else next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """One page of a headless Chromium; what it logs and asks of the network is kept."""

    def __init__(self, path, profile):
        to_browser, self._write = os.pipe()
        self._read, from_browser = os.pipe()
        self._log = open(os.path.join(profile, "browser.log"), "wb")
        command = [sys.executable, "-c", LAUNCH, str(to_browser), str(from_browser), path, *FLAGS]
        command += [f"--user-data-dir={profile}", "about:blank"]
        self._process = subprocess.Popen(
            command, pass_fds=(to_browser, from_browser), stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log
        )
        os.close(to_browser), os.close(from_browser)
        self._pending, self._count = b"", 0
        self.messages, self.requests, self._loaded = [], [], False
        try:
            target = self._call("Target.createTarget", {"url": "about:blank"}, session=None)["targetId"]
            self._session = self._call("Target.attachToTarget", {"targetId": target, "flatten": True}, session=None)[
                "sessionId"
            ]
            for domain in ("Page", "Runtime", "Log", "Network"):
                self._call(f"{domain}.enable")
        except BaseException:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """End the browser and everything that it started."""
        with contextlib.suppress(OSError, RuntimeError, TimeoutError):
            self._call("Browser.close", session=None)
        with contextlib.suppress(OSError):
            os.close(self._write)
        try:
            self._process.wait(10)  # then it is killed, which harms nobody
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._read)
        self._log.close()

    def show(self, url, width, height=900, dark=False, script=True):
        """Load `url` in a window of that size; forgets what was logged before."""
        self._call("Emulation.setDeviceMetricsOverride", {"width": width, "height": height, "deviceScaleFactor": 1}
                   | {"mobile": width < 600})  # fmt: skip
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self._call("Emulation.setEmulatedMedia", {"features": scheme})
        self._call("Emulation.setScriptExecutionDisabled", {"value": not script})
        self.messages, self.requests, self._loaded = [], [], False
        self._call("Page.navigate", {"url": url})
        until = time.monotonic() + HANGING
        while not self._loaded:
            self._take(until)
        self.run("document.fonts.ready.then(() => 0)")

    def run(self, code):
        """Value of a JavaScript expression in the page."""
        asked = {"expression": code, "returnByValue": True, "awaitPromise": True}
        found = self._call("Runtime.evaluate", asked)
        if "exceptionDetails" in found:
            raise RuntimeError(json.dumps(found["exceptionDetails"]))
        return found["result"].get("value")

    def picture(self, path, whole=True):
        """Save what is shown, or the whole page, as PNG."""
        data = self._call("Page.captureScreenshot", {"format": "png", "captureBeyondViewport": whole})["data"] if not (
            whole
        ) else self._whole()  # fmt: skip
        with open(path, "wb") as file:
            file.write(base64.b64decode(data))

    def _whole(self):
        size = self._call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        return self._call("Page.captureScreenshot", {"format": "png", "captureBeyondViewport": True, "clip": clip})[
            "data"
        ]

    def _call(self, method, parameters=None, session=...):
        self._count += 1
        number = self._count
        message = {"id": number, "method": method, "params": parameters or {}}
        if session is ...:
            message["sessionId"] = self._session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._write, data) :]
        until = time.monotonic() + HANGING
        while True:
            answer = self._take(until)
            if answer.get("id") == number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]

    def _take(self, until):
        """The next message; events are noted."""
        while b"\0" not in self._pending:
            if not select.select([self._read], [], [], max(0, until - time.monotonic()))[0]:
                raise TimeoutError(f"the browser said nothing for {HANGING} seconds")
            data = os.read(self._read, 1 << 20)
            if not data:
                raise RuntimeError(f"the browser ended; {self._log.name} says why")
            self._pending += data
        line, self._pending = self._pending.split(b"\0", 1)
        message = json.loads(line)
        method, found = message.get("method"), message.get("params", {})
        if method == "Runtime.consoleAPICalled":
            self.messages.append(" ".join(str(item.get("value")) for item in found["args"]))
        elif method == "Runtime.exceptionThrown":
            self.messages.append(found["exceptionDetails"].get("text", "exception"))
        elif method == "Log.entryAdded":
            self.messages.append(found["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            self.requests.append(found["request"]["url"])
        elif method == "Page.loadEventFired":
            self._loaded = True
        return message
