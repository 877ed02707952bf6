"""``braingen generate``, ``render``, ``segment`` and ``replay``: a request through a job folder, the case to disk."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from BrainGenLib import bundles, capabilities, requests
from BrainGenLib.cli.console import (
    Device,
    Json,
    Runner,
    Server,
    contrast_of,
    emit,
    guarded,
    named_numbers,
    named_values,
)
from BrainGenLib.errors import BadInput
from BrainGenLib.reading import formats


def several(name: str, text: str) -> typer.models.OptionInfo:
    """An option that may be given again."""
    return typer.Option(name, help=f"{text} (again for more).", default_factory=list, show_default=False)


def _bundles(incomplete: str) -> list[str]:
    return [name for name in bundles.available() if name.startswith(incomplete)]


def _contrasts(incomplete: str) -> list[str]:
    known = {contrast for bundle in bundles.available().values() for contrast in bundle.metadata.contrasts}
    return sorted(name for name in known if name.startswith(incomplete))


Out = Annotated[Path, typer.Option(help="BIDS derivative dataset; new subjects are added to an existing one.")]
Contrasts = Annotated[
    list[str],
    typer.Option(
        "--contrast",
        help="T1w, FLAIR, … (again for more).",
        default_factory=lambda: ["T1w"],
        show_default="T1w",
        autocompletion=_contrasts,
    ),
]
LesionAs = Annotated[
    str | None,
    typer.Option(
        help="Lesion that a mask shows (0 and one value, or probabilities): wmh, ms, tumour (also with the values of "
        "BraTS), oedema, enhancing, stroke.",
        show_default="as its labels say",
    ),
]
Style = Annotated[Path | None, typer.Option(help="Scan whose appearance is taken: any head or brain, any grid.")]
Seed = Annotated[int | None, typer.Option(help="The same seed gives the same case.", show_default="random")]
Bundle = Annotated[str, typer.Option(help="Model; `braingen bundles` lists them.", autocompletion=_bundles)]
Pathology = Annotated[
    list[str],
    several(
        "--pathology",
        "NAME=LOAD from 0 (none) to 1 (as much as the training data know; `braingen bundles` says how many mL), "
        "e.g. wmh=0.3",
    ),
]
Side = Annotated[list[str], several("--side", "NAME=left or NAME=right, where a pathology lies")]
Lobe = Annotated[list[str], several("--lobe", "NAME=LOBE, e.g. wmh=frontal")]
Anatomy = Annotated[
    list[str],
    several("--anatomy", "NAME=VALUE in the unit of `braingen bundles`, mostly mL or years, e.g. ventricles=30"),
]
MassEffect = Annotated[
    float,
    typer.Option(
        help="How far a glioma or stroke pushes the tissue at its border aside, mm, 0 to 10; "
        "the midline shift that follows is in the sidecar."
    ),
]
MaxShare = Annotated[
    float,
    typer.Option(
        help="Largest share of the brain that is of one donor, 0.1 to 1 (no limit); `attribution` in the sidecar "
        "says how much is whose."
    ),
]
_GUIDANCE = requests.Generate.model_fields["guidance"].default


def generate(
    *,
    out: Out,
    pathology: Pathology,
    side: Side,
    lobe: Lobe,
    anatomy: Anatomy,
    contrast: Contrasts,
    style: Style = None,
    count: Annotated[int, typer.Option(min=1, help="Number of cases, with seeds SEED, SEED+1, ….")] = 1,
    seed: Seed = None,
    mass_effect: MassEffect = requests.MASS_EFFECT,
    max_share: MaxShare = requests.MAX_SHARE,
    guidance: Annotated[float, typer.Option(help="Weight of the conditions, 0 to 10.")] = _GUIDANCE,
    steps: Annotated[
        int | None, typer.Option(help="Steps of the sampler, 2 to 1000.", show_default="what suits the model")
    ] = None,
    drift: Annotated[
        float | None,
        typer.Option(
            help="Of brain-ldm: standard deviations of the latent's means between subjects.",
            show_default="what the model was fine-tuned with",
        ),
    ] = None,
    bundle: Bundle = "brainspade3d",
    device: Device = "auto",
    server: Server = None,
    as_json: Json = False,
) -> None:
    """Make brains with segmentations from conditions."""
    with guarded(as_json):
        inputs = named(style=style)
        first = secrets.randbelow(2**32 - count) if seed is None else seed
        common = {
            "verb": "generate",
            "bundle": bundle,
            "device": device,
            "contrasts": [contrast_of(one) for one in contrast],
            **brain(pathology, side, lobe, anatomy),
            "style": name_of(inputs, style),
            "mass_effect": mass_effect,
            "max_share": max_share,
            "guidance": guidance,
            "steps": steps,
            "drift": drift,
        }
        wanted = [requests.parse({**common, "seed": first + index}) for index in range(count)]
        to_dataset(wanted, inputs, out, server, as_json)


def render(
    *,
    segmentation: Annotated[
        Path, typer.Argument(help="Label map of BrainGen, FreeSurfer, SynthSeg or SAMSEG, or a .seg.nrrd of Slicer.")
    ],
    out: Out,
    contrast: Contrasts,
    lesion_as: LesionAs = None,
    style: Style = None,
    seed: Seed = None,
    bundle: Bundle = "brainspade3d",
    device: Device = "auto",
    server: Server = None,
    as_json: Json = False,
) -> None:
    """Make images of a given segmentation, in its own grid."""
    with guarded(as_json):
        inputs = named(segmentation=segmentation, style=style)
        request = requests.parse(
            {
                "verb": "render",
                "bundle": bundle,
                "device": device,
                "seed": secrets.randbelow(2**32) if seed is None else seed,
                "segmentation": name_of(inputs, segmentation),
                "lesion_as": lesion_as,
                "style": name_of(inputs, style),
                "contrasts": [contrast_of(one) for one in contrast],
            }
        )
        to_dataset([request], inputs, out, server, as_json)


def segment(
    scan: Annotated[Path, typer.Argument(help="Scan of any contrast, whole head or skull-stripped.")],
    out: Annotated[Path, typer.Option(help="Folder for the label map, brain mask and volumes.")],
    bundle: Bundle = "segmenter",
    device: Device = "auto",
    server: Server = None,
    as_json: Json = False,
) -> None:
    """Label a scan, in its own grid: label map, brain mask, and volumes in mL."""
    with guarded(as_json):
        from BrainGenLib.export import bids

        inputs = named(scan=scan)
        request = requests.parse(
            {"verb": "segment", "bundle": bundle, "device": device, "scan": name_of(inputs, scan)}
        )
        check(request, inputs, server)
        stem = scan.name[: -len(formats.ending(scan))]
        bids.check_segmentation_target(out, stem)
        with Runner(as_json, server=server) as runner:
            case = runner.run(request, inputs, scan.name)
        files = bids.write_segmentation(out, stem, case)
        emit({"result": [str(path) for path in files]}, "\n".join(map(str, files)), as_json)


def replay(
    *,
    case: Annotated[Path, typer.Argument(help="Case folder, job folder, or sub-… folder of a dataset.")],
    file: Annotated[list[Path], several("--input", "A file that the request reads, if it is not beside the case")],
    as_json: Json = False,
) -> None:
    """Make a case again from its provenance, and tell whether the result is identical. Writes nothing."""
    with guarded(as_json):
        from BrainGenLib.export import bids
        from BrainGenLib.provenance import differences, of_frame

        before = bids.read_case(case).provenance
        if lacking := [one for one in ("request", "inputs", "threads", "arrays") if one not in before]:
            raise BadInput(f"How {case} was made is not recorded in full ({lacking[0]}), so it cannot be made again.")
        request = requests.parse(before["request"])
        inputs = _recognised(
            before["inputs"], [*file, *case.glob("inputs/*"), *case.resolve().parent.glob("inputs/*")]
        )
        check(request, inputs)
        with Runner(as_json, threads=before["threads"]) as runner:
            after = runner.run(request, inputs, "replay").provenance
        if number := before.get("frame"):
            after = of_frame(after, number)
        lines = differences(before, after)
        text = "Identical." if not lines else "Not identical:\n" + "\n".join(lines)
        emit({"identical": not lines, "differences": lines}, text, as_json)
        if lines:
            raise typer.Exit(1)


def to_dataset(
    wanted: list[requests.Request], inputs: Mapping[str, Path], out: Path, server: str | None, as_json: bool
) -> None:
    """Run requests and add their cases to a dataset."""
    from BrainGenLib.export import bids

    check(wanted[0], inputs, server)
    bids.check_target(out, sum(len(one.values) if isinstance(one, requests.Sweep) else 1 for one in wanted))
    with Runner(as_json, server=server) as runner:
        for number, request in enumerate(wanted, 1):
            case = runner.run(request, inputs, f"{request.verb} {number}/{len(wanted)}")
            subject = bids.write_case(out, case)
            files = sorted(str(path) for path in subject.rglob("*.nii.gz"))
            emit({"result": {"subject": str(subject), "seed": request.seed, "files": files}}, str(subject), as_json)


def brain(pathology: list[str], side: list[str], lobe: list[str], anatomy: list[str]) -> dict[str, Any]:
    """The fields of a request that say what brain is wanted."""
    sides, lobes = named_values(side, "--side"), named_values(lobe, "--lobe")
    return {
        "pathologies": named_numbers(pathology, "--pathology"),
        "locations": {name: {"side": sides.get(name), "lobe": lobes.get(name)} for name in {**sides, **lobes}},
        "anatomy": named_numbers(anatomy, "--anatomy"),
    }


def check(request: requests.Request, inputs: Mapping[str, Path], server: str | None = None) -> None:
    """Say at once what is wrong, before a worker has loaded anything."""
    for path in inputs.values():
        if not path.is_file():
            raise BadInput(f"There is no file {path}.")
    # A server checks the request itself; it is asked for what it has only once, when it gets the job.
    if server is None:
        requests.check(request, capabilities.asked_of(request))


def named(**files: Path | None) -> dict[str, Path]:
    """Inputs under the names of their roles: what a file is called at home is nobody's business in the provenance.

    Raises:
        BadInput: a file is of a format that is not read.
    """
    return {f"{role}{formats.ending(path)}": path for role, path in files.items() if path is not None}


def name_of(inputs: Mapping[str, Path], path: Path | None) -> str | None:
    """Under which name :func:`named` has put a file; None for none."""
    return next((name for name, file in inputs.items() if file is path), None)


def _recognised(wanted: dict[str, str], candidates: list[Path]) -> dict[str, Path]:
    """The files that a case was made from, found by their checksum."""
    from BrainGenLib.provenance import is_of

    files = [path for path in candidates if path.is_file()]
    found = {name: next((path for path in files if is_of(path, told)), None) for name, told in wanted.items()}
    if missing := [name for name, path in found.items() if path is None]:
        raise BadInput(f"The case was made from a file that is not here ({missing[0]}); give it with --input.")
    return {name: path for name, path in found.items() if path is not None}
