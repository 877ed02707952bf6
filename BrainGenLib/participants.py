"""The people of a BIDS tree: ages and sexes, as far as its tables give them."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from BrainGenLib.errors import BadInput
from BrainGenLib.reading.tables import read_table

SEXES = {"F": 0.0, "M": 1.0}
"""Sex as :class:`Person` has it, to what models are conditioned on."""
OLDEST = 120.0
"""Years; a higher number in a table is a code, or an age in another unit."""
MISSING = {
    "",
    "n/a",
    "na",
    "#n/a",
    "nan",
    "none",
    "null",
    "unknown",
    "unk",
    "missing",
    "not available",
    "-",
    "?",
    ".",
}
PER_YEAR = {
    **dict.fromkeys(("y", "yr", "yrs", "year", "years", "yo", "y/o", "years old", "year old", "a"), 1.0),
    **dict.fromkeys(("m", "mo", "mos", "month", "months"), 12.0),
    **dict.fromkeys(("w", "wk", "wks", "week", "weeks"), 365.25 / 7),
    **dict.fromkeys(("d", "day", "days"), 365.25),
}
"""Units of ages, in lower case, to how many of them a year has."""

# Words of the names of columns, beside "age" and its unit, or beside "sex" or "gender".
_AGE_WORDS = re.compile(
    "at|in|the|of|first|scan|scanning|session|visit|mri|mr|imaging|baseline|time|participant|subject"
)
_SEX_NAMES = {"sex", "gender", "ptgender"}
_SEX_WORDS = re.compile(
    "at|birth|assigned|biological|self|reported|participant|subject|id|code|coded|m|f|male|female|sex|gender|ptgender"
)
# 61, 61.5, 61,5, 061Y and 018M (DICOM), 18 months, 89+ (BIDS, for everybody above), >89.
_AGE = re.compile(r"(>=?|≥)?\s*(?P<number>\d+([.,]\d*)?)\s*(\+|(?P<unit>[a-z][a-z /]*)\.?)?")
_UNIT_IN_TEXT = re.compile(
    r"(?:\bin (?:full |whole |completed |decimal )?|[(\[]|[,;:] ?|\bnumber of )([a-z]+)|\b[a-z]+(?=\.?\s*$)"
)
_RANGE = re.compile(r"[\[(]?\d+([.,]\d+)?\s*(-|–|—|to|\.\.)\s*\d+([.,]\d+)?[\])]?( [a-z]+)?")
_WORDS = {"F": r"f|w|female|females|woman|women|girl|girls", "M": r"m|male|males|man|men|boy|boys"}


_SESSION = ("session_id", "session", "ses")


@dataclass(frozen=True)
class Doubt:
    """A value of a table that cannot be used: ``reason`` goes on after the value, e.g. "is a range"."""

    column: str
    value: str
    reason: str


@dataclass(frozen=True)
class Person:
    """What the tables of a BIDS tree hold of a person at a session.

    Attributes:
        dataset, split, licence: columns of the project's own in ``participants.tsv``.
        age: years.
        sex: F or M.
        source: table that age and sex are from, the age's where these are two.
        doubts: values that stand there and cannot be used.
    """

    age: float | None = None
    sex: str | None = None
    dataset: str = "bids"
    split: str = "train"
    licence: str = ""
    source: Path | None = None
    doubts: tuple[Doubt, ...] = ()


class People:
    """The tables of a BIDS tree: ``participants.tsv``, and the sessions' and scans' tables of each participant.

    Columns are found in any case, participants with or without ``sub-``. The JSON files beside the tables give units
    (``Units``) and the meaning of codes (``Levels``).

    Raises:
        BadInput: a table is no tab-separated text in UTF-8 or UTF-16, lacks its first column, or has two different
            rows for a participant at a session; a JSON file beside it is damaged.
    """

    def __init__(self, bids: Path) -> None:
        self._bids = bids
        self._participants = _read(bids / "participants.tsv", "participant_id", "sub-", bids)

    def person(self, subject: str, session: str = "", scan: str = "") -> Person:
        """What is known of a subject at a session, of both without ``sub-`` and ``ses-``.

        An age in the table of scans (for the file name ``scan``) goes before that of the session, and that before the
        participant's.

        Raises:
            BadInput: as for the class, of the subject's own tables.
        """
        folder = self._bids / f"sub-{subject}"
        prefix = f"sub-{subject}"
        rows = []
        if scan:
            place = folder / f"ses-{session}" if session else folder
            name = f"{prefix}_ses-{session}" if session else prefix
            if (table := _read(place / f"{name}_scans.tsv", "filename", "", self._bids)) is not None:
                rows += [(table, row) for row in table.rows if Path(row["filename"]).name == scan]
        table = _read(folder / f"{prefix}_sessions.tsv", "session_id", "ses-", self._bids) if session else None
        if table is not None:
            rows += [(table, row) for row in table.rows_of(session)]
        if self._participants is not None:
            rows += [(self._participants, row) for row in self._participants.rows_of(subject, session)]
        doubts: list[Doubt] = []
        if self._participants is not None and not any(table is self._participants for table, _ in rows):
            doubts.append(Doubt("participant_id", prefix, f"has no row in {self._participants.path.name}"))
        age, age_from = _first(rows, _age, doubts)
        sex, sex_from = _first(rows, _sex, doubts)
        last = rows[-1][1] if rows else {}
        return Person(
            age=age,
            sex=sex,
            dataset=last.get("dataset", "bids"),
            split=last.get("split", "train"),
            licence=last.get("licence", ""),
            source=age_from or sex_from,
            doubts=tuple(doubts),
        )


def person_on(scan: Path) -> Person:
    """What the BIDS tree around a scan holds of the person on it; nothing if it is in none.

    Raises:
        BadInput: as :class:`People`.
    """
    name = re.match(r"sub-(?P<subject>[A-Za-z0-9+]+)_(ses-(?P<session>[A-Za-z0-9+]+)_)?", scan.name)
    if name is None:
        return Person()
    for folder in scan.resolve().parents:
        if (folder / "participants.tsv").is_file():
            return People(folder).person(name["subject"], name["session"] or "", scan.name)
        # The root of a tree without this table: what lies above is another study.
        if (folder / "dataset_description.json").is_file() and "derivatives" not in folder.parts:
            break
    return Person()


@dataclass(frozen=True)
class _Table:
    """Rows by lower-case column, without what is missing.

    ``described`` is the same of the JSON file beside it; ``conflicts`` has a sentence for each participant with two
    rows of one session that differ in what is read.
    """

    path: Path
    rows: list[dict[str, str]]
    described: dict[str, Any]
    conflicts: dict[str, str]

    def rows_of(self, name: str, session: str = "") -> list[dict[str, str]]:
        """The rows of a participant or session; where there are several of a participant, that of the session."""
        key = "participant_id" if "participant_id" in (self.rows or [{}])[0] else "session_id"
        if name in self.conflicts:
            raise BadInput(self.conflicts[name])
        rows = [row for row in self.rows if row[key] == name]
        if key == "session_id" or (len(rows) == 1 and "session_id" not in rows[0]):
            return rows
        own = [row for row in rows if row.get("session_id", "") == session]
        return own or (rows if len(rows) == 1 and not session else [])

    def of(self, column: str) -> dict[str, Any]:
        """What the JSON file says of a column, keys in lower case."""
        found = self.described.get(column, {})
        return {key.lower(): value for key, value in found.items()} if isinstance(found, dict) else {}


def _read(path: Path, key: str, prefix: str, bids: Path) -> _Table | None:
    """A table of a BIDS tree, None if there is no such file; values of ``key`` come without ``prefix``."""
    if not path.is_file():
        return None
    header, cells = read_table(path)
    if key not in header:
        raise BadInput(f"{path} has no column {key}; columns must be separated by tabs.")
    rows: list[dict[str, str]] = []
    conflicts: dict[str, str] = {}
    seen: dict[tuple[str, ...], tuple[int, dict[str, str]]] = {}
    for number, found in enumerate(cells, 2):
        row = {name: cell for name, cell in found.items() if cell.lower() not in MISSING}
        if key not in row:
            continue
        row[key] = re.sub(f"^{prefix}", "", row[key], flags=re.IGNORECASE)
        if "session_id" in row:
            row["session_id"] = re.sub("^ses-", "", row["session_id"], flags=re.IGNORECASE)
        identity = tuple(row.get(name, "") for name in dict.fromkeys((key, *_SESSION)))
        first, earlier = seen.setdefault(identity, (number, row))
        if earlier is row:
            rows.append(row)
        elif _what_is_read(earlier) != _what_is_read(row):
            conflicts[row[key]] = f"{path} has {prefix}{row[key]} twice, in the rows {first} and {number}; keep one."
    times = Counter(row[key] for row in rows)
    for row in rows:
        # Elsewhere such a column may be a number of sessions.
        if times[row[key]] > 1 and (named := next((row[name] for name in _SESSION if name in row), "")):
            row["session_id"] = re.sub("^ses-", "", named, flags=re.IGNORECASE)
    kind = path.stem.rsplit("_", 1)[-1]
    # BIDS: what stands nearer to the file goes before what stands at the root.
    places = dict.fromkeys((bids / "participants.json", bids / f"{kind}.json", path.with_suffix(".json")))
    return _Table(
        path, rows, {column: text for place in places for column, text in _described(place).items()}, conflicts
    )


def _what_is_read(row: dict[str, str]) -> dict[str, str]:
    own = ("dataset", "split", "licence")
    return {name: row[name] for name in row if name in own or _is_sex(name) or _unit_of_column(name) is not None}


def _described(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text("utf-8-sig"))
    except ValueError as error:
        raise BadInput(f"{path} is damaged JSON ({error}); correct it: it gives the units of ages.") from error
    return {name.lower(): text for name, text in found.items()} if isinstance(found, dict) else {}


def _first(rows: list[tuple[_Table, dict[str, str]]], read: Any, doubts: list[Doubt]) -> tuple[Any, Path | None]:
    """The first value that ``read`` makes of a row, and its table; doubts stay where there is none."""
    met: list[Doubt] = []
    for table, row in rows:
        value = read(table, row)
        if isinstance(value, Doubt):
            met.append(value)
        elif value is not None:
            return value, table.path
    doubts += met
    return None, None


def _age(table: _Table, row: dict[str, str]) -> float | Doubt | None:
    """The age in a row, in years."""
    units = {name: unit for name in row if (unit := _unit_of_column(name)) is not None}
    # Studies of infants have weeks after conception there.
    units = {name: unit for name, unit in units.items() if unit or name != "scan_age" or _unit(table.of(name), "")}
    if not units:
        return _unknown_column(row, "age", {"age"})
    column = "age" if "age" in units else next(iter(units))
    described = table.of(column)
    written = row[column]

    def doubt(reason: str) -> Doubt:
        return Doubt("age", written, reason)

    text = _level(described, written).lower()
    if text in MISSING:
        return None
    if _RANGE.fullmatch(text):
        return doubt("is a range")
    if re.fullmatch(r"-\d+([.,]\d+)?", text) or re.fullmatch(r"(9{3,}|7{3,}|8{3,})([.,]0*)?", text):
        return doubt("is a code for a missing value")
    match = _AGE.fullmatch(text)
    unit = (match["unit"] or "").strip() if match else ""
    if match is None or (unit and unit not in PER_YEAR):
        return doubt("is not understood as an age")
    unit = unit or units[column] or _unit(described, "years")
    if unit not in PER_YEAR:
        return doubt(f"is in {unit!r}, which is not understood as a unit of age")
    years = float(match["number"].replace(",", ".")) / PER_YEAR[unit]
    if years > OLDEST:
        return doubt(
            "is implausible as an age in years (other units stand as Units in the JSON file beside the table)"
        )
    return doubt("stands for a missing value in most tables") if years == 0 else round(years, 2)


def _unit_of_column(name: str) -> str | None:
    """The unit of age that a column's name gives, empty if none; None if the column is of no age at a scan."""
    words = re.findall(r"[a-z]+", name)
    others = [word for word in words if word != "age" and not _AGE_WORDS.fullmatch(word)]
    if "age" not in words or len(others) > 1 or not set(others) <= PER_YEAR.keys():
        return None
    return others[0] if others else ""


