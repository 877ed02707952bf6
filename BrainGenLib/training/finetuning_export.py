"""A fine-tuned model as a bundle that names its base."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from BrainGenLib import bundles
from BrainGenLib.bundles import Bundle, Condition, FineTuning, Metadata
from BrainGenLib.methods.brain_ldm import BrainLDM
from BrainGenLib.training.image_material import Picture

if TYPE_CHECKING:
    from BrainGenLib.training.finetuning import Chosen

CARD = """# {name}

{base_title} ({base} {version}, SHA-256 `{sha256}`), fine-tuned on {scans} scans of {subjects} brains ({contrasts}) of
its user: scheme {scheme}, {steps} steps, {drift}.

It draws brains such as these for the contrasts of these scans, and takes the conditions of its base. Its autoencoder
and the Gaussian model of each contrast are those of the base. How close its samples come to a scan, and how close
scans come to one another (`nearest`, `nearest_of_scans`), is in `curves.csv` of its run: a model of few scans can
repeat them, so people who may not see the scans should not get the bundle without a look at those.

**Licence.** That of the base; what applies to the scans applies beside it.

**Limits.** Those of the base, and those of few scans: conditions that do not vary in them are as the base knows them.
Not for diagnosis.

---

{base_card}"""


def write(
    place: Path,
    base: Bundle,
    model: BrainLDM,
    scheme: str,
    variant: str,
    chosen: Chosen,
    scans: Sequence[Picture],
    steps: int,
) -> Bundle:
    """Write the bundle: networks and conditions of the base for the contrasts of the scans, and where it is from."""
    old = base.metadata
    contrasts = [name for name in old.contrasts if any(scan.contrast == name for scan in scans)]
    subjects = len({scan.case for scan in scans})
    parameters = {**old.parameters, "drift": list(chosen.delta)}
    # That of the slider is the base's.
    parameters.pop("drift_curve", None)
    if chosen.curve is not None:
        # Over multiples of the automatic δ, so "best" is one of them.
        parameters["drift_search"] = chosen.curve.model_dump(mode="json")
    metadata = old.model_copy(
        update={
            "name": place.name,
            "version": "0.1.0",
            "title": f"{old.title}: {place.name}",
            "description": f"{old.description} Fine-tuned on {len(scans)} scans ({scheme}).",
            "conditions": [kept for one in old.conditions if (kept := _offered(one, contrasts)) is not None],
            "contrasts": contrasts,
            "networks": {name: network.model_copy() for name, network in old.networks.items()},
            "parameters": parameters,
            "training_data": f"{len(scans)} scans of its user, on top of: {old.training_data}",
            "finetuning": FineTuning(
                bundle=base.name,
                version=old.version,
                sha256=base.sha256,
                scheme=scheme,
                drift=list(chosen.delta),
                variant=variant,
                scans=len(scans),
                subjects=subjects,
                steps=steps,
            ),
        }
    )
    drifts = any(chosen.delta)
    card = CARD.format(
        name=place.name,
        base_title=old.title,
        base=base.name,
        version=old.version,
        sha256=base.sha256,
        scans=len(scans),
        subjects=subjects,
        contrasts=", ".join(contrasts),
        scheme=scheme,
        steps=steps,
        drift=f"Latent Drifting ({variant}, δ = {_shown(chosen.delta)})" if drifts else "without drift",
        base_card=(base.folder / "docs" / "README.md").read_text("utf-8"),
    )
    licence = (base.folder / "LICENSE").read_text("utf-8")
    networks: dict[str, nn.Module] = {"autoencoder": model.autoencoder, "diffusion": model.diffusion}
    if model.judge is not None:
        networks["judge"] = model.judge
    return bundles.save(place, Metadata.model_validate(metadata.model_dump()), networks, card, licence)


def _offered(condition: Condition, contrasts: Sequence[str]) -> Condition | None:
    """A condition for what is left of its contrasts; None if nothing is."""
    if not condition.contrasts:
        return condition
    kept = [name for name in condition.contrasts if name in contrasts]
    return condition.model_copy(update={"contrasts": kept}) if kept else None


def _shown(delta: Sequence[float]) -> str:
    return "(" + ", ".join(f"{value:.3g}" for value in delta) + ")"
