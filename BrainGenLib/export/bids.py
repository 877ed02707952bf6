"""Cases as a BIDS derivative dataset, and back.

``OUT/sub-0001/anat/sub-0001_T1w.nii.gz`` … ``_dseg.nii.gz`` with JSON sidecars (BIDS 1.9, *Derivatives*), and the
``dataset_description.json``, ``participants.tsv`` and ``dseg.tsv`` of the whole set. Nothing is overwritten: a new
case is a new subject, which appears complete or not at all. The frames of a sweep are sessions of one subject, whose
values stand in ``sub-0001/sub-0001_sessions.tsv``.
"""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from BrainGenLib import __version__, anatomy, sweeps
from BrainGenLib.case import Case, Frame, read_array
from BrainGenLib.errors import BadInput
from BrainGenLib.export.plot import trade_off
from BrainGenLib.spaces import GRID_1MM

# BIDS has no suffix for contrast agents, but an entity.
ENTITIES = {"T1ce": "ce-gadolinium_T1w"}
MAP = "map"
MAPS = {
    "difference": "SYNTHETIC: what was added to the scan, in its units.",
    "uncertainty": "Standard deviation of the difference between variants of the noise, in the scan's units.",
}
CASE_BYTES = 40_000_000
# The template is nilearn's MNI152.
SEGMENTATION_FILES = (
    "_dseg.nii.gz",
    "_dseg.json",
    "_desc-brain_mask.nii.gz",
    "_volumes.tsv",
    "_space-MNI152NLin2009aSym_dseg.nii.gz",
)
_SUBJECT = re.compile(r"sub-(\d{4,})")


def check_target(out: Path, cases: int = 1) -> None:
    """Check that ``cases`` new cases can be written to ``out``, before hours are spent on them.

    Raises:
        BadInput: ``out`` is a file, holds other things than a dataset of BrainGen, or cannot be written or is full.
    """
    if out.exists() and not out.is_dir():
        raise BadInput(f"{out} is a file; give a folder.")
    if out.is_dir() and any(out.iterdir()) and not _is_ours(out):
        raise BadInput(f"{out} holds other files; give a new folder, or a dataset that BrainGen wrote, to add to it.")
    check_space(out, cases * CASE_BYTES)


def check_space(out: Path, needed: int) -> None:
    """Check that ``needed`` bytes can be written under ``out``, which need not exist yet.

    Raises:
        BadInput: they cannot.
    """
    parent = next(folder for folder in (out.absolute(), *out.absolute().parents) if folder.is_dir())
    try:
        with tempfile.TemporaryFile(dir=parent):
            pass
    except OSError as error:
        raise BadInput(f"Cannot write to {parent}: {error.strerror}. Choose another folder.") from error
    free = shutil.disk_usage(parent).free
    if free < needed:
        raise BadInput(
            f"{parent} has only {free / 1e6:.0f} MB free, and about {needed / 1e6:.0f} MB are needed: free some "
            "space or choose another disk."
        )


def write_case(out: Path, case: Case) -> Path:
    """Add a case to the dataset ``out`` as its next subject.

    Returns:
        The subject's folder.

    Raises:
        BadInput: it cannot be written (the disk is full, …); then nothing of it is left.
    """
    try:
        _write_dataset_files(out)
        name, partial = _reserve(out)
        try:
            (_write_sessions if case.frames else _write_images)(partial, name, case)
            os.replace(partial, out / name)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        _add_participant(out / "participants.tsv", name, case)
    except OSError as error:
        raise BadInput(f"Cannot write to {out}: {error.strerror or error}. Nothing of this case was kept.") from error
    return out / name


