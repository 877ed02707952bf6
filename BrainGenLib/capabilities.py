"""What a counterfactual can ask for: a model of images leaves lesions to the bundle that draws them by labels, unless
the request leaves them to the model."""

from __future__ import annotations

from BrainGenLib import bundles
from BrainGenLib.bundles import Condition, Metadata
from BrainGenLib.requests import Counterfactual, Request, Sweep

LABELS = "brainspade3d"
"""The bundle that draws lesions by labels."""


def asked_of(request: Request) -> Metadata:
    """What the bundle of a request says of itself, with the conditions that this request can ask for.

    Raises:
        BadInput: there is no such bundle.
    """
    bundle = bundles.find(request.bundle).metadata
    one = request.of if isinstance(request, Sweep) else request
    if isinstance(one, Counterfactual):
        return changing(bundle, one.lesions == "diffusion", bundles.find(LABELS).metadata)
    return bundle


def changing(bundle: Metadata, left: bool, labels: Metadata | None) -> Metadata:
    """What a bundle says of itself to counterfactuals.

    Args:
        left: lesions are left to the diffusion.
        labels: of the bundle that draws lesions; if there is none, none can be asked for by labels.
    """
    if not bundle.family or left:
        return bundle
    own = [one for one in bundle.conditions if one.kind != "pathology"]
    drawn = [one for one in labels.conditions if one.kind == "pathology"] if labels else []
    return bundle.model_copy(update={"conditions": [*own, *drawn]})


def knowable(bundle: Metadata, left: bool) -> list[Condition]:
    """What may be given of a scan; lesions that are drawn are measured on its labels. ``left`` as above."""
    known = bundle.conditions if bundle.family else []
    return [one for one in known if one.kind != "pathology" or left]
