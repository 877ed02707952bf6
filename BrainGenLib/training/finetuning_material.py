"""A user's scans for fine-tuning: from a BIDS folder or a training cache, brains alone, encoded once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import torch

from BrainGenLib import bundles, morphometry, spaces
from BrainGenLib.errors import BadInput
from BrainGenLib.lesions import VOXEL_ML
from BrainGenLib.methods.brain_ldm import BrainLDM
from BrainGenLib.methods.segmentation import BRAIN_ML, Segmenter, segment_in_template
from BrainGenLib.training.image_diffusion import Examples
from BrainGenLib.training.image_material import (
    ImageMaterial,
    Picture,
    augmented,
    halved,
    loads,
    normalised,
    tensor_of,
)
from BrainGenLib.training.prepare import prepare

VARIED = {"gpu": 1000, "cpu": 200}
"""Varied copies of all scans together to learn from; of many scans at least FEWEST each."""
FEWEST = 4


def scans_of(data: Path, out: Path, bundle: bundles.Metadata, device: str) -> list[Picture]:
    """The scans that a bundle can be fine-tuned on.

    Args:
        data: a training cache, or a BIDS folder, of which one is prepared in ``out/cache``.
        device: of the segmenter, which takes the skull off scans of whole heads.

    Raises:
        BadInput: there are none, none of a contrast that the bundle knows, or of no contrast those of two brains.
    """
    cache = data
    if not (data / "index.json").is_file():
        cache = out / "cache"
        if not (cache / "index.json").is_file():
            try:
                prepare(data, cache)
            except ValueError as error:
                raise BadInput(str(error)) from error
    try:
        every = ImageMaterial(cache).scans
    except ValueError as error:
        raise BadInput(f"{data} holds no scans to learn from (of the split train, in template space).") from error
    scans = [scan for scan in every if scan.contrast in bundle.contrasts]
    if not scans:
        raise BadInput(
            f"The scans of {data} are {_listed(scan.contrast for scan in every)}, which bundle {bundle.name} does "
            f"not know; it knows: {', '.join(bundle.contrasts)}."
        )
    if len(scans) < len(every):
        print(f"Left out {len(every) - len(scans)} scans of contrasts that {bundle.name} does not know.", flush=True)
    if len(brains(scans, commonest(scans))) < 2:
        raise BadInput(
            f"{data} holds scans of one brain; give those of at least two in one contrast, better of five to fifty."
        )
    heads = [i for i, scan in enumerate(scans) if _is_head(scan)]
    if heads:
        segmenter = Segmenter.from_bundle(bundles.find("segmenter"), device)
        for number, i in enumerate(heads, 1):
            scans[i] = stripped(scans[i], segmenter)
            print(f"took the skull off {number} of {len(heads)}", flush=True)
    return scans


def brains(scans: Sequence[Picture], contrast: str) -> set[str]:
    """Whose scans of a contrast there are."""
    return {scan.case for scan in scans if scan.contrast == contrast}


def commonest(scans: Sequence[Picture]) -> str:
    """The contrast with scans of the most brains."""
    return max(sorted({scan.contrast for scan in scans}), key=lambda contrast: len(brains(scans, contrast)))


def _listed(names: object) -> str:
    return ", ".join(sorted(set(names)))  # type: ignore[call-overload]


def _is_head(scan: Picture) -> bool:
    """Whether more is seen than a brain: nobody said where it is, and the scan is not cut out."""
    return scan.classes is None and bool(np.count_nonzero(scan.image) * VOXEL_ML > BRAIN_ML[1])


def stripped(scan: Picture, segmenter: Segmenter) -> Picture:
    """The brain of a whole head in template space, scaled anew.

    Raises:
        BadInput: no brain was found.
    """
    coarse, fine = spaces.GRID_2MM, spaces.GRID_1MM
    volume = spaces.resample(scan.image.astype(np.float32), coarse.affine, fine.shape, fine.affine)
    brain = morphometry.brain_mask(segment_in_template(segmenter, volume))
    inside = halved(255 * brain.astype(np.uint8)) > 127
    if np.count_nonzero(inside) * VOXEL_ML < BRAIN_ML[0]:
        raise BadInput(
            f"No brain was found in the {scan.contrast} of {scan.case}; leave it out, or give a brain mask "
            "(derivatives/…_desc-brain_mask.nii.gz)."
        )
    return replace(scan, image=normalised(torch.from_numpy(np.where(inside, scan.image, 0)).float()))


def conditions_of(scan: Picture, bundle: bundles.Metadata) -> dict[str, float]:
    """Conditions that are known of a scan, with loads as it knows them."""
    maximum = {one.name: one.millilitres for one in bundle.conditions if one.millilitres}
    return loads(scan.conditions, maximum)


@torch.no_grad()
def encoded(
    scans: Sequence[Picture], model: BrainLDM, bundle: bundles.Metadata, size: str, path: Path | None
) -> Examples:
    """Examples of varied scans, on the model's device; kept in ``path``, and read from there if it exists."""
    if path is not None and path.is_file():
        return load(path, model.device)
    rows = []
    for number in range(max(VARIED[size], FEWEST * len(scans))):
        picture = augmented(
            scans[number % len(scans)], np.random.default_rng(number), torch.Generator().manual_seed(number)
        )
        z = model.encode(tensor_of([picture]).to(model.device))
        rows.append(example(z, picture.contrast, conditions_of(picture, bundle), model))
    found = joined(rows)
    if path is not None:
        save(found, path)
    return found


def example(z: torch.Tensor, contrast: str, conditions: dict[str, float], model: BrainLDM) -> Examples:
    """One latent (1, C, …) as the model gives it, as an example about the centre of its contrast."""
    number = model.contrasts.index(contrast)
    standard, known = model.standard(conditions)
    z = (z - model.centres[number]) * model.diffusion.inside
    return Examples(z, torch.tensor([number], device=z.device), standard, known)


def joined(rows: Sequence[Examples]) -> Examples:
    """Examples one after another."""
    return Examples(*(torch.cat([getattr(row, one.name) for row in rows]) for one in fields(Examples)))


def load(path: Path, device: str) -> Examples:
    """Examples that :func:`save` wrote."""
    with np.load(path) as held:
        return Examples(*(torch.from_numpy(held[one.name]).to(device) for one in fields(Examples)))


def save(examples: Examples, path: Path) -> None:
    """Write examples; a file that exists is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = {one.name: getattr(examples, one.name).cpu().numpy() for one in fields(Examples)}
    temporary = path.with_suffix(".part.npz")
    np.savez(temporary, **columns)
    temporary.rename(path)
