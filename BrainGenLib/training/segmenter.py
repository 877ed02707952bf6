"""Trains the segmenter in the SynthSeg manner: from label maps alone, images made on the way (``synthesis``).

Real scans of the train split serve only to watch the Dice.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from monai.losses import DiceLoss

from BrainGenLib import anatomy, bundles
from BrainGenLib.methods.segmentation import normalised, predict
from BrainGenLib.networks.label_unet import CELL, PHASES, LabelUNet, phase_of
from BrainGenLib.spaces import GRID_1MM
from BrainGenLib.training import synthesis
from BrainGenLib.training.cache import Cache, CachedCase
from BrainGenLib.training.run import Run, autocast, load_averaged, pick_device, size_for

# White-matter hyperintensities and MS plaques look alike: both are output as the former.
OUTPUTS = tuple(label.index for label in anatomy.labels() if label.condition != "ms")

LESIONS = anatomy.classes_of(kind="lesion")
LESION_WEIGHT = 3.0
# How often each pathology is planted, when one is.
LESION_SHARES = {"wmh": 0.4, "ms": 0.15, "tumour": 0.2, "stroke": 0.25}


@dataclass(frozen=True)
class Preset:
    """What depends on the machine; the network does not.

    Attributes:
        small: crop size in mm of most steps at first: many people and contrasts soon.
        large: crop size of one step in ten at first and half of the steps in the end: more as seen at inference.
        phases: of the eight voxels of each 2×2×2 block, how many the loss looks at.
        rate: highest learning rate.
    """

    steps: int
    batch: int
    small: tuple[int, int, int]
    large: tuple[int, int, int]
    phases: int
    rate: float
    decay: float


PRESETS = {
    "cpu": Preset(4000, 1, (64, 96, 64), (96, 128, 96), phases=2, rate=3e-3, decay=0.995),
    "gpu": Preset(8000, 4, (128, 160, 128), (160, 224, 160), phases=2, rate=3e-3, decay=0.999),
}


class Sources:
    """Draws label maps and lesions of the train split, as often whole heads as brains, on GRID_1MM."""

    def __init__(self, cache: Cache, device: torch.device) -> None:
        self.cache = cache
        self.device = device
        self.heads = cache.select(split="train", space="head", labelled=True)
        self.brains = cache.select(split="train", space="template", labelled=True)
        if not self.heads and not self.brains:
            raise ValueError(f"{cache.folder} has no label maps in its train split; the segmenter needs them.")
        self.lesions = {
            name: cache.select(split="train", space="lesion", pathology=name)
            + cache.select(split="train", space="template", labelled=True, pathology=name)
            for name in LESION_SHARES
        }
        self._kept: dict[str, torch.Tensor] = {}

    def anatomy(self, draw: synthesis.Draw) -> torch.Tensor:
        """A label map (R, A, S), uint8."""
        cases = self.heads if self.heads and (not self.brains or draw.chance(0.5)) else self.brains
        case = cases[draw.scalars.integers(len(cases))]
        if case.id not in self._kept:
            labels = torch.from_numpy(self.cache.labels(case)).to(self.device)
            # Making 1 mm maps of 2 mm ones takes a second: once is enough.
            self._kept[case.id] = synthesis.refine(labels) if case.spacing == 2 else labels
        return self._kept[case.id]

    def lesion(self, draw: synthesis.Draw) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None:
        """A lesion with the scale and shift from voxels of GRID_1MM to its own, or None if there is none."""
        names = [name for name, cases in self.lesions.items() if cases]
        if not names:
            return None
        shares = np.array([LESION_SHARES[name] for name in names])
        cases = self.lesions[str(draw.scalars.choice(names, p=shares / shares.sum()))]
        case = cases[draw.scalars.integers(len(cases))]
        mask = torch.from_numpy(self.cache.labels(case)).to(self.device)
        lesion_classes = torch.tensor(anatomy.classes_of(kind="lesion"), device=self.device)
        mask = torch.where(torch.isin(mask, lesion_classes), mask, torch.zeros_like(mask))
        scale = torch.full((3,), 1 / case.spacing, device=self.device)
        moved = torch.tensor(draw.scalars.normal(0, 4, 3), dtype=torch.float32, device=self.device)
        return mask, scale, 0.5 * scale - 0.5 + scale * moved

    def log_prior(self) -> torch.Tensor:
        """Log-probability of every output in cells of 4 mm, the same for mirrored brains, (outputs, R, A, S)."""
        table, mirror = target_table(), torch.tensor([OUTPUTS.index(i) for i in mirrored_outputs()])
        # Some teachers left the cerebellum out.
        whole = [case for case in self.brains if case.quality.get("structures", 1.0) > 0.95] or self.brains
        total = torch.zeros(len(OUTPUTS), *[n // CELL for n in GRID_1MM.shape])
        for case in whole or self.heads:
            outputs = table[torch.from_numpy(self.cache.labels(case)).long()]
            for index in torch.unique(outputs).tolist():
                total[index] += F.avg_pool3d((outputs == index)[None].float(), CELL // case.spacing)[0]
        total = total + total[mirror].flip(1)
        # What was never seen at a place is unlikely there, not impossible; and no registration is exact.
        share = F.avg_pool3d(F.pad(total, [1] * 6, mode="replicate"), 3, 1) + 0.01 * total.sum(0).max()
        return (share / share.sum(0)).log().to(self.device)


def mirrored_outputs() -> list[int]:
    """The class of the other side for every output."""
    mirrored = anatomy.mirrored_classes()
    return [mirrored[index] for index in OUTPUTS]


def target_table() -> torch.Tensor:
    """Class value to network output (256,): lesions merged, extra-cerebral tissue to background."""
    table = torch.zeros(256, dtype=torch.long)
    for output, index in enumerate(OUTPUTS):
        table[index] = output
    lesions = anatomy.lesions()
    table[lesions["ms"].index] = table[lesions["wmh"].index]
    return table


def sample(
    sources: Sources, shape: tuple[int, int, int], draw: synthesis.Draw, variety: float = 1
) -> tuple[torch.Tensor, torch.Tensor, list[int]]:
    """An image (R, A, S) in [0, 1], its classes, and its corner in GRID_1MM.

    Its contrast is T1w-like or, with chance ``variety``, any.
    """
    source = sources.anatomy(draw)
    corner = [
        CELL * int(draw.scalars.integers((n - m) // CELL + 1)) for n, m in zip(source.shape, shape, strict=True)
    ]
    centre = [start + (n - 1) / 2 for start, n in zip(corner, shape, strict=True)]
    lesion = sources.lesion(draw) if draw.chance(0.4) else None
    labels = synthesis.draw_labels(source, shape, centre, draw, lesion=lesion)
    contrast: str | None = "T1w"
    if draw.chance(variety):
        contrast = str(draw.scalars.choice(list(synthesis.CONTRASTS))) if draw.chance(0.6) else None
    bare = draw.chance(0.5) or not (source >= synthesis.EXTRA_CEREBRAL).any()
    image = synthesis.paint(labels, draw, contrast)
    if bare:
        brain = synthesis.strip(labels, draw)
        labels = torch.where(brain, labels, torch.zeros_like(labels))
        before = draw.chance(0.3)
        image = synthesis.acquire(image * brain if before else image, draw) * (1 if before else brain)
    else:
        image = synthesis.acquire(image, draw)
    return normalised(image), labels, corner


def train(
    cache: Path,
    out: Path,
    *,
    device: str = "auto",
    minutes: float | None = None,
    steps: int | None = None,
    seed: int = 0,
) -> None:
    """Train, or go on training, the segmenter.

    Args:
        cache: training cache.
        out: run folder.
        device: ``auto``, ``cpu``, ``cuda``.
        minutes: wall-clock limit of this call; the learning rate falls to zero towards it.
        steps: number of steps in all; the recipe's if None.
        seed: of the generator.
    """
    where = pick_device(device)
    config = PRESETS[size_for(where)]
    total = steps or config.steps
    torch.manual_seed(seed)
    sources = Sources(Cache(cache), where)
    table = target_table().to(where)
    network = LabelUNet(len(OUTPUTS)).to(where)
    if not (out / "state.pt").is_file():
        network.start_from(sources.log_prior())
    optimizer = torch.optim.AdamW(network.parameters(), lr=config.rate, weight_decay=1e-4, betas=(0.9, 0.99))
    run = Run(
        out, {"segmenter": network}, {"adam": optimizer}, averaged=("segmenter",), decay=config.decay, minutes=minutes
    )
    watched = real_scans(sources.cache)
    watched_at = time.monotonic()
    for step in run.steps(total):
        done = run.progress(total)
        rate = config.rate * min((step + 1) / 30, 1) * max(0.5 * (1 + math.cos(math.pi * done)), 0.01)
        optimizer.param_groups[0]["lr"] = rate
        draw = synthesis.Draw(seed * 1_000_003 + step, where)
        large = draw.chance(0.1 + 0.4 * done)
        # Anatomy is learned soonest in one contrast, and carries over to the others.
        variety = min(0.2 + done / 0.4, 1)
        drawn = [sample(sources, config.large if large else config.small, draw, variety) for _ in range(config.batch)]
        phases = draw.scalars.choice(PHASES, config.phases, replace=False).tolist()
        blocks = torch.cat([network.blocks(x[None, None], corner) for x, _, corner in drawn])
        with autocast(where):
            scores = torch.cat(network.phase_scores(network.features_of(blocks), phases))
        classes = torch.stack([table[labels.long()] for _, labels, _ in drawn])[:, None]
        loss = loss_of(scores.float(), torch.cat([phase_of(classes, phase) for phase in phases]))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        run.update_averages()
        run.log(25, loss=loss.detach(), lr=rate)
        if step % 200 == 0:
            run.picture("synthetic", mosaic(drawn[0][0].cpu().numpy(), drawn[0][1].cpu().numpy()))
        if time.monotonic() - watched_at > 1200:
            validate(run, watched, where)
            watched_at = time.monotonic()
    validate(run, watched, where)


def loss_of(scores: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Dice loss of the classes that are there, and cross-entropy; lesions weigh more in both.

    A class that is not there has the worst Dice however little of it is found. Counted, it would teach to find no
    lesion ever, since most brains have none.

    Args:
        scores: (N, outputs, …).
        truth: (N, 1, …), outputs.
    """
    there = torch.unique(truth).long()
    dice = DiceLoss(to_onehot_y=True, softmax=True, batch=True, reduction="none")(scores, truth).flatten()[there]
    weight = torch.tensor([LESION_WEIGHT if index in LESIONS else 1.0 for index in OUTPUTS], device=scores.device)
    shares = weight[there] / weight[there].sum()
    return (dice * shares).sum() + F.cross_entropy(scores, truth[:, 0].long(), weight)


