"""What a BIDS tree holds for training: scans, labels, lesions and masks, by session (conventions: docs/data.md)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from BrainGenLib import anatomy, participants

CONTRASTS = ("T1w", "T1ce", "T2w", "FLAIR", "PDw")


@dataclass(frozen=True)
class File:
    """One file of a session; ``space`` is its BIDS space entity, empty when it has none."""

    path: str
    space: str = ""

    @property
    def in_template(self) -> bool:
        return self.space.startswith("MNI")


@dataclass
class Session:
    """What the tree holds of one subject at one time."""

    id: str
    images: dict[str, File] = field(default_factory=dict)
    labels: File | None = None
    whole_head: bool = False
    brain: File | None = None
    lesions: dict[str, File] = field(default_factory=dict)
    person: participants.Person = field(default_factory=participants.Person)


def scan_bids(bids: Path) -> list[Session]:
    """All sessions of a tree that hold an image, a label map or a lesion mask, by id.

    Raises:
        ValueError: there is none, or a table of people cannot be read.
    """
    if not bids.is_dir():
        raise ValueError(f"{bids} is not a folder; give the root of a BIDS tree.")
    people = participants.People(bids)
    sessions: dict[str, Session] = {}
    raw = sorted(bids.glob("sub-*/**/anat/*.nii*"))
    derived = sorted(bids.glob("derivatives/**/sub-*/**/anat/*.nii*"))
    for path in raw + derived:
        name = path.name.split(".nii")[0]
        *parts, suffix = name.split("_")
        entities = dict(part.split("-", 1) for part in parts if "-" in part)
        if "sub" not in entities:
            continue
        key = entities["sub"] + (f"_ses-{entities['ses']}" if "ses" in entities else "")
        if key not in sessions:
            sessions[key] = Session(key, person=people.person(entities["sub"], entities.get("ses", ""), path.name))
        session = sessions[key]
        _enter(session, File(str(path), entities.get("space", "")), entities, suffix)
    found = [s for s in sessions.values() if s.images or s.labels or s.lesions]
    if not found:
        places = "sub-*/anat, derivatives/*/sub-*/anat"
        raise ValueError(f"{bids} holds no scans or label maps where BIDS puts them ({places}).")
    return sorted(found, key=lambda s: s.id)


def _enter(session: Session, file: File, entities: dict[str, str], suffix: str) -> None:
    if suffix in CONTRASTS:
        contrast = "T1ce" if suffix == "T1w" and "ce" in entities else suffix
        session.images.setdefault(contrast, file)
    elif "label" in entities:
        if entities["label"] in (*anatomy.lesions(), "tumour") and suffix in ("mask", "dseg"):
            session.lesions.setdefault(entities["label"], file)
    elif suffix == "dseg":
        session.labels = session.labels or file
        session.whole_head = session.whole_head or entities.get("desc") == "head"
    elif suffix == "mask" and entities.get("desc") == "brain":
        session.brain = session.brain or file
