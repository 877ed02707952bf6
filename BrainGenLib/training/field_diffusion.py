"""What the recipes of soft tissue and of folds share: the Gaussian model that they start as, training, and checks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, cast

import numpy as np
import torch

from BrainGenLib.diffusion import schedules
from BrainGenLib.networks.gaussian import power_spectrum
from BrainGenLib.networks.soft_tissue import BRAIN, FieldDenoiser, features
from BrainGenLib.training.run import Run, autocast

T = TypeVar("T")
RATE = 3e-3
Pair = tuple[torch.Tensor, torch.Tensor]
"""A field (outputs, …) and its conditions (C, …)."""


def standardised(network: FieldDenoiser, field: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
    """Fields (N, outputs, …) in the units of the diffusion, 0 outside the brain."""
    mean, spread = network.expected(given)
    return (field - mean) / spread * given[:, BRAIN : BRAIN + 1]


def fit_gaussian(network: FieldDenoiser, pairs: Sequence[Pair]) -> None:
    """Set the regressions of mean and spread, and the spectra, to those of whole brains of one shape."""
    network.mean_weights.copy_(_regression(pairs))
    means = [network.expected(given[None])[0][0] for _, given in pairs]
    size = [(field - mean).abs() * (np.pi / 2) ** 0.5 for (field, _), mean in zip(pairs, means, strict=True)]
    network.spread_weights.copy_(_regression([(d, given) for d, (_, given) in zip(size, pairs, strict=True)]))
    fields = [standardised(network, field[None], given[None])[0] for field, given in pairs]
    masks = [(given[BRAIN] > 0).cpu() for _, given in pairs]
    network.spectrum.copy_(power_spectrum([field.cpu() for field in fields], masks))


def _regression(pairs: Sequence[Pair]) -> torch.Tensor:
    """Weights (outputs, features) of the least squares over all voxels of the brains."""
    gram, moment = (torch.zeros((), dtype=torch.float64, device=pairs[0][0].device) for _ in range(2))
    for field, given in pairs:
        inside = given[BRAIN] > 0
        rows = features(given[None])[0][:, inside].double()
        gram, moment = gram + rows @ rows.T, moment + rows @ field[:, inside].double().T
    ridge = 1e-6 * torch.trace(gram) * torch.eye(len(gram), device=gram.device)
    return torch.linalg.solve(gram + ridge, moment).T.float()


def loss_of(
    network: FieldDenoiser, field: torch.Tensor, given: torch.Tensor, generator: torch.Generator
) -> torch.Tensor:
    """Denoising error of a batch, in units of what the Gaussian model would leave, so that no time dominates."""
    schedule, where = schedules.cosine(), field.device
    z = standardised(network, field, given)
    # Where folds go is decided at high noise; a map with little noise is easily cleaned.
    times = (len(schedule) * torch.rand(len(z), generator=generator).sqrt()).long().to(where)
    seed = int(torch.randint(2**31, (), generator=generator))
    noise = torch.randn(z.shape, generator=torch.Generator(where).manual_seed(seed), device=where)
    x, inside = schedule.noised(z, noise, times), given[:, BRAIN : BRAIN + 1]
    with autocast(where):
        estimate, scale = network(x, schedule.alpha.to(where)[times], schedule.sigma.to(where)[times], given)
    error = ((estimate.float() - z) / scale).square().mean(1, keepdim=True) * inside
    return error.sum() / inside.sum().clamp_min(1)


@dataclass(frozen=True)
class Preset:
    """Sizes that a device can carry; ``decay`` is that of the moving average, ``check_every`` in steps."""

    batch: int
    steps: int
    decay: float
    check_every: int


def train_field(
    network: FieldDenoiser,
    pair: Callable[[np.random.Generator, torch.Generator], Pair],
    validate: Callable[[FieldDenoiser, Run], dict[str, float]],
    out: Path,
    preset: Preset,
    *,
    where: torch.device,
    minutes: float | None,
    steps: int | None,
) -> None:
    """Train in ``out`` (resumed if it exists) until ``steps`` or ``minutes``.

    Args:
        network: as it starts; its buffers have been measured if the run is new.
        pair: draws a training example.
        validate: figures of the averaged network, recorded on the way and at the end.
    """
    total = steps or preset.steps
    # A fifth faster on a CPU.
    network.to(where).unet.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(network.unet.parameters(), lr=RATE, weight_decay=1e-4)
    run = Run(
        out, {"network": network}, {"network": optimizer}, averaged=("network",), decay=preset.decay, minutes=minutes
    )
    for step in run.steps(total):
        rng, generator = np.random.default_rng(step), torch.Generator().manual_seed(step)
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1, (step + 1) / 50, 1.02 - run.progress(total))
        pairs = [pair(rng, generator) for _ in range(preset.batch)]
        fields, given = (torch.stack(part) for part in zip(*pairs, strict=True))
        loss = loss_of(network, fields, given, generator)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        run.update_averages()
        run.log(loss=loss.detach())
        if (step + 1) % preset.check_every == 0:
            run.record(**validate(cast(FieldDenoiser, run.average("network")), run))
    if run.step:
        run.record(**validate(cast(FieldDenoiser, run.average("network")), run))


def likeness(
    drawn: torch.Tensor,
    real: torch.Tensor,
    expected: torch.Tensor,
    inside: torch.Tensor,
    cases: Iterable[torch.Tensor],
) -> dict[str, float]:
    """How a drawn field (outputs, …) resembles the real one, and whether it copies a training case.

    ``texture`` is the ratio of mean absolute differences between neighbours (drawn to real), ``nearest`` the highest
    correlation of what was drawn beyond the expectation with that of a case, ``between`` that of the real one.
    """

    def roughness(field: torch.Tensor) -> torch.Tensor:
        return field.diff(dim=1).abs()[:, inside[1:] & inside[:-1]].mean()

    def detail(field: torch.Tensor) -> torch.Tensor:
        return (field - expected)[:, inside].flatten()

    own = torch.stack([detail(drawn), detail(real)])
    near = [torch.corrcoef(torch.cat([own, detail(case)[None]]))[2, :2] for case in cases]
    nearest, between = torch.stack(near).amax(0).tolist()
    return {"texture": float(roughness(drawn) / roughness(real)), "nearest": nearest, "between": between}


def mean_of(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    """Figure by figure."""
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def slices(volume: torch.Tensor) -> np.ndarray:
    """An axial and a coronal slice side by side."""
    values = volume.cpu().numpy()
    flat = [values[:, :, int(values.shape[2] * 0.6)].T[::-1], values[:, values.shape[1] // 2, :].T[::-1]]
    height = max(view.shape[0] for view in flat)
    return np.concatenate([np.pad(view, ((0, height - view.shape[0]), (0, 0))) for view in flat], 1)


def some(material: Sequence[T], count: int) -> list[T]:
    """Up to ``count`` of them, spread over all."""
    return [material[i] for i in np.linspace(0, len(material) - 1, min(len(material), count)).astype(int)]
