"""What the files of a dataset say of its cases: where they come from, and what was asked for."""

from __future__ import annotations

from typing import Any

from BrainGenLib import anatomy
from BrainGenLib.case import Case

SOURCES = {
    "model": "A generated brain; no person was scanned for it.",
    "style": "A generated brain in the style of a scan that was given.",
    "segmentation": "Rendered from a segmentation that was given, which may be that of a real person.",
    "scan": "A changed scan of a real person: most of it, the face if it had one, is the scan's own. Share it as you "
    "may share the scan.",
    "unknown": "How it was made is not known; it may show a real person.",
}
"""What of a person is behind a case, as ``source`` in ``participants.tsv`` and the sidecars say it."""

README = """SYNTHETIC brain MRI, made by BrainGen.

Every image and label map has a sidecar that says how it was made. participants.tsv has a row for each subject; its
column `source` says whether a real person is behind it, participants.json what the columns mean:

""" + "".join(f"- {name}: {text}\n" for name, text in SOURCES.items())
# HIPAA's limit, and that of BIDS.
_OLDEST = 89


def source_of(case: Case) -> str:
    """Which of :data:`SOURCES` a case has."""
    request = _asked(case)
    # Requests of later versions may name files that this one does not know.
    without = "model" if request.get("verb") in ("generate", "render") else "unknown"
    return next((field for field in ("scan", "segmentation", "style") if request.get(field)), without)


def columns_of() -> dict[str, dict[str, Any]]:
    """The columns of ``participants.tsv``, as ``participants.json`` describes them."""
    columns: dict[str, dict[str, Any]] = {
        "participant_id": {"Description": "Subject of this dataset; see its source."},
        "synthetic": {"Description": "1: made by BrainGen."},
        "source": {"Description": "What of a person is behind it.", "Levels": SOURCES},
        "verb": {"Description": "What BrainGen was asked for."},
        "bundle": {"Description": "The model."},
        "seed": {"Description": "Seed of the request."},
        "age": {"Description": "Age that was asked for.", "Units": "year"},
        "sex": {"Description": "Sex that was asked for.", "Levels": {"F": "female", "M": "male"}},
        "wanted": {"Description": "What was asked for, as NAME=VALUE; lesions of generated brains have columns."},
        "known": {"Description": "What was known of the scan that was changed, as NAME=VALUE."},
    }
    for name, label in anatomy.lesions().items():
        columns[f"{name}_load"] = {"Description": f"Requested load of {label.name} (0 to 1)."}
        columns[f"{name}_side"] = {"Description": f"Requested side of {label.name}."}
        columns[f"{name}_lobe"] = {"Description": f"Requested lobe of {label.name}."}
        columns[f"{name}_ml"] = {"Description": f"Volume of {label.name} in the label map.", "Units": "mL"}
    return columns


def row_of(name: str, case: Case) -> dict[str, Any]:
    """The row of a case in ``participants.tsv``; what a sweep varies has no one value, and is left out."""
    request, swept = _asked(case), case.measurements.get("over")
    wanted = {**request.get("anatomy", {}), **request.get("wanted", {})}
    wanted = {key: value for key, value in wanted.items() if key != swept}
    row: dict[str, Any] = {
        "participant_id": name,
        "synthetic": "1",
        "source": source_of(case),
        "verb": case.provenance.get("request", {}).get("verb", ""),
        **{key: str(request.get(key, "")) for key in ("bundle", "seed")},
        "age": _number(wanted["age"]) if "age" in wanted else "",
        "sex": {0: "F", 1: "M"}.get(wanted.get("sex", 0.5), ""),
        "wanted": _assignments({key: _number(value) for key, value in wanted.items()}),
        "known": _assignments({key: _of_person(key, value) for key, value in request.get("known", {}).items()}),
    }
    loads, places = {**wanted, **request.get("pathologies", {})}, request.get("locations", {})
    volumes = case.measurements.get("volumes_ml")
    for lesion, label in anatomy.lesions().items():
        place = places.get(lesion) or {}
        row[f"{lesion}_load"] = _number(loads[lesion]) if lesion in loads and lesion != swept else ""
        row[f"{lesion}_side"], row[f"{lesion}_lobe"] = place.get("side") or "", place.get("lobe") or ""
        row[f"{lesion}_ml"] = "" if volumes is None else _number(volumes.get(label.name, 0))
    return row


def _asked(case: Case) -> dict[str, Any]:
    """The request; of a sweep, what its frames have in common."""
    request = case.provenance.get("request", {})
    return request.get("of", request)


def _assignments(values: dict[str, str]) -> str:
    return " ".join(f"{name}={value}" for name, value in values.items())


def _of_person(name: str, value: Any) -> str:
    return f"{_OLDEST}+" if name == "age" and isinstance(value, int | float) and value > _OLDEST else _number(value)


def _number(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, int | float) else str(value)
