"""Runs of the label model into the bundle ``brainspade3d``, beside whatever the renderer's recipe wrote there."""

from __future__ import annotations

import json
from pathlib import Path

from torch import nn

from BrainGenLib import anatomy, bundles
from BrainGenLib.lesions import PATHOLOGIES
from BrainGenLib.methods.brainspade3d import LEVELS
from BrainGenLib.methods.normative import PERSON
from BrainGenLib.training import shared_bundle

HEADING = "## Label model"
CARD = """
A soft-label autoencoder and a latent diffusion model (brainSPADE3D stage 1, Fernandez 2024) that draw a 2 mm label
map of {structures} structures and {lesions} lesions from loads, volumes and places. {parameters:.1f} M parameters;
autoencoder {coder_steps}, diffusion {diffusion_steps} training steps.

**Data** (train split only): label maps in template space of IXI (CC BY-SA 3.0), ds002748 (CC0), NiChart demo
(SBIA), cbica_wmh (amber), open_ms (CC BY) and glioma cases, nearly all automatic; lesion masks of these, and of
SOOP (CC0) and LESYMAP (Apache-2.0). Real masks used: {masks}.

**Loads.** Training brains carry lesions that were grown from real masks transplanted in template space, so every
load and every pair of pathologies occurs although no patient has them. At sampling the diffusion decides place and
shape, and one constant per pathology added to the log-odds makes the volume the asked one within the asked place
and the tissue that the pathology affects; where that tissue holds less than was asked, less is obtained, and the
case says so.

**Limits.** Anatomies are adult. Tumour parts come from very few
cases. Volumes of `ventricles` and `brain` are in template space, after affine registration: not head-size corrected
otherwise, and not those of a native scan. Of the anatomy only the main modes of the training brains are decoded, so
anatomies keep near the average; gyri come from the donors.
"""


def write(
    bundle_folder: Path, networks: dict[str, nn.Module], args: dict[str, dict], steps: dict[str, int], facts: dict
) -> bundles.Bundle:
    """Write both networks, conditions and parameters; everything else in the bundle stays.

    Args:
        networks, args, steps: of ``label_autoencoder`` and ``label_diffusion``.
        facts: what the diffusion run wrote as ``facts.json``.
    """
    metadata = shared_bundle.metadata_of(bundle_folder)
    metadata.verbs = sorted({*metadata.verbs, "generate", "counterfactual"})
    # Age and sex are those of the recipe of the normative model.
    person = [condition for condition in metadata.conditions if condition.name in PERSON]
    # Volumes are offered on the scale of the donors' labels, if there are donors.
    volumes = shared_bundle.at_level(_anatomy(facts), metadata.parameters.get(LEVELS, {}))
    metadata.conditions = [*_pathologies(facts), *person, *volumes]
    metadata.parameters["anatomy_correlation"] = facts["correlation"]
    targets = {"label_autoencoder": "LabelAutoencoder", "label_diffusion": "LabelDenoiser"}
    for name, target in targets.items():
        metadata.networks[name] = bundles.Network(
            target=f"BrainGenLib.networks.{name}.{target}", args=json.loads(json.dumps(args[name]))
        )
    metadata.training_data = "Public brain MRI and label maps, train split; see docs/README.md."
    metadata.limits = [
        "Adult brains only.",
        "PDw and T1ce rest on a handful of scans.",
        "SYNTHETIC: not for diagnosis.",
    ]
    section = (
        HEADING
        + "\n"
        + CARD.format(
            structures=len(anatomy.classes_of(kind="structure")),
            lesions=len(PATHOLOGIES),
            parameters=sum(p.numel() for network in networks.values() for p in network.parameters()) / 1e6,
            coder_steps=steps["label_autoencoder"],
            diffusion_steps=steps["label_diffusion"],
            masks=", ".join(f"{count} {name}" for name, count in facts["masks"].items()),
        )
    )
    return shared_bundle.save(bundle_folder, metadata, networks, section)


def _pathologies(facts: dict) -> list[bundles.Condition]:
    return [
        bundles.Condition(
            name=name,
            label=anatomy.lesions()[name].name,
            kind="pathology",
            unit="load",
            minimum=0,
            maximum=1,
            default=0,
            marks=facts["marks"][name],
            millilitres=facts["millilitres"][name],
            locatable=True,
            trained_on=f"{facts['masks'][name]} real masks, grown to all loads",
        )
        for name in facts["millilitres"]
    ]


def _anatomy(facts: dict) -> list[bundles.Condition]:
    titles = {"ventricles": "lateral ventricles", "brain": "brain without fluid"}
    return [
        bundles.Condition(
            name=name,
            label=titles[name],
            kind="anatomy",
            unit="mL in template space",
            minimum=values[0],
            maximum=values[-1],
            default=values[2],
            marks=values[1:-1],
            trained_on="augmented label maps of the training split",
        )
        for name, values in facts["anatomy"].items()
    ]
