"""Grids, resampling and registration: template space is MNI152, RAS+, in mm.

Arrays are (R, A, S) volumes next to a 4×4 voxel-to-world affine in RAS+ mm, as nibabel has them. Matrices between
worlds are 4×4 and named by what they map: ``template_to_scan @ [x, y, z, 1]`` takes a template point to the scan.
SimpleITK does the work; its LPS convention appears only in :func:`to_sitk` and :func:`from_sitk`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from BrainGenLib.label_resampling import majority
from BrainGenLib.reading.scans import above_air
from BrainGenLib.reading.volume import read_volume

if TYPE_CHECKING:
    import SimpleITK as sitk


@dataclass(frozen=True)
class Grid:
    """A regular RAS+ grid: ``shape`` voxels of ``spacing`` mm, first voxel centre at ``origin`` mm."""

    shape: tuple[int, int, int]
    spacing: float
    origin: tuple[float, float, float]

    @property
    def affine(self) -> np.ndarray:
        """4×4 voxel-to-world matrix."""
        affine = np.diag([self.spacing] * 3 + [1.0])
        affine[:3, 3] = self.origin
        return affine


# Every 2 mm voxel is exactly a block of 2×2×2 voxels of 1 mm, and x is symmetric about the midplane.
GRID_1MM = Grid((160, 224, 160), 1.0, (-79.5, -127.5, -77.5))
GRID_2MM = Grid((80, 112, 80), 2.0, (-79.0, -127.0, -77.0))


LPS = np.diag([-1.0, -1.0, 1.0, 1.0])

SMALLER = 0.8
"""Size of the brain in a small head, as a share of the head's."""


@dataclass(frozen=True)
class Registration:
    """Where a scan lies in the template.

    Attributes:
        template_to_scan: 4×4 matrix, template world (mm) to scan world (mm).
        dice: overlap of the scan's brain with the template brain inside the scan's field of view, 0 to 1 (below about
            0.85 something went wrong). Without a brain mask the scan's foreground stands for the brain: only a hint.
        coverage: share of the template brain that the field of view holds, 0 to 1.
        information: mutual information of scan and template within the template brain, in nats.
    """

    template_to_scan: np.ndarray
    dice: float
    coverage: float = 1.0
    information: float = 0.0

    @property
    def size(self) -> float:
        """How many times as long as the template brain the scan's brain is, on average of its axes."""
        return float(np.cbrt(abs(np.linalg.det(self.template_to_scan[:3, :3]))))


# -- grids ---------------------------------------------------------------------------------------------------------


