"""What a BIDS tree holds for training: by session, the scans, labels, lesions and masks that lie on each other.

A derivative inherits the entities of the scan that it was made from (``run``, ``acq``, …), and ``space`` says whose
world it lies in. Files that do not go together are never mixed: what is not used is listed with the reason.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from BrainGenLib import anatomy, participants

CONTRASTS = ("T1w", "T1ce", "T2w", "FLAIR", "PDw")
# Spaces of the person's own anatomy: a derivative shares the world of the scan that it was made from.
NATIVE = {"", "orig", "scanner", "native", "individual", "anat", "fsnative", "subject"}
SPELLINGS = {
    "t1": "T1w",
    "t2": "T2w",
    "pd": "PDw",
    "t1gd": "T1ce",
    "t1c": "T1ce",
    "tumor": "tumour",
    "edema": "oedema",
}
# Entities of which two values are two acquisitions, between which a head moves; ``rec``, ``echo`` and ``part`` are
# images of one.
ACQUISITION = ("acq", "ce", "dir", "run", "inv")
OF_A_SCAN = (*ACQUISITION, "rec", "echo", "part", "flip", "mt")
# Anatomical label maps, the likeliest to be understood first; others follow by name.
LABELS = ("anatomy", "head", "aparcaseg", "aseg", "synthseg", "")


@dataclass(frozen=True)
class File:
    """One file of a session; ``space``: a contrast in whose world it lies, or a template, empty where it is alone."""

    path: str
    space: str = ""

    @property
    def in_template(self) -> bool:
        """Whether it lies in the MNI152 template (any of its versions); other templates have other sizes."""
        return self.space == "MNI" or self.space.startswith("MNI152")


@dataclass
class Session:
    """What the tree holds of one subject at one time.

    Attributes:
        labels: anatomical label maps in the world of ``images``; the first that is understood is used.
        problem: why the session cannot be used; one sentence.
        remarks: names of files by what is said of them, e.g. why they are not used.
        cavities: whether tumour maps have 4 for the resection cavity (BraTS 2024).
        by_sform: whether files whose qform puts them elsewhere than their sform are where the sform puts them.
    """

    id: str
    images: dict[str, File] = field(default_factory=dict)
    labels: list[File] = field(default_factory=list)
    brain: File | None = None
    lesions: dict[str, File] = field(default_factory=dict)
    person: participants.Person = field(default_factory=participants.Person)
    problem: str = ""
    cavities: bool = False
    by_sform: bool = False
    remarks: dict[str, list[str]] = field(default_factory=dict)

    def remark(self, text: str, name: str) -> None:
        """Note something about a file."""
        self.remarks.setdefault(text, []).append(name)


def scan_bids(bids: Path) -> list[Session]:
    """All sessions of a tree that hold an image, a label map or a lesion mask, by id.

    Raises:
        ValueError: there is none, or a table of people cannot be read.
    """
    if not bids.is_dir():
        raise ValueError(f"{bids} is not a folder; give the root of a BIDS tree.")
    people = participants.People(bids)
    files: dict[tuple[str, str], list[_Named]] = {}
    for named in _named_files(bids):
        files.setdefault((named.of("sub"), named.of("ses")), []).append(named)
    for subject in [subject for subject, ses in files if not ses]:
        # Derivatives that name no session are of the only one that there is.
        others = [key for key in files if key[0] == subject and key[1]]
        if len(others) == 1 and not any(named.raw for named in files[subject, ""]):
            files[others[0]] += files.pop((subject, ""))
    sessions = []
    for (subject, ses), found in files.items():
        session = Session(f"{subject}_ses-{ses}" if ses else subject)
        _choose(session, found)
        if ses and not session.lesions:
            session.problem = session.problem or _lesion_of_no_session(files.get((subject, ""), []))
        if session.images or session.labels or session.lesions or session.problem:
            session.person = people.person(
                subject, ses, next((Path(f.path).name for f in session.images.values()), "")
            )
            sessions.append(session)
    if not sessions:
        places = "sub-*/anat, derivatives/*/sub-*/anat"
        raise ValueError(f"{bids} holds no scans or label maps where BIDS puts them ({places}).")
    return sorted(sessions, key=lambda s: s.id)


def _lesion_of_no_session(of_subject: list[_Named]) -> str:
    """Why a session cannot be used beside a lesion mask of its subject that names none; empty without one."""
    lesion = next((f for f in of_subject if f.lesion or f.of_a_lesion), None)
    if lesion is None:
        return ""
    return (
        f"{lesion.path.name} shows a lesion and names none of the subject's sessions, and without it a patient would "
        "count as healthy: put its session (ses-…) into its name and its folder, or remove it."
    )


# -- names -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Named:
    """A file and what its name says; ``misplaced`` if its folders say another subject or session."""

    path: Path
    entities: dict[str, str]
    suffix: str
    raw: bool
    misplaced: bool

    def of(self, entity: str) -> str:
        return self.entities.get(entity, "")

    @property
    def contrast(self) -> str:
        """Contrast of a scan, empty for other files."""
        if self.suffix not in CONTRASTS:
            return ""
        return "T1ce" if self.suffix == "T1w" and self.of("ce") else self.suffix

    @property
    def space(self) -> str:
        """A contrast, empty for the person's own anatomy, else the name of a template."""
        space = self.of("space")
        by_name = {name.lower(): name for name in CONTRASTS} | SPELLINGS
        if space.lower() in NATIVE:
            return ""
        return by_name.get(space.lower(), space + ("+" + self.of("cohort") if self.of("cohort") else ""))

    @property
    def world(self) -> str:
        """Files of one world lie on each other, or can be brought there by a rigid alignment."""
        return "" if self.space in CONTRASTS else self.space

    @property
    def lesion(self) -> str:
        """Name of the lesion that a mask shows, empty for other files."""
        if self.suffix not in ("mask", "dseg") or self.path.parent.name != "anat":
            return ""
        said = [self.of("label")] if self.suffix == "dseg" else [self.of("label"), self.of("desc")]
        names = [SPELLINGS.get(name.lower(), name.lower()) for name in said]
        return next((name for name in names if name in anatomy.lesions()), "")

    @property
    def of_a_lesion(self) -> bool:
        """Whether the name speaks of a lesion, of whichever kind."""
        words = [value for name, value in self.entities.items() if name not in ("sub", "ses")]
        said = " ".join([*words, self.suffix])
        return self.suffix == "msk" or bool(re.search(r"lesion|tumou?r|stroke|infarct|wmh", said, re.IGNORECASE))

    @property
    def brain(self) -> bool:
        return self.suffix == "mask" and "brain" in (self.of("desc"), self.of("label"))

    @property
    def labels(self) -> bool:
        # Those of donors are no anatomy: an export of BrainGen says with them whose it is.
        return self.suffix == "dseg" and not self.of("label") and self.of("desc") != "donors"

    @property
    def acquisition(self) -> tuple[str, ...]:
        return tuple(self.of(entity) for entity in ACQUISITION)

    def made_from(self, scan: _Named) -> bool:
        """Whether all that this file says of its scan is so of ``scan``."""
        return all(self.of(entity) in ("", scan.of(entity)) for entity in OF_A_SCAN)


