"""Qt objects as PythonQt hands them to Python, over PySide6.

Every PySide6 class gets a mirror class: properties are attributes, signals connect by signature, calls take no
keyword arguments, nothing can be added to an instance. The PySide6 object itself stays behind it, so stand-in widgets
are plain PySide6 and the manners come from their meta-object.

A stand-in for a class of CTK or Slicer has the name of that class, and shows of itself only what PythonQt offers of
the real one (tools/pythonqt_table.json).
"""

from __future__ import annotations

import functools
import inspect
import weakref
from collections.abc import Callable
from enum import Enum, EnumType, Flag
from typing import Any

import shiboken6
from PySide6 import QtCore
from pythonqt_table import Offer, offer

from slicerhost.observed import missing

_Native = shiboken6.Shiboken.Object
_wrappers: weakref.WeakValueDictionary[int, Wrapper] = weakref.WeakValueDictionary()
_replacements: dict[tuple[type, str], Any] = {}


class EnumValue(int):
    """A value of a Qt enum: an int in Python, as in PythonQt."""

    native: Enum

    def __new__(cls, native: Enum) -> EnumValue:
        value = super().__new__(cls, native.value)
        value.native = native
        return value

    def __or__(self, other: int) -> int:
        if isinstance(other, EnumValue) and isinstance(self.native, Flag) and type(other.native) is type(self.native):
            return EnumValue(self.native | other.native)
        return int(self) | int(other)

    def __and__(self, other: int) -> int:
        if isinstance(other, EnumValue) and isinstance(self.native, Flag) and type(other.native) is type(self.native):
            return EnumValue(self.native & other.native)
        return int(self) & int(other)

    def __invert__(self) -> int:
        return EnumValue(~self.native) if isinstance(self.native, Flag) else ~int(self)


class Wrapper:
    """A Qt object in Python's hands."""

    _native_class: type = _Native
    _offer: Offer | None = None
    _native: Any

    def __init__(self, *args: Any, **keywords: Any) -> None:
        refuse(keywords, self._native_class.__name__)
        native_class = self._native_class
        if self._offer is not None and (self._offer.arguments is None or len(args) > self._offer.arguments):
            raise ValueError(f"Could not find matching overload for given arguments: {native_class.__name__}{args}")
        if subclassed := "_native_class" not in vars(type(self)):
            native_class = _with_overrides(native_class, type(self))
        native = native_class.__new__(native_class)
        if subclassed:
            native.pythonqt_wrapper = self
        object.__setattr__(self, "_native", native)
        native.__init__(*unwrap(args))
        if isinstance(native, QtCore.QObject):
            _wrappers[_pointer(native)] = self

    @property
    def native(self) -> Any:
        """The PySide6 object.

        Raises:
            ValueError: Qt has deleted it.
        """
        if not shiboken6.isValid(self._native):
            raise ValueError(f"Trying to use a deleted {type(self).__name__} object.")
        return self._native

    def __getattr__(self, name: str) -> Any:
        native = self.__dict__.get("_native")
        if isinstance(native, QtCore.QObject) and not name.startswith("__"):
            value = native.property(name)
            if value is not None:
                return wrap(value)
            for child in native.children():
                if child.objectName() == name:
                    return wrap(child)
        self._must_lack(name)
        raise AttributeError(f"{type(self).__name__} has no attribute named '{name}'")

    def __setattr__(self, name: str, value: Any) -> None:
        settable = hasattr(inspect.getattr_static(type(self), name, None), "__set__")
        if settable or "_native_class" not in vars(type(self)):
            object.__setattr__(self, name, value)
        elif hasattr(type(self), name):
            raise AttributeError(f"{type(self).__name__}.{name} is no property and cannot be overwritten")
        elif isinstance(self.native, QtCore.QObject) and self.native.property(name) is not None:
            self.native.setProperty(name, unwrap(value))
        else:
            self._must_lack(name)
            raise AttributeError(f"{type(self).__name__} has no attribute named '{name}'")

    def _must_lack(self, name: str) -> None:
        """The fault is the stand-in's if the real class has what this one lacks."""
        if self._offer is not None and name in self._offer.own:
            missing.append(f"{type(self).__name__}.{name}")
            raise NotImplementedError(f"The stand-in for {type(self).__name__} lacks {name}, which Slicer has.")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Wrapper) and bool(self._native == other._native)

    def __hash__(self) -> int:
        return hash(self._native)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._native!r}>"


