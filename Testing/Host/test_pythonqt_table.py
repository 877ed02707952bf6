"""What PythonQt offers of CTK and Slicer: read from headers, kept in a table, and not exceeded by the stand-ins."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import pythonqt_headers
import pythonqt_table
from pythonqt_headers import classes, decorations

TREES = [os.environ.get(name) for name in ("SLICER_SOURCE", "CTK_SOURCE")]

HEADER = """
#include <QWidget>
class QSlider;
/// A class ctkFake : public QObject { Q_OBJECT } in a comment is none.
class CTK_WIDGETS_EXPORT ctkKnob : public QWidget, public ctkOther<int>
{
  Q_OBJECT
  QVTK_OBJECT
  Q_PROPERTY(double angle READ angle WRITE setAngle NOTIFY angleChanged);
  Q_PROPERTY(QString text READ text)
  Q_PROPERTY(QStringList *names READ names
             WRITE setNames DESIGNABLE false)
  Q_FLAGS(Marks)
  Q_ENUMS(Style)
public:
  enum Mark { NoMark = 0x0, Line = 0x1, Dot = Line | 0x2, };
  Q_DECLARE_FLAGS(Marks, Mark)
  enum Style { Flat, Round };
  enum Hidden { Nobody };
  typedef QWidget Superclass;
  explicit ctkKnob(QWidget* parent = nullptr, Qt::WindowFlags flags = {});
  ~ctkKnob() override;
  virtual void setAngle(double angle);
  double angle() const { if (true) { return 1; } return 2; }
  QString url() const { return "https://www.slicer.org/{"; } // no comment, no brace
  Q_INVOKABLE static ctkKnob* find(const QString& name);
  Q_INVOKABLE void turn(int steps = 1)
    { this->setAngle(steps); }
  struct Nested { void notOfTheKnob(); };
public Q_SLOTS:
  virtual void setNames(const QStringList& names) = 0 ;
#if QT_VERSION >= 0x060000
  void older();
#endif
Q_SIGNALS:
  void angleChanged(double);
  void chosen(vtkMRMLNode *node, bool done = false);
  void told(const QString& text, unsigned int, const QList<int> & ids, Qt::Orientation way);
  void done(void);
protected slots:
  void secret();
protected:
  Q_INVOKABLE void alsoSecret();
  QScopedPointer<ctkKnobPrivate> d_ptr;
private:
  Q_DECLARE_PRIVATE(ctkKnob);
  Q_PRIVATE_SLOT(d_func(), void _q_update());
  Q_DISABLE_COPY(ctkKnob);
};
class ctkPlain : public QWidget { public: void setPlain(); };
class qMRMLKnob : public ctkKnob
{
  Q_OBJECT
public:
  qMRMLKnob();
public slots:
  void setMRMLScene(vtkMRMLScene* scene);
};
"""

DECORATORS = """
class ctkFakePythonQtDecorators : public QObject
{
  Q_OBJECT
public:
  void notASlot(ctkKnob* knob);
public Q_SLOTS:
  // ctkKnob
  ctkKnob* new_ctkKnob(int steps) { return new ctkKnob(steps); }
  void delete_ctkKnob(ctkKnob* knob) { delete knob; }
  QList<double> range(ctkKnob* knob) const { return knob->range(); }
  void setRange(ctkKnob* knob, double low, double high) { knob->setRange(low, high); }
  bool static_ctkKnob_available() { return true; }
};
"""


def test_properties_slots_invokables_signals_and_declared_enums_are_read():
    found = classes(HEADER)
    assert list(found) == ["ctkKnob", "qMRMLKnob"]
    assert found["ctkKnob"] == {
        "base": "QWidget",
        "new": None,
        "properties": ["angle", "names", "text"],
        "read_only": ["text"],
        "slots": ["older", "setNames"],
        "methods": ["find", "turn"],
        "signals": [
            "angleChanged(double)",
            "chosen(vtkMRMLNode*)",
            "chosen(vtkMRMLNode*,bool)",
            "done()",
            "told(QString,unsigned int,QList<int>,Qt::Orientation)",
        ],
        "enums": ["Dot", "Flat", "Line", "Marks", "NoMark", "Round", "Style"],
    }
    assert found["qMRMLKnob"] | {"base": "ctkKnob", "new": 0, "slots": ["setMRMLScene"]} == found["qMRMLKnob"]


def test_a_constructor_is_wrapped_with_a_parent_or_nothing():
    concrete = HEADER.replace(" = 0 ;", ";")
    assert classes(concrete)["ctkKnob"]["new"] == 1
    assert classes(concrete.replace("QWidget* parent = nullptr", "int steps"))["ctkKnob"]["new"] is None


def test_decorators_add_methods_to_the_class_of_their_first_argument():
    assert decorations(DECORATORS) == {"ctkKnob": {"range", "setRange", "available"}}


def test_the_common_part_of_two_versions_is_what_both_offer():
    older = classes(HEADER)
    newer = classes(HEADER.replace("angle WRITE setAngle", "angle").replace("void older", "void newer"))
    both = pythonqt_headers.common(older, newer)["ctkKnob"]
    assert both["read_only"] == ["angle", "text"]
    assert both["slots"] == ["setNames"]


def test_inherited_members_are_offered_up_to_those_of_qt():
    slider = pythonqt_table.offer("qMRMLSliderWidget")
    assert {"setMRMLScene", "setValue", "setDecimals"} <= slider.slots
    assert "minimum" in slider.properties
    assert "setLayout" in slider.qt
    assert not {"setMinimum", "setRange"} & (slider.own | slider.qt)
    # Read-only in what it descends from.
    assert "title" not in pythonqt_table.offer("qSlicerScriptedLoadableModule").read_only
    assert "logic" in pythonqt_table.offer("qSlicerScriptedLoadableModule").methods
    assert {"checked", "visible"} <= pythonqt_table.offer("ctkCollapsibleButton").qt
    assert pythonqt_table.offer("QSlider") is pythonqt_table.offer("ctkNoSuchWidget") is None


def stand_ins():
    from slicerhost import application, ctk_widgets, io_manager, layout, modules, mrml_widgets

    for module in (application, ctk_widgets, io_manager, layout, modules, mrml_widgets):
        for kind in vars(module).values():
            if getattr(kind, "__module__", "") == module.__name__ and kind.__name__.startswith(
                pythonqt_table.PREFIXES
            ):
                yield kind


def test_no_stand_in_declares_what_the_real_class_lacks(host):
    """Members that are methods are hidden; properties and signals are of Qt's meta-object, which shows all."""
    for kind in stand_ins():
        offered, meta = pythonqt_table.offer(kind.__name__), kind.staticMetaObject
        first = kind.__mro__[next(n for n, k in enumerate(kind.__mro__) if k.__module__.startswith("PySide6"))]
        properties = {
            meta.property(n).name() for n in range(first.staticMetaObject.propertyCount(), meta.propertyCount())
        }
        assert properties <= offered.properties | offered.qt, kind
        for n in range(first.staticMetaObject.methodCount(), meta.methodCount()):
            signature = bytes(meta.method(n).methodSignature().data()).decode()
            if "PyObject" not in signature and meta.method(n).methodType() == meta.method(n).MethodType.Signal:
                assert signature in offered.signals, kind
        declared = {signature for k in kind.__mro__ for signature in vars(k).get("cpp_signals", {})}
        assert declared <= offered.signals, kind


def test_a_widget_descends_from_what_the_real_class_descends_from(host):
    from PySide6.QtWidgets import QWidget

    for kind in stand_ins():
        if not issubclass(kind, QWidget) or kind.__module__ == "slicerhost.layout":
            continue
        ancestors = [k.__name__ for k in kind.__mro__ if not k.__name__.startswith("_")]
        assert ancestors[1] == pythonqt_table.table()[kind.__name__]["base"]


@pytest.mark.skipif(not all(TREES), reason="SLICER_SOURCE and CTK_SOURCE do not name source trees")
def test_a_tree_offers_what_the_table_says():
    tree = pythonqt_headers.read_tree(*map(Path, TREES))
    kept = pythonqt_table.table()
    for name, entry in kept.items():
        if name.startswith(pythonqt_table.PREFIXES):
            assert pythonqt_headers.common(tree, tree)[name] is not None
            for key in ("properties", "slots", "methods", "signals", "enums"):
                assert set(entry.get(key, [])) <= set(tree[name][key]), f"{name}.{key}"
            assert {n for n in tree[name]["read_only"] if n in entry.get("properties", [])} <= {
                *entry.get("read_only", [])
            }
