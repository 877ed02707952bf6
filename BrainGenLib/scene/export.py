"""A case as a file that Slicer opens, and as a picture of what Slicer then shows."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from BrainGenLib.case import Case
from BrainGenLib.errors import BadInput
from BrainGenLib.scene.bootstrap import headless
from BrainGenLib.scene.case_to_scene import add_case
from BrainGenLib.scene.screenshot import OVERSAMPLING, write_screenshot
from BrainGenLib.scene.sequences import segmentations_of
from BrainGenLib.scene.showing import most_to_see
from BrainGenLib.scene.views import four_up

_VIEW_PIXELS = 512


def save_scene(case: Case, out: Path | None, screenshot: Path | None, name: str = "case") -> None:
    """Write a case as a Slicer scene, as a screenshot, or both; no display is needed.

    Args:
        case: with at least one image or a label map.
        out: ``.mrb`` file, or None.
        screenshot: ``.png`` file, or None.
        name: of the case in the scene, e.g. ``sub-0001``.

    Raises:
        BadInput: slicer-core is missing, a file name has another ending, a folder cannot be written to, the case is
            empty or its affine sheared.
    """
    for path, suffix in ((out, ".mrb"), (screenshot, ".png")):
        if path is not None and path.suffix != suffix:
            raise BadInput(f"{path} must end in {suffix}.")
    if not case.images and case.labels is None and not case.frames:
        raise BadInput("The case holds neither an image nor a label map, so there is nothing to show.")
    stage = headless()
    nodes = add_case(stage.scene, case, name)
    # Of every frame of a film: what it shows takes the place of the surfaces too.
    for segmentation in [nodes.segmentation, *segmentations_of(nodes.film)] if nodes.segmentation is not None else []:
        segmentation.CreateClosedSurfaceRepresentation()
    views = four_up(stage, nodes, most_to_see(case), _VIEW_PIXELS * OVERSAMPLING)
    if out is not None:
        with _replacing(out) as part:
            if not stage.scene.WriteToMRB(str(part), None):
                raise OSError(errno.EIO, os.strerror(errno.EIO))
    if screenshot is not None:
        with _replacing(screenshot) as part:
            write_screenshot(stage, views, part)


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A file of the same name to write to, which takes its place when it is complete."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.stem}-") as folder:
            # MRML's writer works in another folder than ours, where a relative name means nothing.
            part = Path(folder).resolve() / path.name
            yield part
            os.replace(part, path)
    except OSError as error:
        raise BadInput(
            f"{path} cannot be written ({error.strerror}); choose a folder with write access and space."
        ) from error
