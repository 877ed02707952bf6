"""The generator of brainSPADE's second stage (Fernandez 2022, arXiv 2209.08256), re-cut for one CPU core.

SPADE at 1 mm costs trillions of operations. Here the class map is embedded, folded to 2 mm (space-to-depth), worked
on by a U-Net whose blocks are modulated by the labels (Park 2019, arXiv 1903.07291) and by style and contrast (FiLM,
Perez 2018, arXiv 1709.07871), and interpolated into a thin head that sees the 1 mm classes again.

Two departures from the paper, both so that a slab or a patch gives the same picture as the whole volume:

- activations are normalised over the channels of one voxel (Karras 2018, arXiv 1710.10196), not over space;
- the picture is a smoothed *signal* (per class a brightness, a function of contrast and style, and what fluid and
  white matter in a voxel add) plus a residual, so that tissue contrast is right from the first step and the network
  spends itself on texture.

As in brainSPADE, what is rendered are partial volumes: the class map comes with a soft tissue map, which has the
folds, sulci and shades that no hard label has: at 1 mm of a sampled anatomy
(:mod:`BrainGenLib.methods.patch_diffusion`), or at 2 mm (:mod:`BrainGenLib.networks.soft_tissue`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FOLD = 2  # space-to-depth factor
SLICES = 16  # of 2 mm that the blocks of the finest level work on at a time
SLAB = 8
"""Planes that are modulated at a time unless gradients are needed: what lies between takes seven times the memory of
the result."""


def fold(x: Tensor) -> Tensor:
    """(B, C, 2R, 2A, 2S) to (B, 8C, R, A, S), channels last in memory."""
    b, c, r, a, s = x.shape
    x = x.view(b, c, r // FOLD, FOLD, a // FOLD, FOLD, s // FOLD, FOLD)
    return x.permute(0, 2, 4, 6, 1, 3, 5, 7).reshape(b, r // FOLD, a // FOLD, s // FOLD, c * FOLD**3).movedim(-1, 1)


def halved(x: Tensor) -> Tensor:
    """Means of 2×2×2 voxels; ``avg_pool3d`` is slow with channels last."""
    for axis in (2, 3, 4):
        first, second = x.unflatten(axis, (-1, 2)).unbind(axis + 1)
        x = (first + second) / 2
    return x


def by_slabs(size: int, block: Callable[[int, int], Tensor]) -> Tensor:
    """What a block with a 3×3×3 convolution makes of ``size`` slices, a few at a time: its input may be large.

    Args:
        block: (…, high - low) of the slices ``low:high`` of its input.
    """
    parts: list[Tensor] = []
    whole = None
    for start in range(0, size, SLICES):
        stop = min(start + SLICES, size)
        low, high = max(start - 1, 0), min(stop + 1, size)
        part = block(low, high)[..., start - low : stop - low]
        if torch.is_grad_enabled():
            parts.append(part)
            continue
        # Parts and what they are joined to would be twice the memory.
        if whole is None:
            shape = (*part.shape[:-1], size)
            whole = torch.empty(shape, device=part.device, memory_format=torch.channels_last_3d)
        whole[..., start:stop] = part
    return torch.cat(parts, -1) if whole is None else whole


def smooth(x: Tensor) -> Tensor:
    """Binomial [1 2 1]/4 filter along the three axes of (B, 1, R, A, S): the partial volume of a 1 mm voxel."""
    for axis in (2, 3, 4):
        end = x.narrow(axis, 0, 1) * 0  # what lies outside is background
        padded = torch.cat([end, x, end], axis)
        size = x.shape[axis]
        x = 0.5 * x + 0.25 * (padded.narrow(axis, 0, size) + padded.narrow(axis, 2, size))
    return x


def mixture(tissue: Tensor) -> Tensor:
    """Shares of fluid and white matter (…, 2) in soft tissue (…), where 0 is fluid, ½ grey and 1 white matter.

    They may leave [0, 1] as the map does. Two shares and not one value, because contrasts are not monotonic in it: in
    FLAIR grey matter is brighter than both.
    """
    return torch.stack([1 - 2 * tissue, 2 * tissue - 1], -1).clamp_min(0)


class Pointwise(nn.Linear):
    """A 1×1×1 convolution as one matrix product, which on a CPU is several times faster than ``Conv3d``."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class Block(nn.Module):
    """conv 3×3×3 → channel norm → SPADE and FiLM modulation → noise → leaky ReLU."""

    def __init__(self, inputs: int, outputs: int, code: int, labels: int, noisy: bool) -> None:
        super().__init__()
        self.conv = nn.Conv3d(inputs, outputs, 3, padding=1)
        self.film = nn.Linear(code, 2 * outputs)
        nn.init.zeros_(self.film.weight)
        nn.init.zeros_(self.film.bias)
        # Pointwise: the folded and pooled embedding already carries the neighbourhood.
        self.spade = nn.Sequential(Pointwise(labels, 32), nn.ReLU(), Pointwise(32, 2 * outputs)) if labels else None
        self.noise = nn.Parameter(torch.full((outputs,), 0.05)) if noisy else None

    def forward(self, x: Tensor, code: Tensor, labels: Tensor, noise: Tensor | None) -> Tensor:
        x = self.conv(x)
        film = self.film(code)[:, :, None, None, None]
        if torch.is_grad_enabled():
            return self._modulated(x, film, labels, noise)
        for start in range(0, x.shape[2], SLAB):
            part = (slice(None), slice(None), slice(start, start + SLAB))
            x[part] = self._modulated(x[part], film, labels[part], None if noise is None else noise[part])
        return x

    def _modulated(self, x: Tensor, film: Tensor, labels: Tensor, noise: Tensor | None) -> Tensor:
        x = x * torch.rsqrt(x.square().mean(1, keepdim=True) + 1e-4)
        scale, shift = film.chunk(2, 1)
        if self.spade is not None:
            gamma, beta = self.spade(labels).chunk(2, 1)
            scale, shift = scale + gamma, shift + beta
        x = x * (1 + scale) + shift
        if self.noise is not None and noise is not None:
            x = x + self.noise[:, None, None, None] * noise
        return F.leaky_relu(x, 0.2)


