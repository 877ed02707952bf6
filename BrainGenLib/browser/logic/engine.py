"""Engine: the devices of this machine, the installed bundles, and what the chosen one says of itself."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

from trame_server.utils.typed_state import TypedState

from BrainGenLib import bundles
from BrainGenLib.browser.state import Choice, EngineState
from BrainGenLib.bundles import Metadata
from BrainGenLib.errors import BadInput


class EngineLogic:
    """Raises BadInput if no bundle can generate."""

    def __init__(self, server: Any) -> None:
        self._server = server
        self._typed: TypedState[EngineState] = TypedState(server.state, EngineState)
        able = bundles_that("generate")
        if not able:
            raise BadInput("No installed bundle can generate; `braingen bundles` lists what there is.")
        self._typed.data.devices = [Choice("automatic", "auto")]
        self._typed.data.bundles = able
        self._typed.data.bundle = able[0].value
        self._typed.bind_changes({self._typed.name.bundle: lambda *_: self._introduce()})
        self._introduce()

    @property
    def device(self) -> str:
        return self._typed.data.device

    @property
    def metadata(self) -> Metadata:
        """Of the chosen bundle."""
        return bundles.find(self._typed.data.bundle).metadata

    async def find_devices(self) -> None:
        """Fill the list of devices; another process asks, because asking imports torch."""
        root = str(Path(bundles.__file__).parents[1])
        path = os.pathsep.join(part for part in (root, os.environ.get("PYTHONPATH", "")) if part)
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "BrainGenLib.devices"),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=os.environ | {"PYTHONPATH": path},
        )
        answer, _ = await process.communicate()
        if process.returncode == 0:
            found = [
                Choice(f"{item['name']}: {item['title']}, {item['free']:.0f} GB free", item["name"])
                for item in json.loads(answer)
            ]
            self._typed.data.devices = [Choice("automatic", "auto"), *found]
            self._server.state.flush()

    def _introduce(self) -> None:
        bundle = bundles.find(self._typed.data.bundle)
        metadata, data = bundle.metadata, self._typed.data
        data.title = f"{metadata.title} {metadata.version}"
        data.description, data.limits, data.licence = metadata.description, metadata.limits, metadata.license
        card = bundle.folder / "docs" / "README.md"
        data.card = card.read_text("utf-8") if card.is_file() else ""


def bundles_that(verb: str) -> list[Choice]:
    """The installed bundles that know a verb."""
    return [
        Choice(f"{bundle.metadata.title} {bundle.metadata.version}", name)
        for name, bundle in bundles.available().items()
        if verb in bundle.metadata.verbs
    ]
