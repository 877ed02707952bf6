"""Nodes of the scene as the files of a job, for as long as it takes to start one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from BrainGenLib.errors import BadInput
from BrainGenLib.scene.inputs import path_for, write_segmentation, write_volume
from BrainGenLib.scratch import Scratch


class InputFiles:
    """Attributes: ``paths`` maps the names that a request may use to the files."""

    def __init__(self, scene: Any) -> None:
        self._scene = scene
        self._scratch = Scratch()
        self.paths: dict[str, Path] = {}

    def volume(self, node_id: str) -> str:
        """Write a volume; returns its name.

        Raises:
            BadInput: it has left the scene, or as :func:`BrainGenLib.scene.inputs.write_volume`.
        """
        return self._write("volume", node_id, write_volume)

    def segmentation(self, node_id: str) -> str:
        """Write a segmentation as it stands, edits included; returns its name.

        Raises:
            BadInput: as :meth:`volume`.
        """
        return self._write("segmentation", node_id, write_segmentation)

    def __enter__(self) -> InputFiles:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._scratch.close()

    def _write(self, role: str, node_id: str, write: Callable[[Any, Path], None]) -> str:
        node = self._node(node_id)
        path = path_for(node, self._scratch.folder, role)
        write(node, path)
        self.paths[f"{role}.nii"] = path
        return f"{role}.nii"

    def _node(self, node_id: str) -> Any:
        if not node_id:
            raise BadInput("Nothing is chosen to work on; choose it first.")
        node = self._scene.GetNodeByID(node_id)
        if node is None:
            raise BadInput("What was chosen is no longer in the scene; choose again.")
        return node
