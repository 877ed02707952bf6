"""Lesions painted into scans that have none, for pairs of lesion and contrast of which no real scan exists.

No public scan in the cache shows, say, a stroke on FLAIR with its outline, yet the renderer must know what one looks
like. A lesion mask is pasted into the labels, and the image inside is drawn towards the brightness that radiology
textbooks give for it, relative to the white matter, grey matter and CSF of the same scan; the scan's own texture
stays. The model card says that these appearances are painted, not learned.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from BrainGenLib import anatomy

# contrast → lesion → weights of (white matter, grey matter, CSF) brightness. A sum above 1 is brighter than tissue.
SIGNALS: dict[str, dict[str, tuple[float, float, float]]] = {
    "T1w": {
        "wmh": (0.3, 0.6, 0.1),
        "ms": (0.0, 0.8, 0.2),
        "tumour": (0.0, 0.5, 0.5),
        "oedema": (0.0, 0.85, 0.15),
        "enhancing": (0.0, 0.9, 0.1),
        "stroke": (0.0, 0.75, 0.25),
    },
    "T2w": {
        "wmh": (0.0, 0.6, 0.4),
        "ms": (0.0, 0.5, 0.5),
        "tumour": (0.0, 0.25, 0.75),
        "oedema": (0.0, 0.4, 0.6),
        "enhancing": (0.0, 0.7, 0.3),
        "stroke": (0.0, 0.35, 0.65),
    },
    "FLAIR": {
        "wmh": (0.0, 1.4, 0.0),
        "ms": (0.0, 1.45, 0.0),
        "tumour": (0.0, 0.9, 0.1),
        "oedema": (0.0, 1.4, 0.0),
        "enhancing": (0.0, 1.2, 0.0),
        "stroke": (0.0, 1.4, 0.0),
    },
    "PDw": {
        "wmh": (0.0, 1.2, 0.0),
        "ms": (0.0, 1.25, 0.0),
        "tumour": (0.0, 1.1, 0.0),
        "oedema": (0.0, 1.2, 0.0),
        "enhancing": (0.0, 1.1, 0.0),
        "stroke": (0.0, 1.2, 0.0),
    },
    "T1ce": {
        "wmh": (0.3, 0.6, 0.1),
        "ms": (0.0, 0.8, 0.2),
        "tumour": (0.0, 0.5, 0.5),
        "oedema": (0.0, 0.85, 0.15),
        "enhancing": (1.4, 0.0, 0.0),
        "stroke": (0.0, 0.75, 0.25),
    },
}
# Depth (mm) at which an old infarct is a fluid-filled cavity; what lies nearer to its edge is gliosis.
CAVITY_DEPTH = 5.0
WHITE_MATTER_LESIONS = ("wmh", "ms")


def tissue_means(classes: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Mean brightness of white matter, cortex and ventricles of a scan, (3,) float."""
    size = len(anatomy.labels())
    count = np.bincount(classes.ravel(), minlength=size)
    total = np.bincount(classes.ravel(), image.ravel(), minlength=size)
    names = ("cerebral white matter", "cerebral cortex", "lateral ventricle")
    groups = [anatomy.classes_of(name=name) for name in names]
    return np.array([total[group].sum() / max(count[group].sum(), 1) for group in groups])


def signal(contrast: str, lesion: str, means: np.ndarray) -> float:
    """Brightness of a lesion in a scan with these tissue means, at most 1."""
    return float(min(np.dot(SIGNALS[contrast][lesion], means), 1.0))


def paint(
    classes: np.ndarray,
    image: np.ndarray,
    mask: np.ndarray,
    lesion: str,
    contrast: str,
    means: np.ndarray,
    spacing: float,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Paste a lesion into a patch.

    Args:
        classes, image, mask: (R, A, S) class map, image in [0, 1] and boolean lesion mask.
        means: of :func:`tissue_means`, from the whole scan.
        spacing: mm per voxel.

    Returns:
        The new classes and image; unchanged where the lesion has no host tissue.
    """
    index = anatomy.lesions()[lesion].index
    hosts = [
        label.index
        for label in anatomy.labels()
        if label.kind == "structure" and (lesion not in WHITE_MATTER_LESIONS or label.tissue in ("wm", "deep_gm"))
    ]
    mask = mask & np.isin(classes, hosts)
    if not mask.any():
        return classes, image
    target = np.full(image.shape, signal(contrast, lesion, means))
    if lesion == "stroke":
        depth = ndimage.distance_transform_edt(mask) * spacing
        cavity = 1 / (1 + np.exp(-(depth - CAVITY_DEPTH)))
        target = target * (1 - cavity) + means[2] * cavity
    unevenness = ndimage.gaussian_filter(rng.standard_normal(image.shape), 3 / spacing)
    target = target * (1 + 0.06 * unevenness / max(float(unevenness.std()), 1e-6) + rng.normal(0, 0.05))
    texture = image - ndimage.gaussian_filter(image, 2 / spacing)
    weight = ndimage.gaussian_filter(mask.astype(float), 0.7 / spacing)
    painted = image + weight * (target + 0.7 * texture - image)
    out = classes.copy()
    out[mask] = index
    return out, np.where(classes > 0, np.clip(painted, 0, 1), 0).astype(np.float32)