class SignalAttribute:
    """A signal as an attribute; ``bind`` is given by the module that makes connections."""

    bind: Callable[[Any, str], Any]

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, instance: Wrapper | None, owner: type) -> Any:
        return self if instance is None else SignalAttribute.bind(instance, self._name)


def replaces(native_class: type, *names: str) -> Callable[[Any], Any]:
    """Decorator: a member of the mirror class that behaves other than PySide6's."""

    def register(member: Any) -> Any:
        for name in names:
            _replacements[native_class, name] = member
        return member

    return register


def refuse(keywords: dict[str, Any], name: str) -> None:
    """PythonQt's answer to keyword arguments."""
    if keywords:
        raise TypeError(f"{name} is called with {', '.join(keywords)}: PythonQt takes no keyword arguments")


def wrap(value: Any) -> Any:
    """What PythonQt gives to Python for a PySide6 value."""
    if isinstance(value, Enum) and type(value).__module__.startswith(("PySide6", "slicerhost")):
        return EnumValue(value)
    if isinstance(value, (list, tuple)):
        return tuple(wrap(item) for item in value)
    if isinstance(value, dict):
        return {key: wrap(item) for key, item in value.items()}
    if not isinstance(value, _Native):
        return value
    if getattr(value, "pythonqt_wrapper", None) is not None:
        return value.pythonqt_wrapper
    if isinstance(value, QtCore.QObject):
        known = _wrappers.get(_pointer(value))
        if known is not None and known._native is value:
            return known
    wrapper = object.__new__(mirror(type(value)))
    object.__setattr__(wrapper, "_native", value)
    if isinstance(value, QtCore.QObject):
        _wrappers[_pointer(value)] = wrapper
    return wrapper


def unwrap(value: Any) -> Any:
    """What PySide6 needs for a value from Python."""
    if isinstance(value, Wrapper):
        return value.native
    if isinstance(value, EnumValue):
        return value.native
    if isinstance(value, (list, tuple)):
        return [unwrap(item) for item in value]
    if isinstance(value, dict):
        return {key: unwrap(item) for key, item in value.items()}
    return value


@functools.cache
def mirror(native_class: type) -> type:
    """The class that Python code sees for a PySide6 class."""
    if native_class is _Native:
        return Wrapper
    parts = _with_shared(native_class)
    bases = tuple(mirror(base) for base in parts[-1].__bases__ if issubclass(base, _Native))
    offered = offer(native_class.__name__)
    members: dict[str, Any] = {"_native_class": native_class, "_offer": offered, "__module__": "qt"}
    for part in reversed(parts):
        for name, member in vars(part).items():
            # An overriding getter, as sizeHint() of buttons, is still hidden by the property.
            if not name.startswith("_") and not _is_property(part, name):
                members.update(_member(part, name, member))
        members.update(_properties(part))
    if offered is not None:
        shown = offered.own | offered.qt
        members = {name: member for name, member in members.items() if name.startswith("_") or name in shown}
    for (replaced_class, name), member in _replacements.items():
        if replaced_class is native_class:
            members[name] = member
    return type(native_class.__name__, bases, members)


def _with_shared(native_class: type) -> list[type]:
    """The class and what it shares with other stand-ins, which is no class of Slicer and has no mirror of its own."""
    parts = [native_class]
    while parts[-1].__bases__[0].__name__.startswith("_"):
        parts.append(parts[-1].__bases__[0])
    return parts


