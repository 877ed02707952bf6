"""Engine: where models run, what there is, and what the chosen bundle says of itself."""

from __future__ import annotations

import asyncio
import json
import subprocess
from pathlib import Path
from typing import Any

from trame_server.utils.typed_state import TypedState

from BrainGenLib import bundles, capabilities, processes
from BrainGenLib.browser.state import Choice, EngineState
from BrainGenLib.bundles import Metadata
from BrainGenLib.errors import BadInput


class EngineLogic:
    """What a session's worker can do.

    Args:
        server: of trame.
        address: of the server that computes; empty for this machine.
        token: for that server.

    Raises:
        BadInput: no bundle can generate.
        ConnectionError: the server cannot be asked, or says no.
    """

    def __init__(self, server: Any, address: str = "", token: str = "") -> None:
        self._server, self._address = server, address
        self._typed: TypedState[EngineState] = TypedState(server.state, EngineState)
        if address:
            from BrainGenLib.service.remote import remote_bundles

            self._known = {metadata.name: metadata for metadata in remote_bundles(address, token)}
        else:
            self._known = {name: bundle.metadata for name, bundle in bundles.available().items()}
        able = self.bundles_that("generate")
        if not able:
            raise BadInput("No bundle can generate; `braingen bundles` lists what is installed.")
        self._typed.data.where = address or "this machine"
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
        return self.metadata_of(self._typed.data.bundle)

    def metadata_of(self, name: str) -> Metadata:
        """Of a bundle that there is."""
        return self._known[name]

    def changing(self, name: str, left: bool) -> Metadata:
        """Of a bundle, to counterfactuals: see :func:`BrainGenLib.capabilities.changing`."""
        return capabilities.changing(self._known[name], left, self._known.get(capabilities.LABELS))

    def bundles_that(self, verb: str) -> list[Choice]:
        """Those that know a verb; the first, which is chosen at the start, makes labels if any does."""
        return [
            Choice(f"{metadata.title} {metadata.version}", name)
            for name, metadata in sorted(self._known.items(), key=lambda item: item[1].family)
            if verb in metadata.verbs
        ]

    async def find_devices(self) -> None:
        """Fill the list of devices; another process asks, because asking imports torch. A server chooses its own."""
        if self._address:
            return
        process = processes.start("BrainGenLib.probe", stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        answer, _ = await asyncio.to_thread(process.communicate)
        if process.returncode == 0:
            found = [
                Choice(f"{item['name']}: {item['title']}, {item['free']:.0f} GB free", item["name"])
                for item in json.loads(answer).get("devices", [])
            ]
            self._typed.data.devices = [Choice("automatic", "auto"), *found]
            self._server.state.flush()

    def _introduce(self) -> None:
        metadata, data = self.metadata, self._typed.data
        data.title = f"{metadata.title} {metadata.version}"
        data.description, data.limits, data.licence = metadata.description, metadata.limits, metadata.license
        # A server tells what a bundle is, not its card.
        card = Path() if self._address else bundles.find(metadata.name).folder / "docs" / "README.md"
        data.card = card.read_text("utf-8") if card.is_file() else ""
