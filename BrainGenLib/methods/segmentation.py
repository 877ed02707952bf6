"""Label map of a scan of any contrast, with or without skull (SynthSeg; Billot et al., MedIA 2023)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from monai.inferers import sliding_window_inference
from scipy import ndimage

from BrainGenLib.bundles import Bundle
from BrainGenLib.networks.label_unet import PHASES, LabelUNet, phase_of
from BrainGenLib.reporting import Reporter

# Above this the features of the whole volume at once take more than about 3 GB.
WHOLE_VOXELS = 256**3


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
    """Most likely output of the network for every voxel.

    Args:
        network: in eval mode, on the volume's device.
        volume: (R, A, S) in [0, 1], 1 mm, any size.

    Returns:
        (R, A, S) uint8.
    """
    shape = volume.shape
    padding = [max(-n % network.multiple, network.smallest - n) for n in shape]
    sides = [side for total in reversed(padding) for side in (total // 2, total - total // 2)]
    padded = F.pad(volume, sides)[None, None]
    features = network.features(padded) if volume.numel() <= WHOLE_VOXELS else _tiled_features(network, padded)
    best = torch.empty(padded.shape[2:], dtype=torch.uint8, device=volume.device)
    for phase in range(PHASES):
        phase_of(best, phase).copy_(network.phase_scores(features, (phase,))[0][0].argmax(0))
    start = [total // 2 for total in padding]
    return best[tuple(slice(a, a + n) for a, n in zip(start, shape, strict=True))]


def _tiled_features(network: LabelUNet, padded: torch.Tensor) -> torch.Tensor:
    features = sliding_window_inference(padded, (192, 192, 192), 1, network.features, overlap=0.25, mode="gaussian")
    assert isinstance(features, torch.Tensor)
    return features


def segment(model: Segmenter, volume: np.ndarray, report: Reporter) -> np.ndarray:
    """Classes of a scan.

    Args:
        model: the segmenter.
        volume: (R, A, S), 1 mm, axes along RAS+, any size and intensities.
        report: told of three stages.

    Returns:
        (R, A, S) uint8 classes of the label table, the largest connected piece of tissue only.

    Raises:
        ValueError: the volume is constant or holds values that are not numbers.
    """
    if not np.isfinite(volume).all():
        raise ValueError("The scan holds values that are not finite numbers; replace them (for instance by 0).")
    if volume.size == 0 or volume.min() == volume.max():
        raise ValueError("The scan is constant; there is nothing to segment.")
    report.step("segment", 0, 3, "Preparing the scan")
    scaled = normalised(torch.as_tensor(volume, dtype=torch.float32, device=model.device))
    # Empty borders would only dilute the statistics that the network normalises by.
    filled = ndimage.find_objects((scaled > 0.02).to(torch.uint8).cpu().numpy())[0]
    margin = tuple(slice(max(s.start - 8, 0), s.stop + 8) for s in filled)
    report.step("segment", 1, 3, "Labelling")
    found = predict(model.network, scaled[margin]).cpu().numpy()
    report.step("segment", 2, 3, "Cleaning up")
    classes = np.zeros(volume.shape, np.uint8)
    classes[margin] = largest_piece(model.classes[found])
    report.step("segment", 3, 3)
    return classes


def largest_piece(classes: np.ndarray) -> np.ndarray:
    """The map with only the largest connected piece of its foreground."""
    pieces, count = ndimage.label(classes > 0)
    if count < 2:
        return classes
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    return np.where(pieces == sizes.argmax(), classes, 0).astype(classes.dtype)
