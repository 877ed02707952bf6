"""The module ``SampleData``: keeps what modules register, and loads it from this computer."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import slicer

sources: list[dict[str, Any]] = []


class SampleDataLogic:
    """Where modules register their sample data, as in Slicer 5.10."""

    @staticmethod
    def registerCustomSampleDataSource(
        category: str = "Custom",
        sampleName: Any = None,
        uris: Any = None,
        fileNames: Any = None,
        nodeNames: Any = None,
        customDownloader: Any = None,
        thumbnailFileName: str | None = None,
        loadFileTypes: Any = None,
        loadFiles: Any = None,
        loadFileProperties: Any = None,
        checksums: Any = None,
        loadFileType: Any = None,
    ) -> None:
        if loadFileType is not None and loadFileTypes is not None:
            raise ValueError("loadFileType and loadFileTypes cannot be specified at the same time")
        source = {name: value for name, value in locals().items() if value is not None}
        # The same source twice is one.
        if source not in sources:
            sources.append(source)


class NewerSampleDataLogic(SampleDataLogic):
    """The same since Slicer 5.11, where categories have titles."""

    @staticmethod
    def registerCustomSampleDataCategory(category: str, title: str) -> None:
        """Every source names its category again."""


def downloadSample(sampleName: str) -> Any:
    """The node of a source whose file is on this computer, loaded."""
    source = next(source for source in sources if source["sampleName"] == sampleName)
    path = url2pathname(urlsplit(source["uris"]).path)
    load = {"VolumeFile": slicer.util.loadVolume, "SegmentationFile": slicer.util.loadSegmentation}
    return load[source["loadFileTypes"]](path, {"name": source["nodeNames"]})


def install(has_categories: bool) -> None:
    """Make ``import SampleData`` work."""
    module = sys.modules.setdefault("SampleData", ModuleType("SampleData"))
    module.downloadSample = downloadSample
    module.SampleDataLogic = NewerSampleDataLogic if has_categories else SampleDataLogic