def read_case(folder: Path) -> Case:
    """A case from a case folder, a job folder, or a subject of a dataset that :func:`write_case` wrote.

    Raises:
        BadInput: the folder is none of these.
    """
    if (folder / "result").is_dir():
        folder = folder / "result"
    if (folder / "case.json").is_file():
        return Case.load(folder)
    name = folder.resolve().name
    sessions = folder / f"{name}_sessions.json"
    if not sessions.is_file():
        # A session on its own is a case too.
        return _read_images(folder, f"{folder.resolve().parent.name}_{name}" if name.startswith("ses-") else name)
    record = json.loads(sessions.read_text("utf-8"))["BrainGen"]
    case = Case({}, None, np.array(record["affine"]), record["measurements"], record["provenance"])
    for number, value in enumerate(record["values"], 1):
        session = _session(number)
        case.frames.append(Frame(value, _read_images(folder / session, f"{name}_{session}")))
    return case


def _read_images(folder: Path, name: str) -> Case:
    prefix = folder / "anat" / name
    # Those of the images say the same as that of the labels, which a case need not have.
    sidecars = sorted(prefix.parent.glob(f"{prefix.name}_*.json"), key=lambda path: "_dseg" not in path.name)
    if not sidecars:
        raise BadInput(f"{folder} holds no case: give a case folder, a job folder or a sub-… folder of BrainGen.")
    record = json.loads(sidecars[0].read_text("utf-8"))["BrainGen"]
    labels = _image_path(prefix, "dseg")
    return Case(
        images={name: read_array(_image_path(prefix, name)).astype(np.float32) for name in record["contrasts"]},
        labels=read_array(labels).astype(np.uint16) if labels.is_file() else None,
        affine=np.array(record["affine"]),
        measurements=record["measurements"],
        provenance=record["provenance"],
        maps={
            name: read_array(path)
            for name in MAPS
            if (path := prefix.with_name(f"{prefix.name}_desc-{name}_{MAP}.nii.gz")).is_file()
        },
    )


def check_segmentation_target(out: Path, stem: str) -> None:
    """Check that :func:`write_segmentation` can write there.

    Raises:
        BadInput: it cannot, or a file of that name exists already.
    """
    if out.exists() and not out.is_dir():
        raise BadInput(f"{out} is a file; give a folder.")
    if taken := [out / f"{stem}{end}" for end in SEGMENTATION_FILES if (out / f"{stem}{end}").exists()]:
        raise BadInput(f"{taken[0]} exists already; choose another folder or move it away.")
    check_space(out, CASE_BYTES)


def write_segmentation(out: Path, stem: str, case: Case) -> list[Path]:
    """Write the labels of a scan, in its grid and (if there) in template space, the brain mask, and its volumes.

    Returns:
        The files.

    Raises:
        BadInput: one of them exists already, or cannot be written; then nothing of them is left.
    """
    # Not at file scope: it imports scipy, which the other exports do not need.
    from BrainGenLib.morphometry import brain_mask

    assert case.labels is not None
    template = case.template
    check_segmentation_target(out, stem)
    names = [f"{stem}{end}" for end in SEGMENTATION_FILES[: None if template else -1]]
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out, prefix=".braingen-") as temporary:
            partial = Path(temporary)
            _save(partial / names[0], case.labels, case.affine)
            _write_json(partial / names[1], _sidecar(case, "Label map of a scan."))
            _save(partial / names[2], brain_mask(case.labels).astype(np.uint8), case.affine)
            rows = [(name, volume) for name, volume in case.measurements["volumes_ml"].items()]
            _write_table(partial / names[3], ("structure", "volume_ml"), rows)
            if template is not None and template.labels is not None:
                _save(partial / names[4], template.labels, template.affine)
            for name in names:
                os.replace(partial / name, out / name)
        _write_label_table(out / "dseg.tsv")
    except OSError as error:
        raise BadInput(f"Cannot write to {out}: {error.strerror or error}.") from error
    return [out / name for name in names]