def real_scans(cache: Cache, each: int = 1) -> list[tuple[CachedCase, str, np.ndarray, np.ndarray]]:
    """Labelled train scans as (case, contrast, image, classes) at 1 mm, ``each`` per contrast and grid."""
    chosen = []
    for contrast in ("T1w", "T2w", "FLAIR", "PDw", "T1ce"):
        for spacing in (1, 2):
            cases = cache.select(split="train", space="template", contrast=contrast, labelled=True, spacing=spacing)
            for case in cases[:: max(len(cases) // each, 1)][:each]:
                image = torch.from_numpy(cache.image(case, contrast)).float() / 255
                labels = torch.from_numpy(cache.labels(case))
                if spacing == 2:
                    image = torch.nn.functional.interpolate(image[None, None], scale_factor=2, mode="trilinear")[0, 0]
                    labels = synthesis.refine(labels)
                chosen.append((case, contrast, image.numpy(), labels.numpy()))
    return chosen


def validate(run: Run, scans: list[tuple[CachedCase, str, np.ndarray, np.ndarray]], device: torch.device) -> None:
    """Mean Dice of the averaged network over the structures of real scans, by contrast and grid, with pictures."""
    network = run.average("segmenter").eval()
    assert isinstance(network, LabelUNet)
    table = target_table().numpy()
    scores: dict[str, list[float]] = {}
    rows = []
    for case, contrast, image, classes in scans:
        found = predict(network, normalised(torch.from_numpy(image).to(device))).cpu().numpy()
        scores.setdefault(f"dice_{contrast}_{case.spacing}mm", []).append(mean_dice(found, table[classes]))
        rows.append(mosaic(image, np.array(OUTPUTS, np.uint8)[found], classes))
    if rows:
        run.picture("real", np.concatenate(rows))
        run.record(**{name: float(np.mean(values)) for name, values in scores.items()})


def mean_dice(found: np.ndarray, truth: np.ndarray, structures: int = 33) -> float:
    """Mean Dice over the anatomical structures that the truth has."""
    joint = np.bincount(truth.ravel().astype(np.int64) * 64 + found.ravel(), minlength=64 * 64).reshape(64, 64)
    dice = 2 * np.diag(joint) / np.maximum(joint.sum(0) + joint.sum(1), 1)
    present = joint.sum(1)[1:structures] > 0
    return float(dice[1:structures][present].mean())


def mosaic(image: np.ndarray, *maps: np.ndarray) -> np.ndarray:
    """Three slices of an image, each beside the same slice of class maps in the table's colours; (H, W, 3)."""
    colors = np.full((256, 3), 0.35)
    colors[: len(anatomy.labels())] = [np.array(label.color) / 255 for label in anatomy.labels()]
    size = max(image.shape)
    tiles = []
    for axis, cut in ((2, 0.5), (1, 0.5), (0, 0.46)):
        index = int(image.shape[axis] * cut)
        grey = np.repeat(np.take(image, index, axis)[..., None], 3, -1)
        for tile in (grey, *(colors[np.take(classes, index, axis)] for classes in maps)):
            square = np.zeros((size, size, 3))
            turned = np.rot90(tile)
            square[: turned.shape[0], : turned.shape[1]] = turned
            tiles.append(square)
    return np.concatenate(tiles, 1)


def export(run: Path, bundle_folder: Path) -> bundles.Bundle:
    """Write the averaged network of a run as a bundle; a model card that stands there is kept."""
    network = load_averaged(LabelUNet(len(OUTPUTS)), run, "segmenter")
    steps = torch.load(run / "state.pt", map_location="cpu", weights_only=True)["step"]
    metadata = bundles.Metadata(
        name="segmenter",
        version="0.1.0",
        title="Segmenter for any contrast",
        description="Label map of a brain MRI of any contrast and resolution, with or without skull: 32 structures, "
        "CSF, white-matter lesions, tumour core, oedema, enhancing tumour and stroke.",
        verbs=["segment"],
        contrasts=["any"],
        grid="any; the network works at 1 mm in template space",
        networks={
            "segmenter": bundles.Network(
                target="BrainGenLib.networks.label_unet.LabelUNet", args={"classes": len(OUTPUTS)}
            )
        },
        parameters={"classes": list(OUTPUTS), "steps": steps},
        training_data="Label maps only (train split): SynthSeg whole-head maps; automatic label maps of IXI, "
        "ds002748, NiChart and other scans; lesion masks of open_ms, SOOP, LESYMAP and glioma cases.",
        limits=[
            "Multiple sclerosis lesions are output as white matter hyperintensity: no intensity tells them apart.",
            "Hardly any lesion is found: what the loss had long kept it from needs more training.",
            "Trained on adult brains; children, resections and gross deformity were never seen.",
            "Not a medical device; not for diagnosis.",
        ],
        attribution="Method: SynthSeg (Billot et al., MedIA 2023). Label maps: SynthSeg (Apache-2.0), "
        "IXI (CC BY-SA 3.0), ds002748 (CC0), NiChart demo (SBIA), open_ms (CC BY), SOOP (CC0), LESYMAP (Apache-2.0).",
    )
    card = bundle_folder / "docs" / "README.md"
    text = card.read_text("utf-8") if card.is_file() else f"# {metadata.title}\n\n{metadata.description}\n"
    licence = "Apache-2.0: https://www.apache.org/licenses/LICENSE-2.0\n"
    return bundles.save(bundle_folder, metadata, {"segmenter": network}, text, licence)
