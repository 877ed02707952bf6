"""``braingen prepare``: a BIDS tree to the training cache, subject by subject, resumable.

:mod:`BrainGenLib.training.sources` chooses the files; docs/data.md has the conventions.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import shutil
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from nibabel.spatialimages import HeaderDataError
from scipy import ndimage

from BrainGenLib import anatomy, heads, spaces
from BrainGenLib.errors import BadInput
from BrainGenLib.reading import conventions
from BrainGenLib.reading.masks import holds_cavity, read_lesion, read_mask
from BrainGenLib.reading.nifti import header_of
from BrainGenLib.reading.scans import read_scan, without_air
from BrainGenLib.reading.volume import Volume, distance, millimetres_apart, read_volume
from BrainGenLib.training import harmonise, tissues
from BrainGenLib.training.cache import CachedCase, CacheWriter
from BrainGenLib.training.sources import CONTRASTS, File, Session, scan_bids

FINE_MM = 1.3
LEAST_DICE = 0.75
LEAST_LESION_ML = 0.1
LEAST_INSIDE = 0.6
# A rigid correction between scans of one session that is larger than this is a failure, not a movement.
LARGEST_SHIFT_MM = 25.0
# Of an affine's columns from right angles and equal lengths.
NOT_RIGID = 0.01
# Mutual information (nats) of two contrasts of one brain; those that lie on each other have 0.2 to 0.5, others 0.05.
LEAST_INFORMATION = 0.1
# Share of the labelled tissue that a brain-masked scan shows; less, and the labels lie elsewhere.
LEAST_SHOWN = 0.85
# Examples in a line that stands for many files or people.
NAMED = 3
# Appearance of a T1w scan, by tissue: what a label map is registered with.
T1W_LIKE = {"wm": 230, "gm": 150, "deep_gm": 180, "brainstem": 210, "csf": 60, "lesion": 180, "background": 0}

Report = Callable[[str], None]


# -- one session -----------------------------------------------------------------------------------------------------

Prepared = list[tuple[CachedCase, "np.ndarray | None", dict[str, np.ndarray]]]


@dataclass
class Scan:
    """A volume with axes (R, A, S); ``to_own`` maps the session's common world to the volume's own."""

    data: np.ndarray
    affine: np.ndarray
    to_own: np.ndarray = field(default_factory=lambda: np.eye(4))

    @classmethod
    def of(cls, volume: Volume) -> Scan:
        return cls(*spaces.canonical(volume.data, volume.affine))


def prepare_session(session: Session) -> Prepared:
    """Everything that the cache gets of a session.

    Raises:
        ValueError: a file is unreadable, a label value unknown, or the registration failed; one sentence.
    """
    if session.problem:
        raise ValueError(session.problem)
    if not session.images and not session.labels:
        return _lesions_alone(session)
    session.by_sform = _by_sform(session)
    images = {c: _scan(session.images[c], session.by_sform) for c in CONTRASTS if c in session.images}
    labels = _labels(session)
    reference = _reference(session, images)
    inside = _brain(session, images, reference)
    _check_shown(session, labels, images, inside)
    quality = _align(session, images, reference, labels, inside)
    registration = _to_template(session, images, labels, inside, reference)
    if registration.dice < LEAST_DICE:
        raise ValueError(f"{session.id}: the alignment with the template failed (overlap {registration.dice:.2f}).")
    quality["template_dice"] = round(registration.dice, 4)
    quality["coverage"] = round(registration.coverage, 4)

    def case(suffix: str = "") -> CachedCase:
        person = session.person
        return CachedCase(
            id=session.id + suffix,
            dataset=person.dataset,
            split=person.split,
            space="template",
            spacing=spacing,
            age=person.age,
            sex=person.sex,
            licence=person.licence,
            quality=dict(quality),
        )

    spacing = _spacing(images, labels)
    grid = spaces.GRID_1MM if spacing == 1 else spaces.GRID_2MM
    matrix = registration.template_to_scan
    lesions = _lesion_classes(session, images, grid, matrix)
    _check_placed(session, lesions)
    main = case()
    main.images = {c: tuple(round(v, 3) for v in spaces.voxel_size(s.affine)) for c, s in images.items()}  # type: ignore[misc]
    support = None
    if inside is not None:
        support = spaces.to_grid(inside.data, inside.affine, grid, template_to_scan=inside.to_own @ matrix) > 0.5
    classes = None
    if labels is not None:
        main.quality["label_spacing"] = round(max(spaces.voxel_size(labels.affine)), 3)
        brain_only = np.where(labels.data < conventions.FIRST_EXTRA, labels.data, 0).astype(np.uint8)
        classes = spaces.to_grid(
            brain_only, labels.affine, grid, template_to_scan=labels.to_own @ matrix, order="label"
        )
        if conventions.one_sided(classes) or harmonise.sides_wrong(classes, grid):
            classes = harmonise.split_sides(classes, grid)
        # Teachers that do not know a lesion leave holes there.
        within = classes > 0 if support is None else (classes > 0) | support
        classes = np.where((lesions > 0) & within, lesions, classes)
        classes = harmonise.complete(classes, spacing, support)
    mask = classes > 0 if classes is not None else support
    volumes = {
        contrast: normalise(spaces.to_grid(scan.data, scan.affine, grid, template_to_scan=scan.to_own @ matrix), mask)
        for contrast, scan in images.items()
    }
    if classes is not None:
        main.quality["structures"] = _structures(classes)
        main.quality["brain_ml"] = _ml(classes > 0, spacing)
        main.quality["csf_ml"] = _ml(classes == tissues.FLUID, spacing)
    main.pathologies = _pathologies(lesions if classes is None else classes, spacing)
    prepared: Prepared = [(main, classes, volumes)]
    if labels is not None and (labels.data >= conventions.FIRST_EXTRA).any():
        head = case("_head")
        head.space, head.spacing = "head", 1
        volume = spaces.to_grid(
            labels.data, labels.affine, spaces.GRID_1MM, template_to_scan=labels.to_own @ matrix, order="label"
        )
        head.pathologies = _pathologies(volume, 1)
        prepared.append((head, volume, {}))
    return prepared


def normalise(image: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    """0 to the 99.5th percentile of the brain = 0..255, 0 outside ``mask`` (None: outside the foreground)."""
    inside = image > 0 if mask is None else mask & (image > 0)
    top = float(np.percentile(image[inside], 99.5)) if inside.any() else 1.0
    scaled = np.clip(image / max(top, float(np.finfo(np.float32).tiny)), 0, 1) * 255
    return np.round(np.where(inside, scaled, 0)).astype(np.uint8)


def pseudo_t1w(classes: np.ndarray) -> np.ndarray:
    """A class map painted like a T1w scan (uint8), 0 outside the brain: the same to register for every contrast."""
    tissues = np.zeros(256, np.uint8)
    for label in anatomy.labels():
        tissues[label.index] = T1W_LIKE[label.tissue]
    return tissues[classes]


def _by_sform(session: Session) -> bool:
    """Whether sform and qform of its files differ without consequence; what is placed by its sform is remarked.

    A rigid motion of at most LARGEST_SHIFT_MM has to lead from one to the other, so that they differ about the world
    and not about the brain. And how files of the session lie to each other must not depend on which is chosen: all
    have the same motion, or one form alone, which is the sform of one that has both.
    """
    files = [*session.images.values(), *session.labels, *([session.brain] if session.brain else [])]
    files += [file for file in session.lesions.values() if not file.in_template]
    paths = {Path(file.path) for file in files}
    try:
        headers = {path: header_of(path) for path in paths if path.name.endswith((".nii", ".nii.gz"))}
        apart = {path: header for path, header in headers.items() if millimetres_apart(header)}
        motions = [header.get_qform() @ np.linalg.inv(header.get_sform()) for header in apart.values()]
    except (ValueError, OSError, HeaderDataError):
        # Reading the file says why.
        return False
    if not apart or len(headers) < len(paths):
        return False
    turn = motions[0][:3, :3]
    rigid = np.abs(turn @ turn.T - np.eye(3)).max() < NOT_RIGID and np.linalg.det(turn) > 0
    if not rigid or max(map(millimetres_apart, apart.values())) > LARGEST_SHIFT_MM:
        return False
    for path, header in headers.items():
        shape, affine = header.get_data_shape()[:3], header.get_best_affine()
        if path in apart:
            off = distance(shape, motions[0] @ affine, header.get_qform())
        else:
            off = min(distance(shape, affine, other.get_sform()) for other in apart.values())
        if off > max(spaces.voxel_size(affine)):
            return False
    for path, header in apart.items():
        session.remark(
            "with sform and qform a rigid motion apart, placed by the sform",
            f"{path.name} ({millimetres_apart(header):.0f} mm)",
        )
    return True


def _scan(file: File, by_sform: bool = False) -> Scan:
    """A scan whose air is 0, whatever it is in the file."""
    volume = read_scan(Path(file.path), by_sform=by_sform)
    return Scan.of(Volume(without_air(volume.data), volume.affine))


def _labels(session: Session) -> Scan | None:
    """The first label map whose values are understood, as classes; None if the session has none."""
    problem = None
    for file in session.labels:
        path = Path(file.path)
        volume = Scan.of(read_volume(path, by_sform=session.by_sform))
        try:
            return Scan(conventions.structures_of(path, volume.data), volume.affine)
        except ValueError as error:
            session.remark("not used: its values are not understood", path.name)
            problem = problem or ValueError(f"{path.name}: {error}")
    if problem is not None:
        raise problem
    return None


def _lesion(session: Session, name: str, file: File) -> Volume:
    return read_lesion(Path(file.path), name, cavities=session.cavities, by_sform=session.by_sform)


def _reference(session: Session, images: dict[str, Scan]) -> str | None:
    """The contrast whose world is the session's: the labels' one, else the first in the order of CONTRASTS."""
    if session.labels and session.labels[0].space in images:
        return session.labels[0].space
    return next(iter(images), None)


def _brain(session: Session, images: dict[str, Scan], reference: str | None) -> Scan | None:
    """Where the reference shows brain: the given mask, else the non-zero part of a brain-masked scan."""
    if session.brain is not None:
        mask = read_mask(Path(session.brain.path), by_sform=session.by_sform)
        return Scan.of(Volume(mask.data.astype(np.uint8), mask.affine))
    if reference is None:
        return None
    scan = images[reference]
    if not _empty_corners(scan.data):
        return None
    solid = _filled(scan.data > 0)
    return Scan(solid.astype(np.uint8), scan.affine) if solid.mean() < 0.7 else None


def _check_shown(session: Session, labels: Scan | None, images: dict[str, Scan], inside: Scan | None) -> None:
    """Raise if the labelled tissue lies where the reference shows nothing, of a whole head where it ends."""
    if labels is None or not images:
        return
    if inside is None:
        scan = images[session.labels[0].space]
        inside = Scan(np.ones(scan.data.shape, np.uint8), scan.affine)
    fluid = labels.data == tissues.FLUID
    tissue = (labels.data > 0) & (labels.data < conventions.FIRST_EXTRA) & ~fluid
    shape: tuple[int, int, int] = labels.data.shape  # type: ignore[assignment]
    shown = spaces.resample(inside.data, inside.affine, shape, labels.affine, order=0) > 0
    share = float(shown[tissue].mean()) if tissue.any() else 0.0
    if share < LEAST_SHOWN:
        raise ValueError(
            f"{Path(session.labels[0].path).name} does not lie on the scan of its session: {share:.0%} of its tissue "
            "is where that shows it. If it lies in another space, its name has to say so (space-…)."
        )


def _empty_corners(data: np.ndarray) -> bool:
    """Whether the corners of a scan are exactly zero, as only a mask makes them."""
    size = [max(n // 10, 1) for n in data.shape]
    corners = [
        data[tuple(slice(None, s) if side == 0 else slice(-s, None) for s, side in zip(size, sides, strict=True))]
        for sides in np.ndindex(2, 2, 2)
    ]
    return sum(int(np.count_nonzero(c)) for c in corners) <= 0.001 * sum(c.size for c in corners)


def _filled(mask: np.ndarray) -> np.ndarray:
    return ndimage.binary_fill_holes(ndimage.binary_closing(np.pad(mask, 3), iterations=2)[3:-3, 3:-3, 3:-3])


def _align(
    session: Session, images: dict[str, Scan], reference: str | None, labels: Scan | None, inside: Scan | None
) -> dict[str, float]:
    """Rigid alignment of the other contrasts with the reference, where their grids differ."""
    quality: dict[str, float] = {}
    if reference is None:
        return quality
    fixed = images[reference]
    brain = labels or inside
    around = None
    if brain is not None:
        data = (brain.data > 0) & (brain.data < conventions.FIRST_EXTRA)
        around = spaces.resample(data, brain.affine, fixed.data.shape, fixed.affine, order=0)
        around = ndimage.binary_dilation(around, iterations=max(1, round(4 / min(spaces.voxel_size(fixed.affine)))))
    for contrast, scan in images.items():
        if contrast == reference or spaces.same_grid(fixed.data.shape, fixed.affine, scan.data.shape, scan.affine):
            continue
        try:
            matrix = spaces.register(fixed.data, fixed.affine, scan.data, scan.affine, fixed_mask=around)
        except ValueError as error:
            raise ValueError(f"{session.images[contrast].path}: {error}") from error
        centre = fixed.affine @ np.r_[np.array(fixed.data.shape) / 2, 1.0]
        shift = float(np.linalg.norm((matrix @ centre - centre)[:3]))
        if shift > LARGEST_SHIFT_MM or _information(fixed, scan, matrix, around) < LEAST_INFORMATION:
            raise ValueError(
                f"{session.images[contrast].path} could not be aligned with the {reference} of its session; they "
                "have to lie in one world. Register them, or leave one out."
            )
        scan.to_own = matrix
        quality[f"shift_{contrast}_mm"] = round(shift, 2)
    return quality


def _information(fixed: Scan, moving: Scan, matrix: np.ndarray, around: np.ndarray | None) -> float:
    """Mutual information (nats) of two scans, of 32 levels each, where ``around`` is set and both show something."""
    there = spaces.resample(moving.data, moving.affine, fixed.data.shape, fixed.affine, matrix=matrix, order=1)  # type: ignore[arg-type]
    both = (fixed.data > 0) & (there > 0) if around is None else (around > 0) & (fixed.data > 0)
    if not both.any():
        return 0.0
    tops = [np.percentile(values[both], 99) for values in (fixed.data, there)]
    counts, _, _ = np.histogram2d(np.minimum(fixed.data[both], tops[0]), np.minimum(there[both], tops[1]), 32)
    share = counts / counts.sum()
    alone = share.sum(1, keepdims=True) * share.sum(0, keepdims=True)
    return float((share[share > 0] * np.log((share / np.where(alone > 0, alone, 1))[share > 0])).sum())


def _to_template(
    session: Session, images: dict[str, Scan], labels: Scan | None, inside: Scan | None, reference: str | None
) -> spaces.Registration:
    """Affine to the template, from the labels where there are any (the same for all contrasts), else from a scan."""
    if labels is not None:
        pseudo = pseudo_t1w(labels.data)
        for name, file in session.lesions.items():
            if file.in_template:
                continue
            lesion = Scan.of(_lesion(session, name, file))
            own = images[file.space].to_own if file.space in images else np.eye(4)
            mask = (
                spaces.resample(lesion.data > 0, lesion.affine, pseudo.shape, labels.affine, matrix=own, order=0) > 0
            )
            pseudo[mask & (pseudo == 0)] = T1W_LIKE["lesion"]
        return spaces.register_to_template(pseudo, labels.affine, brain=pseudo > 0)
    assert reference is not None
    scan = images[reference]
    if inside is None:
        return heads.align(scan.data, scan.affine)
    brain = spaces.resample(inside.data, inside.affine, scan.data.shape, scan.affine, order=0) > 0
    return spaces.register_to_template(scan.data.astype(np.float32), scan.affine, brain)


def _spacing(images: dict[str, Scan], labels: Scan | None) -> int:
    """1 mm if a scan (a label map where there is no scan) is finer than 1.3 mm in at least two axes, else 2 mm."""
    sources = list(images.values()) or ([labels] if labels is not None else [])
    return 1 if any(sum(v < FINE_MM for v in spaces.voxel_size(s.affine)) >= 2 for s in sources) else 2


def _lesion_classes(session: Session, images: dict[str, Scan], grid: spaces.Grid, matrix: np.ndarray) -> np.ndarray:
    """Lesion masks of a session as classes on a template grid (0 where there is none)."""
    result = np.zeros(grid.shape, np.uint8)
    for name, file in session.lesions.items():
        lesion = Scan.of(_lesion(session, name, file))
        data, affine = _cropped(lesion.data, lesion.affine)
        own = images[file.space].to_own if file.space in images else np.eye(4)
        there = np.eye(4) if file.in_template else own @ matrix
        classes = np.unique(data[data > 0])
        if len(classes) == 1:
            share = spaces.to_grid((data > 0).astype(np.float32), affine, grid, template_to_scan=there)
            found = np.where(share > 0.5, classes[0], np.uint8(0))
        else:
            found = spaces.to_grid(data, affine, grid, template_to_scan=there, order="label")
        if not found.any():
            session.remark("no lesion in it, or none that the grid shows", Path(file.path).name)
        result = np.where(found > 0, found, result)
    return result


def _check_placed(session: Session, lesions: np.ndarray) -> None:
    """Raise if lesions that were placed by the alignment with the template are not in the brain."""
    placed = [Path(file.path).name for file in session.lesions.values() if file.in_template]
    if not placed:
        return
    grid = spaces.GRID_1MM if lesions.shape == spaces.GRID_1MM.shape else spaces.GRID_2MM
    _, brain = spaces.template()
    there = spaces.resample(brain, spaces.GRID_2MM.affine, grid.shape, grid.affine, order=0) > 0
    if lesions.any() and there[lesions > 0].mean() < LEAST_INSIDE:
        raise ValueError(
            f"{placed[0]} is in template space by its name, but most of it is outside of the brain there."
        )
    for name in placed:
        session.remark("in template space beside scans that are not: placed by their affine alignment", name)


def _cropped(data: np.ndarray, affine: np.ndarray, margin: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """The part of a mask that is not empty: a small lesion costs little time."""
    if not (data > 0).any():
        return data, affine
    box = ndimage.find_objects((data > 0).astype(np.uint8))[0]
    slices = tuple(slice(max(s.start - margin, 0), s.stop + margin) for s in box)
    moved = affine.copy()
    moved[:3, 3] = (affine @ np.r_[[s.start for s in slices], 1.0])[:3]
    return data[slices], moved


def _lesions_alone(session: Session) -> Prepared:
    grid = spaces.GRID_2MM
    outside = [f.path for f in session.lesions.values() if not f.in_template]
    if outside:
        raise ValueError(f"{Path(outside[0]).name} has no scan beside it and is not in template space (space-MNI…).")
    classes = _lesion_classes(session, {}, grid, np.eye(4))
    _, brain = spaces.template()
    total = int((classes > 0).sum())
    classes[~brain] = 0
    kept = int((classes > 0).sum())
    if _ml(classes > 0, 2) < LEAST_LESION_ML or kept < LEAST_INSIDE * total:
        return []
    names = _pathologies(classes, 2, least=0.0)
    person = session.person
    case = CachedCase(
        id=f"lesion-{names[0]}-{session.id}",
        dataset=person.dataset,
        split=person.split,
        space="lesion",
        spacing=2,
        pathologies=names,
        age=person.age,
        sex=person.sex,
        licence=person.licence,
        quality={"lesion_ml": _ml(classes > 0, 2), "inside": round(kept / max(total, 1), 4)},
    )
    return [(case, classes, {})]


def _pathologies(classes: np.ndarray, spacing: int, least: float = LEAST_LESION_ML) -> list[str]:
    return [name for name, label in anatomy.lesions().items() if _ml(classes == label.index, spacing) > least]


def _structures(classes: np.ndarray) -> float:
    """Share of the table's structures that are there: 1 for a whole brain, less where a part is cut off."""
    wanted = anatomy.classes_of(kind="structure")
    return round(len(np.intersect1d(np.unique(classes), wanted)) / len(wanted), 3)


