"""brainSPADE3D, label part: a label map from conditions (Fernandez et al. 2024, doi 10.1016/j.media.2024.103278).

A latent diffusion model draws the code of a soft label map, given the load of every pathology, the volumes of brain
and ventricles, and where lesions may lie; the autoencoder's decoder turns it into log-probabilities. Guidance acts on
what is asked of pathologies: that of the anatomy would push volumes beyond the asked ones.

The code knows sizes and places, and nothing of gyri. A bundle with donors samples those, at 1 mm, by patch diffusion
that the coarse map guides (:mod:`BrainGenLib.methods.folded_anatomy`); with their scans, an image of
their contrast as well.

The diffusion decides where lesions lie and what shape they have; how much of them there is, is made exact afterwards
(:mod:`BrainGenLib.methods.lesion_loads`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import cast

import numpy as np
import torch
from scipy import ndimage
from torch.nn import functional as F

from BrainGenLib import anatomy, attribution, donors
from BrainGenLib.bundles import Bundle
from BrainGenLib.case import Case
from BrainGenLib.diffusion import schedules
from BrainGenLib.diffusion.samplers import Callback, sample_dpmpp_2m, velocity_denoiser
from BrainGenLib.diffusion.schedules import Denoiser, Step
from BrainGenLib.donors import Donors
from BrainGenLib.lesions import PATHOLOGIES, STRUCTURES, VOXEL_ML, affected_classes, region
from BrainGenLib.methods import folded_anatomy, label_cleaning
from BrainGenLib.methods.exact_volumes import BRAIN, VENTRICLES, with_volumes
from BrainGenLib.methods.folded_anatomy import Folded, folded
from BrainGenLib.methods.lesion_loads import Placed, place_lesions
from BrainGenLib.methods.normative import PERSON, NormativeModel
from BrainGenLib.networks.label_autoencoder import LATENT_STRIDE, LabelAutoencoder, Logits
from BrainGenLib.networks.label_diffusion import LabelDenoiser
from BrainGenLib.networks.largest import largest
from BrainGenLib.reporting import Reporter
from BrainGenLib.requests import Generate, Location
from BrainGenLib.spaces import GRID_1MM, GRID_2MM, to_grid

ANATOMY = ("ventricles", "brain")
"""Anatomy conditions, mL in template space: lateral ventricles of both sides; brain without fluid."""

LEVELS = "volume_levels"
"""Parameter of a bundle: :attr:`LabelModel.levels`."""

STEPS = 10
"""Of the label sampler, if the request leaves them open."""


@dataclass
class LabelModel:
    """The networks of a bundle and the numbers that they need.

    Attributes:
        people: donors of the anatomy at 1 mm; None leaves it as coarse as the code has it.
        among_donors: how near they are to each other (:func:`BrainGenLib.attribution.among_people`).
        millilitres: pathology to the volume that load 1 stands for; only these pathologies can be asked for.
        anatomy_range: anatomy condition to (minimum, maximum) in mL.
        correlation: of the standardised log-volumes of ventricles and brain.
        normative: their distribution given age and sex; None if the bundle has none.
        levels: how far log volumes of the donors' labels lie above those of the labels that the networks learnt.
            Volumes that are asked for, drawn and obtained are those of the donors' labels.
    """

    autoencoder: LabelAutoencoder
    denoiser: LabelDenoiser
    people: Donors | None
    millilitres: dict[str, float]
    anatomy_range: dict[str, tuple[float, float]]
    correlation: float
    device: str
    normative: NormativeModel | None = None
    among_donors: attribution.Among = field(default_factory=dict)
    levels: dict[str, float] = field(default_factory=dict)

    @classmethod
    def from_bundle(cls, bundle: Bundle, device: str) -> LabelModel:
        """Load ``label_autoencoder``, ``label_diffusion`` and, if there are any, ``donors`` of a bundle."""
        conditions = bundle.metadata.conditions
        people = None
        if (described := bundle.metadata.networks.get("donors")) is not None:
            donors.check_memory(described.args["count"], described.args["shape"])
            people = cast(Donors, bundle.load("donors"))
        levels = bundle.metadata.parameters.get(LEVELS, {})
        normative = NormativeModel.of(bundle.metadata)
        return cls(
            cast(LabelAutoencoder, bundle.load("label_autoencoder", device)),
            cast(LabelDenoiser, bundle.load("label_diffusion", device)),
            people,
            {c.name: c.millilitres for c in conditions if c.kind == "pathology" and c.millilitres is not None},
            {c.name: (c.minimum, c.maximum) for c in conditions if c.name in ANATOMY},
            bundle.metadata.parameters["anatomy_correlation"],
            device,
            None if normative is None else normative.at_level(levels),
            bundle.metadata.parameters.get("among_donors", {}),
            levels,
        )


@dataclass
class LabelSample:
    """A generated label map.

    Attributes:
        classes_2mm: uint8 class indices on GRID_2MM.
        structures_2mm: the same without lesions.
        requested, obtained: load per pathology in the condition's unit.
        anatomy: anatomy conditions asked for or drawn, mL.
        person: age and sex, asked for or drawn; empty if neither was asked for.
        log_anatomy: float16 log-scores (S, …) of the coarse map's structures on GRID_2MM.
        placed: pathology to its log-odds and its surroundings, for a border at 1 mm.
        folded: the anatomy at 1 mm; None of a draft, and of a bundle without donors.
        rejected: anatomies sampled before this one that lay too near to a donor.
    """

    classes_2mm: np.ndarray
    structures_2mm: np.ndarray
    requested: dict[str, float]
    obtained: dict[str, float]
    anatomy: dict[str, float]
    log_anatomy: torch.Tensor
    placed: dict[str, Placed]
    folded: Folded | None = None
    rejected: int = 0
    person: dict[str, float] = field(default_factory=dict)

    def classes_1mm(self) -> np.ndarray:
        """uint8 class indices on GRID_1MM."""
        return self.with_lesions(self.structures_1mm())

    def structures_1mm(self) -> np.ndarray:
        """:meth:`classes_1mm` without lesions. Without donors, log-probabilities are interpolated to 1 mm before the
        largest is taken."""
        if self.folded is not None:
            return self.folded.structures
        best = torch.full(GRID_1MM.shape, -torch.inf)
        out = torch.zeros(GRID_1MM.shape, dtype=torch.uint8)
        covered = largest(self.log_anatomy)
        for index in range(STRUCTURES):
            found = (covered == index).nonzero()
            if not len(found):
                continue
            # A structure cannot win further than a voxel from where it wins at 2 mm.
            r, a, i = (
                slice(max(0, int(low) - 2), min(n, int(high) + 3))
                for low, high, n in zip(found.min(0).values, found.max(0).values, GRID_2MM.shape, strict=True)
            )
            fine = tuple(slice(2 * part.start, 2 * part.stop) for part in (r, a, i))
            value = upsample(self.log_anatomy[index, r, a, i].float().clamp_min(-8))
            better = value > best[fine]
            best[fine][better] = value[better]
            out[fine][better] = index
        return out.numpy()

    def with_lesions(self, structures: np.ndarray) -> np.ndarray:
        """A class map on GRID_1MM with the lesions placed in it."""
        classes = structures.copy()
        for pathology, placed in self.placed.items():
            lesion = anatomy.lesions()[pathology].index
            # As many voxels as the volume at 2 mm.
            refine_lesion(classes, pathology, placed, 8 * int((self.classes_2mm == lesion).sum()))
        return classes


def refine_lesion(classes: np.ndarray, pathology: str, placed: Placed, count: int) -> None:
    """Write a placed pathology into a class map on GRID_1MM: the ``count`` likeliest voxels of what it affects."""
    odds, near = placed
    (box,) = ndimage.find_objects(near.astype(np.uint8))
    fine = tuple(slice(2 * part.start, 2 * part.stop) for part in box)
    fine_odds = upsample(torch.from_numpy(odds[box])).numpy()
    may = near[box].repeat(2, 0).repeat(2, 1).repeat(2, 2)
    may &= np.isin(classes[fine], affected_classes(pathology))
    count = min(count, int(may.sum()))
    if count:
        chosen = may & (fine_odds >= np.partition(fine_odds[may], -count)[-count])
        classes[fine][chosen] = anatomy.lesions()[pathology].index


def upsample(volume: torch.Tensor) -> torch.Tensor:
    """A volume of 2 mm voxels at 1 mm, trilinear."""
    return F.interpolate(volume[None, None], scale_factor=2, mode="trilinear", align_corners=False)[0, 0]


def anatomy_volumes(soft_anatomy: np.ndarray) -> dict[str, float]:
    """The anatomy conditions in mL, measured on a soft (S, …) anatomy map of GRID_2MM."""
    volumes = soft_anatomy.reshape(len(soft_anatomy), -1).sum(1) * VOXEL_ML
    return {"ventricles": float(volumes[list(VENTRICLES)].sum()), "brain": float(volumes[list(BRAIN)].sum())}


def draw_person(model: LabelModel, asked: dict[str, float], seed: int) -> dict[str, float]:
    """Age and sex if one of them is asked for, the other drawn; else nothing."""
    if model.normative is None or not set(PERSON) & set(asked):
        return {}
    # Of a stream of its own: volumes and noise of a seed are the same whatever is asked of the person.
    return model.normative.person(asked, np.random.default_rng([seed, len(PERSON)]))


def draw_anatomy(
    model: LabelModel, asked: dict[str, float], generator: torch.Generator, person: dict[str, float] | None = None
) -> dict[str, float]:
    """The asked anatomy conditions, and draws for those not asked for (given those that are) from the distribution of
    the age and sex of ``person``, or of all training brains: log-volumes are jointly normal."""
    if person and model.normative is not None:
        mean, spread = model.normative.at(person)
        correlation = model.normative.correlation
    else:
        mean, spread = model.denoiser.anatomy_mean.tolist(), model.denoiser.anatomy_spread.tolist()
        mean = [value + model.levels.get(name, 0.0) for name, value in zip(ANATOMY, mean, strict=True)]
        correlation = model.correlation
    normal = torch.randn(len(ANATOMY), generator=generator).tolist()
    standard: dict[str, float] = {
        name: (math.log(asked[name]) - mean[i]) / spread[i] for i, name in enumerate(ANATOMY) if name in asked
    }
    for i, name in enumerate(ANATOMY):
        if name not in standard:
            other = standard.get(ANATOMY[1 - i])
            r = 0.0 if other is None else correlation
            standard[name] = r * (other or 0.0) + (1 - r**2) ** 0.5 * normal[i]
    drawn = {name: math.exp(mean[i] + spread[i] * standard[name]) for i, name in enumerate(ANATOMY)}
    # What was drawn stays within what the slider shows; what was asked for is left as it is.
    return {
        name: asked[name] if name in asked else float(np.clip(value, *model.anatomy_range[name]))
        for name, value in drawn.items()
    }


def conditional_denoiser(
    model: LabelModel, loads: dict[str, float], volumes: dict[str, float], regions: np.ndarray, guidance: float
) -> Denoiser:
    """The denoiser for conditions, guided where any pathology is asked for.

    Args:
        loads: pathology to load, absent is 0.
        volumes: of the anatomy conditions, mL.
        regions: bool (pathologies, 2 mm grid): where each may lie.
    """
    denoiser = model.denoiser
    schedule = schedules.cosine()
    logs = torch.tensor(
        [math.log(volumes[name]) - model.levels.get(name, 0.0) for name in ANATOMY], device=model.device
    )
    standard = (logs - denoiser.anatomy_mean) / denoiser.anatomy_spread
    vector = torch.tensor([loads.get(name, 0.0) for name in PATHOLOGIES], device=model.device)
    conditions = torch.cat([vector, standard])[None].float()
    cells = F.avg_pool3d(torch.from_numpy(regions)[None].float(), LATENT_STRIDE).to(model.device)
    known = torch.ones_like(conditions)
    guided = any(loads.values()) and guidance != 1
    if guided:
        # With loads and without, in one batch.
        unknown = known.clone()
        unknown[:, : len(PATHOLOGIES)] = 0
        known, conditions = torch.cat([known, unknown]), conditions.repeat(2, 1)
        cells = torch.cat([cells, torch.ones_like(cells)])

    def velocity(x: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
        alpha, sigma = schedule.alpha.to(x)[times], schedule.sigma.to(x)[times]
        return denoiser(x, times, alpha, sigma, conditions, known, cells)

    network = velocity_denoiser(velocity)
    if not guided:
        return network

    def with_guidance(x: torch.Tensor, step: Step) -> torch.Tensor:
        conditional, unconditional = network(x.expand(2, -1, -1, -1, -1), step).split(1)
        return unconditional + guidance * (conditional - unconditional)

    return with_guidance


@torch.inference_mode()
def draw_logits(
    model: LabelModel,
    loads: dict[str, float],
    volumes: dict[str, float],
    regions: dict[str, np.ndarray],
    guidance: float,
    count: int,
    generator: torch.Generator,
    progress: Callback,
) -> Logits:
    """What the decoder says of structures and lesions on GRID_2MM, before loads are made exact.

    Args:
        loads: pathology to load, absent is 0.
        volumes: of the anatomy conditions, mL.
        regions: pathology to bool map of GRID_2MM: where it may lie.
        guidance, count: weight of the conditions, steps of the sampler.
        progress: receives each step.
    """
    allowed = np.stack([regions[name] for name in PATHOLOGIES])
    denoiser = conditional_denoiser(model, loads, volumes, allowed, guidance)
    shape = (1, model.autoencoder.latent_channels, *model.denoiser.grid)
    noise = torch.randn(shape, generator=generator).to(model.device) * model.denoiser.inside
    z = sample_dpmpp_2m(denoiser, noise, schedules.cosine().trailing(count), progress)
    return model.autoencoder.decode(model.denoiser.restore(model.denoiser.smooth(z)))


def _generator(seed: int) -> torch.Generator:
    """Of a stream of its own: the noise of folds is not that of the code."""
    return torch.Generator().manual_seed(int(np.random.SeedSequence([seed, 1]).generate_state(1)[0]))


@torch.inference_mode()
def sample_labels(model: LabelModel, request: Generate, report: Reporter) -> LabelSample:
    """Sample a label map; the same request gives the same map. The coarse anatomy is a preview; for a draft it is
    all.

    ``request`` has been checked against the bundle's conditions.

    Raises:
        Cancelled: ``report`` says so, at the latest after one sampler step.
    """
    generator = torch.Generator().manual_seed(request.seed)
    loads = {name: float(request.pathologies.get(name, 0.0)) for name in model.millilitres}
    person = draw_person(model, request.anatomy, request.seed)
    volumes = draw_anatomy(model, request.anatomy, generator, person)
    regions = {name: region(request.locations.get(name, Location())) for name in PATHOLOGIES}
    count = request.steps or STEPS
    stages = count + 2 + (0 if request.draft else folded_anatomy.STEPS)

    def progress(index: int, x: torch.Tensor, z: torch.Tensor) -> None:
        report.step("sampling", index, stages)

    def fold_progress(index: int, x: torch.Tensor, z: torch.Tensor) -> None:
        report.step("folds", count + 1 + index, stages)

    logits = draw_logits(model, loads, volumes, regions, request.guidance, count, generator, progress)
    log_anatomy = label_cleaning.clean(logits.anatomy[0].float().log_softmax(0).cpu())
    log_anatomy = with_volumes(log_anatomy, volumes["brain"], volumes["ventricles"])
    log_lesion = logits.lesion[0].float().cpu().numpy()
    del logits
    structures = largest(log_anatomy).numpy().astype(np.uint8)
    made = None
    rejected = 0
    people = model.people
    if people is not None and not request.draft:
        report.preview(Case({}, anatomy.to_values(structures), GRID_2MM.affine), "anatomy")
        target = folded_anatomy.coarse_target(people, log_anatomy.softmax(0))
        log_anatomy = log_anatomy.half()
        made, rejected = attribution.accept(
            people,
            model.among_donors,
            lambda seed: folded(
                people,
                target,
                volumes,
                _generator(seed),
                fold_progress,
                request.max_share,
                person.get("age"),
                model.device,
            ),
            request.seed,
        )
        structures = to_grid(made.structures, GRID_1MM.affine, GRID_2MM, order="label")
    report.step("placing lesions", stages - 1, stages)
    wanted = {name: loads[name] * model.millilitres[name] for name in loads}
    lesions, placed = place_lesions(log_lesion, structures, wanted, regions, np.random.default_rng(request.seed))
    return LabelSample(
        structures_2mm=structures,
        classes_2mm=np.where(lesions > 0, lesions + STRUCTURES - 1, structures).astype(np.uint8),
        requested=loads,
        obtained={
            name: float((lesions == PATHOLOGIES.index(name) + 1).sum() * VOXEL_ML / model.millilitres[name])
            for name in loads
        },
        anatomy=volumes,
        log_anatomy=log_anatomy.half(),
        placed=placed,
        folded=made,
        rejected=rejected,
        person=person,
    )
