"""Nodes of the scene as the files of a job, for as long as it takes to start one."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any

from BrainGenLib.errors import BadInput
from BrainGenLib.scene.inputs import write_segmentation, write_volume
from BrainGenLib.scratch import Scratch


class InputFiles:
    """Attributes: ``paths`` maps the names that a request may use to the files."""

    def __init__(self, scene: Any) -> None:
        self._scene = scene
        self._scratch = Scratch("braingen-inputs-")
        self.paths: dict[str, Path] = {}

    def volume(self, node_id: str) -> str:
        """Write a volume; returns its name.

        Raises:
            BadInput: it has left the scene, or as :func:`BrainGenLib.scene.inputs.write_volume`.
        """
        path = self._path("volume")
        write_volume(self._node(node_id), path)
        return path.name

    def segmentation(self, node_id: str) -> str:
        """Write a segmentation as it stands, edits included; returns its name.

        Raises:
            BadInput: as :meth:`volume`.
        """
        path = self._path("segmentation")
        write_segmentation(self._node(node_id), path)
        return path.name

    def __enter__(self) -> InputFiles:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._scratch.close()

    def _path(self, stem: str) -> Path:
        path = self._scratch.folder / f"{stem}.nii"
        self.paths[path.name] = path
        return path

    def _node(self, node_id: str) -> Any:
        node = self._scene.GetNodeByID(node_id)
        if node is None:
            raise BadInput("What was chosen is no longer in the scene; choose again.")
        return node
