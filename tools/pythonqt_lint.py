"""Find what works in PySide6 and fails in Slicer, in the source of a scripted module.

    python tools/pythonqt_lint.py BrainGen/*.py

Prints one line ``file:line: rule: sentence`` for each finding and ends with status 1 if there is one. What a name
holds is told from its assignments in the same file: ``qt.QTimer()``, ``ctk.ctkSliderWidget()``, and everything below
``ui``, ``self.ui`` or ``self._ui`` is a widget.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Set
from dataclasses import dataclass
from pathlib import Path

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


def check(source: str, file: str) -> list[Finding]:
    """Everything in a source text that breaks a rule, in the order of lines."""
    tree = ast.parse(source, file)
    widgets = _widgets(tree)
    rules = {
        "property-call": _property_calls(tree, widgets),
        "keyword": _keywords(tree, widgets),
        "slot-default": _slot_defaults(tree),
        "file-scope-import": _file_scope_imports(tree, ALWAYS_THERE | _packages_beside(Path(file))),
        "signature": _signatures(tree),
        "f-string-in-translation": _translated_f_strings(tree),
        "instance-enum": _instance_enums(tree, widgets),
        "isinstance": _isinstances(tree),
    }
    found = {Finding(file, node.lineno, rule, sentence) for rule, hits in rules.items() for node, sentence in hits}
    return sorted(found, key=lambda finding: (finding.line, finding.rule))


Hits = Iterator[tuple[ast.AST, str]]


def _widgets(tree: ast.AST) -> set[str]:
    """Names and attributes that hold an object of Qt or CTK; not layouts, whose count() is no property."""
    widgets = set()
    for node in ast.walk(tree):
        made = getattr(getattr(node, "value", None), "func", None)
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and _is_qt(made) and not made.attr.endswith("Layout"):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            widgets.update(ast.unparse(target) for target in targets)
    return widgets


def _is_qt(node: ast.AST | None) -> bool:
    """``qt.…`` or ``ctk.…``."""
    while isinstance(node, ast.Attribute):
        node = node.value
        if isinstance(node, ast.Name) and node.id in MODULES:
            return True
    return False


def _is_widget(node: ast.AST, widgets: set[str]) -> bool:
    text = ast.unparse(node)
    in_ui = isinstance(node, ast.Attribute) and ast.unparse(node.value).split(".")[-1] in ("ui", "_ui")
    made = isinstance(node, ast.Call) and _is_qt(node.func)
    return in_ui or made or text in widgets


def _calls(tree: ast.AST) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def _methods(tree: ast.AST) -> Iterator[tuple[ast.Call, ast.Attribute]]:
    return ((call, call.func) for call in _calls(tree) if isinstance(call.func, ast.Attribute))


def _property_calls(tree: ast.AST, widgets: set[str]) -> Hits:
    for call, method in _methods(tree):
        if method.attr in PROPERTIES and not call.args and _is_widget(method.value, widgets):
            yield call, f"{ast.unparse(method)} is a property and cannot be called"


def _keywords(tree: ast.AST, widgets: set[str]) -> Hits:
    for call in _calls(tree):
        of_widget = isinstance(call.func, ast.Attribute) and _is_widget(call.func.value, widgets)
        if call.keywords and (_is_qt(call.func) or of_widget):
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


def _signatures(tree: ast.AST) -> Hits:
    for call, method in _methods(tree):
        if method.attr in ("connect", "disconnect") and call.args:
            first = call.args[0]
            if isinstance(first, ast.Constant) and isinstance(first.value, str) and first.value not in SIGNALS:
                yield call, f"{first.value!r} is no known signature"


def _translated_f_strings(tree: ast.AST) -> Hits:
    for call in _calls(tree):
        if ast.unparse(call.func).rpartition(".")[2] in ("_", "tr", "translate"):
            for text in call.args:
                if isinstance(text, ast.JoinedStr):
                    yield call, "an f-string is never found among the translations; use _(…).format(…)"


def _instance_enums(tree: ast.AST, widgets: set[str]) -> Hits:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in ENUMS and _is_widget(node.value, widgets):
            yield node, f"{ast.unparse(node)} takes an enum value from an object; take it from the class"


def _isinstances(tree: ast.AST) -> Hits:
    for call in _calls(tree):
        if isinstance(call.func, ast.Name) and call.func.id in ("isinstance", "issubclass") and len(call.args) == 2:
            kinds = call.args[1].elts if isinstance(call.args[1], ast.Tuple) else [call.args[1]]
            if any(_is_qt(kind) for kind in kinds):
                yield call, "isinstance is not reliable with classes of Qt; compare type() or use inherits()"


def main(files: list[str]) -> int:
    """Print the findings of all files; 1 if there are any."""
    findings = [finding for file in files for finding in check(Path(file).read_text("utf-8"), file)]
    for finding in findings:
        print(finding)
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