def _ml(mask: np.ndarray, spacing: int) -> float:
    return round(int(mask.sum()) * spacing**3 / 1000, 3)


# -- the whole tree --------------------------------------------------------------------------------------------------


def _quiet_worker() -> None:
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)


def _work(session: Session, folder: Path) -> tuple[str, dict[str, list[str]], str]:
    """Prepare one session into ``folder``; returns its id, remarks on its files and a sentence if it failed."""
    session.remarks = {}
    try:
        prepared = prepare_session(session)
    except (ValueError, RuntimeError, OSError) as error:
        return session.id, session.remarks, str(error)
    entries = []
    for case, classes, images in prepared:
        arrays = dict(images) if classes is None else {**images, "labels": classes}
        with (folder / f"{case.id}.npz.part").open("wb") as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
        (folder / f"{case.id}.npz.part").rename(folder / f"{case.id}.npz")
        entries.append(asdict(case))
    part = folder / f"{session.id}.json.part"
    part.write_text(json.dumps(entries), "utf-8")
    part.rename(folder / f"{session.id}.json")
    return session.id, session.remarks, ""


def _numbers_as_2024(path: str) -> bool:
    """Whether a tumour map numbers as BraTS 2024; files that cannot be read are named later."""
    try:
        return holds_cavity(Path(path))
    except BadInput:
        return False