def _named_files(bids: Path) -> Iterator[_Named]:
    # By levels: ** does not follow links, of which trees under version control consist. Scans are in anat; lesions
    # may have been outlined on other images, or lie beside anat (``_msk`` of ISLES).
    roots = [("", True), *((f"derivatives/{'*/' * level}", False) for level in range(4))]
    for root, raw in roots:
        places = [f"{root}sub-*/{ses}{kind}*" for ses in ("", "ses-*/") for kind in ("", "anat/", "dwi/", "perf/")]
        for path in sorted(path for place in places for path in bids.glob(place)):
            # Hidden ones are what macOS leaves beside a file.
            name = re.fullmatch(r"([^.].*?)\.nii(\.gz)?", path.name, re.IGNORECASE)
            if name is None:
                continue
            *parts, suffix = name[1].split("_")
            entities = dict(part.split("-", 1) for part in parts if "-" in part)
            if "run" in entities:
                entities["run"] = entities["run"].lstrip("0") or "0"
            folders = [f"{name}-{entities[name]}" for name in ("sub", "ses") if name in entities]
            if "sub" in entities:
                above = [part for part in path.parts[-2 - len(folders) : -1] if part not in ("anat", "dwi", "perf")]
                named = _Named(path, entities, suffix, raw, above[-len(folders) :] != folders)
                if path.parent.name == "anat" or named.of_a_lesion:
                    yield named


