"""Label map of a scan of any contrast, with or without skull (SynthSeg; Billot et al., MedIA 2023)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage

from BrainGenLib import heads, morphometry, spaces
from BrainGenLib.bundles import Bundle
from BrainGenLib.methods import intensity_model
from BrainGenLib.networks.label_unet import PHASES, LabelUNet, phase_of
from BrainGenLib.networks.largest import largest
from BrainGenLib.reading.scans import above_air
from BrainGenLib.reporting import Reporter

# A brain has 0.8 to 2 litres (a scan may miss a part of it), the head of an adult at least 3.
BRAIN_ML = (400.0, 2300.0)
# Less than this many times the brain's volume is no head: skull and scalp have more.
SCALP = 1.35
# Skull and scalp over nearly all of the upper half of a brain have more than this, and differ by less than that.
LEAST_DEPTH_MM, UNEVEN_MM = 2.0, 25.0
# No more of a brain's surface may lie next to the scalp (5 to 8 % in heads that were labelled well).
MOST_NEAR_SCALP = 0.2
# A scan whose outline overlaps no better than this with that of the template brain is a head if there is a dark layer
# at least so deep under its surface.
BARE_OVERLAP, LEAST_SKULL_MM = 0.9, 4.0
# Below this overlap with the template's brain a registration has failed.
LEAST_OVERLAP = 0.7
WHOLE = "give a scan of a whole head or a whole brain"


@dataclass
class Segmenter:
    """A loaded segmenter; ``classes`` maps the network's outputs to classes of the label table."""

    network: LabelUNet
    classes: np.ndarray
    device: str

    @classmethod
    def from_bundle(cls, bundle: Bundle, device: str = "cpu") -> Segmenter:
        """Load it.

        Raises:
            ValueError: the bundle holds another kind of network.
        """
        network = bundle.load("segmenter", device)
        if not isinstance(network, LabelUNet):
            raise ValueError(f"Bundle {bundle.name} holds no segmenter; choose another bundle for `segment`.")
        return cls(network, np.array(bundle.metadata.parameters["classes"], np.uint8), device)


def normalised(volume: torch.Tensor) -> torch.Tensor:
    """Intensities to [0, 1]: background 0, the 99.5th percentile of what is brighter than it 1."""
    # Every third voxel: percentiles of millions of values cost more than the network's first layer.
    sample = volume[::3, ::3, ::3].flatten()
    low = torch.quantile(sample, 0.005)
    bright = sample[sample > low + 0.02 * (sample.max() - low)]
    high = torch.quantile(bright, 0.995) if bright.numel() else low + 1
    return ((volume - low) / (high - low).clamp(min=1e-6)).clamp(0, 1)


@torch.inference_mode()
def predict(network: LabelUNet, volume: torch.Tensor) -> torch.Tensor:
    """Most likely output of the network for every voxel, (R, A, S) uint8, of a volume in [0, 1] on GRID_1MM."""
    features = network.features(volume[None, None])
    best = torch.empty(volume.shape, dtype=torch.uint8, device=volume.device)
    for phase in range(PHASES):
        phase_of(best, phase).copy_(largest(network.phase_scores(features, (phase,))[0][0]))
    return best


@dataclass
class Segmentation:
    """Classes (uint8) of a scan on GRID_1MM, and where the template lies in the scan."""

    classes: np.ndarray
    template_to_scan: np.ndarray


def segment_in_template(model: Segmenter, volume: np.ndarray) -> np.ndarray:
    """Classes, uint8, of a scan on GRID_1MM: the largest connected piece of tissue, its borders by intensity."""
    scaled = normalised(torch.as_tensor(volume, dtype=torch.float32, device=model.device))
    found = largest_piece(model.classes[predict(model.network, scaled).cpu().numpy()])
    return intensity_model.sharpen(found, scaled.cpu().numpy())


Placed = tuple[spaces.Registration, "np.ndarray | None"]


def segment(
    model: Segmenter, volume: np.ndarray, affine: np.ndarray, report: Reporter, placed: Placed | None = None
) -> Segmentation:
    """Label map of a scan.

    Args:
        model: the segmenter.
        volume: (R, A, S), any size, resolution and intensities.
        affine: voxel to world, RAS+ mm.
        report: receives the stages.
        placed: what :func:`brain_or_head` says of the scan, if it is known.

    Raises:
        ValueError: the volume is constant, holds values that are not numbers, or cannot be aligned with the template;
            or its brain cannot be separated from its skull.
    """
    if not np.isfinite(volume).all():
        raise ValueError("The scan holds values that are not finite numbers; replace them (for instance by 0).")
    if volume.size == 0 or volume.min() == volume.max():
        raise ValueError("The scan is constant; there is nothing to segment.")
    volume = above_air(volume)
    report.step("aligning with the template", 0, 2)
    registration, bare = placed or brain_or_head(volume, affine)
    report.step("labelling", 1, 2)
    if bare is not None:
        # Noise around a brain is nothing that it shows.
        volume = np.where(ndimage.binary_dilation(bare, iterations=2), volume, 0)
        classes = segment_in_template(model, _on_grid(volume, affine, registration))
        return Segmentation(classes, registration.template_to_scan)
    head = heads.Head(volume, affine)
    scalp = head.scalp_in_template(registration.template_to_scan)
    classes = segment_in_template(model, np.where(scalp, 0, _on_grid(volume, affine, registration)))
    found = Segmentation(classes, registration.template_to_scan)
    _check_in_head(found, head)
    return found


