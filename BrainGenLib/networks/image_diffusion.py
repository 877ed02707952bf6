"""Denoiser of image latents: an exact Gaussian model per contrast, corrected by a U-Net.

The idea is that of :mod:`BrainGenLib.networks.label_diffusion`. Here a contrast has its own mean image and its own
modes, because what an older brain adds to a T1w it takes from a T2w. Modes are kept on a grid of half the resolution:
they are smooth, and weights are to stay small. What they leave is a stationary field of a measured spectrum, as in
:mod:`BrainGenLib.networks.soft_tissue`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import torch
from torch import nn
from torch.nn import functional as F

from BrainGenLib.networks.gaussian import BINS, posterior_mean, power_at, wiener
from BrainGenLib.networks.noise_unet import UNet

LOW = 6
"""Frequency bins, of :data:`BINS`, in which modes lie."""


class ImageDenoiser(nn.Module):
    """Predicts v = α·ε - σ·z of standardised image latents.

    Args:
        latent, grid: shape of a latent.
        cells, half_cells: numbers of cells, of the grid and of one of half the resolution, that are not always
            background; the others stay zero.
        contrasts: number of contrasts.
        directions: number of leading conditions that the Gaussian model knows: those with a smooth effect.
        conditions: number of conditions.
        components: modes of the Gaussian model beside those of the conditions.
        unet_channels: of the U-Net's levels.

    Attributes:
        mean: of the latents of a contrast in every cell (contrasts, latent, cells).
        spread: of the latents about it, all contrasts together (latent, cells).
        centre, scale: what makes conditions standard numbers (conditions,).
        modes: (contrasts, directions + components, latent, half cells), of standardised latents.
        spectrum: power of what the modes leave, by frequency (contrasts, latent, BINS): a stationary field.
    """

    index: torch.Tensor
    half_index: torch.Tensor
    mean: torch.Tensor
    spread: torch.Tensor
    centre: torch.Tensor
    scale: torch.Tensor
    modes: torch.Tensor
    spectrum: torch.Tensor

    def __init__(
        self,
        latent: int,
        grid: Sequence[int],
        cells: int,
        half_cells: int,
        contrasts: int,
        directions: int,
        conditions: int,
        components: int = 4,
        unet_channels: Sequence[int] = (32, 32, 48),
    ) -> None:
        super().__init__()
        self.grid, self.directions, self.contrasts = tuple(grid), directions, contrasts
        self.register_buffer("index", torch.arange(cells, dtype=torch.int32))
        self.register_buffer("mean", torch.zeros(contrasts, latent, cells))
        self.register_buffer("spread", torch.ones(latent, cells))
        self.register_buffer("centre", torch.zeros(conditions))
        self.register_buffer("scale", torch.ones(conditions))
        self.register_buffer("half_index", torch.arange(half_cells, dtype=torch.int32))
        self.register_buffer("modes", torch.zeros(contrasts, directions + components, latent, half_cells))
        self.register_buffer("spectrum", torch.ones(contrasts, latent, BINS))
        self.unet = UNet(3 * latent + 1, latent, unet_channels, told=2 * conditions + contrasts)

    def on_grid(self, values: torch.Tensor) -> torch.Tensor:
        """Values of cells (…, cells) on the whole grid (…, R, A, S), 0 elsewhere."""
        return _scatter(values, self.index, self.grid)

    @property
    def inside(self) -> torch.Tensor:
        """1 in the cells that are not always background (1, 1, …)."""
        return self.on_grid(torch.ones_like(self.spread[:1]))[None]

    def standardise(self, code: torch.Tensor, contrast: torch.Tensor) -> torch.Tensor:
        """Codes (N, latent, …) of the autoencoder in standard units, 0 in cells that are always background."""
        cells = code.flatten(2)[..., self.index.long()]
        return self.on_grid((cells - self.mean[contrast]) / self.spread)

    def restore(self, z: torch.Tensor, contrast: torch.Tensor, background: torch.Tensor) -> torch.Tensor:
        """Inverse of :meth:`standardise`; ``background`` (latent, …) is the code of an empty image."""
        cells = z.flatten(2)[..., self.index.long()] * self.spread + self.mean[contrast]
        return torch.where(self.inside > 0, self.on_grid(cells), background)

    def standard(self, conditions: torch.Tensor) -> torch.Tensor:
        """Conditions (N, conditions) as standard numbers."""
        return (conditions - self.centre) / self.scale

    def modes_of(self, contrast: int) -> torch.Tensor:
        """Modes (count, latent · grid) of a contrast at full resolution."""
        return self._modes(torch.tensor([contrast], device=self.modes.device))[0]

    def _modes(self, contrast: torch.Tensor) -> torch.Tensor:
        """Modes (N, count, latent · grid) of contrasts (N,) at full resolution."""
        coarse = _scatter(self.modes[contrast], self.half_index, [n // 2 for n in self.grid])
        fine = F.interpolate(coarse.flatten(0, 1), scale_factor=2.0, mode="trilinear") * self.inside
        return fine.view(*coarse.shape[:2], -1)

    def remainder_of(self, contrast: int) -> torch.Tensor:
        """Variance of what the modes leave (latent · grid), at the low frequencies where modes are."""
        return self._remainder(torch.tensor([contrast], device=self.spectrum.device))[0]

    def _remainder(self, contrast: torch.Tensor) -> torch.Tensor:
        return self.spectrum[contrast, :, 1:LOW].mean(2).repeat_interleave(math.prod(self.grid), 1)

    def gaussian(
        self,
        x: torch.Tensor,
        alpha: torch.Tensor,
        sigma: torch.Tensor,
        contrast: torch.Tensor,
        conditions: torch.Tensor,
        known: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The Gaussian estimate of z, and its standard error by channel (N, latent, 1, 1, 1); arguments as of
        :meth:`forward`.

        First the coefficients of the modes, then what they leave. For the former what is left counts as independent
        numbers of the power that it has at low frequencies, where modes are.
        """
        modes = self._modes(contrast)
        given = self.directions
        mean = F.pad((conditions * known)[:, :given], (0, modes.shape[1] - given))
        variance = F.pad(1 - known[:, :given], (0, modes.shape[1] - given), value=1.0)
        likely = torch.vmap(partial(posterior_mean, only_modes=True))(
            x.flatten(1).float(), alpha, sigma, modes, self._remainder(contrast), mean, variance
        ).view_as(x)
        rest = (x.float() - alpha.view(-1, 1, 1, 1, 1) * likely) * self.inside
        guess, error = wiener(rest, power_at(self.spectrum[contrast], self.grid), alpha, sigma)
        return (likely + guess) * self.inside, error

    def estimate(
        self,
        x: torch.Tensor,
        alpha: torch.Tensor,
        sigma: torch.Tensor,
        contrast: torch.Tensor,
        conditions: torch.Tensor,
        known: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The estimate of z, and the standard error of its Gaussian part; arguments as of :meth:`forward`."""
        with torch.autocast(x.device.type, enabled=False):
            gaussian, error = self.gaussian(x, alpha, sigma, contrast, conditions, known)
        inside = self.inside.to(x.dtype).expand(len(x), -1, -1, -1, -1)
        place = self.on_grid(self.mean[contrast]).to(x.dtype)
        told = torch.cat([conditions * known, known, F.one_hot(contrast, self.contrasts).to(x.dtype)], 1)
        correction = self.unet(torch.cat([x * inside, gaussian, place, inside], 1), sigma, told)
        return (gaussian + error * correction) * inside, error

    def forward(
        self,
        x: torch.Tensor,
        alpha: torch.Tensor,
        sigma: torch.Tensor,
        contrast: torch.Tensor,
        conditions: torch.Tensor,
        known: torch.Tensor,
    ) -> torch.Tensor:
        """The velocity.

        Args:
            x: noised standardised latents (N, latent, …).
            alpha, sigma: coefficients of the noise (N,).
            contrast: number of the contrast (N,).
            conditions: standard numbers (N, conditions).
            known: 1 where a condition is given (N, conditions).
        """
        z, _ = self.estimate(x, alpha, sigma, contrast, conditions, known)
        a, s = (value.view(-1, 1, 1, 1, 1) for value in (alpha, sigma))
        # As in LabelDenoiser: where σ is small the division would amplify rounding.
        return (a * x - z) / s.clamp_min(1e-3) * self.inside


def _scatter(values: torch.Tensor, index: torch.Tensor, grid: Sequence[int]) -> torch.Tensor:
    """Values of cells (…, n) at their places on a grid (…, R, A, S), 0 elsewhere."""
    out = values.new_zeros(*values.shape[:-1], grid[0] * grid[1] * grid[2])
    out[..., index.long()] = values
    return out.unflatten(-1, tuple(grid))