# -- what goes together ----------------------------------------------------------------------------------------------


def _choose(session: Session, found: list[_Named]) -> None:
    """Fill a session with files that go together."""

    def leave_out(files: Iterable[_Named], reason: str) -> None:
        for file in files:
            session.remark(f"not used: {reason}", file.path.name)

    leave_out((f for f in found if f.misplaced), "its name and its folder are of different subjects or sessions")
    found = [f for f in found if not f.misplaced]
    scans = [f for f in found if f.contrast]
    partial = [f for f in scans if f.of("part") not in ("", "mag") or f.of("chunk") or f.of("hemi")]
    leave_out(partial, "phase, or a part of a head")
    scans = [f for f in scans if f not in partial]
    labels = sorted((f for f in found if f.labels), key=_likeliest)
    lesions = sorted((f for f in found if f.lesion), key=lambda f: (f.of("desc") != "", f.path.name))
    brains = [f for f in found if f.brain]
    known = (*scans, *partial, *labels, *lesions, *brains)
    odd = [f for f in found if f not in known and f.of_a_lesion]
    kinds = f"label-{', label-'.join(anatomy.lesions())}"
    leave_out(odd, f"a lesion of a kind that the name does not say ({kinds}), or one that is not in anat")
    if odd and not lesions:
        session.problem = (
            f"{odd[0].path.name} shows a lesion that cannot be used, and without it a patient would count as "
            f"healthy: its name has to say of which kind it is ({kinds}), and it has to be in anat. Rename it, or "
            "remove it."
        )

    world = _world(scans, labels, lesions)
    elsewhere = [f for f in (*scans, *labels, *brains) if f.world != world]
    leave_out(elsewhere, "in another space than the other files of the session")
    scans, labels, brains = ([f for f in files if f.world == world] for files in (scans, labels, brains))

    # Scans of the same acquisition share a world; each of the other files lies in that of one acquisition.
    homes = {f.path: _home(f, scans) for f in (*labels, *lesions, *brains) if f.world == world}
    chosen = _scans(scans, [f for f in (*labels, *lesions) if f.path in homes], homes)
    for contrast, scan in chosen.items():
        session.images[contrast] = File(str(scan.path), contrast)
        others = [f for f in scans if f.contrast == contrast and f is not scan]
        leave_out((f for f in others if f.acquisition == scan.acquisition), "another image of a scan that is used")
        leave_out(
            (f for f in others if f.acquisition != scan.acquisition),
            "another scan of the same contrast (the one with labels is used, else the lowest run)",
        )

    def placed(file: _Named) -> File | None:
        """The file with the contrast whose world is its own; None if that is none of the chosen."""
        if not chosen:
            # Without scans all that is native lies together, as far as no contrast is named.
            first = next((f.space for f in (*labels, *lesions) if f.world == world and f.space), "")
            return File(str(file.path)) if file.space in ("", first) else None
        home = homes[file.path]
        return next(
            (
                File(str(file.path), contrast)
                for contrast, scan in chosen.items()
                if home is not None and home == (contrast, scan.acquisition)
            ),
            None,
        )

    for file in labels:
        if (here := placed(file)) and (not session.labels or session.labels[0].space == here.space):
            session.labels.append(here)
        else:
            leave_out([file], "labels of a scan that is not used, or whose name does not say of which")
    reference = session.labels[0].space if session.labels else next(iter(chosen), "")
    for file in brains:
        here = placed(file)
        if here and here.space == reference and session.brain is None:
            session.brain = here
        else:
            leave_out([file], "a brain mask of another scan than the reference, or a second one")
    _choose_lesions(session, lesions, world, placed, leave_out)


