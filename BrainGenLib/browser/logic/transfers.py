"""Files in and out over HTTP: ``POST upload`` and ``GET download``."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from aiohttp import BodyPartReader, web
from trame_server.utils.typed_state import TypedState

from BrainGenLib.browser.archives import write_bids_zip, write_mrb
from BrainGenLib.browser.logic.views import ViewsLogic
from BrainGenLib.browser.state import RunState, UploadState
from BrainGenLib.browser.uploading import KINDS, MAX_BYTES, Received, receive
from BrainGenLib.errors import BadInput
from BrainGenLib.scene.case_to_scene import CaseNodes
from BrainGenLib.scene.cases import case_of
from BrainGenLib.scene.segmentation import add_segmentation
from BrainGenLib.scene.showing import bounds_of
from BrainGenLib.scene.volumes import add_volume

_CHUNK = 1 << 20
_TOO_LARGE = f"The files are larger than {MAX_BYTES / 1e9:g} GB together; send fewer."


class TransfersLogic:
    def __init__(self, server: Any, scene: Any, views: ViewsLogic) -> None:
        self._server, self._scene, self._views = server, scene, views
        self._typed: TypedState[UploadState] = TypedState(server.state, UploadState)
        self._run: TypedState[RunState] = TypedState(server.state, RunState)

    def routes(self) -> list[web.RouteDef]:
        """For aiohttp."""
        return [web.post("/upload", self.upload), web.get("/download", self.download)]

    async def upload(self, request: web.Request) -> web.Response:
        """Put sent files into the scene; answers with what became of them as JSON."""
        kind = request.query.get("kind", KINDS[0])
        self._typed.set_dataclass(UploadState(busy=True))
        self._server.state.flush()
        try:
            if kind not in KINDS:
                raise BadInput(f"kind must be one of {', '.join(KINDS)}.")
            with tempfile.TemporaryDirectory(prefix="braingen-upload-") as folder:
                await _save(request, Path(folder))
                received = await asyncio.to_thread(receive, Path(folder), kind)
            names = [self._add(item) for item in received]
            self._typed.set_dataclass(UploadState(message=f"Added {', '.join(names)}."))
            return web.json_response({"added": names})
        except BadInput as error:
            self._typed.set_dataclass(UploadState(failure=str(error)))
            return web.json_response({"error": str(error)}, status=400)
        finally:
            self._typed.data.busy = False
            self._server.state.flush()

    async def download(self, request: web.Request) -> web.StreamResponse:
        """The named cases as ``format=bids`` (zip archive) or ``format=mrb`` (one case)."""
        names = request.query.getall("case", [])
        try:
            cases = {name: case_of(self._scene, name) for name in names}
        except KeyError as error:
            raise web.HTTPNotFound(text=f"The scene holds no case {error}.\n") from error
        if not cases:
            raise web.HTTPBadRequest(text="Name a case.\n")
        with tempfile.TemporaryDirectory(prefix="braingen-download-") as folder:
            try:
                if request.query.get("format") == "mrb":
                    name, case = next(iter(cases.items()))
                    path = Path(folder) / f"{name}.mrb"
                    await write_mrb(case, name, path)
                else:
                    path = Path(folder) / "braingen-bids.zip"
                    await asyncio.to_thread(write_bids_zip, cases, path)
            except BadInput as error:
                self._run.data.failure = str(error)
                self._server.state.flush()
                raise web.HTTPBadRequest(text=f"{error}\n") from error
            disposition = {"Content-Disposition": f'attachment; filename="{path.name}"'}
            response = web.FileResponse(path, headers=disposition)
            # The folder goes when this returns, so the file has to be sent before.
            await response.prepare(request)
            return response

    def _add(self, item: Received) -> str:
        if item.labels:
            node = add_segmentation(self._scene, item.data, item.affine, item.name, None)
            nodes = CaseNodes({}, node, None, None, 0)
        else:
            node = add_volume(self._scene, item.data, item.affine, item.name)
            nodes = CaseNodes({"scan": node}, None, None, None, 0)
        self._views.show(nodes, np.asarray(bounds_of(nodes).mean(1)))
        return node.GetName()


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
        path = folder / Path(part.filename.replace("\\", "/")).name
        number += 1
        if path.exists():
            path = path.with_name(f"{number:05d}-{path.name}")
        with path.open("wb") as file:
            while chunk := await part.read_chunk(_CHUNK):
                size += len(chunk)
                if size > MAX_BYTES:
                    raise BadInput(_TOO_LARGE)
                file.write(chunk)
    if not number:
        raise BadInput("No files were sent.")
