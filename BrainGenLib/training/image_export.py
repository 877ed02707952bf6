"""A run of the image diffusion into the bundle ``brain-ldm``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from BrainGenLib import anatomy, bundles
from BrainGenLib.methods.brain_ldm import PERSON, BrainLDM
from BrainGenLib.networks.image_diffusion import ImageDenoiser
from BrainGenLib.training import age_judge, image_autoencoder, image_diffusion, image_latents
from BrainGenLib.training.drift_curve import slider_curve
from BrainGenLib.training.run import arguments_of, load_averaged
from BrainGenLib.training.sources import CONTRASTS

ENOUGH = {"anatomy": 7, "pathology": 7}
"""Scans of a contrast that must show a condition for it to be offered there."""
WITHIN = 0.25
"""Share of the variance of what a person is that must lie within datasets: else its effect is that of scanners."""
TEMPERATURE = 0.7
"""Share of the noise that images are drawn from, chosen by eye: blotches at 1, the average brain below 0.5."""
TITLES = {
    "age": ("age", "years"),
    "sex": ("sex (0 female, 1 male)", ""),
    "ventricles": ("lateral ventricles", "mL in template space"),
    "brain": ("brain without fluid", "mL in template space"),
}
# Of what was seen: to be rewritten with better weights.
SHORT = (
    "Drawn from noise, images are blurred brains with a mottled cortex, near the average; of scans, age changes the "
    "brightness of the rim of the brain, whose sulci do not move (ventricles do), and lesions hardly change."
)
JUDGE = """, whose age a ridge
regression on the T1w scans at 8 mm judges"""
CARD = """# brain-ldm

Images of brains at 2 mm from contrast, age, sex, volumes and lesion loads: an autoencoder with a latent of 20×28×20
cells of {latent} numbers, and a diffusion of that latent with a Gaussian model of each contrast built in.
{parameters:.1f} M parameters; autoencoder {coder_steps}, diffusion {steps} training steps after {broad_steps} on
painted images alone. It carries Latent Drifting (docs/latent-drifting.md) and counterfactuals of scans{judge}.

**Data** (train split only): {scans} scans of IXI (CC BY-SA 3.0), ds002748 (CC0), NiChart demo (SBIA), cbica_wmh
(amber), open_ms (CC BY) and glioma cases, varied; images painted over their label maps with transplanted lesions.
Painted images taught it lesions and rare contrasts; a condition is offered for a contrast only if at least
{enough} of its scans show it (bold), and one of the person only if it varies within studies: what an age that goes
with the scanner does, as in FLAIR, cannot be separated from what the scanner does.

{table}

Images are drawn from {temperature} of the noise: nearer to the average brain than scans are, with fewer blotches.

