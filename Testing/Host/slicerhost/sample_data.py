"""The module ``SampleData``: keeps what modules register, downloads nothing."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

sources: list[dict[str, Any]] = []


class SampleDataLogic:
    """Where modules register their sample data."""

    @staticmethod
    def registerCustomSampleDataCategory(category: str, **_display: Any) -> None:
        """Categories are named again by every source."""

    @staticmethod
    def registerCustomSampleDataSource(**source: Any) -> None:
        sources.append(source)


def install() -> None:
    """Make ``import SampleData`` work."""
    module = ModuleType("SampleData")
    module.SampleDataLogic = SampleDataLogic
    sys.modules["SampleData"] = module
