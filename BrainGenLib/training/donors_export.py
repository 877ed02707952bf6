"""Donors as part of a bundle: of one that is there, or of a copy of brainspade3d under a name of its own."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import torch

from BrainGenLib import bundles
from BrainGenLib.donors import PAD, Donors
from BrainGenLib.errors import BadInput
from BrainGenLib.methods.brain_ldm import volume_conditions
from BrainGenLib.methods.brainspade3d import LEVELS
from BrainGenLib.methods.normative import NormativeModel
from BrainGenLib.participants import SEXES
from BrainGenLib.spaces import GRID_1MM
from BrainGenLib.training import shared_bundle

BASE = "brainspade3d"
HEADING = "## Donors"
LIMIT = "Anatomy is a mosaic of the scans of"
SCANS = "; scans of the donors: "
CARD = """
Closed-form patch diffusion (Kamb and Ganguli, ICML 2025, arXiv 2412.20292, here in 3D, with labels and images
jointly): the denoiser is the posterior mean of a patch given the patches of {count} registered people and their
mirror images. Nothing was trained. **This part of the bundle is people's scans**, at 1 mm in template space: what is
generated is a mosaic of them. It must not be shared as if it were a network; it may go where the scans may go.

**Data** (train split only): {sources}. {ages} {images}

**Volumes** that are asked for, drawn and reported are those of the donors' labels. Against those that the label model
learnt: {levels}.

**Limits.** What no donor has is not generated: rare anatomy, ages beyond the donors', {others}.
"""


def export(run: Path, bundle_folder: Path) -> bundles.Bundle:
    """Write the donors of a run into a bundle; all else in it stays.

    A folder that holds no bundle yet becomes a copy of the installed brainspade3d, named as the folder is.

    Raises:
        FileNotFoundError: the run has no donors yet.
        BadInput: the folder's name is none for a bundle, or it holds one that generates no labels; the run is of an
            earlier build.
    """
    if not (run / "donors.pt").is_file():
        raise FileNotFoundError(f"{run} holds no donors (donors.pt); run `braingen train donors` first.")
    saved = torch.load(run / "donors.pt", map_location="cpu", weights_only=True)
    if "studies" not in saved:
        raise BadInput(
            f"{run} is of an earlier build and lacks the donors' studies; run `braingen train donors` again."
        )
    args = saved["arguments"]
    donors = Donors(**args)
    donors.load_state_dict(saved["state"])
    there = (bundle_folder / "configs" / "metadata.json").is_file()
    metadata = shared_bundle.metadata_of(bundle_folder) if there else _copy_of_base(bundle_folder)
    if "label_diffusion" not in metadata.networks:
        raise BadInput(f"Bundle {metadata.name} generates no labels, so donors are of no use in it; choose another.")
    metadata.networks["donors"] = bundles.Network(target="BrainGenLib.donors.Donors", args=args)
    metadata.donors = len(donors)
    metadata.parameters["among_donors"] = saved["among"]
    _set_levels(metadata, donors, saved["studies"])
    known = [age for age in donors.ages if age is not None]
    ages = f"Ages {min(known):.0f} to {max(known):.0f} years." if known else "Their ages are not known."
    others = [limit for limit in metadata.limits if not limit.startswith(LIMIT)]
    metadata.limits = [
        f"{LIMIT} {len(donors)} people, which this bundle contains: it must not be shared as if it were a network, "
        f"and may go where their scans may go. {ages}",
        *others,
    ]
    sources = "; ".join(saved["sources"])
    metadata.license = metadata.license.partition(SCANS)[0] + SCANS + sources
    section = CARD.format(
        count=len(donors),
        sources=sources,
        ages=ages,
        images=f"Images are {donors.contrast}." if donors.contrast else "There are label maps, and no images.",
        levels=shared_bundle.percentages(metadata.parameters[LEVELS]) or "not known",
        others=f"contrasts other than {donors.contrast}" if donors.contrast else "texture of scans",
    )
    return shared_bundle.save(bundle_folder, metadata, {"donors": donors}, f"{HEADING}\n{section}")


def _set_levels(metadata: bundles.Metadata, donors: Donors, studies: list[str]) -> None:
    """Measure how far the donors' labels lie above those that the networks learnt, and offer volumes on their scale.

    Of a study that the model of age and sex knows, the study's level; else what the donors' volumes have above those
    of their age and sex; nothing where neither is known.
    """
    normative = NormativeModel.of(metadata)
    found = []
    for row, (study, age, sex) in enumerate(zip(studies, donors.ages, donors.sexes, strict=True)):
        if normative is not None and study in normative.studies:
            found.append(normative.studies[study].level)
        elif normative is not None and age is not None and sex in SEXES:
            volumes = volume_conditions(donors.classes[row, ..., PAD:-PAD].numpy(), GRID_1MM.spacing)
            means, _ = normative.at({"age": age, "sex": SEXES[sex]})
            found.append(
                {
                    name: float(np.log(volumes[name]) - mean)
                    for name, mean in zip(normative.curves, means, strict=True)
                }
            )
    levels = {name: round(float(np.mean([one[name] for one in found])), 5) for name in found[0]} if found else {}
    before = metadata.parameters.get(LEVELS, {})
    change = {name: levels.get(name, 0.0) - before.get(name, 0.0) for name in {*levels, *before}}
    metadata.conditions = shared_bundle.at_level(metadata.conditions, change)
    metadata.parameters[LEVELS] = levels


def _copy_of_base(folder: Path) -> bundles.Metadata:
    """Networks and card of brainspade3d without its donors, copied; and its metadata under the folder's name."""
    name = folder.absolute().name
    if not re.fullmatch(bundles.NAME, name):
        raise BadInput(f"{name!r} cannot be the name of a bundle; use small letters, digits, dots and dashes.")
    base = bundles.find(BASE)
    metadata = base.metadata.model_copy(deep=True)
    metadata.networks.pop("donors", None)
    if name != BASE:
        if name in bundles.available():
            raise BadInput(f"There is a bundle {name!r} already; choose another name.")
        metadata.name, metadata.title, metadata.version = name, f"{metadata.title}: {name}", "0.1.0"
    for part in ("LICENSE", "docs/README.md", *(f"models/{one}.safetensors" for one in metadata.networks)):
        (folder / part).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(base.folder / part, folder / part)
    return metadata
