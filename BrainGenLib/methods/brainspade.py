"""brainSPADE, stage 2 (Fernandez 2022, arXiv 2209.08256): an image from a segmentation, a contrast and a style."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F

from BrainGenLib.bundles import Bundle
from BrainGenLib.networks.soft_tissue import TissueDenoiser
from BrainGenLib.networks.spade_renderer import FOLD, SpadeRenderer, fold
from BrainGenLib.networks.style_encoder import StyleEncoder
from BrainGenLib.reporting import Reporter

ANY = "any"  # contrast index that lets the style code alone decide
SLAB = 32  # mm of the S axis that the 1 mm head works on at a time
REACH = 4  # mm around a slab that the head looks at; even, to match the 2 mm grid
AROUND_BRAIN, AROUND_PART = 2, 16
"""Voxels that the trunk looks at around a brain, and around a part of one."""
STYLE_SLICES = 5


@dataclass(frozen=True)
class Renderer:
    """The loaded networks, and the look of every contrast.

    ``tissue`` draws the soft tissue of segmentations that come without. ``styles`` holds per contrast the mean (S,)
    of the training scans' codes and ``axes`` (K, S), their principal directions scaled to one standard deviation.
    """

    network: SpadeRenderer
    tissue: TissueDenoiser
    encoder: StyleEncoder
    contrasts: tuple[str, ...]
    styles: dict[str, tuple[np.ndarray, np.ndarray]]
    device: str

    @classmethod
    def from_bundle(cls, bundle: Bundle, device: str) -> Renderer:
        """Load the networks ``renderer``, ``soft_tissue`` and ``style_encoder`` of a bundle."""
        network, encoder = bundle.load("renderer", device), bundle.load("style_encoder", device)
        tissue = bundle.load("soft_tissue", device)
        assert isinstance(network, SpadeRenderer)
        assert isinstance(tissue, TissueDenoiser)
        assert isinstance(encoder, StyleEncoder)
        styles = {
            name: (np.array(look["mean"], np.float32), np.array(look["axes"], np.float32))
            for name, look in bundle.metadata.parameters["styles"].items()
        }
        return cls(network, tissue, encoder, tuple(bundle.metadata.contrasts), styles, device)


def draw_style(model: Renderer, contrast: str, generator: torch.Generator) -> np.ndarray:
    """A style code (S,) as a scan of this contrast might have."""
    mean, axes = model.styles[contrast]
    return mean + torch.randn(len(axes), generator=generator).numpy() @ axes


@torch.inference_mode()
def encode_style(model: Renderer, image: np.ndarray) -> np.ndarray:
    """Style code of a scan: the mean over five axial slices.

    Args:
        image: (R, A, S) at 1 mm in [0, 1] (the brain's 99.5th percentile is 1), 0 outside the brain.

    Returns:
        (S,) float32.

    Raises:
        ValueError: the image is empty.
    """
    area = np.count_nonzero(image, axis=(0, 1))
    if not area.any():
        raise ValueError("The style reference holds no brain; give a scan of a brain.")
    full = np.flatnonzero(area >= area.max() / 2)
    chosen = full[np.linspace(0, len(full) - 1, STYLE_SLICES + 2).round().astype(int)[1:-1]]
    slices = torch.from_numpy(np.ascontiguousarray(image[:, :, chosen].transpose(2, 0, 1)[:, None], np.float32))
    return model.encoder(slices.to(model.device))[0].mean(0).cpu().numpy()


@torch.inference_mode()
def render(
    model: Renderer,
    classes: np.ndarray,
    tissue: np.ndarray,
    contrast: str,
    *,
    style: np.ndarray | None,
    seed: int,
    report: Reporter,
    where: np.ndarray | None = None,
) -> np.ndarray:
    """Draw an image.

    Args:
        classes: (R, A, S) uint8 class map at 1 mm, any shape; a slab gives a quick preview.
        tissue: float32, its soft tissue map at 1 mm (R, A, S) or at 2 mm (⌈R/2⌉, ⌈A/2⌉, ⌈S/2⌉).
        contrast: one of ``model.contrasts``, or ``any`` for the look of the style alone.
        style: code of :func:`encode_style`; None draws one that suits the contrast.
        seed: of the drawn style and of the noise.
        report: receives a step after the trunk and after each slab.
        where: bool, of the class map's shape: the image is needed in a box around it; None: the whole brain.

    Returns:
        float32 in [0, 1], same shape, 0 outside the brain and where it is not needed.

    Raises:
        ValueError: the contrast is unknown.
    """
    names = (*model.contrasts, ANY)
    if contrast not in names:
        raise ValueError(f"Contrast {contrast!r} is not known; this bundle has: {', '.join(names)}.")
    generator = torch.Generator().manual_seed(seed)
    # Drawn even when a style is given, so that the noise of a seed does not depend on it.
    drawn = draw_style(model, contrast, generator)
    network, device = model.network, model.device
    padded, corner = _pad(classes, network.multiple)
    spacing = 1 if tissue.shape == classes.shape else 2
    soft = torch.zeros(1, 1, *(side // spacing for side in padded.shape))
    r, a, i = (slice(c // spacing, c // spacing + n) for c, n in zip(corner, tissue.shape, strict=True))
    soft[0, 0, r, a, i] = torch.from_numpy(np.ascontiguousarray(tissue))
    if spacing == 2:
        soft = F.interpolate(soft, scale_factor=2.0, mode="trilinear")
    noise = network.draw_noise((1, *padded.shape), generator)
    mask, margin = (classes > 0, AROUND_BRAIN) if where is None else (where, AROUND_PART)
    needed = _box_around(_pad(mask, network.multiple)[0], margin, network.multiple)

    def cut(volume: Tensor) -> Tensor:
        """The needed part of a volume on the padded grid, or one that is coarser."""
        factor = padded.shape[0] // volume.shape[-3]
        starts = [side.start // factor for side in needed]
        sizes = [(side.stop - side.start) // factor for side in needed]
        r, a, i = (slice(start, start + size) for start, size in zip(starts, sizes, strict=True))
        return volume[..., r, a, i].to(device)

    noise = [cut(field) for field in noise]
    code = torch.from_numpy(drawn if style is None else style.astype(np.float32)).to(device)[None]
    index = torch.tensor([names.index(contrast)], device=device)
    tensor = cut(torch.from_numpy(padded)[None])
    slabs = range(0, tensor.shape[-1], SLAB)
    report.step("", 0, len(slabs) + 1)
    fine = cut(soft)

    def described(low: int, high: int) -> tuple[Tensor, Tensor]:
        """Code and label channels of the slices ``low:high``: those of all are hundreds of megabytes."""
        return network.describe(tensor[..., low:high], fine[..., low:high], index, code)

    features = network.trunk(*_folded(described, tensor.shape[-1]), noise)
    image = np.zeros(padded.shape, np.float32)
    part = image[needed]
    for number, start in enumerate(slabs):
        report.step("", number + 1, len(slabs) + 1)
        stop = min(start + SLAB, part.shape[2])
        low, high = max(start - REACH, 0), min(stop + REACH, part.shape[2])
        film, labels = described(low, high)
        slab = network.finish(
            features[..., low // 2 : high // 2], labels, tensor[..., low:high], film, noise[-1][..., low:high]
        )
        part[:, :, start:stop] = slab[0, 0, :, :, start - low : stop - low].float().cpu().numpy()
    report.step("", len(slabs) + 1, len(slabs) + 1)
    box = tuple(slice(c, c + size) for c, size in zip(corner, classes.shape, strict=True))
    return np.clip(image[box], 0, 1)


def _folded(described: Callable[[int, int], tuple[Tensor, Tensor]], size: int) -> tuple[Tensor, Tensor]:
    """Folded label channels of all slices, and the code."""
    whole = film = None
    for start in range(0, size, SLAB):
        stop = min(start + SLAB, size)
        film, labels = described(start, stop)
        part = fold(labels)
        if whole is None:
            shape = (*part.shape[:-1], size // FOLD)
            whole = torch.empty(shape, device=part.device, memory_format=torch.channels_last_3d)
        whole[..., start // FOLD : stop // FOLD] = part
    assert whole is not None
    assert film is not None
    return whole, film


def _pad(classes: np.ndarray, multiple: int) -> tuple[np.ndarray, list[int]]:
    """Pad with background to a multiple of ``multiple``; and where the old corner came to lie."""
    missing = [-size % multiple for size in classes.shape]
    widths = [(m // 4 * 2, m - m // 4 * 2) for m in missing]  # even, so that the 2 mm grid stays where it was
    return np.pad(classes, widths), [before for before, _ in widths]


def _box_around(mask: np.ndarray, margin: int, multiple: int) -> tuple[slice, ...]:
    """The box of a mask with a margin; its sides are multiples of ``multiple``, as those of the mask's grid, its
    corner is even. The whole grid of an empty mask."""
    found = ndimage.find_objects(mask.astype(np.uint8))
    if not found:
        return tuple(slice(0, n) for n in mask.shape)
    box = []
    for side, n in zip(found[0], mask.shape, strict=True):
        low, high = max(0, side.start - margin), min(n, side.stop + margin)
        size = -(-(high - low) // multiple) * multiple
        # In the middle, as far as the grid reaches.
        start = min(max(0, (low + high - size) // 2), n - size) // 2 * 2
        box.append(slice(start, start + size))
    return tuple(box)
