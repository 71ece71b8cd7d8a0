"""A headless Chromium, driven by its own debugging protocol: enough to load a page, press keys and look at it."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
WAIT_S = 40.0
KEY_CODES = {"Escape": 27, "Tab": 9, "Enter": 13}


def chromium() -> str | None:
    """The program, or None where there is none."""
    named = os.environ.get("WSI_DEFORM_CHROMIUM")
    return named or next((found for name in NAMES if (found := shutil.which(name))), None)


class Tab:
    """A page that is open.

    Attributes:
        problems: Errors that the console, the page and the network told.
    """

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.problems: list[str] = []
        self._socket = socket
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._listening = asyncio.ensure_future(self._listen())

    async def call(self, method: str, **given: Any) -> dict[str, Any]:
        """Call a method of the protocol."""
        number = next(self._numbers)
        self._waiting[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": given})
        answer = await asyncio.wait_for(self._waiting[number], WAIT_S)
        assert "error" not in answer, answer
        return answer["result"]

    async def ask(self, expression: str) -> Any:
        """The value of an expression of JavaScript; promises are waited for."""
        found = await self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    async def until(self, expression: str) -> Any:
        """Wait until an expression is true; what it asks about may not be there yet."""
        expression = f"(() => {{ try {{ return {expression}; }} catch {{ return false; }} }})()"
        for _ in range(int(WAIT_S / 0.1)):
            if found := await self.ask(expression):
                return found
            await asyncio.sleep(0.1)
        raise AssertionError(f"never came true: {expression}; problems: {self.problems}")

    async def size(self, width: int, height: int) -> None:
        """Give the window another size; below 500 px it is a telephone."""
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=width < 500,
        )  # fmt: skip

    async def open(self, url: str) -> None:
        """Load a page anew."""
        await self.call("Page.navigate", url="about:blank")
        await self.call("Page.navigate", url=url)

    async def press(self, key: str) -> None:
        """Press a key."""
        told = {"text": key} if len(key) == 1 else {"windowsVirtualKeyCode": KEY_CODES[key]}
        for kind in ("keyDown", "keyUp"):
            await self.call("Input.dispatchKeyEvent", type=kind, key=key, **told)

    async def picture(self, path: Path | None = None) -> bytes:
        """A PNG of what is seen."""
        data = base64.b64decode((await self.call("Page.captureScreenshot", format="png"))["data"])
        if path is not None:
            path.write_bytes(data)
        return data

    async def close(self) -> None:
        """Listen no more."""
        self._listening.cancel()
        with suppress(asyncio.CancelledError):
            await self._listening

    async def _listen(self) -> None:
        async for message in self._socket:
            said = json.loads(message.data)
            if "id" in said:
                self._waiting.pop(said["id"]).set_result(said)
            elif said["method"] == "Runtime.exceptionThrown":
                self.problems.append(json.dumps(said["params"]["exceptionDetails"])[:600])
            elif said["method"] == "Runtime.consoleAPICalled" and said["params"]["type"] in (
                "error",
                "warning",
            ):
                self.problems.append(json.dumps(said["params"]["args"])[:600])
            elif said["method"] == "Log.entryAdded" and said["params"]["entry"]["level"] in (
                "error",
                "warning",
            ):
                self.problems.append(json.dumps(said["params"]["entry"])[:600])


@asynccontextmanager
async def browser(program: str) -> AsyncIterator[Tab]:
    """Start a browser with an empty tab; it ends with the block, and keeps nothing."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        command = [
            program, "--headless=new", "--remote-debugging-port=0", f"--user-data-dir={folder}", "--no-sandbox",
            "--no-first-run", "--disable-gpu", "--disable-extensions", "--disable-background-networking",
            "--disable-dev-shm-usage", "--hide-scrollbars", "about:blank",
        ]  # fmt: skip
        with subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        ) as process:
            try:
                place = Path(folder) / "DevToolsActivePort"
                for _ in range(int(WAIT_S / 0.1)):
                    if place.is_file() and place.read_text().count("\n"):
                        break
                    assert process.poll() is None, f"{program} ended with {process.returncode}"
                    await asyncio.sleep(0.1)
                port = int(place.read_text().splitlines()[0])
                async with aiohttp.ClientSession() as session:
                    async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
                        (tab,) = [each for each in await answer.json() if each["type"] == "page"]
                    async with session.ws_connect(
                        tab["webSocketDebuggerUrl"], max_msg_size=1 << 27
                    ) as socket:
                        page = Tab(socket)
                        for domain in ("Page", "Runtime", "Log"):
                            await page.call(f"{domain}.enable")
                        yield page
                        await page.close()
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
