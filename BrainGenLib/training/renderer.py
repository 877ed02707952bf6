"""Train the renderer and its style encoder (brainSPADE stage 2).

Reconstruction and texture energy from the first step, a critic once the picture stands. The style code comes from
slices other than the patch, often of another subject, and a tenth of all pictures have random contrast, so that the
look is taken from the reference and not from the contrast's name.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from BrainGenLib import anatomy, bundles
from BrainGenLib.networks.spade_renderer import SpadeRenderer, mixture
from BrainGenLib.networks.style_encoder import StyleEncoder
from BrainGenLib.training import painted_lesions
from BrainGenLib.training.acquisition import acquire
from BrainGenLib.training.adversary import (
    TOO_EASY,
    SliceCritic,
    critic_loss,
    draw_slices,
    feature_matching,
    take_slices,
)
from BrainGenLib.training.cache import Cache
from BrainGenLib.training.renderer_export import export
from BrainGenLib.training.renderer_patches import (
    ANY,
    CLASSES,
    CONTRASTS,
    LESIONS,
    RendererPatches,
    Scan,
    doubled,
    refine_labels,
    scans,
    style_positions,
    tissue_of,
)
from BrainGenLib.training.resemblance import resemblance
from BrainGenLib.training.run import Run, autocast, begun_with, pick_device, size_for

__all__ = ["export", "train"]

MARGIN = 2  # voxels at a patch's border that no loss looks at: they miss their neighbourhood
# Balanced by the gradients that reach the trunk: with more, the critic drowns what L1 says of anatomy.
L1, TEXTURE, ADVERSARIAL, FEATURES, KL, SAME_STYLE = 20.0, 10.0, 0.1, 2.0, 1e-3, 0.5


@dataclass(frozen=True)
class Preset:
    """Sizes that a device can carry. ``critic_from`` is the share of the steps after which the critic joins."""

    batch: int
    side: int
    steps: int
    workers: int
    slices: int
    critic_from: float
    rate: float
    decay: float


PRESETS = {
    "cpu": Preset(batch=2, side=48, steps=1500, workers=0, slices=6, critic_from=0.2, rate=1e-3, decay=0.99),
    "gpu": Preset(batch=16, side=64, steps=9000, workers=7, slices=6, critic_from=0.1, rate=1e-3, decay=0.999),
}


def train(
    cache: Path,
    out: Path,
    *,
    device: str = "auto",
    minutes: float | None = None,
    steps: int | None = None,
    start: str | None = None,
) -> Path:
    """Train or resume a run; returns its folder.

    Args:
        cache: of ``braingen prepare``.
        out: run folder.
        start: bundle whose renderer and style encoder a new run begins with; None for new ones.
        minutes: wall-clock budget of this call.
        steps: length of the run, over which the learning rate falls; None for the recipe's.
    """
    where = pick_device(device)
    sizes = PRESETS[size_for(where)]
    total = steps or sizes.steps
    data = Cache(cache)
    training, validation = scans(data)

    renderer = SpadeRenderer(classes=CLASSES, contrasts=len(CONTRASTS) + 1)
    encoder = StyleEncoder(style=renderer.style)
    begun = None if start is None else bundles.find(start)
    begun_with(out, {"start": None if begun is None else f"{begun.name} {begun.sha256[:12]}"})
    if begun is not None:
        renderer.load_state_dict(begun.load("renderer", "cpu").state_dict())
        encoder.load_state_dict(begun.load("style_encoder", "cpu").state_dict())
    elif not (out / "state.pt").is_file():
        start_from(renderer, data, training)
    renderer, encoder = renderer.to(where), encoder.to(where)
    critic = SliceCritic(CLASSES, len(CONTRASTS) + 1).to(where)
    makers = [*renderer.parameters(), *encoder.parameters()]
    optimizers: dict[str, torch.optim.Optimizer] = {
        "makers": torch.optim.Adam(makers, sizes.rate, betas=(0.5, 0.99)),
        "critic": torch.optim.Adam(critic.parameters(), 4e-4, betas=(0.0, 0.99)),
    }
    run = Run(
        out,
        {"renderer": renderer, "style_encoder": encoder, "critic": critic},
        optimizers,
        averaged=("renderer", "style_encoder"),
        decay=sizes.decay,
        minutes=minutes,
    )
    patches = RendererPatches(data, training, sizes.side, seed=1 + run.step)
    if sizes.workers:
        patches.load()
    batches = iter(DataLoader(patches, sizes.batch, num_workers=sizes.workers, pin_memory=where.type == "cuda"))
    random = torch.Generator().manual_seed(run.step)
    checks = []
    if validation:
        checks = list(islice(DataLoader(RendererPatches(data, validation, sizes.side, 2, plain=True), 4), 4))
    accuracy = 0.5
    for step in run.steps(total):
        done = run.progress(total)
        rate = learning_rate(done, sizes.rate)
        for group in optimizers["makers"].param_groups:
            group["lr"] = rate
        critical = done >= sizes.critic_from
        drawn = next(batches)
        batch = {name: value.to(where, non_blocking=True) for name, value in drawn.items()}
        with autocast(where):
            fake, style_terms = imitate(renderer, encoder, batch)
        fake, real, classes = (inner(x) for x in (fake.float(), batch["image"], batch["classes"]))
        terms = resemblance(fake, real, batch["voxel"], batch["coarse"], fine_weight=0.3 if critical else 1.0)
        loss = L1 * terms["l1"] + TEXTURE * terms["texture"]
        loss = loss + KL * style_terms["kl"] + SAME_STYLE * style_terms["same_style"]
        curves: dict[str, float | Tensor] = {name: term.detach() for name, term in (terms | style_terms).items()}
        if critical:
            usable = drawn["exact"] & (drawn["contrast"] != ANY)
            chosen = draw_slices(drawn["voxel"], usable, real.shape[-1], sizes.slices, random)
            if chosen:
                real_slices, fake_slices = (take_slices(x[:, 0], chosen)[:, None] for x in (real, fake))
                label_slices = take_slices(classes, chosen)
                contrast = batch["contrast"][[sample for sample, _, _ in chosen]]
                with autocast(where):
                    judged = critic(fake_slices.detach(), label_slices, contrast)
                    against, now = critic_loss(critic(real_slices, label_slices, contrast)[-1], judged[-1])
                accuracy = 0.9 * accuracy + 0.1 * now
                if accuracy < TOO_EASY:
                    optimizers["critic"].zero_grad(set_to_none=True)
                    against.backward()
                    optimizers["critic"].step()
                critic.requires_grad_(False)
                with autocast(where):
                    judged = critic(fake_slices, label_slices, contrast)
                    with torch.no_grad():
                        wanted = critic(real_slices, label_slices, contrast)
                    features = feature_matching(wanted, judged)
                critic.requires_grad_(True)
                loss = loss + FEATURES * features - ADVERSARIAL * judged[-1].float().mean()
                curves |= {"critic_accuracy": accuracy, "features": features.detach()}
        optimizers["makers"].zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(makers, 1.0)
        optimizers["makers"].step()
        run.update_averages()
        run.log(50, **curves)
        if checks and (step + 1) % 250 == 0:
            run.record(held_out_l1=held_out(run, checks, where))
        if (step + 1) % 500 == 0:
            show(run, data, training, validation, where)
    show(run, data, training, validation, where)
    return out


def show(run: Run, data: Cache, training: list[Scan], validation: list[Scan], device: torch.device) -> None:
    """Write a sample mosaic, and the styles of the training scans for the bundle."""
    run.picture("real-rendered", mosaic(run, data, [*validation, *training], device))
    looks = {name: style_spread(codes) for name, codes in style_codes(run, data, training, device).items()}
    (run.folder / "styles.json").write_text(json.dumps(looks), "utf-8")


def learning_rate(progress: float, peak: float) -> float:
    """A short warm-up, then a cosine down to a tenth."""
    return peak * min(1.0, progress * 100 + 0.02) * (0.55 + 0.45 * float(np.cos(np.pi * progress)))


def start_from(renderer: SpadeRenderer, data: Cache, training: list[Scan]) -> None:
    """Set brightness and gains of every class to what a regression on the soft tissue of training scans gives.

    Classes that no scan shows, and lesions, which the soft tissue map leaves out, have no gains.
    """
    seen: list[list[np.ndarray]] = [[] for _ in range(CLASSES)]
    gain = np.zeros((len(CONTRASTS) + 1, CLASSES, 2), np.float32)
    for row, contrast in enumerate(CONTRASTS):
        moment, gram = np.zeros((CLASSES, 2)), np.tile(20 * np.eye(2), (CLASSES, 1, 1))  # little seen, little gain
        for scan in few(training, contrast):
            image, labels = data.image(scan.case, contrast) / np.float32(255), data.labels(scan.case)
            shares = mixture(torch.from_numpy(tissue_of(data, scan.case).astype(np.float32))).numpy()
            for index in set(np.unique(labels).tolist()) - {0, *LESIONS}:
                here = labels == index
                x, y = shares[here] - shares[here].mean(0), image[here] - image[here].mean()
                moment[index] += x.T @ y
                gram[index] += x.T @ x
                seen[index].append(shares[here])
        gain[row] = np.linalg.solve(gram, moment[..., None])[..., 0]
    renderer.signal.weight.data.copy_(torch.from_numpy(typical_signals(data, training)))
    renderer.gain.weight.data.copy_(torch.from_numpy(gain.reshape(len(gain), -1)))
    for index, values in enumerate(seen):
        if values:
            renderer.typical[index] = torch.from_numpy(np.concatenate(values).mean(0))


def few(training: list[Scan], contrast: str) -> list[Scan]:
    """Up to about twelve scans of a contrast, spread over all."""
    found = [scan for scan in training if scan.contrast == contrast]
    return found[:: max(len(found) // 12, 1)]


def typical_signals(data: Cache, training: list[Scan]) -> np.ndarray:
    """Starting brightness per contrast and class, (contrasts + 1, classes) float32.

    The median over up to twelve scans of a class's mean, the same for left and right; where no scan of a contrast
    shows a structure (no PDw scan here has a cerebellum), the mean of its tissue; where none shows a lesion, what
    textbooks say; half for 'any'.
    """
    table = np.full((len(CONTRASTS) + 1, CLASSES), 0.5, np.float32)
    for row, contrast in enumerate(CONTRASTS):
        means, tissues = [], []
        for scan in few(training, contrast):
            labels, image = data.labels(scan.case).ravel(), data.image(scan.case, contrast).ravel() / 255.0
            count = np.bincount(labels, minlength=CLASSES)
            with np.errstate(invalid="ignore"):
                means.append(np.bincount(labels, image, minlength=CLASSES) / np.where(count > 20, count, np.nan))
            tissues.append(painted_lesions.tissue_means(labels, image))
        if not means:
            continue
        stacked = np.stack(means)
        known = np.logical_not(np.isnan(stacked).all(axis=0))
        table[row, known] = np.nanmedian(stacked[:, known], 0)
        for name, label in anatomy.lesions().items():
            if not known[label.index]:
                table[row, label.index] = painted_lesions.signal(contrast, name, np.mean(tissues, 0))
        for label in anatomy.labels():
            tissue = "wm" if label.tissue == "brainstem" else label.tissue
            alike = [index for index in anatomy.classes_of(tissue=tissue, kind="structure") if known[index]]
            if label.kind == "structure" and not known[label.index] and alike:
                table[row, label.index] = table[row, alike].mean()
    table[:, 0] = 0
    return (table + table[:, list(anatomy.mirrored_classes())]) / 2


def imitate(renderer: nn.Module, encoder: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """Render a batch in the style of its slices; at the scans' resolution, with the style's own loss terms."""
    slices = batch["slices"]
    mu, log_variance = encoder(slices.flatten(0, 1)[:, None])
    mu, log_variance = mu.unflatten(0, slices.shape[:2]), log_variance.unflatten(0, slices.shape[:2])
    style = mu[:, 0] + torch.randn_like(mu[:, 0]) * (0.5 * log_variance[:, 0]).exp()
    fake = renderer(batch["classes"], batch["tissue"], batch["contrast"], style)
    kl = 0.5 * (mu.square() + log_variance.exp() - 1 - log_variance).sum(-1).mean()
    same = (mu[:, 0] - mu[:, 1]).square().mean()
    return acquire(fake.float(), batch["voxel"] * ~batch["coarse"][:, None]), {"kl": kl, "same_style": same}


def inner(x: Tensor) -> Tensor:
    """Without the margin of a patch."""
    return x[..., MARGIN:-MARGIN, MARGIN:-MARGIN, MARGIN:-MARGIN]


@torch.no_grad()
def held_out(run: Run, checks: list[dict[str, Tensor]], device: torch.device) -> float:
    """L1 at 2 mm on patches of subjects that are never trained on."""
    total = 0.0
    for batch in checks:
        batch = {name: value.to(device) for name, value in batch.items()}
        fake, _ = imitate(run.average("renderer"), run.average("style_encoder"), batch)
        terms = resemblance(inner(fake), inner(batch["image"]), batch["voxel"], batch["coarse"], 0.0)
        total += float(terms["l1"]) / len(checks)
    return total


@torch.no_grad()
def style_codes(run: Run, data: Cache, training: list[Scan], device: torch.device) -> dict[str, np.ndarray]:
    """Codes (scans, style) of the training scans per contrast, and of all together under 'any'.

    Scans on the 2 mm grid count only where a contrast has fewer than three at 1 mm: they teach no texture.
    """
    encoder = run.average("style_encoder")
    codes: dict[str, np.ndarray] = {}
    for contrast in CONTRASTS:
        found = [scan for scan in training if scan.contrast == contrast]
        fine = [scan for scan in found if scan.fine]
        rows = []
        for scan in fine if len(fine) >= 3 else found:
            positions = style_positions(data.labels(scan.case))[[10, -10]]
            slices = data.image(scan.case, contrast)[:, :, positions].transpose(2, 0, 1)[:, None] / 255
            if not scan.fine:
                slices = slices.repeat(2, 2).repeat(2, 3)
            rows.append(encoder(torch.from_numpy(slices).float().to(device))[0].mean(0).cpu().numpy())
        if rows:
            codes[contrast] = np.stack(rows)
    codes["any"] = np.concatenate(list(codes.values()))
    return codes


def style_spread(codes: np.ndarray) -> dict[str, list]:
    """Mean and up to four principal directions of codes (n, style), each scaled to one standard deviation."""
    mean = codes.mean(0)
    _, deviations, directions = np.linalg.svd(codes - mean, full_matrices=False)
    axes = directions * deviations[:, None] / np.sqrt(max(len(codes) - 1, 1))
    return {"mean": mean.round(4).tolist(), "axes": axes[: min(4, len(codes) - 1)].round(4).tolist()}


@torch.no_grad()
def mosaic(run: Run, data: Cache, candidates: list[Scan], device: torch.device) -> np.ndarray:
    """Real beside rendered, axial and coronal, a row per contrast; held-out 1 mm scans first where there are any.

    With the soft tissue of the real T1w scan: what a generated brain looks like, only the bundle tells.
    """
    renderer, encoder = cast(SpadeRenderer, run.average("renderer")), run.average("style_encoder")
    random = torch.Generator().manual_seed(0)
    rows = []
    for index, contrast in enumerate(CONTRASTS):
        found = sorted([s for s in candidates if s.contrast == contrast], key=lambda s: s.case.spacing)
        if not found:
            continue
        labels, image = data.labels(found[0].case), data.image(found[0].case, contrast)
        tissue = tissue_of(data, found[0].case).astype(np.float32)
        if not found[0].fine:
            tissue = doubled(tissue)
            labels = refine_labels(labels, from_1mm=False)
            image = image.repeat(2, 0).repeat(2, 1).repeat(2, 2)
        positions = style_positions(labels)[[20, -20]]
        slices = torch.from_numpy(image[:, :, positions].transpose(2, 0, 1)[:, None] / 255).float().to(device)
        style = encoder(slices)[0].mean(0, keepdim=True)
        row = []
        for axis, middle in ((2, 80), (1, 112)):
            slab = [slice(None)] * 3
            slab[axis] = slice(middle - 16, middle + 16)
            classes = torch.from_numpy(labels[tuple(slab)]).to(device)[None]
            soft = torch.from_numpy(tissue[tuple(slab)]).to(device)[None, None]
            noise = [field.to(device) for field in renderer.draw_noise(classes.shape, random)]
            fake = renderer(classes, soft, torch.tensor([index], device=device), style, noise)[0, 0].cpu().numpy()
            for volume in (image[tuple(slab)] / 255, fake):
                picture = np.rot90(volume.take(16, axis))
                row.append(np.pad(picture, ((0, 224 - picture.shape[0]), (0, 0))))
        rows.append(np.concatenate(row, 1))
    return np.concatenate(rows, 0)
