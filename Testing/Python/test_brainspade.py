"""What the renderer promises: the same picture from the same seed, whatever is cut out of the volume."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from BrainGenLib import anatomy, spaces
from BrainGenLib.lesions import STRUCTURES
from BrainGenLib.methods import brainspade
from BrainGenLib.networks import spade_renderer
from BrainGenLib.networks.soft_tissue import TissueDenoiser
from BrainGenLib.networks.spade_renderer import SpadeRenderer, fold
from BrainGenLib.networks.style_encoder import StyleEncoder
from BrainGenLib.reporting import Silent
from BrainGenLib.training import painted_lesions
from BrainGenLib.training.acquisition import acquire
from BrainGenLib.training.cache import Cache, CachedCase, CacheWriter
from BrainGenLib.training.renderer import export, start_from, train
from BrainGenLib.training.renderer_patches import CONTRASTS, RendererPatches, refine_labels, scans
from BrainGenLib.training.resemblance import resemblance
from BrainGenLib.training.shared_bundle import with_section
from BrainGenLib.training.soft_tissue_material import half

SMALL = {"channels": (8, 8, 8), "head": 4}
VENTRICLE = anatomy.classes_of(name="lateral ventricle")[0]
WHITE, CORTEX = (anatomy.classes_of(name=f"cerebral {name}")[0] for name in ("white matter", "cortex"))


def ball(shape: tuple[int, ...]) -> np.ndarray:
    """A toy head: cortex around white matter around a ventricle."""
    axes = np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij")
    radius = np.sqrt(sum(axis**2 for axis in axes))
    return np.select([radius < 0.3, radius < 0.6, radius < 0.9], [VENTRICLE, WHITE, CORTEX], 0).astype(np.uint8)


@pytest.fixture
def model() -> brainspade.Renderer:
    torch.manual_seed(0)
    styles = {name: (np.zeros(16, np.float32), np.eye(2, 16, dtype=np.float32)) for name in (*CONTRASTS, "any")}
    tissue = TissueDenoiser(STRUCTURES, (4, 4)).eval()
    network = SpadeRenderer(**SMALL).eval()
    # A picture that is not clipped.
    torch.nn.init.constant_(network.signal.weight, 0.5)
    return brainspade.Renderer(network, tissue, StyleEncoder().eval(), CONTRASTS, styles, "cpu")


def render(model: brainspade.Renderer, classes: np.ndarray, contrast: str, seed: int = 0) -> np.ndarray:
    """A picture of a toy head with the soft tissue that a scan of it would have."""
    even = np.pad(classes, [(0, side % 2) for side in classes.shape])
    tissue = np.select([even == WHITE, even == CORTEX], [1, 0.5], 0.0).astype(np.float32)
    return brainspade.render(model, classes, half(tissue), contrast, style=None, seed=seed, report=Silent())


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One case at 1 mm with two contrasts, one at 2 mm, and a stroke mask."""
    folder = tmp_path_factory.mktemp("cache")
    writer = CacheWriter(folder)
    rng = np.random.default_rng(0)

    def picture(labels: np.ndarray) -> np.ndarray:
        return np.where(labels > 0, 40 + 3 * labels + rng.integers(0, 30, labels.shape), 0).astype(np.uint8)

    fine, coarse = ball(spaces.GRID_1MM.shape), ball(spaces.GRID_2MM.shape)
    place = {"split": "train", "space": "template"}
    writer.add(
        CachedCase("a", "fine", spacing=1, images={"T1w": (1, 1, 1), "FLAIR": (0.9, 0.9, 3)}, **place),
        fine,
        {"T1w": picture(fine), "FLAIR": picture(fine)},
    )
    writer.add(
        CachedCase("b", "coarse", spacing=2, images={"T1w": (2, 2, 2)}, **place), coarse, {"T1w": picture(coarse)}
    )
    stroke = np.zeros_like(coarse)
    stroke[30:40, 50:60, 30:40] = anatomy.lesions()["stroke"].index
    writer.add(CachedCase("c", "stroke", "train", "lesion", 2, pathologies=["stroke"]), stroke, {})
    writer.close()
    return folder


def test_folding_puts_a_block_of_voxels_into_channels() -> None:
    x = torch.randn(2, 3, 4, 6, 8)
    folded = fold(x)
    assert folded.shape == (2, 24, 2, 3, 4)
    assert torch.equal(folded[0, :8, 0, 0, 0], x[0, 0, :2, :2, :2].flatten())


