"""Write the table of what PythonQt offers of the Qt classes of CTK and Slicer, from their headers.

    python tools/pythonqt_headers.py SLICER CTK [SLICER CTK …]

Each pair is a source tree of Slicer and the tree of CTK that goes with it; without arguments the environment
variables SLICER_SOURCE and CTK_SOURCE name one. What all of them offer is written to pythonqt_table.json beside this
file: code that keeps to it runs in each of these versions.

CTK's light wrapping (CTK/CMake/ctkWrapPythonQt.py) hands over constructors only. All other members come from Qt's
meta-object, so PythonQt offers Q_PROPERTYs, public slots, public Q_INVOKABLEs, signals and declared enums, and the
slots of the classes named …PythonQtDecorators. A plain public method is not there.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from functools import reduce
from pathlib import Path
from typing import Any

from pythonqt_table import FILE, PREFIXES

_NOT_PUBLIC = ("Testing", "Templates", "DesignerPlugins", "Plugins", "Applications", "Examples")

# One class: what it declares itself.
Entry = dict[str, Any]

_CLASS = re.compile(r"\bclass\s+(?:\w+_EXPORT\s+)?(\w+)\s*(?:final\s*)?(?::([^{;()]*))?\{")
_SECTION = re.compile(r"\b(?:(public|protected|private)(\s+(?:slots|Q_SLOTS))?|(signals|Q_SIGNALS))\s*:(?!:)")
_ENUM = re.compile(r"\benum\s+(?:class\s+|struct\s+)?(\w+)[^{;]*\{([^}]*)\}")
_LISTS = ("properties", "slots", "methods", "signals", "enums")
_NO_TYPE = {"const", "unsigned", "signed", "long", "short", "int", "char", "double", "float", "bool", "void"}


def classes(text: str) -> dict[str, Entry]:
    """What PythonQt offers of the classes with Q_OBJECT that a header declares, by name.

    An entry has ``base`` (a name), ``new`` (how many arguments the constructor takes at most; None: there is none)
    and sorted lists: ``properties``, those of them that are ``read_only``, public ``slots``, other ``methods``
    (public invokables, and what decorators add), ``signals`` (normalised signatures), ``enums`` (with their values).
    """
    text = _without_comments(text)
    found: dict[str, Entry] = {}
    for name, bases, body in _bodies(text):
        if "Q_OBJECT" in body:
            found[name] = _entry(name, bases, body)
    return found


def decorations(text: str) -> dict[str, set[str]]:
    """Methods that the slots of a header's decorator classes add, by the name of the class that gets them."""
    text = _without_comments(text)
    added: dict[str, set[str]] = {}
    for name, _bases, body in _bodies(text):
        if "Decorators" not in name and not name.startswith("PythonQtWrapper_"):
            continue
        for access, slots, statement in _statements(_without_macros(_flat(body))):
            function = _function(statement)
            if access != "public" or not slots or function is None:
                continue
            called, parameters = function
            if static := re.fullmatch(r"static_([A-Za-z0-9]+)_(\w+)", called):
                added.setdefault(static[1], set()).add(static[2])
            elif parameters and not called.startswith(("new_", "delete_")):
                added.setdefault(_type(parameters[0]).rstrip("*"), set()).add(called)
    return added


def read_tree(slicer: Path, ctk: Path) -> dict[str, Entry]:
    """Every class of two source trees, with what its decorators add."""
    found: dict[str, Entry] = {}
    added: dict[str, set[str]] = {}
    for folder in (ctk / "Libs", slicer / "Libs", slicer / "Base", slicer / "Modules"):
        for header in sorted(folder.rglob("*.h")):
            if not header.name.startswith(PREFIXES) or header.stem.endswith("_p"):
                continue
            if set(_NOT_PUBLIC) & set(header.relative_to(folder).parts):
                continue
            text = header.read_text("utf-8", errors="replace")
            if header.stem.endswith("PythonQtDecorators"):
                for name, methods in decorations(text).items():
                    added.setdefault(name, set()).update(methods)
            else:
                found.update({name: entry for name, entry in classes(text).items() if name.startswith(PREFIXES)})
    for name, methods in added.items():
        if name in found:
            found[name]["methods"] = sorted({*found[name]["methods"], *methods})
    if not found:
        raise SystemExit(f"{slicer} and {ctk} hold no headers of Slicer and CTK.")
    return found


def common(first: dict[str, Entry], second: dict[str, Entry]) -> dict[str, Entry]:
    """What both offer."""
    return {name: _common_entry(first[name], second[name]) for name in sorted(first.keys() & second.keys())}


