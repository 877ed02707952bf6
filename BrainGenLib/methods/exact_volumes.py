"""Brain and ventricles of exactly the volumes that were asked for, in a coarse map of soft labels.

Networks miss the volumes that they are conditioned on, and know those of the labels that they were trained on. The
map is scaled about its middle, as far as brain and ventricles together are to change, and ventricles win or lose
against what surrounds them.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

from BrainGenLib import anatomy
from BrainGenLib.lesions import VOXEL_ML

VENTRICLES = tuple(
    index for name in ("lateral ventricle", "inferior lateral ventricle") for index in anatomy.classes_of(name=name)
)
"""Classes of the lateral ventricles, both sides."""
BRAIN = tuple(
    index for index in anatomy.classes_of(kind="structure") if index not in anatomy.classes_of(tissue="csf")
)
"""Classes of the brain without fluid."""
LEAST = 1e-6
"""Probability below which a voxel can be no ventricle."""
MOST_ODDS, HALVINGS = 8.0, 30


def scale_for(brain: float, ventricles: float, found: float) -> float:
    """By what lengths are to be multiplied so that ``found``, brain and ventricles together, has the volumes asked
    for: ventricles take their room from the brain, so a change of them alone changes the sum by nothing."""
    return ((brain + ventricles) / found) ** (1 / 3)


def with_volumes(log_anatomy: torch.Tensor, brain: float, ventricles: float) -> torch.Tensor:
    """Log-probabilities (S, …) of the structures on GRID_2MM with these volumes, in mL, of brain without fluid and
    lateral ventricles."""
    shares = log_anatomy.softmax(0)
    factor = scale_for(brain, ventricles, float(shares[[*BRAIN, *VENTRICLES]].sum()) * VOXEL_ML)
    _shift(shares, ventricles / factor**3 / VOXEL_ML)
    middle = torch.eye(3, 4)[None] / factor
    places = F.affine_grid(middle, [1, 1, *shares.shape[1:]], align_corners=False)
    # Beyond the map lies background.
    shares[0] -= 1
    for share in shares:
        share.copy_(F.grid_sample(share[None, None], places, align_corners=False)[0, 0])
    shares[0] += 1
    return shares.clamp_min_(torch.finfo(torch.float32).tiny).log_()


def _shift(shares: torch.Tensor, total: float) -> None:
    """Add one number to the log-odds of the ventricles, in place, so that their shares sum to ``total``."""
    members = list(VENTRICLES)
    own = shares[members].sum(0)
    near = (own > LEAST) & (own < 1 - LEAST)
    odds = torch.logit(own[near])
    fixed = float(own[~near].sum())
    low, high = -MOST_ODDS, MOST_ODDS
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if float(torch.sigmoid(odds + middle).sum()) + fixed < total else (low, middle)
    after = torch.sigmoid(odds + low)
    grown, shrunk = torch.ones_like(own), torch.ones_like(own)
    grown[near] = after / own[near]
    shrunk[near] = (1 - after) / (1 - own[near])
    for index, share in enumerate(shares):
        share *= grown if index in members else shrunk
