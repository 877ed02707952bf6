"""Files in and out of the scene, through the storage nodes of MRML."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import slicer
from PySide6.QtCore import QObject

_EXTENSIONS = (".nii.gz", ".seg.nrrd", ".nrrd", ".nii", ".mha", ".mhd", ".mrb", ".mrml")


class qSlicerIOManager(QObject):
    """Loads and saves volumes, label maps, segmentations, and scenes."""

    def fileType(self, path: str) -> str:
        suffix = self.extractKnownExtension(path)
        if suffix in (".mrb", ".mrml"):
            return "SceneFile"
        return "SegmentationFile" if suffix == ".seg.nrrd" else "VolumeFile"

    def fileWriterFileType(self, node: Any) -> str:
        return "SegmentationFile" if node.IsA("vtkMRMLSegmentationNode") else "VolumeFile"

    def extractKnownExtension(self, path: str, _node: Any = None) -> str:
        return next((suffix for suffix in _EXTENSIONS if str(path).endswith(suffix)), Path(path).suffix)

    def fileWriterExtensions(self, _node: Any) -> list[str]:
        return [f"{suffix} (*{suffix})" for suffix in _EXTENSIONS]

    def loadNodes(self, file_type: str, properties: dict[str, Any], loaded: Any, _messages: Any = None) -> bool:
        path = properties["fileName"]
        if file_type == "SceneFile":
            return self._load_scene(path, properties)
        kind = "vtkMRMLScalarVolumeNode"
        if file_type == "SegmentationFile":
            kind = "vtkMRMLSegmentationNode"
        elif properties.get("labelmap"):
            kind = "vtkMRMLLabelMapVolumeNode"
        name = properties.get("name") or Path(path).name.removesuffix(self.extractKnownExtension(path))
        node = slicer.mrmlScene.AddNewNodeByClass(kind, slicer.mrmlScene.GenerateUniqueName(name))
        node.AddDefaultStorageNode()
        node.GetStorageNode().SetFileName(path)
        if not Path(path).is_file() or not node.GetStorageNode().ReadData(node):
            slicer.mrmlScene.RemoveNode(node.GetStorageNode())
            slicer.mrmlScene.RemoveNode(node)
            return False
        node.CreateDefaultDisplayNodes()
        loaded.AddItem(node)
        return True

    def saveNodes(self, file_type: str, properties: dict[str, Any], _messages: Any = None) -> bool:
        path = str(properties["fileName"])
        if file_type == "SceneFile":
            if path.endswith(".mrb"):
                return bool(slicer.mrmlScene.WriteToMRB(path, None))
            return bool(slicer.mrmlScene.Commit(path))
        node = slicer.mrmlScene.GetNodeByID(properties["nodeID"])
        if node.GetStorageNode() is None:
            node.AddDefaultStorageNode()
        return self._write(node, node.GetStorageNode(), path)

    def exportNodes(
        self, identifiers: Any, paths: Any, _properties: Any, _harden: bool = False, _messages: Any = None
    ) -> bool:
        """As saving, but the nodes keep the files that they had."""
        nodes = [slicer.mrmlScene.GetNodeByID(identifier) for identifier in identifiers]
        return all(
            self._write(node, node.CreateDefaultStorageNode(), path) for node, path in zip(nodes, paths, strict=True)
        )

    def _write(self, node: Any, storage: Any, path: str) -> bool:
        storage.SetFileName(str(path))
        return bool(storage.WriteData(node))

    def _load_scene(self, path: str, properties: dict[str, Any]) -> bool:
        if slicer.mrmlScene.GetDataIOManager() is None:
            self._remote = slicer.vtkMRMLRemoteIOLogic()
            self._remote.SetMRMLApplicationLogic(slicer.app.applicationLogic())
            self._remote.GetCacheManager().SetRemoteCacheDirectory(slicer.app.temporaryPath)
            self._remote.SetMRMLScene(slicer.mrmlScene)
            self._remote.AddDataIOToScene()
        if path.endswith(".mrb"):
            return bool(slicer.mrmlScene.ReadFromMRB(path, bool(properties.get("clear", True))))
        slicer.mrmlScene.SetURL(path)
        return bool(slicer.mrmlScene.Connect() if properties.get("clear", True) else slicer.mrmlScene.Import())