def version(slicer: Path) -> str:
    """The version of a source tree of Slicer."""
    text = (slicer / "CMakeLists.txt").read_text("utf-8")
    return ".".join(
        re.search(rf'set\(Slicer_VERSION_{part} "(\d+)"\)', text)[1] for part in ("MAJOR", "MINOR", "PATCH")
    )


def _common_entry(one: Entry, other: Entry) -> Entry:
    both: Entry = {key: sorted({*one[key]} & {*other[key]}) for key in _LISTS}
    both["read_only"] = [name for name in both["properties"] if name in one["read_only"] + other["read_only"]]
    both["new"] = None if None in (one["new"], other["new"]) else min(one["new"], other["new"])
    return {"base": one["base"], **both}


def _without_comments(text: str) -> str:
    """The text without comments, contents of strings and preprocessor lines: of an ``#if`` both branches stay."""
    text = re.sub(
        r'"(?:\\.|[^"\\\n])*"|/\*.*?\*/|//[^\n]*',
        lambda found: '""' if found[0].startswith('"') else " ",
        text,
        flags=re.DOTALL,
    )
    return re.sub(r"^[ \t]*#(?:[^\n\\]|\\\n|\\.)*", " ", text, flags=re.MULTILINE)


def _bodies(text: str) -> Iterator[tuple[str, str, str]]:
    for match in _CLASS.finditer(text):
        yield match[1], match[2] or "", text[match.end() : _closing(text, match.end() - 1, "{}")]


def _closing(text: str, opening: int, pair: str) -> int:
    """Where the bracket that opens at an index closes."""
    depth = 0
    for index in range(opening, len(text)):
        depth += (text[index] == pair[0]) - (text[index] == pair[1])
        if depth == 0:
            return index
    return len(text)


def _entry(name: str, bases: str, body: str) -> Entry:
    first = re.findall(r"(?:public|protected|private|virtual)?\s*([\w:]+)(?:<[^>]*>)?\s*(?:,|$)", bases.strip())
    # Members of nested classes and bodies of inline functions belong to others; enums are read before they go.
    declared = {
        match[1]: re.findall(r"(\w+)\s*(?:=[^,]*)?(?:,|$)", match[2].strip()) for match in _ENUM.finditer(body)
    }
    macros = list(_macros(body))
    writable = {}
    for macro, text in macros:
        if macro == "Q_PROPERTY":
            words = text.split()
            at = next((index for index, word in enumerate(words) if word in ("READ", "MEMBER")), len(words))
            writable[words[at - 1].lstrip("*&")] = "WRITE" in words or "MEMBER" in words
    aliases = {text.split(",")[0].strip(): text.split(",")[1].strip() for m, text in macros if m == "Q_DECLARE_FLAGS"}
    enums = set()
    for macro, text in macros:
        if macro in ("Q_ENUM", "Q_ENUMS", "Q_FLAG", "Q_FLAGS"):
            for word in text.replace(",", " ").split():
                word = word.rpartition("::")[2]
                enums.update([word, *declared.get(aliases.get(word, word), [])])
    slots, methods, signals, arguments = set(), set(), set(), []
    for access, kind, statement in _statements(_without_macros(_flat(body))):
        function = _function(statement)
        if function is None:
            continue
        called, parameters = function
        if called == name:
            if access == "public" and "~" not in statement:
                arguments.append(parameters)
        elif kind == "signals" or "Q_SIGNAL" in statement:
            signals.update(f"{called}({','.join(types)})" for types in _clones(parameters))
        elif access == "public" and (kind == "slots" or "Q_SLOT" in statement):
            slots.add(called)
        elif access == "public" and "Q_INVOKABLE" in statement:
            methods.add(called)
    abstract = re.search(r"\bvirtual\b[^;{}]*=\s*0\s*;", body) is not None
    return {
        "base": first[0] if first else "",
        "new": None if abstract else _constructor(arguments),
        "properties": sorted(writable),
        "read_only": sorted(name for name in writable if not writable[name]),
        "slots": sorted(slots),
        "methods": sorted(methods),
        "signals": sorted(signals),
        "enums": sorted(enums),
    }


def _constructor(overloads: list[list[str]]) -> int | None:
    """Arguments of the constructor that the light wrapping makes: a parent, or none."""
    if [] in overloads:
        return 0
    for parameters in overloads:
        if re.match(r"(?:QObject|QWidget)\s*\*", parameters[0]) and all("=" in other for other in parameters[1:]):
            return 1
    return None


def _macros(body: str) -> Iterator[tuple[str, str]]:
    for match in re.finditer(r"\b(Q_[A-Z_]+)\s*\(", body):
        yield match[1], body[match.end() : _closing(body, match.end() - 1, "()")].strip()