def _is_ours(out: Path) -> bool:
    try:
        description = json.loads((out / "dataset_description.json").read_text("utf-8"))
        return any(tool["Name"] == "BrainGen" for tool in description["GeneratedBy"])
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _reserve(out: Path) -> tuple[str, Path]:
    """The next free subject and an empty folder to write it in; another process cannot get the same."""
    numbers = [int(match[1]) for path in out.iterdir() if (match := _SUBJECT.fullmatch(path.name))]
    number = max(numbers, default=0)
    while True:
        number += 1
        partial = out / f".sub-{number:04d}.part"
        try:
            partial.mkdir()
        except FileExistsError:
            continue
        # It may have become a subject between the listing and now.
        if (out / f"sub-{number:04d}").exists():
            partial.rmdir()
            continue
        return f"sub-{number:04d}", partial


def _write_sessions(subject: Path, name: str, case: Case) -> None:
    over, measured = case.measurements["over"], case.measurements
    columns = {
        "session_id": {"Description": "Frame of a sweep; nobody was scanned again."},
        over: {"Description": "What was swept over.", "Units": measured["unit"]},
        "flip": {
            "Description": "Share of what was asked for that was reached, as the model, the age judge or labels say."
        },
        "identity": {"Description": "Structural similarity to the scan."},
        "pareto_front": {"Description": "1: no other frame has more of both; 2: the best of these."},
    }
    rows = []
    for number, frame in enumerate(case.frames, 1):
        session = _session(number)
        (subject / session).mkdir()
        _write_images(subject / session, f"{name}_{session}", frame.case)
        found = sweeps.flip(frame.case)
        flip = "n/a" if found is None else round(found, 4)
        identity = sweeps.identity(frame.case) if "similarity" in frame.case.measurements else "n/a"
        front = "n/a" if "front" not in measured else int(number in measured["front"])
        rows.append((session, frame.value, flip, identity, 2 if number == measured.get("best") else front))
    _write_table(subject / f"{name}_sessions.tsv", tuple(columns), rows)
    record = _sidecar(case, "Frames of a SYNTHETIC sweep made by BrainGen.")
    record["BrainGen"]["values"] = [frame.value for frame in case.frames]
    _write_json(subject / f"{name}_sessions.json", {**columns, **record})
    if "front" in measured:
        (subject / "figures").mkdir()
        path = subject / "figures" / f"{name}_desc-tradeoff_plot.svg"
        path.write_text(trade_off(case), "utf-8")


def _session(number: int) -> str:
    return f"ses-{number:02d}"


def _write_images(folder: Path, name: str, case: Case) -> None:
    anat = folder / "anat"
    anat.mkdir()
    request = case.provenance.get("request", {})
    # A scan that was changed keeps its own values, whatever their range: R1 in 1/ms is far below 1.
    own_values = request.get("of", request).get("verb") == "counterfactual"
    for contrast, volume in case.images.items():
        path = _image_path(anat / name, contrast)
        if own_values or volume.min() < 0 or volume.max() > 1:
            _save(path, volume.astype(np.float32), case.affine)
        else:
            # int16 halves the file at a precision (1.5e-5) below any noise.
            _save(path, np.round(volume * 32767).astype(np.int16), case.affine, slope=1 / 32767)
        sidecar = _sidecar(case, f"SYNTHETIC {contrast} image made by BrainGen; no person was scanned.")
        # The images of the label-driven models never have a skull; the others say.
        stripped = case.provenance.get("skull_stripped", True)
        sidecar["SkullStripped"] = case.measurements.get("skull_stripped", stripped)
        _write_json(path.with_name(path.name.replace(".nii.gz", ".json")), sidecar)
    for map_, volume in case.maps.items():
        path = anat / f"{name}_desc-{map_}_{MAP}.nii.gz"
        _save(path, volume.astype(np.float32), case.affine)
        _write_json(path.with_name(f"{name}_desc-{map_}_{MAP}.json"), _sidecar(case, MAPS[map_]))
    if case.labels is not None:
        path = _image_path(anat / name, "dseg")
        _save(path, case.labels, case.affine)
        sidecar = _sidecar(case, "Label map of the SYNTHETIC images beside it; values are in dseg.tsv.")
        _write_json(path.with_name(f"{name}_dseg.json"), sidecar)


