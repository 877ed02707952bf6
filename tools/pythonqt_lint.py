"""Find what works in PySide6 and fails in Slicer, in the source of a scripted module.

    python tools/pythonqt_lint.py BrainGen/*.py

Prints one line ``file:line: rule: sentence`` for each finding and ends with status 1 if there is one. What a name
holds is known from its assignments: ``qt.QTimer()``, ``ctk.ctkSliderWidget()``; an attribute that has one class in
all files, ``self.slider``, has it as ``row.slider`` too. Everything below ``ui``, ``self.ui`` or ``self._ui`` is a
widget, of the class that a file of ``Resources/UI`` beside or above the module gives it. What classes of CTK and
Slicer offer is read from pythonqt_table.json.
"""

from __future__ import annotations

import ast
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from pathlib import Path

from pythonqt_table import PREFIXES, offer

# Q_PROPERTYs that hide the getter of the same name.
PROPERTIES = frozenset(
    [
        "active",
        "alignment",
        "checkable",
        "checked",
        "collapsed",
        "count",
        "currentData",
        "currentIndex",
        "currentNodeID",
        "currentPath",
        "currentText",
        "decimals",
        "directory",
        "enabled",
        "height",
        "icon",
        "interval",
        "maximum",
        "maximumValue",
        "minimum",
        "minimumValue",
        "modified",
        "nodeTypes",
        "objectName",
        "placeholderText",
        "plainText",
        "pos",
        "readOnly",
        "singleStep",
        "size",
        "styleSheet",
        "suffix",
        "text",
        "title",
        "toolTip",
        "value",
        "visible",
        "width",
        "windowTitle",
    ]
)
ENUMS = frozenset(
    [
        "Running",
        "NotRunning",
        "Starting",
        "NormalExit",
        "CrashExit",
        "Ok",
        "Cancel",
        "Yes",
        "No",
        "Accepted",
        "Rejected",
    ]
)
MODULES = ("qt", "ctk")
# Members that PythonQt adds to every object.
ALWAYS_OFFERED = frozenset({"className", "delete", "help", "inherits", "name"})
# What the application gives out.
APPLICATION = {"slicer.app": "qSlicerApplication", "slicer.app.layoutManager()": "qSlicerLayoutManager"}
# Every one that a panel of Slicer connects; a signature that is right and not here is to be added.
SIGNALS = frozenset(
    [
        "activated(int)",
        "aboutToQuit()",
        "anchorClicked(QUrl)",
        "cellChanged(int,int)",
        "cellClicked(int,int)",
        "clicked()",
        "clicked(bool)",
        "contentsCollapsed(bool)",
        "currentIndexChanged(int)",
        "currentItemChanged(QListWidgetItem*,QListWidgetItem*)",
        "currentNodeChanged(bool)",
        "currentNodeChanged(vtkMRMLNode*)",
        "currentNodeIDChanged(QString)",
        "currentPathChanged(QString)",
        "currentRowChanged(int)",
        "currentTextChanged(QString)",
        "customContextMenuRequested(QPoint)",
        "directoryChanged(QString)",
        "doubleClicked(QModelIndex)",
        "editTextChanged(QString)",
        "editingFinished()",
        "errorOccurred(QProcess::ProcessError)",
        "finished(int)",
        "finished(int,QProcess::ExitStatus)",
        "itemChanged(QListWidgetItem*)",
        "itemChanged(QTableWidgetItem*)",
        "itemClicked(QListWidgetItem*)",
        "itemDoubleClicked(QListWidgetItem*)",
        "itemSelectionChanged()",
        "layoutChanged(int)",
        "linkActivated(QString)",
        "moduleAboutToBeUnloaded(QString)",
        "mrmlSceneChanged(vtkMRMLScene*)",
        "nodeActivated(vtkMRMLNode*)",
        "nodeAddedByUser(vtkMRMLNode*)",
        "pressed()",
        "readyReadStandardError()",
        "readyReadStandardOutput()",
        "released()",
        "returnPressed()",
        "sliderReleased()",
        "startupCompleted()",
        "stateChanged(QProcess::ProcessState)",
        "stateChanged(int)",
        "textChanged()",
        "textChanged(QString)",
        "textEdited(QString)",
        "timeout()",
        "toggled(bool)",
        "triggered()",
        "triggered(bool)",
        "valueChanged(double)",
        "valueChanged(int)",
        "valuesChanged(double,double)",
    ]
)
# What Slicer always has; everything else is imported where it is needed.
ALWAYS_THERE = frozenset({*sys.stdlib_module_names, "slicer", "qt", "ctk", "vtk", "numpy"})


@dataclass(frozen=True)
class Finding:
    """A line that breaks a rule."""

    file: str
    line: int
    rule: str
    sentence: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.rule}: {self.sentence}"


