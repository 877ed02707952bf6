"""Denoiser of label latents: an exact Gaussian prior, corrected by a U-Net.

Brains vary mostly along few directions, and the best denoiser of Gaussian data is known in closed form. Trained
diffusion models follow it closely at high noise (Wang & Vastola 2023, arXiv 2311.10892). Here it is built in:
latents are modelled as z = z̄ + Σ_k a_k m_k + r with modes m_k, the first of which belong to the anatomy
conditions (their a_k is the condition itself when it is given), and independent remainders r. MONAI's U-Net,
whose output starts at zero, adds what is not Gaussian: folding, borders, lesions. With 200 cases and minutes of
training this is the difference between noise and a brain.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.nets import DiffusionModelUNet
from torch import nn

from BrainGenLib.networks.gaussian import posterior_mean


class GaussianPrior(nn.Module):
    """E[z | α·z + σ·ε] for z of low-rank-plus-diagonal covariance.

    Args:
        size: numbers in a vector z.
        modes: number of directions; the first ``conditions`` of them are those of the anatomy conditions.
    """

    modes: torch.Tensor
    remainder: torch.Tensor

    def __init__(self, size: int, modes: int, conditions: int) -> None:
        super().__init__()
        self.conditions = conditions
        self.register_buffer("modes", torch.zeros(modes, size))
        self.register_buffer("remainder", torch.ones(size))

    def forward(
        self, x: torch.Tensor, alpha: torch.Tensor, sigma: torch.Tensor, anatomy: torch.Tensor, known: torch.Tensor
    ) -> torch.Tensor:
        """The estimate of z (N, size) from x (N, size), α and σ (N,).

        Args:
            anatomy: standardised anatomy conditions (N, conditions).
            known: 1 where the condition was given, 0 where not (N, conditions).
        """
        count, given = len(self.modes), self.conditions
        estimates = []
        for y, a, s, condition, is_known in zip(x, alpha, sigma, anatomy, known, strict=True):
            # The prior of the coefficients: a given condition is certain, all others are standard normal.
            mean = torch.zeros(count, device=x.device)
            mean[:given] = condition * is_known
            variance = torch.ones(count, device=x.device)
            variance[:given] = 1 - is_known
            estimates.append(posterior_mean(y, a, s, self.modes, self.remainder, mean, variance))
        return torch.stack(estimates)


class LabelDenoiser(nn.Module):
    """Predicts v = α·ε - σ·z of standardised label latents.

    Args:
        anatomy_channels, lesion_channels, grid: shape of a latent, the anatomy's channels first.
        cells: number of cells of the grid that are not always background; the others stay zero.
        pathologies: number of loads; a region map of each is concatenated.
        anatomy: number of anatomy conditions.
        modes: directions of the Gaussian prior.
        unet_channels, res_blocks, attention: of the U-Net.
    """

    index: torch.Tensor
    mean: torch.Tensor
    spread: torch.Tensor
    anatomy_mean: torch.Tensor
    anatomy_spread: torch.Tensor

    def __init__(
        self,
        anatomy_channels: int,
        lesion_channels: int,
        grid: Sequence[int],
        cells: int,
        pathologies: int,
        anatomy: int,
        modes: int = 40,
        unet_channels: Sequence[int] = (32, 48, 64),
        res_blocks: int = 1,
        attention: Sequence[bool] = (False, False, False),
    ) -> None:
        super().__init__()
        channels = anatomy_channels + lesion_channels
        self.anatomy_channels = anatomy_channels
        self.prior = GaussianPrior(anatomy_channels * cells, modes, anatomy)
        self.grid = tuple(grid)
        self.register_buffer("index", torch.arange(cells))
        # What turns latents of the autoencoder, and log-volumes in mL, into standard numbers.
        self.register_buffer("mean", torch.zeros(channels, *grid))
        self.register_buffer("spread", torch.ones(channels, *grid))
        self.register_buffer("anatomy_mean", torch.zeros(anatomy))
        self.register_buffer("anatomy_spread", torch.ones(anatomy))
        self.unet = DiffusionModelUNet(
            spatial_dims=3,
            in_channels=2 * channels + pathologies + 1,
            out_channels=channels,
            num_res_blocks=res_blocks,
            channels=tuple(unet_channels),
            attention_levels=tuple(attention),
            norm_num_groups=16,
            num_head_channels=tuple(unet_channels),
            num_class_embeds=1,
        )
        # MONAI adds an embedding of a class number to that of the time; here it is one of a vector of numbers.
        width = 4 * unet_channels[0]
        self.unet.class_embedding = nn.Sequential(  # type: ignore[assignment]
            nn.Linear(2 * (pathologies + anatomy), width), nn.SiLU(), nn.Linear(width, width)
        )

    def standardise(self, z: torch.Tensor) -> torch.Tensor:
        """Latents of the autoencoder in standard units, 0 in cells that are always background."""
        return (z - self.mean) / self.spread * self.inside

    def restore(self, z: torch.Tensor) -> torch.Tensor:
        """Inverse of :meth:`standardise`."""
        return z * self.inside * self.spread + self.mean

    def smooth(self, z: torch.Tensor) -> torch.Tensor:
        """Standardised latents (N, C, …) with nothing but the modes of the prior in their anatomy.

        What lies beyond them is a gyrus here or there, which the next stages draw better.
        """
        vectors = z[:, : self.anatomy_channels].flatten(2)[..., self.index].flatten(1).float()
        M = self.prior.modes
        # The small term leaves out modes that are zero, of a prior that was fitted to few brains.
        coefficients = torch.linalg.solve(M @ M.T + 1e-6 * torch.eye(len(M), device=M.device), M @ vectors.T)
        return self._with_anatomy(z, (coefficients.T @ M).to(z.dtype))

    def _with_anatomy(self, z: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
        """Latents z whose anatomy is that of vectors (N, size), 0 in cells that are always background."""
        cells = torch.zeros_like(z[:, : self.anatomy_channels]).flatten(2)
        cells[..., self.index] = vectors.view(len(z), self.anatomy_channels, -1)
        return torch.cat([cells.unflatten(2, self.grid), z[:, self.anatomy_channels :]], 1)

    def forward(
        self,
        x: torch.Tensor,
        times: torch.Tensor,
        alpha: torch.Tensor,
        sigma: torch.Tensor,
        conditions: torch.Tensor,
        known: torch.Tensor,
        regions: torch.Tensor,
    ) -> torch.Tensor:
        """The velocity.

        Args:
            x: noised standardised latents (N, C, …).
            times: training times (N,); ``alpha``, ``sigma`` are their coefficients (N,).
            conditions: loads in [0, 1], then standardised anatomy conditions (N, pathologies + anatomy).
            known: 1 where the condition was given (N, pathologies + anatomy).
            regions: where each pathology is allowed, in [0, 1] (N, pathologies, …); all ones is "anywhere".
        """
        given = self.prior.conditions
        a, s = (value.view(-1, 1, 1, 1, 1) for value in (alpha, sigma))
        gaussian = self.gaussian(x, alpha, sigma, conditions[:, -given:], known[:, -given:])
        # Loads span three orders of magnitude; their cube root is the lesion's size in mm, so to speak.
        loads = conditions[:, :-given].clamp_min(0) ** (1 / 3)
        vector = torch.cat([loads, conditions[:, -given:]], 1) * known
        inside = self.inside.to(x.dtype).expand(len(x), -1, -1, -1, -1)
        volumes = torch.cat([x, gaussian, regions, inside], 1)
        labels = torch.cat([vector, known], 1)
        if len(x) == 1 and not torch.is_grad_enabled():
            # PyTorch's convolutions of one small volume take four times as long on a CPU as those of two.
            pair = (2, -1, -1, -1, -1)
            correction = self.unet(volumes.expand(pair), times.expand(2), class_labels=labels.expand(2, -1))[:1]
        else:
            correction = self.unet(volumes, times, class_labels=labels)
        # v of the Gaussian estimate: with z known, ε = (x - α·z)/σ and v = (α·x - z)/σ. Where σ is small the division
        # would amplify rounding; there the estimate is x/α up to O(σ²), so σ is bounded from below.
        velocity = (a * x - gaussian) / s.clamp_min(1e-3)
        return (velocity + correction) * inside

    @property
    def inside(self) -> torch.Tensor:
        """1 in the cells that are not always background (1, 1, …)."""
        mask = torch.zeros(self.grid, device=self.index.device).flatten()
        mask[self.index] = 1
        return mask.view(1, 1, *self.grid)

    def gaussian(
        self, x: torch.Tensor, alpha: torch.Tensor, sigma: torch.Tensor, anatomy: torch.Tensor, known: torch.Tensor
    ) -> torch.Tensor:
        """The Gaussian estimate of z; lesion channels are independent and of unit variance in it."""
        vectors = x[:, : self.anatomy_channels].flatten(2)[..., self.index].flatten(1).float()
        # Solving for the coefficients needs full precision.
        with torch.autocast(x.device.type, enabled=False):
            estimate = self.prior(vectors, alpha, sigma, anatomy, known)
        return self._with_anatomy(alpha.view(-1, 1, 1, 1, 1) * x.float(), estimate).to(x.dtype)
