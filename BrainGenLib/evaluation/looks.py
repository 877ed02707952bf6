"""How images look, summed up so that two sets of them can be compared in every respect at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from BrainGenLib import anatomy, spaces
from BrainGenLib.evaluation import fidelity, texture
from BrainGenLib.evaluation.features import TISSUES, features
from BrainGenLib.networks.label_unet import LabelUNet

VOXELS = 5_000

# Name to what it says; every one is 0 (the last: 1) when both sets look the same.
DISTANCES = {
    "FID deep": "Fréchet distance of deep features",
    "MMD deep": "squared MMD of deep features",
    "FID fine": "Fréchet distance of fine features",
    "MMD fine": "squared MMD of fine features",
    "intensity": "earth mover's distance of intensities, mean over tissues, share of the range",
    "gradient": "earth mover's distance of gradient magnitudes, relative to the mean one of real scans",
    "spectrum": "root mean square difference of the power spectra within white and grey matter, dB",
    "z fine": "root mean squared z-score of fine features against real scans",
}


@dataclass
class Looks:
    """One image: features by level, samples of intensities by tissue and of gradients, spectra (2, 8)."""

    features: dict[str, np.ndarray]
    intensities: dict[str, np.ndarray]
    gradients: np.ndarray
    spectra: np.ndarray


def standardised(image: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """The image in [0, 1] with its brightest brain tissue (99.5th percentile) at 1, and 0 outside of the labels.

    The border of a scan's brain mask would tell it from a rendered image at once; both are cut to the same labels.

    Raises:
        ValueError: there is nothing inside the labels.
    """
    brain = classes > 0
    top = np.percentile(image[brain], 99.5) if brain.any() else 0
    if top <= 0:
        raise ValueError("The image is empty inside its labels.")
    return np.where(brain, np.clip(image / top, 0, 1), 0).astype(np.float32)


def look(network: LabelUNet, image: np.ndarray, classes: np.ndarray, rng: np.random.Generator) -> Looks:
    """Sum up an image (R, A, S) on GRID_1MM or GRID_2MM; texture is measured on that grid, features at 1 mm."""
    image = standardised(image, classes)
    masks = {tissue: np.isin(classes, anatomy.classes_of(tissue=tissue)) for tissue in TISSUES}
    fine = spaces.GRID_1MM
    if image.shape == fine.shape:
        found = features(network, image, classes)
    else:
        coarse = spaces.GRID_2MM
        found = features(
            network,
            spaces.resample(image, coarse.affine, fine.shape, fine.affine, order=1),
            spaces.resample(classes, coarse.affine, fine.shape, fine.affine, order=0),
        )

    def sample(values: np.ndarray) -> np.ndarray:
        return rng.choice(values, min(VOXELS, values.size), replace=False).astype(np.float32)

    return Looks(
        found,
        {tissue: sample(image[mask]) for tissue, mask in masks.items()},
        sample(texture.gradient_magnitudes(image, classes > 0)),
        np.stack([texture.power_spectrum(image, masks[tissue]) for tissue in ("wm", "gm")]),
    )


class Yardstick:
    """Distances of sets of images to real ones, in the directions and widths that real scans give."""

    def __init__(self, real: Sequence[Looks]) -> None:
        # A quarter as many directions as scans: halves of the set then still have two scans for each.
        components = max(2, min(16, len(real) // 4))
        self.whitening = {level: fidelity.Whitening(stacked(real, level), components) for level in real[0].features}
        self.bandwidth = {
            level: fidelity.median_bandwidth(whitening(stacked(real, level)))
            for level, whitening in self.whitening.items()
        }

    def distances(self, images: Sequence[Looks], real: Sequence[Looks]) -> list[float]:
        """One number for each of :data:`DISTANCES`."""
        result = []
        for level, whitening in self.whitening.items():
            a, b = whitening(stacked(images, level)), whitening(stacked(real, level))
            result += [fidelity.frechet_distance(a, b), fidelity.mmd(a, b, self.bandwidth[level])]
        result.append(float(np.mean([fidelity.intensity_emd(pooled(images, t), pooled(real, t)) for t in TISSUES])))
        gradients = [np.concatenate([one.gradients for one in group]) for group in (images, real)]
        result.append(texture.gradient_distance(*gradients))
        spectra = [np.mean([one.spectra for one in group], axis=0) for group in (images, real)]
        result.append(float(np.sqrt(np.square(spectra[0] - spectra[1]).mean())))
        result.append(fidelity.residual_distance(stacked(images, "fine"), stacked(real, "fine")))
        return result


def stacked(images: Sequence[Looks], level: str) -> np.ndarray:
    """Features of a level, (n, d)."""
    return np.stack([one.features[level] for one in images])


def pooled(images: Sequence[Looks], tissue: str) -> np.ndarray:
    """Intensities of a tissue over all images."""
    return np.concatenate([one.intensities[tissue] for one in images])