def canonical(array: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same volume with its axes flipped and permuted to (R, A, S), without resampling."""
    from nibabel import orientations

    orientation = orientations.io_orientation(affine)
    turned = np.ascontiguousarray(orientations.apply_orientation(array, orientation))
    return turned, affine @ orientations.inv_ornt_aff(orientation, array.shape)


def voxel_size(affine: np.ndarray) -> tuple[float, float, float]:
    """Voxel edge lengths in mm along the array axes."""
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    return float(sizes[0]), float(sizes[1]), float(sizes[2])


def same_grid(
    shape_a: tuple[int, ...],
    affine_a: np.ndarray,
    shape_b: tuple[int, ...],
    affine_b: np.ndarray,
    tolerance: float = 0.05,
) -> bool:
    """Whether two grids have the same voxels, to ``tolerance`` mm at the corners."""
    if tuple(shape_a) != tuple(shape_b):
        return False
    corners = _corners(shape_a)
    return bool(np.abs(corners @ (affine_a - affine_b).T).max() < tolerance)


def to_sitk(array: np.ndarray, affine: np.ndarray) -> sitk.Image:
    """nibabel-style volume to a SimpleITK image (LPS).

    Raises:
        ValueError: the affine is sheared, which SimpleITK's image geometry cannot hold.
    """
    import SimpleITK as sitk

    lps = LPS @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    direction = lps[:3, :3] / spacing
    if np.abs(direction.T @ direction - np.eye(3)).max() > 1e-3:
        raise ValueError("The image axes are not at right angles; resample it to a regular grid first.")
    left, _, right = np.linalg.svd(direction)
    image = sitk.GetImageFromArray(np.ascontiguousarray(array.transpose(2, 1, 0)))
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    image.SetDirection((left @ right).ravel().tolist())
    return image


def from_sitk(image: sitk.Image) -> tuple[np.ndarray, np.ndarray]:
    """SimpleITK image (LPS) to array and RAS+ affine."""
    import SimpleITK as sitk

    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * np.asarray(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    return sitk.GetArrayFromImage(image).transpose(2, 1, 0), LPS @ affine


# -- resampling ------------------------------------------------------------------------------------------------------


def resample(
    array: np.ndarray,
    affine: np.ndarray,
    shape: tuple[int, int, int],
    target_affine: np.ndarray,
    *,
    matrix: np.ndarray | None = None,
    order: Literal[0, 1, 3, "label"] = 1,
    fill: float = 0,
) -> np.ndarray:
    """Resample a volume to another grid.

    Args:
        array: volume; ``affine`` its voxel-to-world matrix.
        shape: voxels of the target grid; ``target_affine`` its voxel-to-world matrix.
        matrix: target world to source world (identity when None), e.g. ``Registration.template_to_scan``.
        order: 0 nearest, 1 linear, 3 cubic B-spline, ``"label"`` the label with the largest linearly interpolated
            share (smooth borders without new labels). Orders 1 and 3 smooth first along axes that become coarser.
        fill: value outside the source.

    Returns:
        Array of ``shape``: float32 for orders 1 and 3, the source's type for others.
    """
    import SimpleITK as sitk

    index_map = np.linalg.inv(affine) @ (np.eye(4) if matrix is None else matrix) @ target_affine
    if order in (1, 3):
        array = np.asarray(array, np.float32)
        array = _smooth_for(array, index_map)
    elif array.dtype == bool:
        array = array.astype(np.uint8)
    if order == "label":
        return majority(array, shape, index_map, fill)
    # Index space on both sides: any affine, sheared ones included, and no LPS.
    source = sitk.GetImageFromArray(np.ascontiguousarray(array.transpose(2, 1, 0)))
    transform = sitk.AffineTransform(3)
    transform.SetMatrix(index_map[:3, :3].ravel().tolist())
    transform.SetTranslation(index_map[:3, 3].tolist())
    interpolator = {0: sitk.sitkNearestNeighbor, 1: sitk.sitkLinear, 3: sitk.sitkBSpline}
    result = sitk.Resample(
        source,
        [int(n) for n in shape],
        transform,
        interpolator[order],
        [0.0] * 3,
        [1.0] * 3,
        np.eye(3).ravel().tolist(),
        float(fill),
    )
    return np.ascontiguousarray(sitk.GetArrayFromImage(result).transpose(2, 1, 0))


def to_grid(
    array: np.ndarray,
    affine: np.ndarray,
    grid: Grid,
    *,
    template_to_scan: np.ndarray | None = None,
    order: Literal[0, 1, 3, "label"] = 1,
) -> np.ndarray:
    """A scan on a template grid; see :func:`resample`."""
    return resample(array, affine, grid.shape, grid.affine, matrix=template_to_scan, order=order)


def _smooth_for(array: np.ndarray, index_map: np.ndarray) -> np.ndarray:
    """Gaussian along the source axes that the target samples more coarsely (full widths add in quadrature)."""
    from scipy import ndimage

    step = np.abs(index_map[:3, :3]).max(axis=1)
    sigma = np.sqrt(np.maximum(step**2 - 1, 0)) / 2.355
    return ndimage.gaussian_filter(array, sigma) if sigma.max() > 0.2 else array


def _corners(shape: tuple[int, ...]) -> np.ndarray:
    """The 8 corner voxels in homogeneous coordinates, (8, 4)."""
    grid = np.array(np.meshgrid(*[(0, n - 1) for n in shape[:3]], indexing="ij")).reshape(3, -1)
    return np.vstack([grid, np.ones(8)]).T


def bounding_grid(
    shape: tuple[int, ...], affine: np.ndarray, spacing: float
) -> tuple[tuple[int, int, int], np.ndarray]:
    """An axis-aligned RAS+ grid of ``spacing`` mm around a volume: its shape and affine."""
    points = (_corners(shape) @ affine.T)[:, :3]
    low, high = points.min(0), points.max(0)
    n = np.maximum(np.ceil((high - low) / spacing).astype(int) + 1, 8)
    result = np.diag([spacing] * 3 + [1.0])
    result[:3, 3] = low
    return (int(n[0]), int(n[1]), int(n[2])), result


# -- registration ----------------------------------------------------------------------------------------------------


def resources(name: str) -> Path:
    """A file under ``Resources/``, in a checkout or in an installed package.

    Raises:
        FileNotFoundError: it is in neither place.
    """
    here = Path(__file__).resolve().parent
    for folder in (here / "_resources", here.parent / "Resources"):
        if (folder / name).exists():
            return folder / name
    raise FileNotFoundError(f"Resources/{name} is missing from this installation of BrainGen; install it again.")


@cache
def template() -> tuple[np.ndarray, np.ndarray]:
    """The MNI152 T1w template (uint8, 0 outside the brain) and its brain mask (bool), both on GRID_2MM."""
    image = read_volume(resources("Templates/mni152_T1w_2mm.nii.gz"))
    brain = read_volume(resources("Templates/mni152_brain_2mm.nii.gz"))
    return image.data, brain.data > 0


def dice(a: np.ndarray, b: np.ndarray) -> float:
    """Overlap of two masks, 0 to 1 (1 when both are empty)."""
    a, b = a > 0, b > 0
    total = int(a.sum()) + int(b.sum())
    return 2.0 * int((a & b).sum()) / total if total else 1.0


def register(
    fixed: np.ndarray,
    fixed_affine: np.ndarray,
    moving: np.ndarray,
    moving_affine: np.ndarray,
    *,
    dof: Literal[6, 12] = 6,
    fixed_mask: np.ndarray | None = None,
    start: np.ndarray | None = None,
    spacing: float = 3.0,
    seed: int = 0,
) -> np.ndarray:
    """Align two volumes by mutual information (any pair of contrasts).

    Args:
        fixed, moving: volumes with their affines, in any units; ``fixed_mask`` limits where they are compared.
        dof: 6 rigid, 12 affine.
        start: fixed world to moving world to begin from; None starts from equal worlds (scans of one session).
        spacing: working resolution in mm.

    Returns:
        4×4 matrix, fixed world to moving world.

    Raises:
        ValueError: the volumes do not overlap at the start.
    """
    return _registered(fixed, fixed_affine, moving, moving_affine, dof, fixed_mask, start, spacing, seed)[0]


def _registered(
    fixed: np.ndarray,
    fixed_affine: np.ndarray,
    moving: np.ndarray,
    moving_affine: np.ndarray,
    dof: int,
    fixed_mask: np.ndarray | None,
    start: np.ndarray | None,
    spacing: float = 3.0,
    seed: int = 0,
) -> tuple[np.ndarray, float]:
    """The matrix of :func:`register`, and the mutual information there."""
    import SimpleITK as sitk

    start = np.eye(4) if start is None else np.asarray(start, float)

    def regular(array: np.ndarray, affine: np.ndarray, order: Literal[0, 1]) -> sitk.Image:
        shape, target = bounding_grid(array.shape, affine, spacing)
        image = sitk.GetImageFromArray(resample(array, affine, shape, target, order=order).transpose(2, 1, 0))
        image.SetSpacing([spacing] * 3)
        image.SetOrigin(target[:3, 3].tolist())
        return image

    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(32)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetMetricSamplingStrategy(method.REGULAR)
    # 0 would stand for the wall clock.
    method.SetMetricSamplingPercentagePerLevel([0.5, 0.25], seed + 1)
    method.SetShrinkFactorsPerLevel([2, 1])
    method.SetSmoothingSigmasPerLevel([spacing, spacing / 3])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    method.SetOptimizerAsRegularStepGradientDescent(1.0, 0.02, 80, relaxationFactor=0.6)
    method.SetOptimizerScalesFromPhysicalShift()
    points = np.argwhere((fixed if fixed_mask is None else fixed_mask) > 0)
    centre = (fixed_affine @ np.r_[points.mean(0) if len(points) else np.array(fixed.shape) / 2, 1.0])[:3]
    # ``start`` stays; the optimiser finds a correction before it. Coordinates start in the brain's middle,
    # so that rotations turn about it (the optimiser does not keep a centre set on the transform).
    middle = np.eye(4)
    middle[:3, 3] = centre
    before = start @ middle
    initial = sitk.AffineTransform(3)
    initial.SetMatrix(before[:3, :3].ravel().tolist())
    initial.SetTranslation(before[:3, 3].tolist())
    correction = sitk.Euler3DTransform() if dof == 6 else sitk.AffineTransform(3)
    method.SetMovingInitialTransform(initial)
    method.SetInitialTransform(correction, inPlace=True)
    # What lies outside of a volume is 0, as air is.
    target = regular(above_air(fixed), fixed_affine, 1)
    target.SetOrigin((np.asarray(target.GetOrigin()) - centre).tolist())
    if fixed_mask is not None:
        mask = sitk.Cast(regular(fixed_mask.astype(np.uint8), fixed_affine, 0), sitk.sitkUInt8)
        mask.SetOrigin(target.GetOrigin())
        method.SetMetricFixedMask(mask)
    threads = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    # With more threads sums add up in any order, and the last digits differ from run to run; it is no slower.
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    try:
        method.Execute(target, regular(above_air(moving), moving_affine, 1))
    except RuntimeError as error:
        raise ValueError("The two images do not overlap; check their orientation in the header.") from error
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
    found = np.eye(4)
    found[:3, 3] = correction.TransformPoint((0.0, 0.0, 0.0))
    for axis in range(3):
        found[:3, axis] = np.asarray(correction.TransformPoint(np.eye(3)[axis].tolist())) - found[:3, 3]
    return before @ found @ np.linalg.inv(middle), -method.GetMetricValue()


def register_to_template(image: np.ndarray, affine: np.ndarray, brain: np.ndarray) -> Registration:
    """Affine alignment of a brain, of any contrast, with the MNI152 template.

    Args:
        image: volume (any contrast) with its voxel-to-world ``affine``.
        brain: mask of the brain on the same grid.

    Raises:
        ValueError: the mask is empty, or the brain cannot be aligned.
    """
    _, fixed_brain = template()
    image = above_air(image)
    if not brain.any():
        raise ValueError("The mask of the brain is empty.")
    found: list[Registration] = []
    for start in _starts(fixed_brain, GRID_2MM.affine, brain, affine):
        found.append(to_template(np.where(brain, image, 0), affine, brain, start, (12,)))
        if found[-1].dice > 0.9:
            return found[-1]
    # Where a part of a brain is missing, the outline alone would be squeezed until it fits.
    return max(found, key=lambda one: one.information)


def smaller_brain(image: np.ndarray, affine: np.ndarray, registration: Registration) -> bool:
    """Whether a scan agrees better with the template if its brain is much smaller than the one that was found.

    So it is where a small head was taken for a brain.
    """
    _, fixed_brain = template()
    image = above_air(image)
    centre = GRID_2MM.affine @ np.r_[np.argwhere(fixed_brain).mean(0), 1.0]
    start = registration.template_to_scan.copy()
    start[:3, :3] *= SMALLER
    start[:3, 3] += (registration.template_to_scan[:3, :3] - start[:3, :3]) @ centre[:3]
    found = to_template(image, affine, foreground(image), start, (12,))
    return found.size < (1 + SMALLER) / 2 * registration.size and found.information > registration.information


def to_template(
    image: np.ndarray, affine: np.ndarray, support: np.ndarray, start: np.ndarray, steps: tuple[int, ...]
) -> Registration:
    from scipy import ndimage

    fixed, fixed_brain = template()
    near = ndimage.binary_dilation(fixed_brain, iterations=3)
    matrix, information = start, 0.0
    for dof in steps:
        matrix, information = _registered(fixed, GRID_2MM.affine, image, affine, dof, near, matrix)
    view = to_grid(np.ones(support.shape, np.uint8), affine, GRID_2MM, template_to_scan=matrix, order=0) > 0
    overlap = dice(to_grid(support, affine, GRID_2MM, template_to_scan=matrix, order=0), fixed_brain & view)
    return Registration(matrix, overlap, float(view[fixed_brain].mean()), information)


def foreground(image: np.ndarray) -> np.ndarray:
    """Where a scan (intensities above air) shows more than noise."""
    return image > 0.1 * np.percentile(image[image > 0], 95) if (image > 0).any() else np.zeros(image.shape, bool)


def _starts(
    fixed: np.ndarray, fixed_affine: np.ndarray, moving: np.ndarray, moving_affine: np.ndarray
) -> list[np.ndarray]:
    """First guesses, fixed world to moving world: centres and sizes made equal, upright and tilted.

    Where the field of view cuts the brain off below or above, the other end is matched instead of the centre.
    """

    def points(mask: np.ndarray, affine: np.ndarray) -> np.ndarray:
        return np.argwhere(mask)[::7] @ affine[:3, :3].T + affine[:3, 3]

    ours, theirs = points(fixed, fixed_affine), points(moving, moving_affine)
    centre, other = ours.mean(0), theirs.mean(0)
    edge = (_corners(moving.shape) @ moving_affine.T)[:, 2]
    margin = 1.5 * max(voxel_size(moving_affine))
    # A brain ends in a point below and in a cap above: a wide cross-section at the edge has been cut.
    wide = 0.3 * len(theirs) * margin / max(float(np.ptp(theirs[:, 2])), 1.0)
    cut_below = int((theirs[:, 2] < edge.min() + margin).sum()) > wide
    cut_above = int((theirs[:, 2] > edge.max() - margin).sum()) > wide
    axes = [0, 1] if cut_below or cut_above else [0, 1, 2]
    ratio = float(np.clip(np.prod((theirs.std(0) / ours.std(0))[axes]) ** (1 / len(axes)), 0.8, 1.2))
    if cut_below != cut_above:
        # The part of the template that is as high as what the scan shows stands for it.
        height = float(np.ptp(theirs[:, 2])) / ratio
        end = ours[:, 2].max() - height if cut_below else ours[:, 2].min() + height
        part = ours[ours[:, 2] >= end] if cut_below else ours[ours[:, 2] <= end]
        centre = part.mean(0)
    starts = []
    for tilt in (0.0, 20.0, -20.0):
        matrix = np.eye(4)
        matrix[:3, :3] = pitch(tilt) * ratio
        matrix[:3, 3] = other - matrix[:3, :3] @ centre
        starts.append(matrix)
    return starts


def pitch(degrees: float) -> np.ndarray:
    """Rotation (3×3) about the axis from left to right."""
    angle = np.deg2rad(degrees)
    return np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
