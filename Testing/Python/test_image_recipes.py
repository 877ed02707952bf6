"""The recipes of the image model: material, the three runs, and the bundle that they become."""

import csv
import json

import numpy as np
import pytest
import torch
from phantoms import phantom_image

from BrainGenLib import anatomy, bundles
from BrainGenLib.lesions import PATHOLOGIES, STRUCTURES
from BrainGenLib.methods.brain_ldm import CONDITIONS, BrainLDM
from BrainGenLib.networks.image_diffusion import ImageDenoiser
from BrainGenLib.training import (
    age_judge,
    drift_curve,
    image_autoencoder,
    image_broad,
    image_diffusion,
    image_export,
    image_latents,
)
from BrainGenLib.training.cache import CachedCase, CacheWriter
from BrainGenLib.training.image_material import ImageMaterial, augmented, loads, measured


@pytest.fixture(scope="module")
def cache(tmp_path_factory, phantom_classes):
    """Three brains with T1w and T2w scans and a lesion each, two to train on."""
    torch.set_num_threads(1)
    classes = phantom_classes.copy()
    classes[30:34, 40:46, 40:44] = STRUCTURES + PATHOLOGIES.index("wmh")
    writer = CacheWriter(tmp_path_factory.mktemp("cache"))
    rng = np.random.default_rng(0)
    for name, split, age in (("a", "train", 30.0), ("b", "train", 70.0), ("c", "test", 50.0)):
        images = {}
        for contrast, values in (("T1w", (0.9, 0.6, 0.2)), ("T2w", (0.3, 0.5, 0.9))):
            image = phantom_image(classes, *values) + rng.normal(0, 0.03, classes.shape)
            images[contrast] = np.where(classes > 0, np.clip(image, 0.02, 1) * 255, 0).astype(np.uint8)
        case = CachedCase(
            name,
            "set",
            split,
            "template",
            2,
            images=dict.fromkeys(images, (2, 2, 2)),
            pathologies=["wmh"],
            age=age,
            sex="F",
            quality={"structures": 1.0},
        )
        writer.add(case, classes, images)
    writer.close()
    return writer.folder


@pytest.fixture(scope="module")
def material(cache):
    return ImageMaterial(cache)


def test_scans_come_with_what_is_known_of_them(material):
    assert [(scan.case, scan.contrast) for scan in material.scans] == [
        ("a", "T1w"),
        ("a", "T2w"),
        ("b", "T1w"),
        ("b", "T2w"),
    ]
    known = material.scans[0].conditions
    assert known["age"] == 30
    assert known["sex"] == 0
    assert known["wmh"] == pytest.approx(4 * 6 * 4 * 0.008)
    assert known["ventricles"] > 1
    assert loads(known, {"wmh": known["wmh"] * 2})["wmh"] == pytest.approx(0.5)


def test_a_painted_image_is_of_a_deformed_brain_in_a_named_contrast(material):
    one, again, other = (material.painted(seed, torch.device("cpu")) for seed in (3, 3, 4))
    assert np.array_equal(one.image, again.image)
    assert not np.array_equal(one.image, other.image)
    assert one.painted
    assert ((one.image > 0) <= (one.classes > 0)).all()
    assert one.conditions["ventricles"] == pytest.approx(measured(one.classes, True)["ventricles"])
    white, fluid = (np.isin(one.classes, anatomy.classes_of(tissue=tissue)) for tissue in ("wm", "csf"))
    brighter = one.image[white].mean() > one.image[fluid].mean()
    assert brighter == (one.contrast not in ("T2w", "PDw"))


def test_varied_scans_are_measured_anew(material):
    scan = material.scans[0]
    found = augmented(scan, np.random.default_rng(0), torch.Generator().manual_seed(0))
    assert found.image.shape == scan.image.shape
    assert found.conditions["age"] == scan.conditions["age"]
    assert found.conditions["brain"] != scan.conditions["brain"]
    assert found.conditions["brain"] == pytest.approx(scan.conditions["brain"], rel=0.3)


def test_the_gaussian_model_learns_what_a_condition_does():
    """Ten latents per contrast that are nothing but age, in opposite directions."""
    count = 40
    rng = np.random.default_rng(0)
    age = rng.uniform(20, 80, count).astype(np.float32)
    contrast = np.arange(count) % 2
    conditions = np.zeros((count, len(CONDITIONS)), np.float32)
    known = np.zeros_like(conditions)
    conditions[:, 0], known[:, 0] = age, 1
    conditions[:, 1:4], known[:, 1:4] = rng.normal(size=(count, 3)), 1
    sign = np.where(contrast, -1, 1)[:, None, None, None, None]
    z = (0.01 * sign * age[:, None, None, None, None] * np.ones((1, 2, 4, 4, 4))).astype(np.float16)
    latents = image_latents.Latents(
        z, contrast, conditions, known, np.zeros(count, bool), np.ones((count, 4, 4, 4), np.float16)
    )
    denoiser = ImageDenoiser(2, (4, 4, 4), 64, 8, contrasts=5, directions=5, conditions=len(CONDITIONS))
    image_diffusion.fit(denoiser, latents)
    first, second = (denoiser.modes[c, 0].mean() for c in (0, 1))
    assert float(first) > 0.5
    assert float(second) == pytest.approx(-float(first), rel=0.2)
    assert denoiser.spectrum[:2].mean() < 0.2


