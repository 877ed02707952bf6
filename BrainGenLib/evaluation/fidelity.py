"""How far apart two sets of images are, as distances between their features or their intensities.

The features come from this project's own segmenter (:mod:`BrainGenLib.evaluation.features`), so none of these
figures can be compared with a published FID or MMD. They are meant to be read beside a floor (real against real, same
number of scans) and a baseline.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from monai.metrics.regression import compute_ms_ssim
from scipy.spatial.distance import cdist, pdist
from scipy.stats import wasserstein_distance

# The three finest scales of Wang et al. 2003, weights made to sum to one; the window is 7³, for on a CPU a dense 3D
# convolution with their 11 takes 4 GB a volume.
MS_SSIM_WINDOW = 7
MS_SSIM_WEIGHTS = tuple(weight / 0.6305 for weight in (0.0448, 0.2856, 0.3001))


def shrunk_covariance(samples: np.ndarray) -> np.ndarray:
    """Ledoit-Wolf covariance, (d, d), of ``samples`` (n, d): usable, and of full rank, when n is smaller than d.

    Ledoit and Wolf, J. Multivariate Analysis 88 (2004), with the identity times the mean variance as the target.
    """
    n, d = samples.shape
    centred = samples - samples.mean(0)
    covariance = centred.T @ centred / n
    mean_variance = np.trace(covariance) / d
    distance = np.square(covariance - mean_variance * np.eye(d)).sum() / d
    norms = np.square(centred).sum(1)
    noise = (np.square(norms).sum() / n - np.square(covariance).sum()) / (n * d)
    weight = min(noise / distance, 1.0) if distance > 0 else 1.0
    return weight * mean_variance * np.eye(d) + (1 - weight) * covariance


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Squared Fréchet distance between Gaussians fitted to two feature sets, (n, d) and (m, d).

    Heusel et al. 2017, eq. 6, with shrunk covariances. It is biased upwards for few samples, which shrinkage lessens
    but does not remove: compare only figures of equal n and m. (MONAI's ``FIDMetric`` takes plain covariances, and a
    matrix square root that is unstable for singular ones; of the root only the trace is needed.)
    """
    (mean_a, cov_a), (mean_b, cov_b) = ((x.mean(0), shrunk_covariance(x)) for x in (a, b))
    root_trace = np.sqrt(np.linalg.eigvals(cov_a @ cov_b).real.clip(0)).sum()
    return float(np.square(mean_a - mean_b).sum() + np.trace(cov_a) + np.trace(cov_b) - 2 * root_trace)


def median_bandwidth(features: np.ndarray) -> float:
    """Median distance between the rows of ``features``: the usual kernel width (Gretton et al. 2012)."""
    return float(np.median(pdist(features)))


def mmd(a: np.ndarray, b: np.ndarray, bandwidth: float) -> float:
    """Unbiased squared maximum mean discrepancy of two feature sets, (n, d) and (m, d), Gaussian kernel.

    Gretton et al., JMLR 13 (2012), lemma 6. Zero on average, and so negative half of the time, when both sets come
    from one distribution. (MONAI's ``MMDMetric`` has a linear kernel, that is: it compares means only.)
    """

    def kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.exp(-cdist(x, y, "sqeuclidean") / (2 * bandwidth**2))

    def off_diagonal_mean(gram: np.ndarray) -> float:
        n = len(gram)
        return float((gram.sum() - np.trace(gram)) / (n * (n - 1)))

    return off_diagonal_mean(kernel(a, a)) + off_diagonal_mean(kernel(b, b)) - 2 * float(kernel(a, b).mean())


class Whitening:
    """The leading directions of a reference set, each scaled to unit variance.

    Features differ in scale by orders of magnitude, and there are more of them than scans; distances are computed in
    ``components`` directions that the reference (real scans only, so no generator has a say in it) varies most in,
    after every feature was divided by its standard deviation there.
    """

    def __init__(self, reference: np.ndarray, components: int) -> None:
        self.mean = reference.mean(0)
        deviation = reference.std(0)
        self.scale = np.where(deviation > 1e-8 * deviation.max(), deviation, np.inf)
        standard = (reference - self.mean) / self.scale
        _, singular, directions = np.linalg.svd(standard, full_matrices=False)
        kept = min(components, int((singular > 1e-6 * singular[0]).sum()))
        self.directions = directions[:kept].T * np.sqrt(len(reference)) / singular[:kept]

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """(n, d) features to (n, components)."""
        return ((features - self.mean) / self.scale) @ self.directions


def residual_distance(features: np.ndarray, reference: np.ndarray) -> float:
    """Median over rows of the root mean squared z-score of ``features`` against ``reference``.

    Finds what lies outside of every direction in which real scans vary, where :class:`Whitening` does not look.
    """
    deviation = reference.std(0)
    used = deviation > 1e-8 * deviation.max()
    z = (features[:, used] - reference.mean(0)[used]) / deviation[used]
    return float(np.median(np.sqrt(np.square(z).mean(1))))


def intensity_emd(a: np.ndarray, b: np.ndarray, bins: int = 256) -> float:
    """Earth mover's distance between the intensities (in [0, 1]) of two voxel samples: the mean shift that turns one
    histogram into the other, in units of the intensity range."""
    edges = np.linspace(0, 1, bins + 1)
    centres = (edges[:-1] + edges[1:]) / 2
    weights = [np.histogram(np.clip(x, 0, 1), edges)[0] for x in (a, b)]
    return float(wasserstein_distance(centres, centres, *weights))


def ms_ssim_diversity(volumes: Sequence[np.ndarray], pairs: int, rng: np.random.Generator) -> float:
    """Mean multi-scale SSIM over random pairs of a set of (R, A, S) volumes in [0, 1]; lower is more diverse.

    A set that repeats one image scores 1. To be read beside the same figure for real scans.
    """
    scores = []
    for _ in range(pairs):
        one, other = (
            torch.from_numpy(volumes[i].astype(np.float32))[None, None]
            for i in rng.choice(len(volumes), 2, replace=False)
        )
        score = compute_ms_ssim(one, other, spatial_dims=3, weights=MS_SSIM_WEIGHTS, kernel_size=MS_SSIM_WINDOW)
        scores.append(float(score))
    return float(np.mean(scores))


def split_halves(
    count: int,
    rounds: int,
    rng: np.random.Generator,
    statistic: Callable[[np.ndarray, np.ndarray], float | list[float]],
) -> np.ndarray:
    """``statistic(half, other_half)`` of index arrays over ``rounds`` random halvings of ``count`` scans.

    Returns (rounds,) or, of a statistic that is a list, (rounds, length).

    Deleting half of a sample is the jackknife whose spread estimates that of the whole sample (Shao and Wu, Ann.
    Stat. 17 (1989), d = n/2). A bootstrap would put the same scan into a set twice, which MMD and FID take for
    structure.
    """
    values = []
    for _ in range(rounds):
        order = rng.permutation(count)
        values.append(statistic(order[: count // 2], order[count // 2 : 2 * (count // 2)]))
    return np.array(values)