**Limits.** {short}
2 mm: what is finer is lost, and short gyri are blurred. PDw and T1ce rest on a handful of scans, ages on T1w.
Conditions go together as they do in these data: an older brain here is mostly one of another study. What it makes of
a scan is what a model expects, not what would happen to a person. Not for diagnosis.
"""


def export(run: Path, bundle_folder: Path) -> bundles.Bundle:
    """Write the averaged networks of a run, its autoencoder and, if its run is there, the judge of age; those of
    ``image-broad`` draw painted images, of which there is none to judge.

    Raises:
        FileNotFoundError: a run has no checkpoint yet.
    """
    state = torch.load(run / "state.pt", map_location="cpu", weights_only=True)
    facts = json.loads((run / "facts.json").read_text(encoding="utf-8"))
    args = arguments_of(run)
    coder_run, broad_run, judge_run = (
        run.parent / name for name in ("image-autoencoder", "image-broad", "age-judge")
    )
    broad = run == broad_run
    autoencoder = image_autoencoder.trained(coder_run)
    diffusion = load_averaged(ImageDenoiser(**args), run)
    networks: dict[str, torch.nn.Module] = {"autoencoder": autoencoder, "diffusion": diffusion}
    described = {
        "autoencoder": bundles.Network(
            target="BrainGenLib.networks.image_autoencoder.ImageAutoencoder", args=arguments_of(coder_run)
        ),
        "diffusion": bundles.Network(target="BrainGenLib.networks.image_diffusion.ImageDenoiser", args=args),
    }
    if not broad and judge_run.is_dir():
        networks["judge"] = age_judge.trained(judge_run)
        described["judge"] = bundles.Network(
            target="BrainGenLib.networks.age_judge.AgeJudge", args=arguments_of(judge_run)
        )
    spread = torch.tensor(facts["channel_spread"])
    model = BrainLDM(autoencoder, diffusion, CONTRASTS, spread, facts["ageing"], "cpu", painted=broad)
    conditions = [condition for name in facts["conditions"] if (condition := _condition(name, facts)) is not None]
    metadata = bundles.Metadata(
        name=bundle_folder.name,
        version="0.1.0",
        title="Brain LDM, painted images alone" if broad else "Brain LDM",
        description="Brain images at 2 mm from age, sex, volumes and loads; counterfactuals of scans.",
        family="brain-ldm",
        verbs=["generate", "counterfactual"],
        conditions=conditions,
        contrasts=[contrast for contrast in CONTRASTS if contrast in facts["contrasts"]],
        networks=described,
        parameters={
            "steps": image_diffusion.SAMPLED,
            "temperature": 1.0 if broad else TEMPERATURE,
            "skull_stripped": True,
            "contrasts": list(CONTRASTS),
            "channel_spread": facts["channel_spread"],
            "ageing": facts["ageing"],
            "painted": broad,
            "drift_curve": _drift_curve(model, run.parent / "image-latents"),
        },
        training_data="Public brain MRI, train split; see docs/README.md.",
        limits=[
            SHORT,
            "2 mm: fine detail is lost.",
            "PDw and T1ce rest on a handful of scans.",
            "SYNTHETIC: what a model expects, not what would happen; not for diagnosis.",
        ],
    )
    card = CARD.format(
        latent=args["latent"],
        parameters=sum(p.numel() for network in networks.values() for p in network.parameters()) / 1e6,
        coder_steps=_steps(coder_run),
        steps=state["step"],
        broad_steps=_steps(broad_run),
        scans=facts["scans"],
        enough=ENOUGH["pathology"],
        table=_table(facts, conditions),
        short=SHORT,
        temperature=metadata.parameters["temperature"],
        judge=JUDGE if "judge" in networks else "",
    )
    licence = "Apache-2.0: https://www.apache.org/licenses/LICENSE-2.0\n"
    return bundles.save(bundle_folder, metadata, networks, card, licence)


def _drift_curve(model: BrainLDM, encoded: Path) -> dict[str, Any]:
    """The slider's curve, against the scans of the most frequent contrast."""
    latents = image_latents.read_latents(encoded)
    numbers = latents.contrast[~latents.painted]
    common = int(np.bincount(numbers).argmax())
    own = ~latents.painted & (latents.contrast == common)
    codes = torch.from_numpy(latents.z[own]).float()
    return slider_curve(model, model.standardised(codes), CONTRASTS[common], image_diffusion.SAMPLED)


def _steps(run: Path) -> int:
    return int(torch.load(run / "state.pt", map_location="cpu", weights_only=True)["step"])


def _condition(name: str, facts: dict[str, Any]) -> bundles.Condition | None:
    """What the data support; None if they support it nowhere."""
    kind = "anatomy" if name in PERSON else "pathology"
    scans, quantiles = facts["conditions"][name]["scans"], facts["conditions"][name]["quantiles"]
    inside = facts["conditions"][name]["within"]
    able = [
        contrast
        for contrast in CONTRASTS
        if scans.get(contrast, 0) >= ENOUGH[kind] and (kind == "pathology" or inside[contrast] >= WITHIN)
    ]
    if not able:
        return None
    count = sum(scans[contrast] for contrast in able)
    if kind == "anatomy":
        label, unit = TITLES[name]
        low, high = (0.0, 1.0) if name == "sex" else (quantiles[0], quantiles[-1])
        return bundles.Condition(
            name=name,
            label=label,
            kind=kind,
            unit=unit,
            minimum=round(low),
            maximum=round(high),
            default=round(quantiles[2]),
            marks=[] if name == "sex" else quantiles[1:-1],
            trained_on=f"{count} scans",
            contrasts=able,
        )
    millilitres = facts["millilitres"][name]
    return bundles.Condition(
        name=name,
        label=anatomy.lesions()[name].name,
        kind=kind,
        unit="load",
        minimum=0,
        maximum=1,
        default=0,
        marks=[min(value / millilitres, 1) for value in quantiles[1:-1]],
        millilitres=millilitres,
        trained_on=f"{count} scans, and painted images at all loads",
        contrasts=able,
    )


def _table(facts: dict[str, Any], conditions: list[bundles.Condition]) -> str:
    rows = ["| condition | " + " | ".join(CONTRASTS) + " |", "|---|" + "---|" * len(CONTRASTS)]
    offered = {condition.name: condition.contrasts for condition in conditions}
    for name, found in facts["conditions"].items():
        cells = []
        for contrast in CONTRASTS:
            count = found["scans"].get(contrast, 0)
            cells.append(f"**{count}**" if contrast in offered.get(name, []) else str(count))
        rows.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(rows)