def _unknown_column(row: dict[str, str], what: str, words: set[str]) -> Doubt | None:
    """A doubt where a row has a value under a name that is perhaps of an age or a sex."""
    for name in row:
        if words & set(re.findall(r"[a-z]+", name)):
            return Doubt(
                what, row[name], f"stands in the column {name!r}, whose name is not understood (call it {what})"
            )
    return None


def _unit(described: dict[str, Any], missing: str) -> str:
    """The unit that a JSON file gives for a column; ``missing`` where it gives none."""
    unit = str(described.get("units") or described.get("unit") or "").strip().lower()
    if unit in PER_YEAR:
        return unit
    if unit not in MISSING:
        # "year(s)", "[months]".
        words = re.findall(r"[a-z]+", unit.replace("(s)", "s"))
    else:
        # "age in months at the scan", "Age (years)"; but a description may also speak of the day of the scan.
        text = f"{described.get('longname', '')} {described.get('description', '')}".lower()
        words = [match[1] or match[0] for match in _UNIT_IN_TEXT.finditer(text.replace("(s)", "s"))]
    named = {PER_YEAR[word]: word for word in words if len(word) > 2 and word in PER_YEAR}
    return next(iter(named.values())) if len(named) == 1 else missing if unit in MISSING else unit


def _sex(table: _Table, row: dict[str, str]) -> str | Doubt | None:
    """The sex in a row, F or M; None where it is another or not given."""
    column = next((name for name in row if _is_sex(name)), None)
    if column is None:
        return _unknown_column(row, "sex", _SEX_NAMES | {"female", "male"})
    described = table.of(column)
    text = _level(described, row[column]).lower()
    if re.fullmatch(r"-?\d+([.,]\d+)?", text):
        text = _coded(f"{column} {described.get('description', '')}".lower(), text)
    found = [sex for sex, words in _WORDS.items() if re.search(rf"\b({words})\b", text)]
    if len(found) == 1:
        return found[0]
    if re.fullmatch(r"-?\d+([.,]\d+)?", text):
        return Doubt("sex", row[column], "is a code that the JSON file beside the table does not explain (Levels)")
    return None