def check(source: str, file: str, elsewhere: Mapping[str, str] | None = None) -> list[Finding]:
    """Everything in a source text that breaks a rule, in the order of lines.

    Args:
        source: the text.
        file: its name.
        elsewhere: classes of attributes that other files and panels have, by name.
    """
    tree = ast.parse(source, file)
    widgets = Widgets(tree, elsewhere or {})
    rules = {
        "property-call": _property_calls(tree, widgets),
        "not-offered": _not_offered(tree, widgets),
        "keyword": _keywords(tree, widgets),
        "slot-default": _slot_defaults(tree),
        "file-scope-import": _file_scope_imports(tree, ALWAYS_THERE | _packages_beside(Path(file))),
        "signature": _signatures(tree, widgets),
        "f-string-in-translation": _translated_f_strings(tree),
        "instance-enum": _instance_enums(tree, widgets),
        "isinstance": _isinstances(tree),
    }
    found = {Finding(file, node.lineno, rule, sentence) for rule, hits in rules.items() for node, sentence in hits}
    return sorted(found, key=lambda finding: (finding.line, finding.rule))


def check_files(files: Iterable[Path]) -> list[Finding]:
    """The findings in files that belong together."""
    sources = {file: file.read_text("utf-8") for file in files}
    known: dict[str, set[str]] = {}
    for file, source in sources.items():
        for target, made in _assignments(ast.parse(source)):
            if isinstance(target, ast.Attribute):
                known.setdefault(target.attr, set()).add(made)
        for panel in (path for folder in file.resolve().parents[:2] for path in folder.glob("Resources/UI/*.ui")):
            for widget in ET.parse(panel).iter("widget"):
                known.setdefault(widget.get("name", ""), set()).add(widget.get("class", ""))
    elsewhere = {name: kinds.pop() for name, kinds in known.items() if len(kinds) == 1}
    return [finding for file, source in sources.items() for finding in check(source, str(file), elsewhere)]


Hits = Iterator[tuple[ast.AST, str]]


class Widgets:
    """What a file holds of Qt, CTK and Slicer; not layouts, whose count() is no property."""

    def __init__(self, tree: ast.AST, elsewhere: Mapping[str, str]) -> None:
        self._here = {ast.unparse(target): made for target, made in _assignments(tree)}
        self._elsewhere = elsewhere

    def has(self, node: ast.AST) -> bool:
        """Whether an expression is an object of Qt."""
        made = isinstance(node, ast.Call) and _made(node)
        kind = made or self._here.get(ast.unparse(node), "")
        return _in_ui(node) or (bool(kind) and not kind.endswith("Layout"))

    def kind(self, node: ast.AST) -> str:
        """Its class, if that can be known; empty if not."""
        text = ast.unparse(node)
        if text in APPLICATION:
            return APPLICATION[text]
        if isinstance(node, ast.Call):
            return _made(node)
        if isinstance(node, ast.Attribute):
            return self._here.get(text) or self._elsewhere.get(node.attr, "")
        return self._here.get(text, "")


