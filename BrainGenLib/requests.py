"""What can be asked for: one validated model per verb, the same for the panel, the command line and scripts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator

from BrainGenLib.errors import BadInput, suggestion

if TYPE_CHECKING:
    from BrainGenLib.bundles import Condition, Metadata


Side = Literal["left", "right"]
Lobe = Literal["frontal", "parietal", "temporal", "occipital", "central", "cerebellum", "brainstem"]
SIDES: tuple[str, ...] = get_args(Side)
LOBES: tuple[str, ...] = get_args(Lobe)
Lesion = Literal["wmh", "ms", "tumour", "oedema", "enhancing", "stroke"]
"""Of masks; the pathologies of the label table."""
MASS_EFFECT, MOST_MASS_EFFECT = 4.0, 10.0
"""Displacement at the border of a mass, mm: the default, between what real gliomas show (docs/methods.md), and the
largest that can be asked for."""

MAX_SHARE, LEAST_MAX_SHARE = 0.3, 0.1
"""Of the brain that may be of one donor: the default, and the least that can be asked for."""


class Location(BaseModel):
    """Where a lesion may lie; None leaves it to the model."""

    model_config = ConfigDict(extra="forbid")

    side: Side | None = None
    lobe: Lobe | None = None


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid")

    bundle: str
    seed: int = Field(default=0, ge=0, lt=2**32)
    device: str = "auto"


class Generate(_Request):
    """A new case from conditions.

    ``pathologies`` are loads in the unit of the bundle's condition (0-1), ``anatomy`` are values of its anatomy
    conditions (``ventricles``, ``brain``, ``age``, ``sex``); what is absent is drawn from the training distribution,
    that of the age and sex if they are given, or is the bundle's default where the model draws images without labels.
    ``style`` names a reference volume in ``inputs``. ``draft`` asks for labels of 2 mm only, without folds: what
    moving sliders show. ``mass_effect`` is how far gliomas and strokes push the tissue at their border aside, in mm
    (0: they replace tissue and nothing moves); small ones push it less. ``max_share`` is the share of the brain where
    one donor may be used (1: no limit) by a model that generates mosaics of them. ``steps`` None is what suits the
    model. ``drift`` is of the noise that an image model of the family brain-ldm starts from, in standard deviations
    of the latent's channel means between subjects (0: none); None is what the bundle was fine-tuned with.
    """

    verb: Literal["generate"] = "generate"
    bundle: str = "brainspade3d"
    pathologies: dict[str, float] = {}
    locations: dict[str, Location] = {}
    anatomy: dict[str, float] = {}
    contrasts: list[str] = Field(default=["T1w"], min_length=1)
    style: str | None = None
    guidance: float = Field(default=2.0, ge=0, le=10)
    steps: int | None = Field(default=None, ge=2, le=1000)
    draft: bool = False
    mass_effect: float = Field(default=MASS_EFFECT, ge=0, le=MOST_MASS_EFFECT)
    max_share: float = Field(default=MAX_SHARE, ge=LEAST_MAX_SHARE, le=1)
    drift: float | None = Field(default=None, ge=-10, le=10)


class Render(_Request):
    """Images of a given segmentation; ``segmentation`` and ``style`` are file names (in ``inputs`` within a job).

    ``lesion_as`` says which lesion a mask shows that does not say so itself.
    """

    verb: Literal["render"] = "render"
    bundle: str = "brainspade3d"
    segmentation: str
    lesion_as: Lesion | None = None
    contrasts: list[str] = Field(default=["T1w"], min_length=1)
    style: str | None = None


class Segment(_Request):
    """Label map of a scan of any contrast, whole head or skull-stripped."""

    verb: Literal["segment"] = "segment"
    bundle: str = "segmenter"
    scan: str


class Counterfactual(_Request):
    """A real scan as it would look under other conditions (Latent Drifting).

    ``known`` is what is known of the scan: its person's ``age`` and ``sex``, loads of its lesions; volumes are
    measured. ``wanted`` is what should change, in the units of the bundle's conditions. ``contrast`` None is
    recognised. ``drift`` is in standard deviations of the latent's channel means between subjects (0: none), or
    ``auto``: what still lacks to the mean that the model expects of what is wanted. ``strength`` is the share of the
    noise that the scan is inverted to: 1 leaves nothing of it but its noise, from which its anatomy comes back, and
    less keeps most of what there is. Ventricles of another size are made by moving tissue, the less the smaller
    ``strength`` is. ``variants`` of other noise tell how certain the change is. ``segmentation`` says where the
    scan's lesions are, if they were painted, and ``lesion_as`` which ones, if it is a mask that does not say so.
    ``lesions`` are rendered from labels, as below, or left to the diffusion.

    A bundle without ``family`` (brainspade3d) changes lesions and ventricles alone, exactly, in the scan's label map:
    lesions are drawn by its renderer in the scan's own style, for ventricles tissue moves. Of the above it uses the
    contrast, what is wanted and the segmentation.
    """

    verb: Literal["counterfactual"] = "counterfactual"
    bundle: str = "brain-ldm"
    scan: str
    contrast: str | None = None
    known: dict[str, float] = {}
    wanted: dict[str, float] = {}
    drift: float | Literal["auto"] = 0.0
    drift_step: Literal["none", "literal", "normalised"] = "none"
    strength: float = Field(default=1.0, ge=0.1, le=1)
    guidance: float = Field(default=2.0, ge=0, le=10)
    steps: int = Field(default=20, ge=2, le=1000)
    variants: int = Field(default=1, ge=1, le=16)
    lesions: Literal["labels", "diffusion"] = "labels"
    segmentation: str | None = None
    lesion_as: Lesion | None = None


class Sweep(BaseModel):
    """A series of cases that differ in one number: a film.

    ``over`` is ``drift``, ``strength``, ``guidance`` or a condition of the bundle (:func:`sweepable`); each of
    ``values``, which are put in ascending order, takes the place of what ``of`` says of it. All frames begin from the
    same noise or the same inverted scan. A bundle can sweep over what it can generate or change; its verbs do not
    list it.
    """

    model_config = ConfigDict(extra="forbid")

    verb: Literal["sweep"] = "sweep"
    of: Annotated[Generate | Counterfactual, Field(discriminator="verb")]
    over: str
    values: list[float] = Field(min_length=2, max_length=32)

    @field_validator("values")
    @classmethod
    def _ascending(cls, values: list[float]) -> list[float]:
        if len(set(values)) < len(values):
            raise ValueError("a value comes twice; give each once")
        return sorted(values)

    @property
    def bundle(self) -> str:
        return self.of.bundle

    @property
    def seed(self) -> int:
        return self.of.seed

    @property
    def device(self) -> str:
        return self.of.device


Request = Annotated[Generate | Render | Segment | Counterfactual | Sweep, Field(discriminator="verb")]
adapter: TypeAdapter[Request] = TypeAdapter(Request)


def parse(data: dict | str | bytes) -> Request:
    """A request from a dict or from JSON.

    Raises:
        BadInput: a field is unknown, missing or out of range.
    """
    try:
        return adapter.validate_python(data) if isinstance(data, dict) else adapter.validate_json(data)
    except ValidationError as error:
        problems = "; ".join(_sentence(dict(item)) for item in error.errors())
        raise BadInput(f"The request cannot be used: {problems}.") from error


def _sentence(item: dict) -> str:
    # The first part of the location is the verb, which the user did not type.
    field = ".".join(str(part) for part in item["loc"][1:]) or "request"
    given = f", not {item['input']!r}" if isinstance(item["input"], str | int | float) else ""
    return f"{field}: {item['msg'][0].lower()}{item['msg'][1:]}{given}"


def inputs_of(request: Request) -> list[str]:
    """Names of the files that the request reads."""
    match request:
        case Generate():
            names = [request.style]
        case Render():
            names = [request.segmentation, request.style]
        case Segment():
            names = [request.scan]
        case Counterfactual():
            names = [request.scan, request.segmentation]
        case Sweep():
            return inputs_of(request.of)
    return [name for name in names if name is not None]


def check(request: Request, bundle: Metadata) -> None:
    """Check a request against what its bundle says of itself.

    Raises:
        BadInput: the bundle does not know the verb, a contrast or a condition (the message lists those it knows), a
            value is out of range, a place is asked for a lesion that has none, or labels or more than one image are
            asked of a model that draws one image.
    """
    if isinstance(request, Sweep):
        for frame in frames(request, bundle):
            check(frame, bundle)
        return
    if request.verb not in bundle.verbs:
        raise BadInput(f"Bundle {bundle.name} cannot {request.verb}; it can: {', '.join(bundle.verbs)}.")
    if isinstance(request, Segment):
        return
    if isinstance(request, Counterfactual):
        _check_counterfactual(request, bundle)
        return
    if unknown := [name for name in request.contrasts if name not in bundle.contrasts]:
        raise BadInput(
            f"Bundle {bundle.name} does not know contrast {unknown[0]!r}; it knows: {', '.join(bundle.contrasts)}."
            + suggestion(unknown[0], bundle.contrasts)
        )
    if len(set(request.contrasts)) < len(request.contrasts):
        raise BadInput(f"A contrast is asked for twice ({', '.join(request.contrasts)}); name each once.")
    if isinstance(request, Generate):
        if bundle.family:
            _check_image_only(request, bundle.name)
        if request.max_share != MAX_SHARE and not bundle.donors:
            raise BadInput(
                f"Bundle {bundle.name} has no donors whose share could be limited; leave the largest share out."
            )
        if request.drift is not None and bundle.family != "brain-ldm":
            raise BadInput(f"Bundle {bundle.name} cannot generate with drift; leave the drift out, or use brain-ldm.")
        pathologies = {condition.name: condition for condition in bundle.conditions if condition.kind == "pathology"}
        anatomy = {condition.name: condition for condition in bundle.conditions if condition.kind == "anatomy"}
        _check_values("pathology", request.pathologies, pathologies, bundle.name)
        _check_values("anatomy condition", request.anatomy, anatomy, bundle.name)
        for contrast in request.contrasts:
            check_offered([*request.pathologies, *request.anatomy], bundle, contrast)
        for name in request.locations:
            if name not in request.pathologies:
                raise BadInput(f"A place is given for {name!r}, but no load: ask for it too, e.g. {name}=0.1.")
            if not pathologies[name].locatable:
                able = [other for other, condition in pathologies.items() if condition.locatable]
                raise BadInput(
                    f"Bundle {bundle.name} cannot place {name!r} by side or lobe; it can place: "
                    f"{', '.join(able) or 'none'}."
                )


def changeable(bundle: Metadata) -> list[Condition]:
    """What a counterfactual may ask of a bundle: without ``family`` lesions, which it draws, and the size of the
    ventricles, for which it moves tissue."""
    return [one for one in bundle.conditions if bundle.family or one.kind == "pathology" or one.name == "ventricles"]


def sweepable(verb: str, bundle: Metadata) -> list[str]:
    """What a sweep over frames of that verb may vary: settings that the bundle's model honours, and conditions."""
    if verb == "counterfactual" and not bundle.family:
        return [condition.name for condition in changeable(bundle)]
    if verb == "counterfactual":
        settings = ["drift", "strength", "guidance"]
    else:
        # The public latent diffusion was never trained without its conditions.
        settings = ["mass_effect"] * (not bundle.family) + ["drift"] * (bundle.family == "brain-ldm")
        settings += ["guidance"] * (bundle.family != "latent-diffusion")
    return [*settings, *(condition.name for condition in bundle.conditions)]