def _flat(body: str) -> str:
    """The body of a class without what stands in braces."""
    while (shorter := re.sub(r"\{[^{}]*\}", ";", body)) != body:
        body = shorter
    return body


def _without_macros(body: str) -> str:
    body = re.sub(r"\bQ_DECL_\w+|\bQ_OBJECT\b|\bQVTK_OBJECT\b", " ", body)
    while match := re.search(r"\b(?:Q_(?!SLOT|SIGNAL|INVOKABLE)[A-Z_]+|vtk\w*Macro)\s*\(", body):
        body = body[: match.start()] + ";" + body[_closing(body, match.end() - 1, "()") + 1 :]
    return body


def _statements(body: str) -> Iterator[tuple[str, str, str]]:
    """Access, ``slots``, ``signals`` or nothing, and text of each declaration."""
    access, kind, start = "private", "", 0
    for match in [*_SECTION.finditer(body), None]:
        for statement in body[start : match.start() if match else None].split(";"):
            yield access, kind, " ".join(statement.split())
        if match:
            access, kind, start = (
                match[1] or "public",
                "slots" if match[2] else "signals" if match[3] else "",
                match.end(),
            )


def _function(statement: str) -> tuple[str, list[str]] | None:
    match = re.search(r"(\w+)\s*\(", statement)
    if (
        match is None
        or re.match(r"(?:friend|typedef|using|enum|class|struct)\b", statement)
        or "operator" in statement
    ):
        return None
    inside = statement[match.end() : _closing(statement, match.end() - 1, "()")].strip()
    return match[1], [] if inside in ("", "void") else _split(inside)


def _split(parameters: str) -> list[str]:
    parts, depth, start = [], 0, 0
    for index, char in enumerate(parameters):
        depth += (char in "<({") - (char in ">)}")
        if char == "," and depth == 0:
            parts.append(parameters[start:index].strip())
            start = index + 1
    return [*parts, parameters[start:].strip()]


def _clones(parameters: list[str]) -> Iterator[list[str]]:
    """The types of a signal, and those of the shorter forms that its default arguments allow."""
    types = [_type(parameter) for parameter in parameters]
    needed = sum("=" not in parameter for parameter in parameters)
    return (types[:count] for count in range(needed, len(types) + 1))


def _type(parameter: str) -> str:
    """A parameter's type as Qt normalises it: no name, no default, no ``const &``."""
    text = re.sub(r"\s*([<>*&,:])\s*", r"\1", parameter.partition("=")[0].strip())
    words = re.split(r"\s+|(?<=[*&>])(?=\w)", text)
    if len(words) > 1 and words[-1] not in _NO_TYPE and not (len(words) == 2 and words[0] == "const"):
        words = words[:-1]
    text = " ".join(words)
    constant = re.fullmatch(r"const ([^*]+?)&?|([^*]+) const&?", text)
    return (constant[1] or constant[2]) if constant else text


def _qt_classes(bases: set[str]) -> dict[str, Entry]:
    """The Qt classes of those names and their bases, whose public methods PythonQt's own wrappers offer too."""
    from PySide6 import QtCore, QtGui, QtWidgets

    found = {}
    for name in bases:
        ends = [getattr(module, name) for module in (QtCore, QtGui, QtWidgets) if hasattr(module, name)]
        for kind in ends[0].__mro__ if ends else ():
            if kind.__module__.startswith("PySide6."):
                names = {name for name in vars(kind) if not name.startswith("_")}
                if meta := getattr(kind, "staticMetaObject", None):
                    names |= {meta.property(n).name() for n in range(meta.propertyOffset(), meta.propertyCount())}
                found[kind.__name__] = {"base": kind.__base__.__name__, "methods": sorted(names)}
    return dict(sorted(found.items()))


def main(arguments: list[str]) -> int:
    """Write the table of the trees named by the arguments or the environment."""
    trees = [Path(argument) for argument in arguments or [os.environ["SLICER_SOURCE"], os.environ["CTK_SOURCE"]]]
    pairs = list(zip(trees[::2], trees[1::2], strict=True))
    table = reduce(common, [read_tree(slicer, ctk) for slicer, ctk in pairs])
    table |= _qt_classes({entry["base"] for entry in table.values()} - table.keys())
    lines = [f'"slicer": {json.dumps([version(slicer) for slicer, _ctk in pairs])}']
    for name, entry in table.items():
        said = {key: value for key, value in entry.items() if value not in ([], "", None)}
        lines.append(f"{json.dumps(name)}: {json.dumps(said, separators=(',', ':'))}")
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
