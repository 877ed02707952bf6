"""Cases of the scene as one file to download."""

from __future__ import annotations

import asyncio
import multiprocessing
import zipfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from BrainGenLib.case import Case
from BrainGenLib.export.write import write
from BrainGenLib.scene.export import save_scene


def write_bids_zip(cases: dict[str, Case], out: Path) -> None:
    """Write cases by name as a zip archive: a BIDS derivative, segmentations of real scans in folders beside.

    It takes seconds, so call it in a thread.

    Raises:
        BadInput: the disk is full, ….
    """
    folder, made = out.with_suffix(""), out.with_name("cases")
    made.mkdir(parents=True, exist_ok=True)
    for name, case in cases.items():
        case.save(made / name)
    write(folder, [made / name for name in cases])
    # The images in it are compressed already.
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, path.relative_to(folder))


async def write_mrb(case: Case, name: str, out: Path) -> None:
    """Write a case as a scene for Slicer, in a process of its own: MRML would hold up this one.

    Raises:
        BadInput: as :func:`BrainGenLib.scene.export.save_scene`.
    """
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        await asyncio.get_running_loop().run_in_executor(pool, save_scene, case, out, None, name)
