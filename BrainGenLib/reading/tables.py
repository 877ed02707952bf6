"""Tab-separated tables as BIDS has them."""

from __future__ import annotations

import io
from pathlib import Path

from BrainGenLib.errors import BadInput


def read_table(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Columns in lower case, and rows by column; cells without blanks and quotes around them.

    Raises:
        BadInput: the file is no text in UTF-8, or in UTF-16 with its byte order mark.
    """
    data = path.read_bytes()
    try:
        text = data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(
            f"{path} is not text in UTF-8 (row {data[: error.start].count(10) + 1} is in another encoding); "
            "save it again as UTF-8."
        ) from error
    if "\0" in text:
        raise BadInput(f"{path} is not text in UTF-8; save it again as UTF-8.")
    # R quotes every cell, and a comment may hold one quote: BIDS has no quoting.
    lines = [
        [cell.strip().strip('"').strip() for cell in line.split("\t")]
        for line in io.StringIO(text, newline=None)
        if line.strip()
    ]
    columns = [name.lower() for name in lines[0]] if lines else []
    return columns, [dict(zip(columns, cells, strict=False)) for cells in lines[1:]]