def _member(native_class: type, name: str, member: Any) -> dict[str, Any]:
    if isinstance(member, EnumType):
        values = {key: EnumValue(value) for key, value in member.__members__.items()}
        return {name: type(name, (), values), **values}
    if isinstance(member, QtCore.Signal):
        return {name: SignalAttribute(name)}
    if isinstance(member, type) and issubclass(member, _Native):
        return {name: mirror(member)}
    if isinstance(member, staticmethod) or type(member).__name__ in ("classmethod_descriptor", "classmethod"):
        return {name: _Static(native_class, name)}
    if callable(member):
        return {name: _method(native_class, name)}
    return {}


def function(native: Callable[..., Any]) -> Callable[..., Any]:
    """A PySide6 function with PythonQt's arguments and results."""

    def call(*args: Any, **keywords: Any) -> Any:
        refuse(keywords, native.__name__)
        return wrap(native(*unwrap(args)))

    return call


class _Static:
    """A static function; some, like QFile.exists, are also a method of an instance."""

    def __init__(self, native_class: type, name: str) -> None:
        self._native_class, self._name = native_class, name

    def __get__(self, instance: Wrapper | None, owner: type) -> Callable[..., Any]:
        return function(getattr(self._native_class if instance is None else instance.native, self._name))


def _method(native_class: type, name: str) -> Callable[..., Any]:
    native_method = getattr(native_class, name)

    def call(self: Wrapper, *args: Any, **keywords: Any) -> Any:
        refuse(keywords, name)
        return wrap(native_method(self.native, *unwrap(args)))

    return call


def _is_property(native_class: type, name: str) -> bool:
    return issubclass(native_class, QtCore.QObject) and native_class.staticMetaObject.indexOfProperty(name) >= 0


def _properties(native_class: type) -> dict[str, Any]:
    """The Q_PROPERTYs that the class itself declares; Qt's own classes have their setters beside them."""
    if not issubclass(native_class, QtCore.QObject):
        return {}
    meta = native_class.staticMetaObject
    qt_own = native_class.__module__.startswith("PySide6.")
    members: dict[str, Any] = {}
    for index in range(meta.propertyOffset(), meta.propertyCount()):
        name, write = meta.property(index).name(), None
        if meta.property(index).isWritable():
            write = _setter(native_class, name)
            if qt_own:
                setter = f"set{name[0].upper()}{name[1:]}"
                if not hasattr(native_class, setter):
                    members[setter] = write
                write = _calling(setter)
        nullable = meta.property(index).typeName().endswith("*") or meta.property(index).typeName() == "QVariant"
        members[name] = _property(name, write, nullable)
    return members


def _property(name: str, write: Callable[[Wrapper, Any], None] | None, nullable: bool) -> property:
    def read(self: Wrapper) -> Any:
        return wrap(self.native.property(name))

    def set_value(self: Wrapper, value: Any) -> None:
        if write is None:
            raise AttributeError(f"Property '{name}' of {type(self).__name__} object is not writable")
        if value is None and not nullable:
            raise ValueError(f"{type(self).__name__}.{name} does not accept None")
        write(self, value)

    return property(read, set_value)


def _calling(setter: str) -> Callable[[Wrapper, Any], None]:
    return lambda self, value: getattr(self, setter)(value)


def _setter(native_class: type, name: str) -> Callable[..., None]:
    def write(self: Wrapper, value: Any) -> None:
        if not self.native.setProperty(name, unwrap(value)):
            raise ValueError(f"{native_class.__name__}.{name} does not accept {value!r}")

    return write


def _with_overrides(native_class: type, python_class: type) -> type:
    """The PySide6 class whose virtual methods call the overrides of a Python subclass of its mirror."""

    def forward(name: str) -> Callable[..., Any]:
        def call(native: Any, *args: Any) -> Any:
            return unwrap(getattr(native.pythonqt_wrapper, name)(*(wrap(arg) for arg in args)))

        return call

    overrides = {}
    for ancestor in python_class.__mro__:
        if "_native_class" in vars(ancestor):
            break
        for name, member in vars(ancestor).items():
            if callable(member) and not name.startswith("_") and callable(getattr(native_class, name, None)):
                overrides[name] = forward(name)
    return type(native_class.__name__, (native_class,), overrides)


def _pointer(native: Any) -> int:
    return shiboken6.Shiboken.getCppPointer(native)[0]
