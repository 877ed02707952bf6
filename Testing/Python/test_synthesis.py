"""Images of random contrast from label maps."""

import numpy as np
import pytest
import torch

from BrainGenLib import anatomy
from BrainGenLib.training import synthesis

torch.set_num_threads(1)
LEFT_WM, RIGHT_WM = 1, 2
LEFT_CORTEX, RIGHT_CORTEX = 3, 4
CSF = anatomy.classes_of(name="extraventricular CSF")[0]
SCALP = 70


@pytest.fixture
def head() -> torch.Tensor:
    """A ball of white matter in shells of cortex, CSF and scalp; left half and right half."""
    axis = torch.arange(64) - 31.5
    r = (axis[:, None, None] ** 2 + axis[None, :, None] ** 2 + axis[None, None, :] ** 2).sqrt()
    labels = torch.zeros(64, 64, 64, dtype=torch.uint8)
    left = (axis < 0)[:, None, None].expand(64, 64, 64)
    for radius, on_left, on_right in (
        (30, SCALP, SCALP),
        (25, CSF, CSF),
        (22, LEFT_CORTEX, RIGHT_CORTEX),
        (17, LEFT_WM, RIGHT_WM),
    ):
        labels[(r < radius) & left] = on_left
        labels[(r < radius) & ~left] = on_right
    return labels


def deformed(head: torch.Tensor, seed: int, **options: object) -> torch.Tensor:
    return synthesis.draw_labels(head, (48, 56, 48), (31.5, 31.5, 31.5), synthesis.Draw(seed), **options)


def test_the_seed_decides_everything(head):
    def image(seed: int) -> torch.Tensor:
        draw = synthesis.Draw(seed)
        labels = synthesis.draw_labels(head, (48, 48, 48), (31.5, 31.5, 31.5), draw)
        return synthesis.acquire(synthesis.paint(labels, draw), draw)

    assert torch.equal(image(3), image(3))
    assert not torch.equal(image(3), image(4))


def test_left_stays_left_whether_mirrored_or_not(head):
    for seed in range(12):
        crop = deformed(head, seed)
        left, right = (torch.nonzero(crop == c)[:, 0].float().mean() for c in (LEFT_WM, RIGHT_WM))
        assert left < right


def test_half_of_the_draws_are_mirrored(head):
    head[8:20, 30:34, 30:34] = anatomy.lesions()["stroke"].index
    sides = [float(torch.nonzero(deformed(head, seed) == 38)[:, 0].float().mean()) < 24 for seed in range(20)]
    assert 4 <= sum(sides) <= 16


def test_a_deformation_keeps_volumes_within_its_scale(head):
    for seed in range(6):
        crop = synthesis.draw_labels(head, (80, 80, 80), (31.5, 31.5, 31.5), synthesis.Draw(seed))
        assert 0.4 < (crop > 0).sum() / (head > 0).sum() < 2.5


def test_lesions_grow_only_where_their_pathology_can(head):
    box = torch.full_like(head, anatomy.lesions()["wmh"].index)
    same = torch.ones(3), torch.zeros(3)
    crop = deformed(head, 1, lesion=(box, *same))
    assert not ((crop == LEFT_WM) | (crop == RIGHT_WM)).any()
    assert (crop == LEFT_CORTEX).any()
    assert (crop == CSF).any()
    stroke = torch.full_like(head, anatomy.lesions()["stroke"].index)
    crop = deformed(head, 1, lesion=(stroke, *same))
    assert not ((crop == LEFT_WM) | (crop == LEFT_CORTEX)).any()
    assert (crop == CSF).any()


def test_both_sides_share_an_intensity_and_background_is_black():
    means, sds = synthesis.intensities(synthesis.Draw(0))
    for label in anatomy.labels():
        assert means[label.index] == means[anatomy.mirrored_classes()[label.index]]
    assert means[0] == sds[0] == 0


def test_lesions_can_be_told_from_white_matter_in_every_unordered_contrast():
    for seed in range(50):
        means, _ = synthesis.intensities(synthesis.Draw(seed))
        assert all(abs(means[label.index] - means[LEFT_WM]) > 0.15 for label in anatomy.lesions().values())


def test_named_contrasts_have_the_order_of_the_sequence():
    def order(contrast: str) -> list[str]:
        drawn = [synthesis.intensities(synthesis.Draw(seed), contrast)[0] for seed in range(20)]
        mean = np.mean(drawn, 0)
        return sorted(("wm", "gm", "csf"), key=lambda tissue: mean[anatomy.classes_of(tissue=tissue)].mean())

    assert order("T1w") == ["csf", "gm", "wm"]
    assert order("T2w") == ["wm", "gm", "csf"]
    assert order("FLAIR") == ["csf", "wm", "gm"]


def test_acquired_images_are_finite_and_not_negative(head):
    for seed in range(12):
        draw = synthesis.Draw(seed)
        image = synthesis.acquire(synthesis.paint(head, draw), draw)
        assert image.shape == head.shape
        assert torch.isfinite(image).all()
        assert image.min() >= 0
        assert image.std() > 0


def test_stripping_removes_scalp_and_keeps_brain(head):
    for seed in range(6):
        brain = synthesis.strip(head, synthesis.Draw(seed))
        assert brain[(head == LEFT_WM) | (head == RIGHT_WM)].all()
        outer = head == SCALP
        assert brain[outer].float().mean() < 0.6


def test_a_refined_map_keeps_volumes_and_smooths_borders(head):
    coarse = head[::2, ::2, ::2].contiguous()
    fine = synthesis.refine(coarse)
    assert fine.shape == head.shape
    for index in torch.unique(coarse).tolist():
        assert (fine == index).sum() == pytest.approx(int(8 * (coarse == index).sum()), rel=0.06)
    blocks = coarse.repeat_interleave(2, 0).repeat_interleave(2, 1).repeat_interleave(2, 2)
    assert (fine == head).sum() > (blocks == head).sum()
