"""``braingen scene``: a case as a Slicer scene and as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from BrainGenLib.cli.console import Json, emit, guarded
from BrainGenLib.errors import BadInput


def scene(
    case: Annotated[Path, typer.Argument(help="Case folder, job folder, or sub-… folder of a dataset.")],
    out: Annotated[Path, typer.Option(help="Scene to write (.mrb).")],
    screenshot: Annotated[Path | None, typer.Option(help="Picture of the scene to write (.png).")] = None,
    as_json: Json = False,
) -> None:
    """Write a case as a scene that 3D Slicer opens, and a picture of it; needs `pip install 'braingen\\[scene]'`."""
    with guarded(as_json):
        from BrainGenLib.export.bids import check_space, read_case

        files = [path for path in (out, screenshot) if path is not None]
        for path in files:
            if path.exists():
                raise BadInput(f"{path} exists already; choose another name or move it away.")
            check_space(path.parent, 50_000_000)
        found = read_case(case)
        from BrainGenLib.scene.export import save_scene

        save_scene(found, out, screenshot, case.resolve().name)
        emit({"result": [str(path) for path in files]}, "\n".join(map(str, files)), as_json)
