"""Tiny bundles: the real networks with few channels, whose decoder starts from a phantom of a brain."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from phantoms import NORMATIVE, phantom, phantom_image

from BrainGenLib import anatomy, spaces
from BrainGenLib.bundles import Condition, Metadata, Network, save


@pytest.fixture(scope="session")
def phantom_classes() -> np.ndarray:
    return phantom()


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory, phantom_classes: np.ndarray) -> Path:
    """Folder with the bundles ``brainspade3d``, ``segmenter`` and ``brain-ldm``."""
    import torch

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("bundles")
    _save_brainspade3d(folder / "brainspade3d", phantom_classes)
    _save_segmenter(folder / "segmenter")
    _save_brain_ldm(folder / "brain-ldm", phantom_classes)
    return folder


@pytest.fixture
def tiny_bundles(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The tiny bundles in place of the shipped ones, for this process and its workers; one thread each."""
    monkeypatch.setenv("BRAINGEN_BUNDLES", str(tiny_folder))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return tiny_folder


def _save_brainspade3d(folder: Path, classes: np.ndarray) -> None:
    import torch
    from torch.nn import functional as F

    from BrainGenLib.networks.label_autoencoder import LATENT_STRIDE, LabelAutoencoder
    from BrainGenLib.networks.label_diffusion import LabelDenoiser
    from BrainGenLib.networks.soft_tissue import TissueDenoiser
    from BrainGenLib.networks.spade_renderer import SpadeRenderer
    from BrainGenLib.networks.style_encoder import StyleEncoder

    lesions = list(anatomy.lesions())
    structures = len(anatomy.labels()) - len(lesions)
    contrasts = ["T1w", "FLAIR", "T1ce"]
    grid = [n // LATENT_STRIDE for n in spaces.GRID_2MM.shape]
    arguments = {
        "label_autoencoder": {
            "structures": structures,
            "lesions": len(lesions),
            "anatomy_latent": 2,
            "lesion_latent": 1,
            "embedding": 4,
            "width": 4,
            "deep_width": 8,
            "atlas_rank": 6,
        },
        "label_diffusion": {
            "anatomy_channels": 2,
            "lesion_channels": 1,
            "grid": grid,
            "cells": int(np.prod(grid)),
            "pathologies": len(lesions),
            "anatomy": 2,
            "modes": 3,
            "unet_channels": [16, 16],
            "attention": [False, False],
        },
        "soft_tissue": {"classes": structures, "channels": [4, 4]},
        "renderer": {"contrasts": len(contrasts) + 1, "embedding": 2, "channels": [4, 4, 4], "head": 2},
        "style_encoder": {"channels": [4, 8]},
    }
    kinds = {
        "label_autoencoder": LabelAutoencoder,
        "label_diffusion": LabelDenoiser,
        "soft_tissue": TissueDenoiser,
        "renderer": SpadeRenderer,
        "style_encoder": StyleEncoder,
    }
    networks = {name: kind(**arguments[name]) for name, kind in kinds.items()}

    one_hot = F.one_hot(torch.from_numpy(classes).long(), structures).movedim(-1, 0).float()
    no_lesion = torch.zeros(1 + len(lesions), *classes.shape)
    no_lesion[0] = 1
    networks["label_autoencoder"].start_from(torch.cat([one_hot, no_lesion]).clamp_min(1e-3).log())
    # It starts at zero, and lesions need some likelier places.
    torch.nn.init.normal_(networks["label_autoencoder"].head.weight, std=0.3)
    networks["donors"] = _donors(classes)
    arguments["donors"] = networks["donors"].arguments
    kinds["donors"] = type(networks["donors"])
    networks["soft_tissue"].signals.fill_(0.5)
    networks["soft_tissue"].mean_weights[0, 1] = 1
    networks["soft_tissue"].spread_weights[0, 0] = 0.1
    networks["renderer"].signal.weight.data.fill_(0.5)
    networks["label_diffusion"].anatomy_mean.copy_(torch.tensor([30.0, 1100.0]).log())
    networks["label_diffusion"].anatomy_spread.fill_(0.1)

    metadata = Metadata(
        name="brainspade3d",
        version="0.0.1",
        title="Tiny brainSPADE3D",
        description="For tests.",
        verbs=["generate", "render", "counterfactual"],
        contrasts=contrasts,
        donors=2,
        limits=["Anatomy is a mosaic of the scans of 2 people."],
        conditions=[
            *(
                Condition(
                    name=name,
                    label=label.name,
                    kind="pathology",
                    unit="load",
                    minimum=0,
                    maximum=1,
                    default=0,
                    millilitres=50,
                    locatable=name != "tumour",
                )
                for name, label in anatomy.lesions().items()
            ),
            _anatomy("ventricles", 10, 600),
            _anatomy("brain", 900, 1400),
            _anatomy("age", 20, 90, "years"),
            _anatomy("sex", 0, 1, ""),
        ],
        networks={
            name: Network(target=f"{kind.__module__}.{kind.__name__}", args=arguments[name])
            for name, kind in kinds.items()
        },
        parameters={
            "anatomy_correlation": 0.2,
            # Nothing that is sampled of these two is as far from them as people are from each other.
            "among_donors": {
                name: {"mean": 1.0, "largest": 1.0, "largest_lead": 1.0}
                for name in ("cortex_dice", "image_correlation")
            },
            "normative": NORMATIVE,
            "styles": {name: {"mean": [0.0] * 16, "axes": [[0.1] * 16]} for name in [*contrasts, "any"]},
        },
    )
    save(folder, metadata, networks, "For tests.", "Apache-2.0")


def _donors(classes: np.ndarray) -> Any:
    """The phantom and the phantom half a centimetre higher, with scans of one value per tissue."""
    from BrainGenLib.donors import encoded
    from BrainGenLib.training import donors as recipe
    from BrainGenLib.training.donor_material import Person
    from BrainGenLib.training.tissues import typical_values

    fine = classes.repeat(2, 0).repeat(2, 1).repeat(2, 2)
    maps = [fine, np.roll(fine, 4, 2)]
    noise = np.random.default_rng(0).normal(0, 0.05, fine.shape).astype(np.float32)
    people = [
        Person(
            f"phantom{row}",
            40.0,
            "F",
            each,
            encoded(typical_values()[each] + noise, each > 0),
            np.array([0.2, 0.6, 0.9]),
        )
        for row, each in enumerate(maps)
    ]
    return recipe.gathered(people, "T1w")


def _anatomy(name: str, minimum: float, maximum: float, unit: str = "mL in template space") -> Condition:
    return Condition(
        name=name,
        label=name,
        kind="anatomy",
        unit=unit,
        minimum=minimum,
        maximum=maximum,
        default=(minimum + maximum) / 2,
    )


def _save_segmenter(folder: Path) -> None:
    from BrainGenLib.networks.label_unet import LabelUNet

    classes = [0, *anatomy.classes_of(name="cerebral white matter")]
    arguments = {"classes": len(classes), "features": [8, 8, 8, 8, 8, 8], "embedding": 8, "rank": 2}
    metadata = Metadata(
        name="segmenter",
        version="0.0.1",
        title="Tiny segmenter",
        description="For tests.",
        verbs=["segment"],
        networks={"segmenter": Network(target="BrainGenLib.networks.label_unet.LabelUNet", args=arguments)},
        parameters={"classes": classes},
    )
    save(folder, metadata, {"segmenter": LabelUNet(**arguments)}, "For tests.", "Apache-2.0")


def _save_brain_ldm(folder: Path, classes: np.ndarray) -> None:
    """One whose Gaussian model knows that ventricles darken with age in T1w, and brighten in T2w."""
    import torch

    from BrainGenLib.methods.brain_ldm import CONDITIONS, PERSON
    from BrainGenLib.networks.age_judge import POOL, AgeJudge
    from BrainGenLib.networks.image_autoencoder import STRIDE, ImageAutoencoder, cells_of
    from BrainGenLib.networks.image_diffusion import ImageDenoiser

    grid = [n // STRIDE for n in spaces.GRID_2MM.shape]
    contrasts = {"T1w": (0.9, 0.6, 0.2), "T2w": (0.3, 0.5, 0.9)}
    images = torch.stack([torch.from_numpy(phantom_image(classes, *values)) for values in contrasts.values()])[
        :, None
    ]
    arguments = {
        "autoencoder": {"latent": 2, "width": 4, "deep_width": 4, "place": 1},
        "diffusion": {
            "latent": 2,
            "grid": grid,
            "cells": int(np.prod(grid)),
            "half_cells": int(np.prod(grid)) // 8,
            "contrasts": len(contrasts),
            "directions": len(PERSON) + 1,
            "conditions": len(CONDITIONS),
            "components": 1,
            "unet_channels": [4, 4],
        },
    }
    autoencoder, diffusion = ImageAutoencoder(**arguments["autoencoder"]), ImageDenoiser(**arguments["diffusion"])
    autoencoder.start_from(cells_of(images))
    with torch.no_grad():
        codes = autoencoder.encode(images)
    diffusion.mean.copy_(codes.flatten(2))
    diffusion.spread.fill_(0.5)
    diffusion.spectrum.fill_(0.2)
    diffusion.centre[: len(PERSON)] = torch.tensor([50.0, 0.5, np.log(30.0), np.log(1200.0)])
    diffusion.scale[: len(PERSON)] = torch.tensor([20.0, 0.5, 0.5, 0.2])
    ventricles = torch.from_numpy(np.isin(classes, anatomy.classes_of(name="lateral ventricle"))).float()
    where = torch.nn.functional.avg_pool3d(ventricles[None, None], 2 * STRIDE).flatten()
    for contrast, sign in enumerate((-1.0, 1.0)):
        diffusion.modes[contrast, 0, 0] = sign * where
    judge = AgeJudge([n // POOL for n in spaces.GRID_2MM.shape], "T1w")
    # Dark ventricles are old.
    where = torch.nn.functional.avg_pool3d(ventricles[None, None], POOL)[0, 0]
    judge.weights.copy_(-100 * where / where.sum())
    judge.offset.fill_(100)
    metadata = Metadata(
        name="brain-ldm",
        version="0.0.1",
        title="Tiny brain LDM",
        description="For tests.",
        family="brain-ldm",
        verbs=["generate", "counterfactual"],
        contrasts=list(contrasts),
        conditions=[
            Condition(name="age", label="age", kind="anatomy", unit="years", minimum=20, maximum=90, default=50),
            Condition(name="sex", label="sex", kind="anatomy", unit="", minimum=0, maximum=1, default=0),
            _anatomy("ventricles", 1, 600),
            _anatomy("brain", 100, 2400),
            Condition(
                name="wmh",
                label="white matter hyperintensity",
                kind="pathology",
                unit="load",
                minimum=0,
                maximum=1,
                default=0,
                millilitres=50,
                contrasts=["T2w"],
            ),
        ],
        networks={
            "autoencoder": Network(
                target="BrainGenLib.networks.image_autoencoder.ImageAutoencoder", args=arguments["autoencoder"]
            ),
            "diffusion": Network(
                target="BrainGenLib.networks.image_diffusion.ImageDenoiser", args=arguments["diffusion"]
            ),
            "judge": Network(
                target="BrainGenLib.networks.age_judge.AgeJudge",
                args={"grid": list(judge.weights.shape), "contrast": judge.contrast},
            ),
        },
        parameters={
            "steps": 4,
            "skull_stripped": True,
            "contrasts": list(contrasts),
            "channel_spread": [0.2, 0.1],
            "ageing": {"ventricles": 0.01, "brain": -0.001},
        },
    )
    networks = {"autoencoder": autoencoder, "diffusion": diffusion, "judge": judge}
    save(folder, metadata, networks, "For tests.", "Apache-2.0")


@pytest.fixture
def few_steps(monkeypatch):
    """Soft tissue in two steps."""
    from BrainGenLib.methods import soft_tissue

    monkeypatch.setattr(soft_tissue, "STEPS", 2)


@pytest.fixture
def probabilities(phantom_classes):
    """Soft labels of the phantom."""
    import torch

    from BrainGenLib.lesions import STRUCTURES

    one_hot = torch.nn.functional.one_hot(torch.from_numpy(phantom_classes).long(), STRUCTURES)
    return one_hot.movedim(-1, 0).float() * 0.98 + 0.02 / STRUCTURES


@pytest.fixture
def pictures(monkeypatch):
    """Pictures that show each structure in one grey, instead of the renderer's, which take their time."""
    from BrainGenLib.methods import brainspade
    from BrainGenLib.verbs import lesion_drawing

    def render(renderer, classes, *_, **__):
        grey = phantom_image(classes, 0.3, 0.5, 0.9)
        grey[np.isin(classes, anatomy.classes_of(kind="lesion"))] = 0.875
        return grey

    monkeypatch.setattr(lesion_drawing, "tissue_of", lambda *_: np.zeros(0))
    monkeypatch.setattr(brainspade, "render", render)
