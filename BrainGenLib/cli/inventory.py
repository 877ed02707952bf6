"""``braingen bundles`` and ``braingen info``: what is installed, and on what it would run."""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from BrainGenLib import __version__
from BrainGenLib import bundles as library
from BrainGenLib.cli.console import Json, emit, guarded


def bundles(as_json: Json = False) -> None:
    """List the installed models: what they can do and which conditions they understand."""
    with guarded(as_json):
        table = Table("bundle", "version", "can", "contrasts", "conditions", "MB")
        for bundle in library.available().values():
            bundle.verify()
            data = bundle.metadata
            if as_json:
                emit(data.model_dump() | {"folder": str(bundle.folder), "sha256": bundle.sha256}, "", as_json)
            conditions = ", ".join(f"{item.name} ({item.minimum:g}–{item.maximum:g})" for item in data.conditions)
            megabytes = sum(bundle.weights(name).stat().st_size for name in data.networks) / 1e6
            lists = ", ".join(data.verbs), ", ".join(data.contrasts), conditions
            table.add_row(data.name, data.version, *lists, f"{megabytes:.1f}")
        if not as_json:
            Console().print(table)


def info(
    labels: Annotated[bool, typer.Option("--labels", help="List the label table instead.")] = False,
    as_json: Json = False,
) -> None:
    """Show versions, devices with their memory, and the installed models; or the label table."""
    with guarded(as_json):
        if labels:
            _label_table(as_json)
            return
        from BrainGenLib import devices

        machine: dict[str, Any] = {
            "braingen": __version__,
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "monai", "SimpleITK")},
            "platform": platform.platform(),
            "devices": [vars(device) for device in devices.available()],
            "bundles": {name: str(bundle.folder) for name, bundle in library.available().items()},
        }
        if as_json:
            emit(machine, "", as_json)
            return
        table = Table(show_header=False)
        for name, value in machine.items():
            if name == "devices":
                for device in value:
                    free = f"{device['title']}, {device['free']:.1f} of {device['total']:.1f} GB free"
                    table.add_row(f"device {device['name']}", free)
            elif name == "bundles":
                for bundle, folder in value.items():
                    table.add_row(f"bundle {bundle}", folder)
            else:
                table.add_row(name, value)
        Console().print(table)


def _label_table(as_json: bool) -> None:
    # numpy comes with the table; the other commands need not wait for it.
    from BrainGenLib import anatomy

    table = Table("value", "name", "tissue", "condition", "SNOMED CT")
    for label in anatomy.labels():
        if as_json:
            emit(vars(label), "", as_json)
        table.add_row(str(label.value), label.name, label.tissue, label.condition, label.sct_code)
    if not as_json:
        Console().print(table)