def frames(request: Sweep, bundle: Metadata) -> list[Generate | Counterfactual]:
    """The request of each frame of a sweep.

    Raises:
        BadInput: the bundle cannot vary what is swept over, or a value is out of its range.
    """
    able = sweepable(request.of.verb, bundle)
    if request.over not in able:
        raise BadInput(
            f"Bundle {bundle.name} cannot sweep over {request.over!r}; it can sweep over: "
            f"{', '.join(able) or 'nothing'}."
        )
    kinds = {condition.name: condition.kind for condition in bundle.conditions}
    base = request.of.model_dump()
    changed: list[dict]
    if request.over not in kinds:
        changed = [{request.over: value} for value in request.values]
    else:
        if isinstance(request.of, Counterfactual):
            place = "wanted"
        else:
            place = "pathologies" if kinds[request.over] == "pathology" else "anatomy"
        changed = [{place: {**base[place], request.over: value}} for value in request.values]
    made = [parse({**base, **change}) for change in changed]
    return [frame for frame in made if isinstance(frame, Generate | Counterfactual)]


def check_offered(names: Iterable[str], bundle: Metadata, contrast: str) -> None:
    """Check that the data behind a bundle support conditions in a contrast.

    Raises:
        BadInput: they do not.
    """
    known = {condition.name: condition for condition in bundle.conditions}
    for name in names:
        if (able := known[name].contrasts) and contrast not in able:
            raise BadInput(
                f"Bundle {bundle.name} has seen {name!r} vary in too few {contrast} scans of one study; it can be "
                f"asked for it in: {', '.join(able)}."
            )


