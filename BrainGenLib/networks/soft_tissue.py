"""Denoisers of soft tissue: the exact answer for Gaussian fields, corrected by a U-Net.

brainSPADE renders partial volume maps, not hard labels. A soft tissue map tells for every 2 mm voxel how far it is
from fluid (0) over grey (½) to white matter (1): folds, sulci that no voxel fills, and what makes a thalamus differ
from a putamen. Given the labels it is modelled as u = m + a·z with m and a regressed on what the labels say of a
place, and z nearly a Gaussian field of one power spectrum. The denoiser of such a field is a Wiener filter. It is
built in; a U-Net, whose output starts at zero, adds what is not Gaussian: sheets of cortex, blades of white matter.

The U-Net is small and, unlike the other networks here, works on single voxels at its first level: a sheet of one or
two voxels looks the same wherever it lies in a block, which a network on blocks has to learn eight times.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from BrainGenLib.networks.gaussian import BINS, power_at, wiener
from BrainGenLib.networks.noise_unet import UNet

CONDITIONS = 9
"""Signal; blurred shares of fluid, cortex, white matter; blurred brain; brain; other structures; level of the blur;
sharpness."""
BRAIN = 5
MULTIPLE = 8
"""Sides of the input are multiples of this number of voxels."""
LEAST_SPREAD = 0.05


def features(given: torch.Tensor) -> torch.Tensor:
    """What mean and spread of a voxel are linear in (N, FEATURES + 2·extras, …), from conditions (N, C, …)."""
    signal, fluid, cortex, white, rim, _, rest, level, sharp, *extras = given.unbind(1)
    plain = [torch.ones_like(signal), signal, fluid, cortex, white, rim, rest]
    plain += [signal * signal, rim * rim, cortex * white, cortex * fluid, signal * rim, *extras]
    return torch.stack([*plain, *(level * value for value in plain), sharp, sharp * cortex, sharp * signal], 1)


FEATURES = 27


class FieldDenoiser(nn.Module):
    """Estimates standardised fields z from x = α·z + σ·ε.

    Args:
        classes: of the table of typical values, background first.
        channels: of the U-Net's levels.
        outputs: channels of a field.
        extras: conditions beyond :data:`CONDITIONS`.

    Attributes:
        signals: typical value of every structure.
        mean_weights, spread_weights: of the features of a place (outputs, features).
        spectrum: power per frequency bin, 1 on average (outputs, BINS).
    """

    signals: torch.Tensor
    mean_weights: torch.Tensor
    spread_weights: torch.Tensor
    spectrum: torch.Tensor

    def __init__(self, classes: int, channels: Sequence[int], outputs: int, extras: int) -> None:
        super().__init__()
        self.register_buffer("signals", torch.zeros(classes))
        self.register_buffer("mean_weights", torch.zeros(outputs, FEATURES + 2 * extras))
        self.register_buffer("spread_weights", torch.zeros(outputs, FEATURES + 2 * extras))
        self.register_buffer("spectrum", torch.ones(outputs, BINS))
        self.unet = UNet(4 * outputs + CONDITIONS + extras, outputs, channels)

    def expected(self, given: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and spread (N, outputs, …) of the field where conditions (N, CONDITIONS + extras, …) hold."""
        found = features(given)
        # In full precision, as what is drawn is put together with: autocast would round them in training alone.
        with torch.autocast(given.device.type, enabled=False):
            mean = torch.einsum("nfxyz,of->noxyz", found, self.mean_weights)
            spread = torch.einsum("nfxyz,of->noxyz", found, self.spread_weights)
        return mean, spread.clamp_min(LEAST_SPREAD)

    def gaussian(
        self, x: torch.Tensor, alpha: torch.Tensor, sigma: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """E[z | x] if z were a stationary Gaussian field of this spectrum; its standard error (N, outputs, 1…)."""
        return wiener(x, power_at(self.spectrum, x.shape[2:]), alpha, sigma)

    def forward(
        self,
        x: torch.Tensor,
        alpha: torch.Tensor,
        sigma: torch.Tensor,
        given: torch.Tensor,
        guidance: float = 0.0,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Estimate of z, 0 where :data:`BRAIN` is 0; standard error (N, outputs, 1, 1, 1) of its Gaussian part.

        Args:
            x: noised standardised fields (N, outputs, …); sides are multiples of :data:`MULTIPLE`.
            alpha, sigma: coefficients of the noise (N,).
            given: conditions (N, CONDITIONS + extras, …).
            guidance: how far to go on in the direction from the Gaussian model to this one (autoguidance, Karras et
                al. 2024, arXiv 2406.02507): what a short training has not separated becomes clearer.
        """
        inside = given[:, BRAIN : BRAIN + 1]
        guess, error = self.gaussian(x * inside, alpha, sigma)
        mean, spread = self.expected(given)
        correction = self.unet(torch.cat([x * inside, guess, mean, spread, given], 1), sigma)
        return (guess + (1 + guidance) * error * correction) * inside, error


class TissueDenoiser(FieldDenoiser):
    """Of soft tissue maps at 2 mm.

    Attributes:
        tissue_means, tissue_spreads: of the map where labels say fluid, cortex, white matter.
    """

    tissue_means: torch.Tensor
    tissue_spreads: torch.Tensor

    def __init__(self, classes: int, channels: Sequence[int] = (16, 32, 64)) -> None:
        super().__init__(classes, channels, outputs=1, extras=0)
        self.register_buffer("tissue_means", torch.tensor([0.0, 0.5, 1.0]))
        self.register_buffer("tissue_spreads", torch.full((3,), 0.1))
