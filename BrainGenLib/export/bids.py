"""Cases as a BIDS derivative dataset, and back.

``OUT/sub-0001/anat/sub-0001_T1w.nii.gz`` … ``_dseg.nii.gz`` with JSON sidecars (BIDS 1.9, *Derivatives*), and the
``dataset_description.json``, ``participants.tsv``, ``README`` and ``dseg.tsv`` of the whole set. Nothing is
overwritten: a new case is a new subject, which appears complete, with its row, or not at all, however many processes
write. The frames of a sweep are sessions of one subject, whose values stand in ``sub-0001/sub-0001_sessions.tsv``.
"""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from filelock import FileLock

from BrainGenLib import __version__, anatomy, sweeps
from BrainGenLib.case import ATTRIBUTION, Case, Frame, as_map, read_array
from BrainGenLib.errors import BadInput, reason
from BrainGenLib.export.dataset import README, SOURCES, columns_of, row_of, source_of
from BrainGenLib.export.plot import trade_off
from BrainGenLib.record import Record
from BrainGenLib.scratch import Scratch
from BrainGenLib.spaces import GRID_1MM

# BIDS has no suffix for contrast agents, but an entity.
ENTITIES = {"T1ce": "ce-gadolinium_T1w"}
MAP = "map"
DONORS = "desc-donors_dseg"
MAPS = {
    "difference": "SYNTHETIC: what was added to the scan, in its units. The image less this map is the scan itself.",
    "uncertainty": "Standard deviation of the difference between variants of the noise, in the scan's units.",
    ATTRIBUTION: "SYNTHETIC: the donor whose anatomy a voxel has; 0: none. Values are in the table beside it.",
}
CASE_BYTES = 40_000_000
_PARTIAL = ".braingen-"
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
    if out.is_dir() and any(not one.name.startswith(_PARTIAL) for one in out.iterdir()) and not is_ours(out):
        raise BadInput(f"{out} holds other files; give a new folder, or a dataset that BrainGen wrote, to add to it.")
    check_space(out, cases * CASE_BYTES)
    _participants(out / "participants.tsv")


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
        raise BadInput(f"Cannot write to {parent}: {reason(error)}. Choose another folder.") from error
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
        out.mkdir(parents=True, exist_ok=True)
        lock = FileLock(out / f"{_PARTIAL}lock", thread_local=False)
        with Scratch(_PARTIAL, out) as scratch:
            with lock:
                _write_dataset_files(out, source_of(case))
                name = _next_subject(out)
                partial = scratch / name
                partial.mkdir()
            (_write_sessions if case.frames else _write_images)(partial, name, case)
            with lock:
                _commit(out, partial, row_of(name, case))
    except OSError as error:
        raise BadInput(f"Cannot write to {out}: {reason(error)}. Nothing of this case was kept.") from error
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
    record = Record.read(sessions, "BrainGen")
    case = Case({}, None, np.array(record.affine), record.measurements, record.provenance)
    for number, value in enumerate(record.values, 1):
        session = _session(number)
        case.frames.append(Frame(value, _read_images(folder / session, f"{name}_{session}")))
    return case


def _read_images(folder: Path, name: str) -> Case:
    prefix = folder / "anat" / name
    # Those of the images say the same as that of the labels, which a case need not have.
    sidecars = sorted(prefix.parent.glob(f"{prefix.name}_*.json"), key=lambda path: "_dseg" not in path.name)
    if not sidecars:
        raise BadInput(f"{folder} holds no case: give a case folder, a job folder or a sub-… folder of BrainGen.")
    record = Record.read(sidecars[0], "BrainGen")
    labels = _image_path(prefix, "dseg")
    return Case(
        images={name: read_array(_image_path(prefix, name)).astype(np.float32) for name in record.contrasts},
        labels=read_array(labels).astype(np.uint16) if labels.is_file() else None,
        affine=np.array(record.affine),
        measurements=record.measurements,
        provenance=record.provenance,
        maps={name: as_map(name, read_array(path)) for name in MAPS if (path := _map_path(prefix, name)).is_file()},
    )


def check_segmentation_target(out: Path, stem: str) -> None:
    """Check that :func:`write_segmentation` can write there.

    Raises:
        BadInput: it cannot, or a file of that name exists already.
    """
    if out.exists() and not out.is_dir():
        raise BadInput(f"{out} is a file; give a folder.")
    # A link that leads nowhere is there too.
    if taken := [out / f"{stem}{end}" for end in SEGMENTATION_FILES if os.path.lexists(out / f"{stem}{end}")]:
        raise BadInput(f"{taken[0]} exists already; choose another folder or move it away.")
    table = out / "dseg.tsv"
    if os.path.lexists(table) and not (table.is_file() and table.read_bytes() == _label_table().encode()):
        raise BadInput(f"{table} exists already and is another table of labels; choose another folder.")
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
    placed: list[Path] = []
    try:
        out.mkdir(parents=True, exist_ok=True)
        with Scratch(_PARTIAL, out) as partial:
            _save(partial / names[0], case.labels, case)
            text = "Label map of a scan that was given; it describes the brain of the person who was scanned."
            _write_json(partial / names[1], _sidecar(case, text))
            _save(partial / names[2], brain_mask(case.labels).astype(np.uint8), case)
            rows = list(case.measurements["volumes_ml"].items())
            _write_text(partial / names[3], _table(("structure", "volume_ml"), rows))
            if template is not None and template.labels is not None:
                _save(partial / names[4], template.labels, template)
            _write_text(partial / "dseg.tsv", _label_table())
            for name in [*names, *(["dseg.tsv"] if not (out / "dseg.tsv").exists() else [])]:
                _place(partial / name, out / name)
                placed.append(out / name)
    except BaseException as error:
        for path in placed:
            path.unlink(missing_ok=True)
        if isinstance(error, FileExistsError):
            raise BadInput(f"{error.filename2} exists already; choose another folder or move it away.") from error
        if isinstance(error, OSError):
            raise BadInput(f"Cannot write to {out}: {reason(error)}.") from error
        raise
    return [out / name for name in names]


