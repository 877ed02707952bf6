"""Ventricles of another size by moving tissue."""

import numpy as np
import pytest
from phantoms import phantom_image
from scipy import ndimage

from BrainGenLib import anatomy, spaces
from BrainGenLib.counterfactuals import Aligned, warped_scan
from BrainGenLib.errors import BadInput
from BrainGenLib.label_resampling import displaced
from BrainGenLib.methods.brain_ldm import volume_conditions
from BrainGenLib.methods.ventricle_warp import VentricleWarp, moved
from BrainGenLib.reading.volume import Volume


@pytest.fixture(scope="module")
def classes():
    """A brain with ventricles of a plausible size: two slender ellipsoids."""
    _, brain = spaces.template()
    solid = np.where(brain, anatomy.classes_of(name="cerebral white matter")[0], 0).astype(np.uint8)
    solid = solid.repeat(2, 0).repeat(2, 1).repeat(2, 2)
    r, a, s = np.indices(solid.shape)
    for side, index in zip((-12, 12), anatomy.classes_of(name="lateral ventricle"), strict=True):
        inside = ((r - 80 - side) / 7) ** 2 + ((a - 110) / 30) ** 2 + ((s - 80) / 10) ** 2 < 1
        solid[inside] = index
    return solid


def size(classes):
    return volume_conditions(classes, 1)["ventricles"]


@pytest.mark.parametrize("share", [0.6, 1.0, 1.5])
def test_ventricles_get_the_asked_size(classes, share):
    wanted = share * size(classes)
    warp = VentricleWarp(classes).to(wanted)
    assert size(moved(classes, warp, order=0)) == pytest.approx(wanted, rel=0.06)
    far = ndimage.distance_transform_edt(~np.isin(classes, anatomy.classes_of(name="lateral ventricle"))) > 24
    assert np.abs(warp[:, far]).max() < 0.02
    # No fold: nothing is turned inside out.
    jacobian = np.stack([np.stack(np.gradient(part)) for part in warp], -1).transpose(1, 2, 3, 0, 4) + np.eye(3)
    assert np.linalg.det(jacobian[40:120:2, 60:160:2, 50:110:2]).min() > 0


def test_a_deformed_brain_is_measured_as_it_will_be_made(classes):
    """Half a voxel shows in the original that is deformed once, and not in voxels that were chosen before."""
    shape = np.zeros((3, *classes.shape), np.float32)
    shape[0] = 0.5 * np.sin(np.arange(classes.shape[1]) / 5)[None, :, None]
    warp = VentricleWarp(displaced(classes, shape), (classes, shape))
    for share in (0.97, 1.02, 1.3):
        toward = warp.to(share * size(classes))
        both = np.stack([toward[axis] + moved(part, toward, 1) for axis, part in enumerate(shape)])
        assert size(displaced(classes, both)) == pytest.approx(share * size(classes), rel=0.01)


def test_what_this_brain_does_not_allow_is_refused(classes):
    with pytest.raises(BadInput, match=r"can be made \d+ to \d+ mL, not 900"):
        VentricleWarp(classes).to(900)
    solid = np.where(np.isin(classes, anatomy.classes_of(name="lateral ventricle")), 0, classes)
    with pytest.raises(BadInput, match="no lateral ventricles"):
        VentricleWarp(solid)


def test_a_scan_in_a_grid_of_its_own_is_moved_the_same_way(classes):
    image = phantom_image(classes)
    warp = VentricleWarp(classes).to(1.4 * size(classes))
    turn = np.eye(4)
    turn[:3, :3] = [[0.98, -0.17, 0], [0.17, 0.98, 0], [0, 0, 1]]
    turn[:3, 3] = (4, -3, 2)
    affine = spaces.GRID_2MM.affine
    scan = spaces.resample(
        image, spaces.GRID_1MM.affine, spaces.GRID_2MM.shape, affine, matrix=np.linalg.inv(turn), order=1
    )
    aligned = Aligned.of(Volume(scan, affine), turn, classes)
    after = warped_scan(warp, aligned)
    inside = ndimage.binary_erosion(classes > 0, iterations=6)

    def dark(volume):
        return (spaces.to_grid(volume, affine, spaces.GRID_1MM, template_to_scan=turn) < 0.55) & inside

    expected = (moved(image, warp, order=1) < 0.55) & inside
    overlap = 2 * (dark(after) & expected).sum() / (dark(after).sum() + expected.sum())
    assert overlap > 0.95
    assert dark(after).sum() == pytest.approx(1.4 * dark(scan).sum(), rel=0.08)
    changed = after != scan
    assert 0.01 < changed.mean() < 0.5