def _check_counterfactual(request: Counterfactual, bundle: Metadata) -> None:
    if request.contrast is not None and request.contrast not in bundle.contrasts:
        raise BadInput(
            f"Bundle {bundle.name} does not know contrast {request.contrast!r}; it knows: "
            f"{', '.join(bundle.contrasts)}." + suggestion(request.contrast, bundle.contrasts)
        )
    if request.lesion_as is not None and request.segmentation is None:
        raise BadInput("A lesion is named, but no mask of it is given; give the segmentation too.")
    if not request.wanted:
        raise BadInput("Nothing is asked to change; say what, e.g. age=80.")
    known = {condition.name: condition for condition in bundle.conditions}
    if not bundle.family:
        _check_relabelling(request, bundle)
        return
    for values in (request.known, request.wanted):
        _check_values("condition", values, known, bundle.name)
    drawn = [name for name in request.known if known[name].kind == "pathology" and request.lesions == "labels"]
    if drawn:
        raise BadInput(
            f"How much {drawn[0]!r} the scan has is measured on labels where lesions are rendered from them; give a "
            "segmentation, or leave lesions to the diffusion."
        )
    if request.contrast is not None:
        check_offered(request.wanted, bundle, request.contrast)


def _check_relabelling(request: Counterfactual, bundle: Metadata) -> None:
    _check_values("change", request.wanted, {one.name: one for one in changeable(bundle)}, bundle.name)
    for name in ("known", "drift", "drift_step", "strength", "guidance", "steps", "variants", "lesions"):
        if getattr(request, name) != Counterfactual.model_fields[name].get_default(call_default_factory=True):
            raise BadInput(
                f"Bundle {bundle.name} changes the label map and renders it anew; leave {name} out, or use brain-ldm."
            )


def _check_image_only(request: Generate, bundle: str) -> None:
    if len(request.contrasts) > 1:
        raise BadInput(f"Bundle {bundle} generates another head for every contrast; ask for one contrast at a time.")
    if request.draft:
        raise BadInput(f"Bundle {bundle} makes no labels, so it has no draft; ask for the image.")
    if request.style is not None:
        raise BadInput(f"Bundle {bundle} cannot take the look of a scan; leave the style out.")
    if request.mass_effect != MASS_EFFECT:
        raise BadInput(f"Bundle {bundle} makes no labels that could be displaced; leave the mass effect out.")


def _check_values(kind: str, values: dict[str, float], known: dict[str, Condition], bundle: str) -> None:
    for name, value in values.items():
        if name not in known:
            raise BadInput(
                f"Bundle {bundle} does not know the {kind} {name!r}; it knows: {', '.join(known) or 'none'}."
                + suggestion(name, known)
            )
        condition = known[name]
        if not condition.minimum <= value <= condition.maximum:
            raise BadInput(
                f"{name}={value:g} is outside the range that bundle {bundle} was trained for: "
                f"{condition.minimum:g} to {condition.maximum:g} ({condition.unit})."
            )
