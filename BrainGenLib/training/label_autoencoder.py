"""Recipe: the autoencoder of soft label maps (brainSPADE3D stage 1a).

Loss: cross-entropy on the soft maps (a proper score) and soft Dice for the anatomy; cross-entropy and focal loss for
the lesions; a small KL; decoding from a perturbed code, so that the decoder forgives what a diffusion model leaves
(METHODS.md 1b). A CPU trains on crops, a GPU on whole volumes; the network is the same.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.losses import DiceLoss
from monai.networks.utils import pixelshuffle, pixelunshuffle
from torch import nn

from BrainGenLib import anatomy
from BrainGenLib.lesions import PATHOLOGIES, STRUCTURES
from BrainGenLib.networks.label_autoencoder import LATENT_STRIDE, LabelAutoencoder, Logits
from BrainGenLib.spaces import GRID_2MM
from BrainGenLib.training import label_augmentation as augment
from BrainGenLib.training.label_material import LabelMaterial, deformed, soft_maps
from BrainGenLib.training.pictures import mosaic
from BrainGenLib.training.run import Run, autocast, pick_device, size_for

ARGS: dict[str, Any] = {
    "structures": STRUCTURES,
    "lesions": len(PATHOLOGIES),
    # Of an 8 mm cell: six hold a third of the variance of its tissues, sixteen half (folds are the rest).
    "anatomy_latent": 16,
    "atlas_columns": 40_000,
}
# A GPU sees whole volumes. Two boxes on a CPU: PyTorch's fast convolution wants more than one thread or sample.
BOX = {"gpu": GRID_2MM.shape, "cpu": (40, 48, 40)}
BATCH = {"gpu": 8, "cpu": 2}
# Of the moving average: a CPU makes a few hundred steps.
DECAY = {"gpu": 0.998, "cpu": 0.98}
STRUCTURE_LABELS = anatomy.labels()[:STRUCTURES]
STEPS = 60_000
KL_WEIGHT = 1e-4
LATENT_NOISE = 0.05
BOXES_PER_BRAIN = 4


def start(network: LabelAutoencoder, material: LabelMaterial, brains: int = 150) -> None:
    """Atlas and linear codec from random brains."""
    log_prior = material.log_prior(np.random.default_rng(0), brains)
    network.start_from(log_prior)
    mean = log_prior[:STRUCTURES].exp()
    tissues = [("background",), ("csf",), ("gm",), ("wm",), ("deep_gm", "brainstem")]
    membership = torch.tensor([[float(label.tissue in tissue) for label in STRUCTURE_LABELS] for tissue in tissues])
    mean_tissue = torch.einsum("gs,sxyz->gxyz", membership, mean)
    variation = torch.zeros(64 * len(tissues), 64 * len(tissues))
    rng = np.random.default_rng(1)
    for _ in range(brains // 3):
        structures, _ = material.brain(rng)
        tissue = membership[:, torch.from_numpy(np.ascontiguousarray(structures)).long()]
        cells = pixelunshuffle((tissue - mean_tissue)[None], 3, LATENT_STRIDE)[0].flatten(1)
        variation += cells @ cells.T / (brains // 3) / (mean_tissue[0] < 0.98).sum() * 64
    variance, vectors = torch.linalg.eigh(variation)
    best = (vectors * variance.clamp_min(0).sqrt())[:, -network.anatomy_latent :].flip(1).T
    components = pixelshuffle(best[:, :, None, None, None], 3, LATENT_STRIDE)
    network.start_codes(membership, components, mean)


def loss_of(logits: Logits, soft_anatomy: torch.Tensor, soft_lesion: torch.Tensor) -> dict[str, torch.Tensor]:
    """Terms of the reconstruction loss, to be summed."""
    lesion_log = logits.lesion.log_softmax(1)
    lesion_entropy = -(soft_lesion * lesion_log)
    return {
        "anatomy": -(soft_anatomy * logits.anatomy.log_softmax(1)).sum(1).mean(),
        "dice": 0.3 * DiceLoss(include_background=False, softmax=True, batch=True)(logits.anatomy, soft_anatomy),
        "lesion": lesion_entropy.sum(1).mean(),
        # Focal, γ = 2; lesions are rare, so their voxels weigh more.
        "focal": 5 * (lesion_entropy * (1 - lesion_log.exp()) ** 2)[:, 1:].sum(1).mean(),
    }


def random_corner(box: tuple[int, ...], lesions: np.ndarray, rng: np.random.Generator) -> list[int]:
    """First voxel of a training box, a multiple of the latent stride; half of the boxes are centred on a lesion."""
    free = [n - b for n, b in zip(GRID_2MM.shape, box, strict=True)]
    found = np.argwhere(lesions[::2, ::2, ::2] > 0) * 2 if rng.random() < 0.5 else np.empty((0, 3))
    if len(found):
        centre = found[rng.integers(len(found))] + rng.integers(-8, 9, 3)
    else:
        centre = np.array([n / 2 for n in GRID_2MM.shape]) + rng.uniform(-0.5, 0.5, 3) * free
    return [
        int(np.clip(round((c - b / 2) / LATENT_STRIDE) * LATENT_STRIDE, 0, f))
        for c, b, f in zip(centre, box, free, strict=True)
    ]


def train(
    cache: Path,
    out: Path,
    *,
    device: str = "auto",
    minutes: float | None = None,
    steps: int | None = None,
) -> None:
    """Train in ``out`` (resumed if it exists) until ``steps`` or ``minutes``."""
    where = pick_device(device)
    size = size_for(where)
    box, batch = BOX[size], BATCH[size]
    material, held_out = LabelMaterial(cache), LabelMaterial(cache, split="test")
    network = LabelAutoencoder(**ARGS)
    if not (out / "state.pt").is_file():
        start(network, material)
    network.to(where)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=1e-4, betas=(0.9, 0.98))
    run = Run(
        out, {"network": network}, {"network": optimizer}, averaged=("network",), decay=DECAY[size], minutes=minutes
    )
    first = run.step
    for step in run.steps(steps or STEPS):
        rng = np.random.default_rng(step)
        generator = torch.Generator().manual_seed(step)
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * min(1, (step + 1) / 50) / (1 + step / 4000)
        if step % BOXES_PER_BRAIN == 0 or step == first:
            # Making a brain costs a CPU as much as a step; a few boxes are cut from each.
            structures, lesions = zip(*(material.brain(rng) for _ in range(batch)), strict=True)
        # One box for the batch: position and atlas are cut once.
        corner = random_corner(box, lesions[0], rng)
        points = augment.identity(box, corner).to(where)
        maps = [soft_maps(s, m, deformed(points, generator)) for s, m in zip(structures, lesions, strict=True)]
        soft_anatomy, soft_lesion = (torch.stack(part) for part in zip(*maps, strict=True))
        with autocast(where):
            mean, log_variance = network.encode(soft_anatomy, soft_lesion[:, 1:])
            spread = (log_variance.exp() + LATENT_NOISE**2 * (torch.rand(()) < 0.5)).sqrt()
            logits = network.decode(mean + spread * torch.randn_like(mean), [c // LATENT_STRIDE for c in corner])
        terms = loss_of(Logits(*(part.float() for part in logits)), soft_anatomy, soft_lesion)
        kl = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).float().mean()
        terms["kl"] = KL_WEIGHT * kl
        optimizer.zero_grad(set_to_none=True)
        torch.stack(list(terms.values())).sum().backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        run.update_averages()
        run.log(**{name: float(term.detach()) for name, term in terms.items()})  # type: ignore[arg-type]
        if (step + 1) % 250 == 0:
            run.record(**validate(run.average("network"), held_out, where, run))


@torch.no_grad()
def validate(
    network: nn.Module, material: LabelMaterial, where: torch.device, run: Run, brains: int = 6
) -> dict[str, float]:
    """Reconstruction of held-out anatomies with transplanted lesions: Dice and relative error of lesion volumes."""
    rng = np.random.default_rng(1)
    points = augment.identity().to(where)
    dice, lesion_dice, errors, pictures = [], [], [], []
    for _ in range(brains):
        structures, lesions = material.brain(rng)
        soft_anatomy, soft_lesion = soft_maps(structures, lesions, points)
        mean, _ = network.encode(soft_anatomy[None], soft_lesion[None, 1:])  # type: ignore[operator]
        logits = network.decode(mean)  # type: ignore[operator]
        found, found_lesion = (part[0].argmax(0).cpu().numpy() for part in logits)
        for label in range(1, STRUCTURES):
            total = (structures == label).sum() + (found == label).sum()
            if total:
                dice.append(2 * ((structures == label) & (found == label)).sum() / total)
        for number in np.unique(lesions[lesions > 0]):
            truth, guess = lesions == number, found_lesion == number
            lesion_dice.append(2 * (truth & guess).sum() / (truth.sum() + guess.sum()))
            errors.append(abs(guess.sum() / truth.sum() - 1))
        pictures.append([merge(structures, lesions), merge(found, found_lesion)])
    run.picture("reconstruction", mosaic([volume for pair in pictures[:3] for volume in pair]))
    return {
        "val_dice": float(np.mean(dice)),
        "val_lesion_dice": float(np.mean(lesion_dice)),
        "val_lesion_volume_error": float(np.median(errors)),
    }


def merge(structures: np.ndarray, lesions: np.ndarray) -> np.ndarray:
    """Class map of structures with lesions over them."""
    return np.where(lesions > 0, lesions + STRUCTURES - 1, structures).astype(np.uint8)