def test_same_seed_gives_the_same_picture_and_another_seed_another(model: brainspade.Renderer) -> None:
    classes = ball((32, 40, 48))
    first, again, other = (render(model, classes, "T1w", seed) for seed in (3, 3, 4))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_any_shape_comes_back_in_its_own_shape_with_a_black_background(model: brainspade.Renderer) -> None:
    classes = ball((37, 50, 13))
    image = render(model, classes, "FLAIR")
    assert image.shape == classes.shape
    assert image.dtype == np.float32
    assert image.min() >= 0
    assert image.max() <= 1
    assert not image[classes == 0].any()


def test_soft_tissue_of_1mm_shows_what_that_of_2mm_cannot(model: brainspade.Renderer) -> None:
    torch.nn.init.constant_(model.network.gain.weight, 0.5)
    classes = np.full((32, 32, 32), CORTEX, np.uint8)
    tissue = np.full(classes.shape, 0.5, np.float32)
    tissue[16] = 0  # a sulcus of 1 mm
    images = [
        brainspade.render(model, classes, given, "T1w", style=np.zeros(16), seed=0, report=Silent())
        for given in (tissue, half(tissue))
    ]
    fine, coarse = (image[16, 8:24, 8:24].mean() - image[8, 8:24, 8:24].mean() for image in images)
    assert fine > 1.3 * coarse > 0


def test_slabs_leave_no_seam(model: brainspade.Renderer, monkeypatch) -> None:
    classes = ball((16, 16, 80))
    monkeypatch.setattr(brainspade, "SLAB", 16)
    monkeypatch.setattr(spade_renderer, "SLICES", 7)
    slabs = render(model, classes, "T1w")
    monkeypatch.setattr(brainspade, "SLAB", 80)
    monkeypatch.setattr(spade_renderer, "SLICES", 40)
    np.testing.assert_allclose(slabs, render(model, classes, "T1w"), atol=1e-5)
    assert slabs.std() > 0.1


def test_unknown_contrast_is_refused_with_the_known_ones(model: brainspade.Renderer) -> None:
    with pytest.raises(ValueError, match="T1w, T2w, FLAIR"):
        render(model, ball((16, 16, 16)), "DWI")


def test_style_of_an_empty_reference_is_refused(model: brainspade.Renderer) -> None:
    with pytest.raises(ValueError, match="no brain"):
        brainspade.encode_style(model, np.zeros((16, 16, 16), np.float32))


def test_style_ignores_how_much_background_surrounds_the_brain(model: brainspade.Renderer) -> None:
    image = (ball((64, 64, 8)) / 40).astype(np.float32)
    wide = np.pad(image, ((32, 32), (32, 32), (0, 0)))
    np.testing.assert_allclose(brainspade.encode_style(model, image), brainspade.encode_style(model, wide), atol=0.05)


def test_acquisition_blurs_thick_axes_only() -> None:
    point = torch.zeros(2, 1, 17, 17, 17)
    point[..., 8, 8, 8] = 1
    thin, thick = acquire(point, torch.tensor([[1.0, 1.0, 1.0], [0.9, 0.9, 3.0]]))[:, 0]
    assert torch.equal(thin, point[0, 0])
    assert thick[8, 8, 8] < 0.5
    assert thick[8, 8].sum() == pytest.approx(1)


def test_texture_energy_tells_a_painted_phantom_from_a_noisy_scan() -> None:
    scan = 0.5 + 0.05 * torch.randn(1, 1, 32, 32, 32, generator=torch.Generator().manual_seed(0))
    other = 0.5 + 0.05 * torch.randn(1, 1, 32, 32, 32, generator=torch.Generator().manual_seed(1))
    voxel, coarse = torch.ones(1, 3), torch.tensor([False])
    phantom = resemblance(torch.full_like(scan, 0.5), scan, voxel, coarse, 0.0)
    noisy = resemblance(other, scan, voxel, coarse, 0.0)
    assert noisy["texture"] < 0.2 * phantom["texture"]


def test_labels_refined_from_2mm_keep_their_volumes() -> None:
    coarse = ball((24, 24, 24))
    fine = refine_labels(coarse, from_1mm=False)
    for index in np.unique(coarse):
        assert (fine == index).sum() == pytest.approx(8 * (coarse == index).sum(), rel=0.15)