class SpadeRenderer(nn.Module):
    """Class map, soft tissue map, contrast and style code to a 1 mm image.

    Args:
        classes: number of classes of the label table, background included.
        contrasts: number of contrasts the network knows, 'any' (style only) included.
        style: length of the style code.
        embedding: channels of the learned class embedding.
        channels: of the U-Net at 2, 4, 8 and 16 mm.
        head: channels of the 1 mm head.

    Attributes:
        typical: shares of fluid and white matter that a class has its plain brightness at, (classes, 2).
    """

    typical: Tensor

    def __init__(
        self,
        classes: int = 39,
        contrasts: int = 6,
        style: int = 16,
        embedding: int = 7,
        channels: Sequence[int] = (32, 48, 96, 128),
        head: int = 12,
    ) -> None:
        super().__init__()
        code = 64
        self.style = style
        self.depth = len(channels)
        self.embedding = nn.Embedding(classes, embedding)
        self.contrast = nn.Embedding(contrasts, 16)
        self.code = nn.Sequential(nn.Linear(style + 16, code), nn.SiLU(), nn.Linear(code, code), nn.SiLU())
        self.signal = nn.Embedding(contrasts, classes)
        self.gain = nn.Embedding(contrasts, 2 * classes)
        nn.init.zeros_(self.gain.weight)
        self.register_buffer("typical", torch.zeros(classes, 2))
        self.shade = nn.Linear(code, classes)
        nn.init.zeros_(self.shade.weight)
        nn.init.zeros_(self.shade.bias)
        labels = (embedding + 2) * FOLD**3
        down, up = [], []
        width = labels
        for level, c in enumerate(channels):
            down.append(Block(width, c, code, 0 if level == 0 else labels, False))
            width = c
        for level in reversed(range(len(channels))):
            inputs = width if level == len(channels) - 1 else width + channels[level]
            up.append(Block(inputs, channels[level], code, labels, True))
            if level:  # at 2 mm the head does the rest
                up.append(Block(channels[level], channels[level], code, labels, True))
            width = channels[level]
        self.down, self.up = nn.ModuleList(down), nn.ModuleList(up)
        self.to_head = Pointwise(channels[0], head)
        self.head = Block(head + embedding + 3, head, code, 0, True)
        self.residual = nn.Conv3d(head, 1, 3, padding=1)
        nn.init.normal_(self.residual.weight, std=0.002)

    @property
    def multiple(self) -> int:
        """The class map's sides must be multiples of this many voxels."""
        return FOLD * 2 ** (self.depth - 1)

    def draw_noise(
        self, shape: Sequence[int], generator: torch.Generator | None = None, device: torch.device | None = None
    ) -> list[Tensor]:
        """Gaussian noise for a batch of class maps of shape (B, R, A, S): one field per block, coarse to fine."""
        batch, *sides = shape
        factors = [FOLD * 2 ** (self.depth - 1 - index // 2) for index in range(len(self.up))]
        return [
            torch.randn(batch, 1, *(side // factor for side in sides), generator=generator, device=device)
            for factor in [*factors, 1]
        ]

    def describe(self, classes: Tensor, tissue: Tensor, contrast: Tensor, style: Tensor) -> tuple[Tensor, Tensor]:
        """Code (B, 64) and channels at 1 mm (B, embedding + 2, R, A, S): classes, soft tissue, at last the signal."""
        code = self.code(torch.cat([style, self.contrast(contrast)], 1))
        gain = self.gain(contrast).unflatten(1, (-1, 2))
        signal = self.signal(contrast) + self.shade(code) - (gain * self.typical).sum(-1)
        # Tables of what depends on the class; every sample has its own signal and gain.
        many = (len(style), -1, -1)
        plain = torch.cat(
            [self.embedding.weight.expand(many), torch.zeros_like(signal)[..., None], signal[..., None]], 2
        )
        rows = classes.long() + torch.arange(len(style), device=classes.device).view(-1, 1, 1, 1) * plain.shape[1]
        out = F.embedding(rows, plain.flatten(0, 1))
        if tissue.shape[2:] != classes.shape[1:]:
            tissue = F.interpolate(tissue, scale_factor=float(FOLD), mode="trilinear")
        fine = tissue[:, 0]
        out[..., -2] = fine
        out[..., -1] += (F.embedding(rows, gain.flatten(0, 1)) * mixture(fine)).sum(-1)
        return code, out.movedim(-1, 1)

    def trunk(self, folded: Tensor, code: Tensor, noise: Sequence[Tensor]) -> Tensor:
        """Folded label channels (:func:`fold`) to features (B, 32, R/2, A/2, S/2)."""
        maps = [folded]
        for _ in range(self.depth - 1):
            maps.append(halved(maps[-1]))
        x = by_slabs(
            folded.shape[-1], lambda low, high: self.down[0](folded[..., low:high], code, folded[..., low:high], None)
        )
        skips = [x]
        for level, block in enumerate(self.down[1:], 1):
            x = block(halved(x), code, maps[level], None)
            skips.append(x)
        for index, block in enumerate(self.up[:-1]):
            level = self.depth - 1 - index // 2
            if index and index % 2 == 0:
                x = torch.cat([F.interpolate(x, scale_factor=2.0, mode="nearest"), skips[level]], 1)
            x = block(x, code, maps[level], noise[index])

        def last(low: int, high: int) -> Tensor:
            coarse = F.interpolate(x[..., low // 2 : -(-high // 2)], scale_factor=2.0, mode="nearest")
            parts = [coarse[..., low % 2 :][..., : high - low], skips[0][..., low:high]]
            return self.up[-1](torch.cat(parts, 1), code, folded[..., low:high], noise[-2][..., low:high])

        return by_slabs(folded.shape[-1], last)

    def finish(self, features: Tensor, labels: Tensor, classes: Tensor, code: Tensor, noise: Tensor) -> Tensor:
        """Features at 2 mm, and labels, classes and noise at 1 mm, to the image (B, 1, R, A, S).

        Every voxel depends on its neighbours within 4 mm only, so slabs with a margin give the same picture.
        """
        # Not depth-to-space: it lets the network weave a checkerboard where the scan has noise.
        x = F.interpolate(self.to_head(features), scale_factor=float(FOLD), mode="trilinear")
        x = torch.cat([part.movedim(1, -1) for part in (x, labels, noise)], -1).movedim(-1, 1)
        x = self.residual(self.head(x, code, labels, noise))
        mask = (classes > 0).to(x.dtype)[:, None]
        return (smooth(labels[:, -1:].contiguous()) + x) * mask * smooth(mask)

    def forward(
        self,
        classes: Tensor,
        tissue: Tensor,
        contrast: Tensor,
        style: Tensor,
        noise: Sequence[Tensor] | None = None,
    ) -> Tensor:
        """Render.

        Args:
            classes: (B, R, A, S) integer class map at 1 mm, sides multiples of :attr:`multiple`.
            tissue: soft tissue map at 1 mm (B, 1, R, A, S) or at 2 mm (B, 1, R/2, A/2, S/2).
            contrast: (B,) index of the contrast.
            style: (B, style) code.
            noise: of :meth:`draw_noise`; None draws it from the global generator.

        Returns:
            (B, 1, R, A, S), brain in about [0, 1], background 0, not clipped.
        """
        if noise is None:
            noise = self.draw_noise(classes.shape, device=style.device)
        code, labels = self.describe(classes, tissue, contrast, style)
        return self.finish(self.trunk(fold(labels), code, noise), labels, classes, code, noise[-1])
