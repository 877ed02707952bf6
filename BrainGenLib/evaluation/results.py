"""What a benchmark script leaves behind: one JSON file, from which the tables in README and docs are made.

Every script builds a :class:`Result`, prints it and saves it; ``benchmarks/report.py`` turns the files into pages, so
that no figure is ever typed by hand.
"""

from __future__ import annotations

import os
import platform
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field


class Table(BaseModel):
    """Rows of text and numbers under ``columns``."""

    title: str
    columns: list[str]
    rows: list[list[str | float | int | None]]

    def markdown(self) -> str:
        """The table in GitHub markdown, numbers right-aligned and shortened to three significant digits."""
        numeric = [
            bool(self.rows) and all(isinstance(row[i], int | float | None) for row in self.rows)
            for i in range(len(self.columns))
        ]
        lines = [self.columns, ["---:" if right else "---" for right in numeric]]
        lines += [[shown(cell) for cell in row] for row in self.rows]
        return "\n".join("| " + " | ".join(line) + " |" for line in lines)


class Headline(BaseModel):
    """One figure for the README. ``met`` is None where no target was set."""

    what: str
    figure: str
    target: str = ""
    met: bool | None = None


class Result(BaseModel):
    """All that a benchmark says. ``notes`` are sentences that a reader needs to judge the tables."""

    name: str
    title: str
    tables: list[Table] = []
    headlines: list[Headline] = []
    notes: list[str] = []
    settings: dict[str, Any] = Field(default={}, description="what would be needed to run it again")
    environment: dict[str, str] = {}
    created: str = ""

    def save(self, path: Path) -> None:
        """Write the JSON file with time and environment added."""
        self.created = datetime.now(timezone.utc).isoformat(timespec="seconds")
        self.environment = environment()
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".part")
        temporary.write_text(self.model_dump_json(indent=1) + "\n", "utf-8")
        os.replace(temporary, path)

    def print(self) -> None:
        """Show tables, headlines and notes on the terminal."""
        import rich
        from rich.table import Table as RichTable

        for table in self.tables:
            view = RichTable(*table.columns, title=table.title)
            for row in table.rows:
                view.add_row(*map(shown, row))
            rich.print(view)
        for headline in self.headlines:
            verdict = {True: ", met", False: ", MISSED", None: ""}[headline.met]
            target = f" (target {headline.target}{verdict})" if headline.target else ""
            rich.print(f"{headline.what}: {headline.figure}{target}")
        for note in self.notes:
            rich.print(note)


def shown(cell: str | float | int | None) -> str:
    """A cell as text: floats with three significant digits, None as a dash."""
    if cell is None:
        return "–"
    if isinstance(cell, float):
        return f"{cell:.0f}" if abs(cell) >= 1000 else f"{cell:.3g}"
    return str(cell)


def environment() -> dict[str, str]:
    """Versions and hardware that the figures depend on."""
    import torch

    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "monai": version("monai"),
        "cores": str(os.cpu_count()),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "system": f"{platform.system()} {platform.machine()}",
    }