def test_what_goes_with_the_scanner_is_not_offered():
    assert image_diffusion.within([[20.0, 22.0], [80.0, 82.0]]) < 0.01
    assert image_diffusion.within([[20.0, 80.0], [22.0, 82.0]]) > 0.99
    assert image_diffusion.within([[40.0], [40.0]]) == 0
    found = {"scans": {"T1w": 9, "FLAIR": 9, "T2w": 3}, "within": {"T1w": 0.6, "FLAIR": 0.1, "T2w": 0.9}}
    facts = {"conditions": {"age": {**found, "quantiles": [20.0, 30.0, 40.0, 50.0, 80.0]}}}
    assert image_export._condition("age", facts).contrasts == ["T1w"]


def test_runs_become_a_bundle(cache, tmp_path, monkeypatch):
    small = {"latent": 2, "width": 4, "deep_width": 4, "place": 1}
    monkeypatch.setattr(image_autoencoder, "ARGS", {"cpu": small})
    monkeypatch.setattr(image_autoencoder, "PAINTED", 2)
    monkeypatch.setattr(image_latents, "SCANS", {"cpu": 4})
    monkeypatch.setattr(image_latents, "PAINTED", {"cpu": 6})
    monkeypatch.setattr(image_diffusion, "BATCH", {"cpu": 2})
    monkeypatch.setattr(image_diffusion, "WATCHED", (("T1w", {"age": 40.0}),))
    monkeypatch.setattr(image_diffusion, "SAMPLED", 2)
    monkeypatch.setattr(image_diffusion, "WATCH_EVERY", 2)
    monkeypatch.setattr(image_autoencoder, "WATCH_EVERY", 2)
    monkeypatch.setattr(drift_curve, "DRAWN", 2)
    monkeypatch.setattr(image_export, "ENOUGH", {"anatomy": 1, "pathology": 1})
    # The few people here may differ between studies alone.
    monkeypatch.setattr(image_export, "WITHIN", 0)
    monkeypatch.setattr(image_diffusion, "UNET", {"cpu": (4, 4)})
    monkeypatch.setattr(age_judge, "PEOPLE", 2)
    image_autoencoder.train(cache, tmp_path / "image-autoencoder", device="cpu", steps=2)
    image_broad.train(cache, tmp_path / "image-broad", device="cpu", steps=2)
    image_diffusion.train(cache, tmp_path / "image-diffusion", device="cpu", steps=2)
    age_judge.train(cache, tmp_path / "age-judge", device="cpu", steps=1)
    for run, picture in (("image-autoencoder", "reconstructions"), ("image-diffusion", "samples")):
        assert list((tmp_path / run / "samples").glob(f"{picture}-*.png"))
    facts = json.loads((tmp_path / "image-diffusion" / "facts.json").read_text(encoding="utf-8"))
    assert facts["conditions"]["age"]["scans"] == {"T1w": 2, "T2w": 2}
    image_export.export(tmp_path / "image-diffusion", tmp_path / "brain-ldm")
    bundle = bundles.Bundle(tmp_path / "brain-ldm")
    bundle.verify()
    offered = {condition.name: condition.contrasts for condition in bundle.metadata.conditions}
    assert offered["wmh"] == ["T1w", "T2w"]
    assert "stroke" not in offered
    curve = bundle.metadata.parameters["drift_curve"]
    assert curve["units"][4] == curve["delta"][4] == 0
    assert np.all(np.diff(curve["delta"]) > 0)
    assert max(curve["l1"]) > min(curve["l1"]) > 0
    model = BrainLDM.from_bundle(bundle, "cpu")
    image = model.decode(model.sample(torch.randn(1, *model.latent_shape), {"age": 40.0}, "T1w", 1.0, 2))
    assert image.shape == (1, 1, 80, 112, 80)
    broad = image_export.export(tmp_path / "image-broad", tmp_path / "broad")
    assert broad.name == "broad"
    assert BrainLDM.from_bundle(broad, "cpu").painted
    assert not model.painted
    assert torch.equal(model.judge.weights, age_judge.trained(tmp_path / "age-judge").weights.half().float())
    assert BrainLDM.from_bundle(broad, "cpu").judge is None
    with (tmp_path / "image-diffusion" / "curves.csv").open() as file:
        curves = {row["name"]: float(row["value"]) for row in csv.DictReader(file)}
    assert 0 < curves["held_out"] < 10
    assert "| wmh | **2** | 0 | **2** | 0 | 0 |" in (tmp_path / "brain-ldm" / "docs" / "README.md").read_text("utf-8")