def _is_sex(name: str) -> bool:
    words = re.findall(r"[a-z]+", name)
    named = bool(_SEX_NAMES & set(words)) and all(_SEX_WORDS.fullmatch(word) for word in words)
    return named or name in ("m/f", "f/m")


def _coded(text: str, code: str) -> str:
    """What a text such as "1=m, 2=f" or "female: 0, male: 1" says a code means; the code where it says nothing."""
    words = "|".join(_WORDS.values())
    number = re.sub(r"[.,]0+$", "", code)
    for first, second in ((r"(?P<code>\d+)", rf"(?P<word>{words})"), (rf"(?P<word>{words})", r"(?P<code>\d+)")):
        pairs = [m for m in re.finditer(rf"\b{first}\s*[=:]\s*{second}\b", text) if m["code"] == number]
        if pairs:
            return pairs[0]["word"]
    return code


def _level(described: dict[str, Any], value: str) -> str:
    """What the JSON file says a code means (``Levels``); the value itself where it says nothing."""
    levels = described.get("levels")
    if not isinstance(levels, dict):
        return value
    number = re.sub(r"[.,]0+$", "", value)
    # Some tables have the codes on the other side: {"male": 1}.
    turned = {str(code): meaning for meaning, code in levels.items() if not isinstance(code, dict)}
    meaning = levels.get(value, levels.get(number, turned.get(number, value)))
    if isinstance(meaning, dict):
        meaning = meaning.get("Description", value)
    return str(meaning).strip()