def _check_in_head(found: Segmentation, head: heads.Head) -> None:
    """Refuse labels that are not where skull and scalp leave room for a brain.

    Raises:
        ValueError: they are not.
    """
    depths = head.depths(found.template_to_scan)
    if not len(depths):
        raise ValueError(f"its brain lies outside of it; {WHOLE}.")
    shallow, deep = np.percentile(depths, (10, 90))
    brain = morphometry.brain_mask(found.classes)
    affine = found.template_to_scan @ spaces.GRID_1MM.affine
    if (millilitres := _millilitres(brain, affine)) < BRAIN_ML[0]:
        raise ValueError(f"its brain would measure {millilitres:.0f} mL; {WHOLE}.")
    if deep - shallow > UNEVEN_MM:
        raise ValueError(
            f"its brain was not found: what was taken for it lies {shallow:.0f} to {deep:.0f} mm deep in the head; "
            "strip the skull off, and try again."
        )
    share = head.near_scalp(brain, affine)
    if shallow < LEAST_DEPTH_MM or share > MOST_NEAR_SCALP:
        raise ValueError(
            "its brain cannot be separated from its skull: what was found reaches into the scalp; strip the skull "
            "off, and try again."
        )


def _on_grid(volume: np.ndarray, affine: np.ndarray, registration: spaces.Registration) -> np.ndarray:
    return spaces.to_grid(volume, affine, spaces.GRID_1MM, template_to_scan=registration.template_to_scan)


def brain_or_head(volume: np.ndarray, affine: np.ndarray) -> Placed:
    """Where the template lies in a scan (intensities above air), and where the scan is brain; None for a whole head.

    A bare brain is all that the scan shows, with or without noise around it. A head may be as small as a large brain:
    how well the template agrees with it in either size tells which one it is.

    Raises:
        ValueError: the scan does not fit the template.
    """
    inside = volume > 0
    if _millilitres(inside, affine) < BRAIN_ML[1]:
        registration = align(volume, affine, inside)
        if (
            _is_brain(inside, affine, registration)
            and _has_outline_of_brain(volume, affine, registration)
            and not spaces.smaller_brain(volume, affine, registration)
        ):
            return registration, inside
    head = heads.align(volume, affine)
    shown = ndimage.binary_fill_holes(spaces.foreground(volume))
    if _is_brain(shown, affine, head):
        registration = align(volume, affine, shown)
        if _has_outline_of_brain(volume, affine, registration):
            return registration, shown
    return head, None


def _has_outline_of_brain(volume: np.ndarray, affine: np.ndarray, registration: spaces.Registration) -> bool:
    """Whether what was aligned as a brain is no head by its outline or for want of a skull."""
    return registration.dice > BARE_OVERLAP or heads.Head(volume, affine).skull < LEAST_SKULL_MM


def _is_brain(mask: np.ndarray, affine: np.ndarray, registration: spaces.Registration) -> bool:
    """Whether what a scan shows has the volume of a brain, as the template says that lies in it."""
    _, brain = spaces.template()
    expected = _millilitres(brain, spaces.GRID_2MM.affine) * registration.size**3
    return _millilitres(mask, affine) < min(SCALP * expected, BRAIN_ML[1])


def align(volume: np.ndarray, affine: np.ndarray, brain: np.ndarray) -> spaces.Registration:
    """Where the template lies in a scan whose brain is known.

    Raises:
        ValueError: they do not fit.
    """
    millilitres = _millilitres(brain, affine)
    if millilitres < BRAIN_ML[0]:
        raise ValueError(f"its brain would measure {millilitres:.0f} mL; {WHOLE}.")
    registration = spaces.register_to_template(volume, affine, brain=brain)
    if registration.dice < LEAST_OVERLAP:
        raise ValueError(
            f"its brain does not fit the template (overlap {registration.dice:.2f}); check its orientation, or "
            "choose another scan."
        )
    return registration


def _millilitres(mask: np.ndarray, affine: np.ndarray) -> float:
    return float(np.count_nonzero(mask) * abs(np.linalg.det(affine[:3, :3])) / 1000)


def to_scan(
    classes: np.ndarray, template_to_scan: np.ndarray, shape: tuple[int, ...], affine: np.ndarray
) -> np.ndarray:
    """Labels on GRID_1MM to the grid of the scan that the template was aligned with."""
    r, a, s = shape
    scan_to_template = np.linalg.inv(template_to_scan)
    return spaces.resample(classes, spaces.GRID_1MM.affine, (r, a, s), affine, matrix=scan_to_template, order="label")


def largest_piece(classes: np.ndarray) -> np.ndarray:
    """The map with only the largest connected piece of its foreground."""
    pieces, count = ndimage.label(classes > 0)
    if count < 2:
        return classes
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    return np.where(pieces == sizes.argmax(), classes, 0).astype(classes.dtype)
