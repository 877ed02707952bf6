"""A renderer run into the bundle ``brainspade3d``, beside whatever the label model's recipe wrote there."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from BrainGenLib import bundles
from BrainGenLib.networks.spade_renderer import SpadeRenderer
from BrainGenLib.networks.style_encoder import StyleEncoder
from BrainGenLib.training import shared_bundle
from BrainGenLib.training.renderer_patches import CONTRASTS
from BrainGenLib.training.run import arguments_of, load_averaged

HEADING = "## Renderer"
CARD = """
A SPADE generator (brainSPADE stage 2, Fernandez 2022) that draws a 1 mm image from a class map, a soft tissue map, a
contrast name and a style code, and the 2D encoder that takes such a code from axial slices of a reference scan.
{parameters:.1f} M parameters; {steps} training steps{begun}. Brightness and gain of every class start from a
regression on real scans; trained with L1 on the 2 and 4 mm pyramid, texture energy, feature matching and a slice
critic that sees labels and contrast.

**Data** (train split only): T1w of IXI (CC BY-SA 3.0), ds002748, NiChart demo, cbica_wmh (amber), open_ms and glioma
cases; FLAIR and T2w of cbica_wmh, open_ms and glioma cases, FLAIR of NiChart; PDw of cbica_wmh only; T1ce of three
patients only.

**Painted, not learned.** Where no real scan shows a pathology in a contrast (every stroke; MS and tumour on PDw;
white matter hyperintensity on T1ce), its look is taught by pasting lesion masks and painting them with the brightness
that textbooks give (`training/painted_lesions.py`): stroke as gliosis with, deeper than 5 mm, a fluid-filled cavity.
The renderer paints one grey between the two; in T1w, T2w, FLAIR and T1ce rim and cavity get levels of their own
(`methods/lesion_texture.py`): gliosis that of real multiple sclerosis. Acute strokes are not shown.

**Limits.** PDw and T1ce rest on a handful of scans and repeat their look. FLAIR, T2w and PDw come mostly from 3 mm
slices, so detail across slices is the network's guess. Vessels, dura and skull are not drawn. Pictures are SYNTHETIC
and not for diagnosis.
"""


def export(run: Path, bundle_folder: Path) -> bundles.Bundle:
    """Write the averaged networks, contrasts and styles of a run; everything else in the bundle stays.

    Raises:
        FileNotFoundError: the run has not come to its first sample yet.
    """
    looks = run / "styles.json"
    if not looks.is_file():
        raise FileNotFoundError(f"{run} holds no styles.json yet; let the training run on to its first samples.")
    renderer = load_averaged(SpadeRenderer(), run, "renderer")
    encoder = load_averaged(StyleEncoder(), run, "style_encoder")
    steps = torch.load(run / "state.pt", map_location="cpu", weights_only=True)["step"]
    metadata = shared_bundle.metadata_of(bundle_folder)
    metadata.verbs = sorted({*metadata.verbs, "render"})
    metadata.contrasts = list(CONTRASTS)
    metadata.parameters["styles"] = json.loads(looks.read_text(encoding="utf-8"))
    prefix = "BrainGenLib.networks."
    metadata.networks["renderer"] = bundles.Network(target=prefix + "spade_renderer.SpadeRenderer")
    metadata.networks["style_encoder"] = bundles.Network(target=prefix + "style_encoder.StyleEncoder")
    parameters = sum(p.numel() for network in (renderer, encoder) for p in network.parameters()) / 1e6
    start = arguments_of(run)["start"]
    begun = "" if start is None else f" that began with the renderer of the bundle {start}"
    section = f"{HEADING}\n{CARD.format(parameters=parameters, steps=steps, begun=begun)}"
    return shared_bundle.save(bundle_folder, metadata, {"renderer": renderer, "style_encoder": encoder}, section)