def _image_path(prefix: Path, suffix: str) -> Path:
    return prefix.with_name(f"{prefix.name}_{ENTITIES.get(suffix, suffix)}.nii.gz")


def _save(path: Path, array: np.ndarray, affine: np.ndarray, slope: float | None = None) -> None:
    image = nib.nifti1.Nifti1Image(array, affine)
    code = "mni" if np.allclose(affine, GRID_1MM.affine) else "scanner"
    image.set_sform(affine, code)
    image.set_qform(affine, code)
    image.header.set_xyzt_units("mm")
    if slope is not None:
        image.header.set_slope_inter(slope, 0)
    nib.save(image, path)


def _sidecar(case: Case, description: str) -> dict[str, Any]:
    return {
        "Description": description,
        "SYNTHETIC": case.synthetic,
        "BrainGen": {
            "contrasts": list(case.images),
            "measurements": case.measurements,
            "provenance": case.provenance,
            "affine": np.asarray(case.affine, float).tolist(),
        },
    }


def _write_dataset_files(out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    if not (out / "dseg.tsv").exists():
        _write_label_table(out / "dseg.tsv")
    if not (out / "participants.json").exists():
        _write_json(out / "participants.json", {name: {"Description": text} for name, text in _columns().items()})
    # Last, because it says that the folder is a dataset.
    if not (out / "dataset_description.json").exists():
        description = {
            "Name": "SYNTHETIC brain MRI made by BrainGen",
            "BIDSVersion": "1.9.0",
            "DatasetType": "derivative",
            "GeneratedBy": [{"Name": "BrainGen", "Version": __version__}],
        }
        _write_json(out / "dataset_description.json", description)


def _columns() -> dict[str, str]:
    columns = {
        "participant_id": "Subject of this dataset; no person.",
        "synthetic": "1: made by BrainGen.",
        "verb": "What BrainGen was asked for.",
        "bundle": "The model.",
        "seed": "Seed of the request.",
    }
    for name, label in anatomy.lesions().items():
        columns[f"{name}_load"] = f"Requested load of {label.name} (0 to 1)."
        columns[f"{name}_ml"] = f"Volume of {label.name} in the label map, in mL."
    return columns


def _add_participant(path: Path, name: str, case: Case) -> None:
    request = case.provenance["request"]
    verb = request["verb"]
    # What a sweep varies has no one value.
    request = request.get("of", request)
    row: dict[str, Any] = {
        "participant_id": name,
        "synthetic": 1,
        "verb": verb,
        "bundle": request["bundle"],
        "seed": request["seed"],
    }
    for condition, label in anatomy.lesions().items():
        swept = condition == case.measurements.get("over")
        row[f"{condition}_load"] = "n/a" if swept else request.get("pathologies", {}).get(condition, "n/a")
        volumes = case.measurements.get("volumes_ml")
        row[f"{condition}_ml"] = "n/a" if volumes is None else volumes.get(label.name, 0)
    fresh = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(_columns()), delimiter="\t", lineterminator="\n")
        if fresh:
            writer.writeheader()
        writer.writerow(row)


def _write_label_table(path: Path) -> None:
    rows = [(label.value, label.name, "#{:02x}{:02x}{:02x}".format(*label.color)) for label in anatomy.labels()]
    _write_table(path, ("index", "name", "color"), rows)


def _write_table(path: Path, header: tuple[str, ...], rows: list[tuple]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter="\t", lineterminator="\n").writerows([header, *rows])


def _write_json(path: Path, data: dict[str, Any]) -> None:
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_text(json.dumps(data, indent=2) + "\n", "utf-8")
    os.replace(temporary, path)