def _in_ui(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and ast.unparse(node.value).split(".")[-1] in ("ui", "_ui")


def _assignments(tree: ast.AST) -> Iterator[tuple[ast.expr, str]]:
    """Targets that are given a new object of Qt, and its class; other values have none."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value is not None:
            made = _made(node.value) if isinstance(node.value, ast.Call) else ""
            empty = isinstance(node.value, ast.Constant) and node.value.value is None
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                if not empty and isinstance(target, (ast.Attribute, ast.Name)):
                    yield target, made


def _made(call: ast.Call) -> str:
    """The class of Qt, CTK or Slicer that a call makes an object of; empty for other calls."""
    text = ast.unparse(call.func)
    module, _, name = text.rpartition(".")
    return name if module in MODULES or (module == "slicer" and name.startswith(PREFIXES)) else ""


def _is_qt(node: ast.AST | None) -> bool:
    """``qt.…`` or ``ctk.…``."""
    while isinstance(node, ast.Attribute):
        node = node.value
        if isinstance(node, ast.Name) and node.id in MODULES:
            return True
    return False


def _calls(tree: ast.AST) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def _methods(tree: ast.AST) -> Iterator[tuple[ast.Call, ast.Attribute]]:
    return ((call, call.func) for call in _calls(tree) if isinstance(call.func, ast.Attribute))


def _property_calls(tree: ast.AST, widgets: Widgets) -> Hits:
    for call, method in _methods(tree):
        offered = offer(widgets.kind(method.value))
        hidden = PROPERTIES if offered is None and widgets.has(method.value) else frozenset()
        if offered is not None:
            hidden = offered.properties | (PROPERTIES & offered.qt - offered.own)
        if method.attr in hidden and not call.args:
            yield call, f"{ast.unparse(method)} is a property and cannot be called"


def _not_offered(tree: ast.AST, widgets: Widgets) -> Hits:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _made(node).startswith(PREFIXES):
            name = _made(node)
            offered = offer(name)
            if offered is None:
                yield node, f"{name} is no class that every supported version of Slicer has"
            elif offered.arguments is None or len(node.args) > offered.arguments:
                yield node, f"{name} is made with {offered.arguments or 0} arguments at most: a parent, or none"
        elif isinstance(node, ast.Attribute) and (offered := offer(kind := widgets.kind(node.value))):
            if node.attr not in offered.own | offered.qt | ALWAYS_OFFERED:
                yield node, f"{kind} has no attribute named {node.attr} in PythonQt"
            elif not isinstance(node.ctx, ast.Load) and (
                node.attr in offered.read_only or (node.attr in offered.own and node.attr not in offered.properties)
            ):
                yield node, f"{kind}.{node.attr} cannot be set"


def _keywords(tree: ast.AST, widgets: Widgets) -> Hits:
    for call in _calls(tree):
        of_widget = isinstance(call.func, ast.Attribute) and widgets.has(call.func.value)
        if call.keywords and (_is_qt(call.func) or _made(call) or of_widget):
            yield call, f"{ast.unparse(call.func)} takes no keyword arguments"


def _slot_defaults(tree: ast.AST) -> Hits:
    functions = {
        node.name: node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    }
    for call in _connections(tree):
        slot = call.args[-1]
        if isinstance(slot, ast.Lambda):
            slot_function: ast.AST | None = slot
        else:
            slot_function = functions.get(ast.unparse(slot).rpartition(".")[2])
        if slot_function is not None and slot_function.args.defaults:
            name = "a lambda" if isinstance(slot, ast.Lambda) else ast.unparse(slot)
            yield call, f"{name} gets the signal's arguments in place of its defaults; make them keyword-only"


def _connections(tree: ast.AST) -> Iterator[ast.Call]:
    return (call for call, method in _methods(tree) if method.attr == "connect" and call.args)


def _packages_beside(file: Path) -> set[str]:
    """The module's own packages, which are installed with it: beside the file, or around it."""
    if not file.is_file():
        return set()
    folder = file.parent.parent if (file.parent / "__init__.py").is_file() else file.parent
    return {package.parent.name for package in folder.glob("*/__init__.py")}


def _file_scope_imports(tree: ast.Module, there: Set[str]) -> Hits:
    for node in _at_file_scope(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
        for name in names:
            if name.partition(".")[0] not in there:
                yield node, f"{name} may be missing when Slicer starts; import it where it is used"


def _at_file_scope(node: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """Imports that run with the file, also those in an ``if``, a ``try`` or a class."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.Import, ast.ImportFrom)):
            yield child
        elif not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            yield from _at_file_scope(child)


def _signatures(tree: ast.AST, widgets: Widgets) -> Hits:
    for call, method in _methods(tree):
        if method.attr in ("connect", "disconnect") and call.args:
            first = call.args[0]
            if not (isinstance(first, ast.Constant) and isinstance(first.value, str)):
                continue
            offered = offer(widgets.kind(method.value))
            name = first.value.partition("(")[0]
            if first.value not in SIGNALS:
                yield call, f"{first.value!r} is no known signature"
            elif offered is not None and first.value not in offered.signals and name not in offered.qt - offered.own:
                yield call, f"{widgets.kind(method.value)} has no signal {first.value}"


def _translated_f_strings(tree: ast.AST) -> Hits:
    for call in _calls(tree):
        if ast.unparse(call.func).rpartition(".")[2] in ("_", "tr", "translate"):
            for text in call.args:
                if isinstance(text, ast.JoinedStr):
                    yield call, "an f-string is never found among the translations; use _(…).format(…)"


def _instance_enums(tree: ast.AST, widgets: Widgets) -> Hits:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in ENUMS and widgets.has(node.value):
            yield node, f"{ast.unparse(node)} takes an enum value from an object; take it from the class"


def _isinstances(tree: ast.AST) -> Hits:
    for call in _calls(tree):
        if isinstance(call.func, ast.Name) and call.func.id in ("isinstance", "issubclass") and len(call.args) == 2:
            kinds = call.args[1].elts if isinstance(call.args[1], ast.Tuple) else [call.args[1]]
            if any(_is_qt(kind) for kind in kinds):
                yield call, "isinstance is not reliable with classes of Qt; compare type() or use inherits()"


def main(files: list[str]) -> int:
    """Print the findings of all files; 1 if there are any."""
    findings = check_files(map(Path, files))
    for finding in findings:
        print(finding)
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
