"""A headless Chromium for tests, over its DevTools protocol: no driver to install but the Debian package."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import shutil
import subprocess
import tempfile
import time
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import numpy as np
from patience import PATIENCE
from PIL import Image

SIZE = (1400, 900)


class Page:
    """A tab with a page of trame."""

    def __init__(self, socket):
        self._socket, self._sent = socket, 0
        self.problems = []

    async def call(self, method, **parameters):
        """A DevTools command; returns its result."""
        self._sent += 1
        number = self._sent
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        while True:
            answer = json.loads((await asyncio.wait_for(self._socket.receive(), PATIENCE)).data)
            if answer.get("method") == "Runtime.exceptionThrown":
                self.problems.append(answer["params"]["exceptionDetails"])
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return answer["result"]

    async def evaluate(self, expression):
        """The value of a JavaScript expression."""
        result = await self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    async def until(self, expression, patience=PATIENCE):
        """Wait for a JavaScript expression to be true; returns its value."""
        end = time.monotonic() + patience
        while not (value := await self.evaluate(expression)):
            assert time.monotonic() < end, f"not within {patience:g} s: {expression}\n{await self.text()}"
            await asyncio.sleep(0.1)
        return value

    async def text(self):
        """All text of the page."""
        return await self.evaluate("document.body.innerText")

    async def idle(self):
        """Wait until the server knows all that was typed: a click may overtake a slider moved just before."""
        await self.until("window.trame?.state?.get('trame__busy') === 0 && ![...window.trame.state.dirtyKeys].length")

    async def click(self, selector):
        """Click on an element once it is there and enabled."""
        await self.idle()
        element = f"document.querySelector({json.dumps(selector)})"
        await self.until(f"!!{element} && !{element}.disabled")
        await self.evaluate(f"{element}.click()")

    async def press(self, selector, key):
        """Focus an element and press a key."""
        await self.idle()
        await self.until(f"!!document.querySelector({json.dumps(selector)})")
        await self.evaluate(f"document.querySelector({json.dumps(selector)}).focus()")
        for kind in ("keyDown", "keyUp"):
            await self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key)

    async def go(self, url):
        """Open an address."""
        await self.call("Page.navigate", url=url)

    async def picture(self, path=None):
        """(height, width, 3) what the tab shows; kept as a PNG file if a path is given."""
        shot = base64.b64decode((await self.call("Page.captureScreenshot", format="png"))["data"])
        if path is not None:
            Path(path).write_bytes(shot)
        return np.asarray(Image.open(io.BytesIO(shot)).convert("RGB"))


@asynccontextmanager
async def chromium():
    """A :class:`Page` of a browser of one's own."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    assert program, "install Debian's package chromium, as .ci/run does"
    with tempfile.TemporaryDirectory(prefix="braingen-chromium-", ignore_cleanup_errors=True) as profile:
        browser = subprocess.Popen(
            [
                program,
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
                "--hide-scrollbars",
                "--remote-debugging-port=0",
                f"--user-data-dir={profile}",
                f"--window-size={SIZE[0]},{SIZE[1]}",
                "about:blank",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            port = await _port(Path(profile) / "DevToolsActivePort")
            async with aiohttp.ClientSession() as session:
                async with session.get(f"http://127.0.0.1:{port}/json") as answer:
                    tab = next(tab for tab in await answer.json() if tab["type"] == "page")
                async with session.ws_connect(tab["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                    page = Page(socket)
                    for domain in ("Page", "Runtime"):
                        await page.call(f"{domain}.enable")
                    width, height = SIZE
                    await page.call(
                        "Emulation.setDeviceMetricsOverride",
                        width=width,
                        height=height,
                        deviceScaleFactor=1,
                        mobile=False,
                    )
                    yield page
        finally:
            browser.terminate()
            browser.wait(10)


async def _port(path):
    end = time.monotonic() + PATIENCE
    while not (path.is_file() and path.read_text(encoding="utf-8").strip()):
        assert time.monotonic() < end, "chromium does not start"
        await asyncio.sleep(0.1)
    return int(path.read_text(encoding="utf-8").split()[0])
