"""Files in and out over HTTP: ``POST upload`` and ``GET download``."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections import deque
from concurrent.futures import BrokenExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from aiohttp import BodyPartReader, web
from trame_server.utils.typed_state import TypedState

from BrainGenLib import anatomy
from BrainGenLib.browser.archives import write_bids_zip, write_mrb
from BrainGenLib.browser.logic.results import ResultsLogic
from BrainGenLib.browser.logic.views import ViewsLogic
from BrainGenLib.browser.state import (
    Choice,
    CounterfactualState,
    RunState,
    SceneState,
    SegmentState,
    UploadState,
    still_there,
)
from BrainGenLib.browser.uploading import KINDS, MAX_BYTES, Received, Unnamed, plain_name, receive
from BrainGenLib.case import Case
from BrainGenLib.errors import BadInput
from BrainGenLib.scene.case_to_scene import CASE
from BrainGenLib.scene.cases import case_of
from BrainGenLib.scene.showing import bounds_of, image_of
from BrainGenLib.scratch import Scratch

_CHUNK = 1 << 20
_TOO_LARGE = f"The files are larger than {MAX_BYTES / 1e9:g} GB together; send fewer."


class TransfersLogic:
    def __init__(self, server: Any, scene: Any, views: ViewsLogic, results: ResultsLogic) -> None:
        self._server, self._scene, self._views, self._results = server, scene, views, results
        self._typed: TypedState[UploadState] = TypedState(server.state, UploadState)
        self._run: TypedState[RunState] = TypedState(server.state, RunState)
        self._nodes: TypedState[SceneState] = TypedState(server.state, SceneState)
        self._nodes.bind_changes({self._nodes.name.volumes: self._keep_scan})
        self._segment = TypedState(server.state, SegmentState).data
        self._counterfactual = TypedState(server.state, CounterfactualState).data
        # Segmentations that wait for what the user says of them.
        self._waiting: deque[Received | Unnamed] = deque()
        self._scratch = Scratch("braingen-upload-")

    def routes(self) -> list[web.RouteDef]:
        """For aiohttp."""
        return [
            web.post("/upload", self.upload),
            web.get("/download", self.download),
            web.get("/labels", self.labels),
        ]

    async def labels(self, _request: web.Request) -> web.Response:
        """The label table, whose values a segmentation may have."""
        rows = [f"{label.value}\t{label.name}" for label in anatomy.labels()]
        return web.Response(text="\n".join(["value\tname", *rows, ""]))

    async def upload(self, request: web.Request) -> web.Response:
        """Put sent files into the scene; answers with what became of them as JSON."""
        kind = request.query.get("kind", KINDS[0])
        self._tell(busy=True)
        try:
            if kind not in KINDS:
                raise BadInput(f"kind must be one of {', '.join(KINDS)}.")
            with tempfile.TemporaryDirectory(dir=self._scratch.folder) as folder:
                await _save(request, Path(folder))
                received = await asyncio.to_thread(receive, Path(folder), kind)
                for unnamed in [item for item in received if isinstance(item, Unnamed)]:
                    kept = Path(tempfile.mkdtemp(dir=self._scratch.folder)) / unnamed.path.name
                    unnamed.path = unnamed.path.rename(kept)
            added = []
            for item in received:
                # No file says of which scan labels are; without a scan there is nothing to choose from.
                if isinstance(item, Unnamed) or (item.labels and self._nodes.data.volumes):
                    self._waiting.append(item)
                else:
                    added.append(await self._add(item, None))
            self._ask()
            self._tell(message=f"Added {', '.join(added)}." if added else "")
            return web.json_response({"added": added, "asked": [item.name for item in self._waiting]})
        except (BadInput, OSError) as error:
            said = str(error) if isinstance(error, BadInput) else f"The files did not arrive whole: {error.strerror}."
            self._tell(failure=said)
            return web.json_response({"error": said}, status=400)

    async def answer(self) -> None:
        """Add the segmentation that was asked about, as what the user says that it is."""
        if not self._waiting:
            # Another page has answered.
            return
        data, item = self._typed.data, self._waiting.popleft()
        lesion, scan = data.lesion, self._scene.GetNodeByID(data.of or "")
        data.asking = ""
        try:
            if isinstance(item, Unnamed):
                named = await asyncio.to_thread(item.named, lesion)
                shutil.rmtree(item.path.parent)
            else:
                named = item
            self._tell(message=f"Added {await self._add(named, scan)}.")
        except BadInput as error:
            self._waiting.appendleft(item)
            self._tell(failure=str(error))
        self._ask()
        self._server.state.flush()

    def drop(self) -> None:
        """Forget the segmentation that was asked about."""
        item = self._waiting.popleft() if self._waiting else None
        if isinstance(item, Unnamed):
            shutil.rmtree(item.path.parent)
        self._ask()
        self._server.state.flush()

    def close(self) -> None:
        """Remove what was uploaded and not added."""
        self._scratch.close()

    async def download(self, request: web.Request) -> web.StreamResponse:
        """The named cases as ``format=bids`` (zip archive) or ``format=mrb`` (one case)."""
        names = request.query.getall("case", [])
        with tempfile.TemporaryDirectory(dir=self._scratch.folder) as folder:
            try:
                cases = {name: case_of(self._scene, name) for name in names}
                if not cases:
                    raise web.HTTPBadRequest(text="Name a case.\n")
                if request.query.get("format") == "mrb":
                    name, case = next(iter(cases.items()))
                    path = Path(folder) / f"{name}.mrb"
                    await write_mrb(case, name, path)
                else:
                    path = Path(folder) / "braingen-bids.zip"
                    self._check_exported(names)
                    await asyncio.to_thread(write_bids_zip, cases, path)
            except KeyError as error:
                raise web.HTTPNotFound(text=f"The scene holds no case {error}.\n") from error
            except (BadInput, OSError, BrokenExecutor) as error:
                said = str(error) if isinstance(error, BadInput) else f"The download could not be written: {error}"
                self._run.data.failure = said
                self._server.state.flush()
                raise web.HTTPBadRequest(text=f"{said}\n") from error
            return await _send(request, path)

    def _check_exported(self, names: list[str]) -> None:
        """Refuse what no dataset can hold."""
        for row in self._results.rows:
            if row.name in names and not row.exported:
                raise BadInput(
                    f"{row.name} holds no image that a model made for its labels, so it is no case of a dataset. "
                    "Render it first, or download it as .mrb."
                )

    def _keep_scan(self, volumes: list[Choice]) -> None:
        self._typed.data.of = still_there(self._typed.data.of, volumes)

    def _ask(self) -> None:
        """Ask about the next segmentation that waits."""
        data = self._typed.data
        item = self._waiting[0] if self._waiting else None
        able = item.lesions if isinstance(item, Unnamed) else []
        data.lesions = [Choice(anatomy.lesions()[name].name, name) for name in able]
        data.lesion = able[0] if len(able) == 1 else ""
        data.asking, data.of = item.name if item else "", ""

    def _tell(self, busy: bool = False, message: str = "", failure: str = "") -> None:
        data = self._typed.data
        data.busy, data.message, data.failure = busy, message, failure
        self._server.state.flush()

    async def _add(self, item: Received, of: Any | None) -> str:
        """Put a file into the scene and show it; returns its name there."""
        images, labels = ({}, item.data) if item.labels else ({"scan": item.data}, None)
        nodes = await self._results.add(item.name, Case(images, labels, item.affine, synthetic=item.synthetic), of)
        self._views.show(nodes, np.asarray(bounds_of(nodes).mean(1)))
        # What was brought is what is to be worked on.
        for scan in nodes.volumes.values():
            self._segment.scan = self._counterfactual.scan = scan.GetID()
        image = image_of(nodes)
        if nodes.segmentation is not None and image is not None and image.GetID() == self._counterfactual.scan:
            self._counterfactual.segmentation = nodes.segmentation.GetID()
        self._server.state.flush()
        return nodes.present[0].GetAttribute(CASE)


async def _send(request: web.Request, path: Path) -> web.StreamResponse:
    """Send a file whole: its folder goes afterwards, and aiohttp would open that of a FileResponse once more."""
    headers = {
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(path.name)}",
        "Content-Length": str(path.stat().st_size),
    }
    response = web.StreamResponse(headers=headers)
    response.content_type = "application/octet-stream"
    await response.prepare(request)
    with path.open("rb") as file:
        while chunk := await asyncio.to_thread(file.read, _CHUNK):
            await response.write(chunk)
    await response.write_eof()
    return response


async def _save(request: web.Request, folder: Path) -> None:
    """Stream the files of a form to a folder.

    Raises:
        BadInput: they are too large, or there are none.
    """
    if (request.content_length or 0) > MAX_BYTES:
        raise BadInput(_TOO_LARGE)
    try:
        parts = await request.multipart()
    except (AssertionError, ValueError) as error:
        raise BadInput("No files were sent.") from error
    size = number = 0
    while (part := await parts.next()) is not None:
        if not isinstance(part, BodyPartReader) or not part.filename:
            continue
        number += 1
        place = folder / f"{number:05d}"
        place.mkdir()
        with (place / plain_name(part.filename)).open("wb") as file:
            while chunk := await part.read_chunk(_CHUNK):
                size += len(chunk)
                if size > MAX_BYTES:
                    raise BadInput(_TOO_LARGE)
                file.write(chunk)
    if not number:
        raise BadInput("No files were sent.")
