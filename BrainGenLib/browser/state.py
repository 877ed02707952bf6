"""What the page shows and the user has chosen: one dataclass for each section, mirrored in every open browser."""

from __future__ import annotations

from dataclasses import dataclass, field

from BrainGenLib.requests import MASS_EFFECT, MAX_SHARE
from BrainGenLib.sweeps import FRAMES


@dataclass
class Choice:
    """An entry of a list to choose from."""

    title: str
    value: str


def still_there(chosen: str, choices: list[Choice]) -> str:
    """What is chosen in a list; nothing once that has left it, for another entry may be of another person."""
    return chosen if chosen in [choice.value for choice in choices] else ""


@dataclass
class ConditionRow:
    """A slider: a condition of the bundle and what is asked of it.

    ``given`` is False where the value is left open. ``contrasts`` are those that it can be asked for in, empty for
    all. Empty ``side`` and ``lobe`` mean anywhere.
    """

    name: str
    label: str
    unit: str
    hint: str
    minimum: float
    maximum: float
    step: float
    value: float
    millilitres: float
    locatable: bool
    given: bool
    contrasts: list[str]
    side: str = ""
    lobe: str = ""


@dataclass
class SegmentRow:
    """A segment in the list of those that can be erased."""

    id: str
    name: str
    color: str


@dataclass
class CaseRow:
    """A case of the scene. ``contrasts`` are the images and maps that can be shown by themselves, ``exported`` says
    whether a dataset can hold it."""

    name: str
    summary: str
    contrasts: list[str]
    synthetic: bool
    exported: bool
    chosen: bool = False


@dataclass
class EngineState:
    """Where models run, and which."""

    where: str = ""
    devices: list[Choice] = field(default_factory=list)
    device: str = "auto"
    bundles: list[Choice] = field(default_factory=list)
    bundle: str = ""
    title: str = ""
    description: str = ""
    limits: list[str] = field(default_factory=list)
    licence: str = ""
    card: str = ""
    card_open: bool = False


@dataclass
class RunState:
    """The run under way, or how the last one ended. ``section`` names who runs; it is empty when nothing does.
    ``busy`` says what has to end before another section can run."""

    section: str = ""
    busy: str = ""
    stage: str = ""
    percent: float = 0.0
    left: str = ""
    ended: str = ""
    failure: str = ""
    advice: str = ""
    details: str = ""


@dataclass
class SceneState:
    """What there is to choose from in the scene."""

    volumes: list[Choice] = field(default_factory=list)
    segmentations: list[Choice] = field(default_factory=list)


@dataclass
class GenerateState:
    """``labels`` says whether the bundle makes labels before images, which ``mass_effect`` (mm) displaces;
    ``donors`` whether they are mosaics of people, each of them at most in ``max_share`` of the brain; ``drifts``
    whether its noise can be shifted by ``drift``; ``delta`` and ``curve`` are what stands beside and below that
    slider."""

    pathologies: list[ConditionRow] = field(default_factory=list)
    anatomy: list[ConditionRow] = field(default_factory=list)
    sides: list[Choice] = field(default_factory=list)
    lobes: list[Choice] = field(default_factory=list)
    known_contrasts: list[str] = field(default_factory=list)
    contrasts: list[str] = field(default_factory=list)
    style: str = ""
    seed: int = 1
    keep_seed: bool = False
    count: int = 1
    live: bool = False
    labels: bool = True
    mass_effect: float = MASS_EFFECT
    donors: bool = False
    max_share: float = MAX_SHARE
    drifts: bool = False
    drift: float = 0.0
    own_drift: bool = True
    delta: str = ""
    curve: str = ""


@dataclass
class RenderState:
    """``refused`` says why the bundle cannot render, if it cannot."""

    refused: str = ""
    segmentation: str = ""
    segments: list[SegmentRow] = field(default_factory=list)
    erased: list[SegmentRow] = field(default_factory=list)
    contrasts: list[str] = field(default_factory=list)
    style: str = ""


@dataclass
class SegmentState:
    bundles: list[Choice] = field(default_factory=list)
    bundle: str = ""
    scan: str = ""


@dataclass
class CounterfactualState:
    """``diffusion`` says how the bundle changes a scan: the image, or else the labels of lesions; ``left``, that
    lesions are left to the diffusion. ``lesions`` is what is known of those of the scan, empty until they have been
    looked for, and ``pathologies`` are the conditions for which that matters."""

    bundles: list[Choice] = field(default_factory=list)
    bundle: str = ""
    diffusion: bool = True
    scan: str = ""
    segmentation: str = ""
    lesions: str = ""
    pathologies: list[str] = field(default_factory=list)
    left: bool = False
    contrasts: list[Choice] = field(default_factory=list)
    contrast: str = ""
    known: list[ConditionRow] = field(default_factory=list)
    wanted: list[ConditionRow] = field(default_factory=list)
    drift: float = 0.0
    auto_drift: bool = False
    delta: str = ""
    curve: str = ""
    strength: float = 0.0
    guidance: float = 0.0
    variants: int = 1


@dataclass
class AxisChoice:
    """What may be swept over; ``wanted`` says that it is a condition of the bundle."""

    title: str
    value: str
    unit: str
    minimum: float
    maximum: float
    wanted: bool


@dataclass
class SweepState:
    """Over what a section sweeps, from where to where; over nothing: it makes single cases."""

    axes: list[AxisChoice] = field(default_factory=list)
    over: str = ""
    start: float = 0.0
    stop: float = 0.0
    frames: int = FRAMES


@dataclass
class FilmState:
    """The film that the views show, if they show one: ``number``, from 0, is that of the frame."""

    case: str = ""
    over: str = ""
    unit: str = ""
    values: list[str] = field(default_factory=list)
    number: int = 0
    playing: bool = False


@dataclass
class ResultsState:
    """``kept`` is the folder that the cases are kept in."""

    kept: str = ""
    cases: list[CaseRow] = field(default_factory=list)


@dataclass
class UploadState:
    """``asking`` names a segmentation that the user has to say something of before it is added: which ``lesion`` it
    is, if there are any ``lesions`` to choose from, and the scan that it is ``of``."""

    asking: str = ""
    lesions: list[Choice] = field(default_factory=list)
    lesion: str = ""
    of: str = ""
    busy: bool = False
    message: str = ""
    failure: str = ""


@dataclass
class ViewsState:
    """``marks`` says for each view what stands in its picture, for readers that cannot see it; ``shown`` names the
    cases of which the views show anything."""

    layout: str = ""
    outlines: bool = True
    shown: list[str] = field(default_factory=list)
    marks: dict[str, str] = field(default_factory=dict)