def _note_cavities(sessions: list[Session], each: Callable[..., Iterable[bool]] = map) -> None:
    """A data set has one convention: 4 is a cavity in all of its tumour maps if it stands beside 3 in one."""
    tumours = [session.lesions["tumour"].path for session in sessions if "tumour" in session.lesions]
    if any(each(_numbers_as_2024, tumours)):
        for session in sessions:
            session.cavities = True


def _remarks(sessions: Iterable[dict[str, list[str]]]) -> list[str]:
    """A line for each kind of remark on files, with examples."""
    kinds: dict[str, list[str]] = {}
    for remarks in sessions:
        for text, names in remarks.items():
            kinds.setdefault(text, []).extend(names)
    return [f"{len(names)} file{'s'[: len(names) > 1]} {text}: {_examples(names)}." for text, names in kinds.items()]


def _examples(names: list[str]) -> str:
    return ", ".join(names[:NAMED]) + (", …" if len(names) > NAMED else "")


def _doubts(sessions: list[Session]) -> list[str]:
    """A line for each kind of value in the tables of people that cannot be used."""
    kinds: dict[tuple[str, str], dict[str, str]] = {}
    for session in sessions:
        for doubt in session.person.doubts:
            kinds.setdefault((doubt.column, doubt.reason), {})[session.id] = doubt.value
    return [
        f"{column} unknown of {len(found)} of {len(sessions)} sessions: {next(iter(found.values()))!r} {reason} "
        f"({_examples(list(found))})."
        for (column, reason), found in kinds.items()
    ]