@pytest.mark.parametrize(("contrast", "brighter"), [("FLAIR", True), ("T2w", True), ("T1w", False)])
def test_painted_plaques_have_the_textbook_brightness(contrast: str, brighter: bool) -> None:
    classes = np.full((24, 24, 24), WHITE, np.uint8)
    means = {"T1w": (0.8, 0.55, 0.2), "T2w": (0.35, 0.45, 0.9), "FLAIR": (0.5, 0.6, 0.1)}[contrast]
    image = np.full(classes.shape, means[0], np.float32)
    mask = np.zeros(classes.shape, bool)
    mask[8:16, 8:16, 8:16] = True
    labels, painted = painted_lesions.paint(
        classes, image, mask, "ms", contrast, np.array(means), 1, np.random.default_rng(0)
    )
    assert set(np.unique(labels[mask])) == {anatomy.lesions()["ms"].index}
    assert (painted[12, 12, 12] > means[0]) == brighter


def test_every_patch_is_a_brain_within_range(cache: Path) -> None:
    data = Cache(cache)
    training, validation = scans(data)
    assert not validation
    patches, rng = RendererPatches(data, training, 32, seed=0), np.random.default_rng(0)
    for _ in range(20):
        sample = patches.sample(rng)
        assert sample["classes"].shape == (32, 32, 32)
        assert sample["image"].shape == (1, 32, 32, 32)
        assert sample["tissue"].shape == (1, 32, 32, 32)
        assert sample["slices"].shape == (2, 160, 224)
        assert 0 <= sample["image"].min() <= sample["image"].max() <= 1
        assert sample["classes"].any()


def test_training_resumes_and_exports_into_a_bundle(cache: Path, tmp_path: Path, monkeypatch) -> None:
    torch.set_num_threads(1)
    train(cache, tmp_path / "run", device="cpu", steps=2)
    bundle = export(tmp_path / "run", tmp_path / "bundle")
    assert bundle.metadata.contrasts == list(CONTRASTS)
    assert set(json.loads((tmp_path / "run" / "styles.json").read_text(encoding="utf-8"))) == {"T1w", "FLAIR", "any"}
    network = bundle.load("renderer")
    classes = torch.from_numpy(ball((32, 32, 32)))[None]
    image = network(classes, torch.full((1, 1, 16, 16, 16), 0.5), torch.tensor([0]), torch.zeros(1, 16))
    assert image[0, 0, 16, 16, 10] > 0

    # A new run may begin with what is in a bundle.
    monkeypatch.setenv("BRAINGEN_BUNDLES", str(tmp_path))
    train(cache, tmp_path / "more", device="cpu", steps=1, start=bundle.name)
    begun = export(tmp_path / "more", tmp_path / "more-bundle").load("renderer").state_dict()
    for name, weights in network.state_dict().items():
        assert (begun[name] - weights).abs().max() < 0.02, name


def test_brightness_starts_from_a_regression_on_soft_tissue(tmp_path: Path) -> None:
    """A scan that is bright where tissue is white, and one, like FLAIR, that is bright where it is grey."""
    rng = np.random.default_rng(0)
    classes = ball(spaces.GRID_2MM.shape)
    soft = np.array([0.0, 1.0, 0.5, 0.0])[np.select([classes == WHITE, classes == CORTEX, classes > 0], [1, 2, 3], 0)]
    soft = soft + 0.1 * rng.standard_normal(soft.shape)
    t1w = np.where(classes > 0, (60 + 120 * soft).clip(1, 255), 0).astype(np.uint8)
    flair = np.where(classes > 0, (200 - 240 * abs(soft - 0.5)).clip(1, 255), 0).astype(np.uint8)
    writer = CacheWriter(tmp_path)
    case = CachedCase("a", "set", "train", "template", 2, images={"T1w": (2, 2, 2), "FLAIR": (2, 2, 2)})
    writer.add(case, classes, {"T1w": t1w, "FLAIR": flair})
    writer.close()
    data = Cache(tmp_path)
    network = SpadeRenderer(**SMALL)
    start_from(network, data, scans(data)[0])
    gain = network.gain.weight.detach().unflatten(1, (-1, 2))
    fluid, white = gain[CONTRASTS.index("T1w"), CORTEX]
    assert fluid < -0.05
    assert white > 0.05
    assert (gain[CONTRASTS.index("FLAIR"), CORTEX] < -0.05).all()
    assert network.typical[WHITE].numpy() == pytest.approx([0, 1], abs=0.05)
    assert network.typical[CORTEX].numpy() == pytest.approx([0.1, 0.1], abs=0.1)
    assert not gain[:, [0, *(label.index for label in anatomy.lesions().values())]].any()


def test_model_card_section_is_replaced_not_repeated() -> None:
    card = with_section("# Title\n\n## Other\nkept\n", "## Renderer\none\n")
    card = with_section(card, "## Renderer\ntwo\n")
    assert card.count("## Renderer") == 1
    assert "two" in card
    assert "one" not in card
    assert "kept" in card