def _place(source: Path, target: Path) -> None:
    """Give a complete file its name, unless something has that name already.

    Raises:
        FileExistsError: it has.
    """
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:
        # There are disks without links.
        try:
            with source.open("rb") as content, target.open("xb") as file:
                shutil.copyfileobj(content, file)
        except FileExistsError as error:
            raise FileExistsError(error.errno, error.strerror, str(source), None, str(target)) from error


def is_ours(out: Path) -> bool:
    """Whether a folder is a dataset that BrainGen wrote."""
    try:
        description = json.loads((out / "dataset_description.json").read_text("utf-8"))
        return any(tool["Name"] == "BrainGen" for tool in description["GeneratedBy"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False


def ignore(out: Path, pattern: str) -> None:
    """Let validators of a dataset pass over what BIDS has no name for."""
    with FileLock(out / f"{_PARTIAL}lock", thread_local=False):
        path = out / ".bidsignore"
        lines = path.read_text("utf-8").splitlines() if path.exists() else []
        if pattern not in lines:
            _write_text(path, "\n".join([*lines, pattern, ""]))


def _next_subject(out: Path) -> str:
    """The next free subject; those that are being written count, and the folder is to be locked."""
    found = (_SUBJECT.fullmatch(path.name) for path in [*out.iterdir(), *out.glob(f"{_PARTIAL}*/sub-*")])
    return f"sub-{max((int(match[1]) for match in found if match), default=0) + 1:04d}"


def _commit(out: Path, partial: Path, row: dict[str, Any]) -> None:
    """Give a subject its place and its row, or neither; the folder is to be locked."""
    subject, table = out / partial.name, out / "participants.tsv"
    columns, rows = _participants(table)
    columns = [*columns, *(name for name in row if name not in columns)]
    before = table.read_text("utf-8") if table.exists() else None
    after = _table(columns, [[one.get(name) or "n/a" for name in columns] for one in [*rows, row]])
    os.replace(partial, subject)
    try:
        _write_text(table, after)
    except BaseException:
        shutil.rmtree(subject)
        if before is None:
            table.unlink(missing_ok=True)
        elif table.read_text("utf-8") != before:
            _write_text(table, before)
        raise


def _participants(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Columns and rows of ``participants.tsv``; none if there is no such file.

    Raises:
        BadInput: it is no table that rows can be added to.
    """
    if not os.path.lexists(path):
        return [], []
    try:
        with path.open("r+", newline="", encoding="utf-8-sig") as file:
            # A quotation mark is a character like others: one alone would join rows.
            reader = csv.DictReader(file, delimiter="\t", restval="n/a", quoting=csv.QUOTE_NONE)
            rows, columns = list(reader), list(reader.fieldnames or [])
    except (OSError, ValueError, csv.Error) as error:
        why = reason(error) if isinstance(error, OSError) else "it is not a UTF-8 table"
        raise BadInput(f"{path} cannot be added to: {why}. Repair it, or choose a new folder.") from error
    if "participant_id" not in columns or any(None in row for row in rows):
        raise BadInput(
            f"{path} cannot be added to: its first line does not name its columns, participant_id among them. "
            "Repair it, or choose a new folder."
        )
    return columns, rows


def _write_sessions(subject: Path, name: str, case: Case) -> None:
    over, measured = case.measurements["over"], case.measurements
    columns = {
        "session_id": {"Description": "Frame of a sweep, not a visit."},
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
    _write_text(subject / f"{name}_sessions.tsv", _table(columns, rows))
    record = _sidecar(case, f"Frames of a SYNTHETIC sweep made by BrainGen. {SOURCES[source_of(case)]}")
    record["BrainGen"]["values"] = [frame.value for frame in case.frames]
    _write_json(subject / f"{name}_sessions.json", {**columns, **record})
    if "front" in measured:
        (subject / "figures").mkdir()
        path = subject / "figures" / f"{name}_desc-tradeoff_plot.svg"
        path.write_text(trade_off(case), "utf-8")


def _session(number: int) -> str:
    return f"ses-{number:02d}"


def _write_images(folder: Path, name: str, case: Case) -> None:
    anat, source = folder / "anat", source_of(case)
    anat.mkdir()
    # A scan that was changed keeps its own values, whatever their range: R1 in 1/ms is far below 1.
    own_values = source in ("scan", "unknown")
    for contrast, volume in case.images.items():
        path = _image_path(anat / name, contrast)
        if own_values or volume.min() < 0 or volume.max() > 1:
            _save(path, volume.astype(np.float32), case)
        else:
            # int16 halves the file at a precision (1.5e-5) below any noise.
            _save(path, np.round(volume * 32767).astype(np.int16), case, slope=1 / 32767)
        sidecar = _sidecar(case, f"SYNTHETIC {contrast} image made by BrainGen. {SOURCES[source]}")
        # The images of the label-driven models never have a skull; the others say.
        stripped = case.provenance.get("skull_stripped", True)
        sidecar["SkullStripped"] = case.measurements.get("skull_stripped", stripped)
        _write_json(path.with_name(path.name.replace(".nii.gz", ".json")), sidecar)
    for map_, volume in case.maps.items():
        path = _map_path(anat / name, map_)
        _save(path, as_map(map_, volume), case)
        sidecar = _sidecar(case, f"{MAPS[map_]} {SOURCES[source]}")
        _write_json(path.with_name(path.name.replace(".nii.gz", ".json")), sidecar)
        if map_ == ATTRIBUTION:
            shares = case.measurements.get(ATTRIBUTION, {}).get("shares", {})
            rows = [(0, "none", "n/a"), *((number, *one) for number, one in enumerate(shares.items(), 1))]
            table = _table(("index", "name", "share"), rows)
            _write_text(path.with_name(path.name.replace(".nii.gz", ".tsv")), table)
    if case.labels is not None:
        path = _image_path(anat / name, "dseg")
        _save(path, case.labels, case)
        text = f"Label map of the SYNTHETIC images beside it; values are in dseg.tsv. {SOURCES[source]}"
        sidecar = _sidecar(case, text)
        _write_json(path.with_name(f"{name}_dseg.json"), sidecar)


def _image_path(prefix: Path, suffix: str) -> Path:
    return prefix.with_name(f"{prefix.name}_{ENTITIES.get(suffix, suffix)}.nii.gz")


def _map_path(prefix: Path, name: str) -> Path:
    ending = DONORS if name == ATTRIBUTION else f"desc-{name}_{MAP}"
    return prefix.with_name(f"{prefix.name}_{ending}.nii.gz")


def _save(path: Path, array: np.ndarray, case: Case, slope: float | None = None) -> None:
    image = nib.nifti1.Nifti1Image(array, case.affine)
    code = "mni" if np.allclose(case.affine, GRID_1MM.affine) else "scanner"
    image.set_sform(case.affine, code)
    image.set_qform(case.affine, code)
    case.mark(image)
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


def _write_dataset_files(out: Path, source: str) -> None:
    texts = {
        "dseg.tsv": _label_table(),
        "README": README,
        # BIDS has no name for these; scenes are often put beside the cases.
        ".bidsignore": f"*_{MAP}.*\nfigures\n*.mrb\n",
    }
    for name, text in texts.items():
        if not os.path.lexists(out / name):
            _write_text(out / name, text)
    _complete(out / "participants.json", columns_of())
    # Last, because it says that the folder is a dataset.
    name = "SYNTHETIC brain MRI made by BrainGen"
    _complete(
        out / "dataset_description.json",
        {
            "Name": name,
            "BIDSVersion": "1.9.0",
            "DatasetType": "derivative",
            "GeneratedBy": [{"Name": "BrainGen", "Version": __version__}],
        },
        {} if source == "model" else {"Name": f"{name}; not all of it without a real person behind it: see README"},
    )


def _complete(path: Path, fields: dict[str, Any], new: dict[str, Any] | None = None) -> None:
    """Add fields to a JSON file, which keeps those that it has, except ``new`` ones."""
    try:
        found = json.loads(path.read_text("utf-8")) if os.path.lexists(path) else {}
        wanted = {**fields, **found, **(new or {})}
    except (ValueError, TypeError, RecursionError) as error:
        raise BadInput(f"{path} cannot be understood; repair or remove it.") from error
    if wanted != found:
        _write_json(path, wanted)


def _label_table() -> str:
    rows = [(label.value, label.name, "#{:02x}{:02x}{:02x}".format(*label.color)) for label in anatomy.labels()]
    return _table(("index", "name", "color"), rows)


def _table(header: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    lines = ("\t".join(re.sub(r"[\t\r\n]", " ", str(cell)) for cell in row) for row in [header, *rows])
    return "".join(f"{line}\n" for line in lines)


def _write_json(path: Path, data: dict[str, Any]) -> None:
    _write_text(path, json.dumps(data, indent=2) + "\n")


def _write_text(path: Path, text: str) -> None:
    """Write a file as a whole; folders in which others write too are to be locked."""
    temporary = path.with_name(f".{path.name}.part")
    with temporary.open("w", newline="", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    if path.exists():
        shutil.copymode(path, temporary)
    os.replace(temporary, path)
