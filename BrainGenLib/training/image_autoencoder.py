"""Recipe: autoencoder of brain images at 2 mm, the first stage of the bundle ``brain-ldm``.

It starts as the principal components of 8 mm cells and learns on boxes of real scans and of painted images. The code
gets noise of fixed size in training, which with a penalty on its size is a variational autoencoder of fixed variance:
what the diffusion draws a little wrong still decodes to a brain. Errors count as they are, in their differences
between neighbours, and in the spectrum of a box (Jukebox' spectral loss), without which texture is averaged away.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from monai.losses import JukeboxLoss
from torch.nn import functional as F

from BrainGenLib.networks.image_autoencoder import STRIDE, ImageAutoencoder, cells_of, gradient_distance
from BrainGenLib.training.field_diffusion import slices
from BrainGenLib.training.image_material import ImageMaterial, Picture, augmented, tensor_of
from BrainGenLib.training.run import Run, arguments_of, autocast, begun_with, load_averaged, pick_device, size_for

ARGS: dict[str, dict[str, Any]] = {
    "gpu": {"latent": 8, "width": 40, "deep_width": 64, "place": 4},
    "cpu": {"latent": 8, "width": 24, "deep_width": 48, "place": 4},
}
BOX = {"gpu": 16, "cpu": 10}
"""Side of a training box in cells of 8 mm."""
BATCH = {"gpu": 16, "cpu": 2}
STEPS = {"gpu": 20_000, "cpu": 3000}
DECAY = {"gpu": 0.999, "cpu": 0.998}
RATE = 1e-3
PAINTED = 200
"""Painted images that are kept in memory; a third of the boxes is of them."""
NOISE = 0.1
SMALL = 1e-4
"""Weight of the squared code: ½·code² is the divergence from a standard normal, up to a constant."""
SPECTRAL = 10.0
WATCHED = 6
WATCH_EVERY = 500


def train(
    cache: Path, out: Path, *, device: str = "auto", minutes: float | None = None, steps: int | None = None
) -> None:
    """Train in ``out`` (resumed if it exists) until ``steps`` or ``minutes``."""
    where = pick_device(device)
    size = size_for(where)
    total = steps or STEPS[size]
    material, held_out = ImageMaterial(cache), ImageMaterial(cache, "test").scans
    painted = [material.painted(seed, where) for seed in range(PAINTED)]
    network = ImageAutoencoder(**begun_with(out, ARGS[size]))
    if not (out / "state.pt").is_file():
        some = [*material.scans[::4], *painted[::4]]
        network.start_from(torch.cat([cells_of(tensor_of([picture]))[::7] for picture in some]))
    network.to(where, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=1e-4)
    spectrum = JukeboxLoss(spatial_dims=3)
    run = Run(
        out,
        {"network": network},
        {"network": optimizer},
        averaged=("network",),
        decay=DECAY[size],
        minutes=minutes,
    )
    by_contrast = contrasts(material.scans)
    for step in run.steps(total):
        rng, generator = np.random.default_rng(step), torch.Generator().manual_seed(step)
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1, (step + 1) / 100, 1.02 - run.progress(total))
        drawn = [draw(by_contrast, painted, rng) for _ in range(BATCH[size])]
        boxes, corners = zip(*(box_of(one, BOX[size], rng, generator, where) for one in drawn), strict=True)
        image = torch.stack(boxes)[:, None].to(memory_format=torch.channels_last_3d)
        with autocast(where):
            code = network.encode(image)
            noise = NOISE * torch.randn(code.shape, generator=generator).to(where)
            found = network.decode(code + noise, corners)
        found = found.float()
        error, detail = F.l1_loss(found, image), gradient_distance(found, image)
        loss = error + detail + SPECTRAL * spectrum(found, image) + SMALL * code.float().square().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        run.update_averages()
        run.log(every=100, l1=error.detach(), gradient=detail.detach())
        if (step + 1) % WATCH_EVERY == 0:
            run.record(**look(cast(ImageAutoencoder, run.average("network")), held_out, run, where))


def trained(run: Path) -> ImageAutoencoder:
    """The averaged autoencoder of a run.

    Raises:
        FileNotFoundError: the run has no checkpoint yet.
    """
    return load_averaged(ImageAutoencoder(**arguments_of(run)), run)


def contrasts(scans: list[Picture]) -> dict[str, list[Picture]]:
    """Scans by contrast."""
    found: dict[str, list[Picture]] = {}
    for picture in scans:
        found.setdefault(picture.contrast, []).append(picture)
    return found


def draw(by_contrast: dict[str, list[Picture]], painted: list[Picture], rng: np.random.Generator) -> Picture:
    """A painted image or a scan; rare contrasts come more often than they are, common ones still most often."""
    if rng.random() < 1 / 3:
        return painted[rng.integers(len(painted))]
    weights = np.array([len(scans) for scans in by_contrast.values()]) ** 0.5
    name = list(by_contrast)[rng.choice(len(weights), p=weights / weights.sum())]
    return by_contrast[name][rng.integers(len(by_contrast[name]))]


def box_of(
    picture: Picture, side: int, rng: np.random.Generator, generator: torch.Generator, where: torch.device
) -> tuple[torch.Tensor, list[int]]:
    """A box (R, A, S) of an image about a place in its brain, in [0, 1], and its first cell."""
    if rng.random() < 0.3:
        picture = augmented(picture, rng, generator, where)
    inside = np.argwhere(picture.image[::STRIDE, ::STRIDE, ::STRIDE] > 0)
    limit = np.array(picture.image.shape) // STRIDE - side
    corner = np.clip(inside[rng.integers(len(inside))] - side // 2, 0, limit).tolist()
    r, a, s = (slice(STRIDE * c, STRIDE * (c + side)) for c in corner)
    return torch.from_numpy(picture.image[r, a, s].copy()).to(where).float() / 255, corner


@torch.no_grad()
def look(network: ImageAutoencoder, scans: list[Picture], run: Run, where: torch.device) -> dict[str, float]:
    """Peak signal-to-noise ratio in the brain on held-out scans, of the network and of the linear codec; a mosaic."""
    found: list[float] = []
    linear: list[float] = []
    rows = []
    for index in np.linspace(0, len(scans) - 1, WATCHED).astype(int):
        image = tensor_of([scans[index]]).to(where)
        inside = image > 0
        again = network(image).clamp(0, 1) * inside
        plain = network.linear_decode(network.linear_code(image)).clamp(0, 1) * inside
        for values, to in ((again, found), (plain, linear)):
            to.append(float(-10 * (values - image)[inside].square().mean().log10()))
        rows.append(np.concatenate([slices(volume[0, 0]) for volume in (image, again)], 0))
    run.picture("reconstructions", np.concatenate(rows, 1))
    return {"psnr": float(np.mean(found)), "psnr_linear": float(np.mean(linear))}
