"""Chromium without a window, through its DevTools protocol: how a page looks, what it loads, what it complains of."""

import asyncio
import base64
import contextlib
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

BINARY = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
    "--remote-debugging-port=0",
)  # fmt: skip
PATIENCE = 120.0  # seconds

# Faults of the page's layout, one text each; all that is folded is opened first.
AUDIT = (Path(__file__).parent / "audit.js").read_text()


@dataclass
class Seen:
    """A page at one width.

    Attributes:
        faults: of its layout.
        complaints: in the console.
        requests: addresses that it asked for, without the page itself and what lies in it.
    """

    faults: list[str]
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


def look(page: Path, *, width: int, dark: bool = False, picture: Path | None = None) -> Seen:
    """Open a page, at that width in pixels.

    Args:
        picture: a PNG to write of all of it.
    """
    return asyncio.run(_look(page.resolve().as_uri(), width, dark, picture))


async def _look(url: str, width: int, dark: bool, picture: Path | None) -> Seen:
    async with _opened() as tab:
        for domain in ("Page", "Runtime", "Log", "Network"):
            await tab.call(f"{domain}.enable")
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        await tab.call("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await tab.call("Emulation.setEmulatedMedia", features=[scheme])
        await tab.call("Page.navigate", url=url)
        await tab.until("Page.loadEventFired")
        found = await tab.call("Runtime.evaluate", expression=AUDIT, returnByValue=True)
        seen = Seen(found["result"].get("value", [str(found)]))
        if picture is not None:
            shot = await tab.call("Page.captureScreenshot", captureBeyondViewport=True)
            picture.write_bytes(base64.b64decode(shot["data"]))
        for event in tab.events:
            about = event["params"]
            if event["method"] == "Log.entryAdded":
                seen.complaints.append(about["entry"]["text"])
            elif event["method"] in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown"):
                seen.complaints.append(str(about))
            elif event["method"] == "Network.requestWillBeSent":
                address = about["request"]["url"]
                if address != url and not address.startswith("data:"):
                    seen.requests.append(address)
        return seen


class _Tab:
    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.events: list[dict[str, Any]] = []
        self._socket, self._calls = socket, 0

    async def call(self, method: str, **params: Any) -> Any:
        self._calls += 1
        await self._socket.send_str(json.dumps({"id": self._calls, "method": method, "params": params}))
        while (message := await self._received()).get("id") != self._calls:
            pass
        assert "error" not in message, message["error"]
        return message["result"]

    async def until(self, event: str) -> None:
        while all(each["method"] != event for each in self.events):
            await self._received()

    async def _received(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads((await self._socket.receive(PATIENCE)).data)
        if "method" in message:
            self.events.append(message)
        return message


@contextlib.asynccontextmanager
async def _opened() -> AsyncIterator[_Tab]:
    """A tab of a browser of its own, which ends with the block."""
    assert BINARY is not None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        command = [BINARY, *OPTIONS, f"--user-data-dir={folder}", "about:blank"]
        browser = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            port = await _port(Path(folder) / "DevToolsActivePort")
            async with aiohttp.ClientSession() as session:
                async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
                    address = next(t["webSocketDebuggerUrl"] for t in await answer.json() if t["type"] == "page")
                async with session.ws_connect(address, max_msg_size=0) as socket:
                    yield _Tab(socket)
        finally:
            browser.terminate()
            browser.wait()


async def _port(file: Path) -> str:
    """That at which the browser listens, once it does."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if file.exists() and len(lines := file.read_text().splitlines()) > 1:
            return lines[0]
        await asyncio.sleep(0.05)
    raise TimeoutError("Chromium has not started")