def _likeliest(labels: _Named) -> tuple[int, bool, str]:
    desc = labels.of("desc").lower()
    return LABELS.index(desc) if desc in LABELS else len(LABELS), labels.of("res") != "", labels.path.name


def _world(scans: list[_Named], labels: list[_Named], lesions: list[_Named]) -> str:
    """The world with most: scans with labels, scans with lesions, scans, labels, lesions; own anatomy first."""
    worlds = dict.fromkeys(f.world for f in (*scans, *labels, *lesions))

    def rank(world: str) -> tuple[bool, ...]:
        scan, label, lesion = (any(f.world == world for f in files) for files in (scans, labels, lesions))
        alone = not scans and not labels
        template = File("", world).in_template
        return scan and label, scan and lesion, scan, label, template if alone else not world, template

    return max(worlds, key=rank, default="")


Home = tuple[str, tuple[str, ...]]


def _home(file: _Named, scans: list[_Named]) -> Home | None:
    """Contrast and acquisition in whose world a file lies; None if its name fits none of the scans, or several."""
    there = [s for s in scans if s.contrast == file.space or file.space not in CONTRASTS]
    fitting = [s for s in there if file.made_from(s)]
    if not fitting and any(file.made_from(s) for s in scans):
        # Made from a scan of another contrast, and brought into this one's world.
        fitting = there
    exact = [s for s in fitting if s.acquisition == file.acquisition]
    for contrast in CONTRASTS:
        if homes := {(s.contrast, s.acquisition) for s in exact if s.contrast == contrast}:
            return homes.pop()
    for contrast in CONTRASTS:
        if homes := {(s.contrast, s.acquisition) for s in fitting if s.contrast == contrast}:
            return homes.pop() if len(homes) == 1 else None
    return None


def _scans(scans: list[_Named], others: list[_Named], homes: dict[Path, Home | None]) -> dict[str, _Named]:
    """One scan of each contrast, in the order of CONTRASTS.

    The one that most labels and lesions lie on; else that of the first scan's run, or the lowest; raw before derived,
    without further entities before with them.
    """
    chosen: dict[str, _Named] = {}
    for contrast in CONTRASTS:
        run = next((s.of("run") for s in chosen.values()), "")

        def rank(scan: _Named, run: str = run) -> tuple[object, ...]:
            home = (scan.contrast, scan.acquisition)
            fits = [f for f in others if homes[f.path] == home and f.made_from(scan)]
            return (
                -len({f.lesion for f in fits}),
                scan.of("run") != run,
                int(scan.of("run") or 0) if scan.of("run").isdecimal() or not scan.of("run") else 0,
                not scan.raw,
                [scan.of(entity) for entity in OF_A_SCAN],
                scan.of("desc") not in ("", "preproc"),
                len(scan.entities),
                scan.path.name,
            )

        if candidates := [s for s in scans if s.contrast == contrast]:
            chosen[contrast] = min(candidates, key=rank)
    return chosen


def _choose_lesions(
    session: Session,
    lesions: list[_Named],
    world: str,
    placed: Callable[[_Named], File | None],
    leave_out: Callable[[Iterable[_Named], str], None],
) -> None:
    """One mask of each lesion; a lesion that nowhere can be placed makes the session unusable.

    Without its lesion a patient would be a healthy brain to a recipe.
    """
    alone = not session.images and not session.labels
    for name in dict.fromkeys(f.lesion for f in lesions):
        masks = [f for f in lesions if f.lesion == name]
        own = [(f, here) for f in masks if f.world == world and (here := placed(f))]
        template = [(f, File(str(f.path), f.space)) for f in masks if File("", f.space).in_template]
        usable = template or own if alone else own or template
        if not usable:
            session.problem = session.problem or (
                f"{masks[0].path.name} cannot be placed: by its name it lies neither on a scan that is used "
                f"({', '.join(Path(f.path).name for f in session.images.values()) or 'there is none'}) nor in "
                "template space (space-MNI152…)."
            )
            continue
        file, session.lesions[name] = usable[0]
        leave_out((f for f in masks if f is not file), "another mask of the same lesion")