def prepare(bids: Path, out: Path, *, workers: int = 1, report: Report = print) -> None:
    """Write the training cache of a BIDS tree.

    Sessions that are done already (``out/sessions``) are kept, so an interrupted run goes on where it was; sessions
    that fail are named and left out. ``out/sessions`` is removed when the cache is complete.

    Args:
        workers: processes. report: receives one line at a time.

    Raises:
        ValueError: the tree holds nothing that can be used.
    """
    sessions = scan_bids(bids)
    for line in [*_doubts(sessions), *_remarks(s.remarks for s in sessions)]:
        report(line)
    folder = out / "sessions"
    folder.mkdir(parents=True, exist_ok=True)
    todo = [s for s in sessions if not (folder / f"{s.id}.json").exists()]
    report(f"{len(sessions)} sessions, {len(sessions) - len(todo)} of them done before.")
    failures: list[str] = []
    remarks: list[dict[str, list[str]]] = []
    start = time.monotonic()
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_quiet_worker) as pool:
        _note_cavities(sessions, pool.map)
        futures = [pool.submit(_work, session, folder) for session in todo]
        for number, future in enumerate(as_completed(futures), 1):
            name, said, problem = future.result()
            remarks.append(said)
            if problem:
                failures.append(problem)
                report(f"Left out {name}: {problem}")
            if number % 50 == 0 or number == len(todo):
                seconds = (time.monotonic() - start) / number * (len(todo) - number)
                report(f"{number} of {len(todo)} sessions, about {seconds:.0f} s left.")
    for line in _remarks(remarks):
        report(line)
    writer = CacheWriter(out)
    empty = 0
    for session in sessions:
        path = folder / f"{session.id}.json"
        entries = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
        empty += path.exists() and not entries
        for entry in entries:
            with np.load(folder / f"{entry['id']}.npz") as arrays:
                volumes = {name: arrays[name] for name in arrays.files}
            entry["images"] = {name: tuple(size) for name, size in entry["images"].items()}
            writer.add(CachedCase(**entry), volumes.pop("labels", None), volumes)
    if not writer.cases and not writer._pending:
        reason = failures[0] if failures else "no content."
        raise ValueError(f"No session of {bids} could be prepared; the first reason was: {reason}")
    writer.close()
    shutil.rmtree(folder)
    report(
        f"{len(writer.cases)} cases in {out}; {empty} lesion masks were too small or outside the brain, "
        f"{len(failures)} sessions failed."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Turn a BIDS tree into the training cache.")
    parser.add_argument("bids", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    prepare(options.bids, options.out, workers=options.workers, report=lambda line: print(line, flush=True))


if __name__ == "__main__":
    main()
