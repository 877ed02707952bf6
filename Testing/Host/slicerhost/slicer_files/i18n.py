"""Translation: the host speaks English."""

from __future__ import annotations

import slicer


def translate(context: str, text: str) -> str:
    return slicer.app.translate(context, text)


def tr(text: str) -> str:
    return translate("", text)
