"""Connections as PythonQt makes them."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable
from typing import Any

import shiboken6
from PySide6 import QtCore
from pythonqt_table import offer

from slicerhost.observed import complain
from slicerhost.pulse import pulse
from slicerhost.wrapping import SignalAttribute, Wrapper, replaces, unwrap, wrap

# (object, signal) -> what is connected, and the function that Qt calls for it.
_connections: dict[tuple[int, str], list[tuple[Any, Callable[..., None]]]] = {}


def connect(sender: Any, signal: str, receiver: Any, slot: str = "") -> bool:
    """Connect a signal, named by its C++ signature, to a callable or to a slot of another object.

    Args:
        sender: PySide6 object.
        signal: e.g. ``clicked(bool)``.
        receiver: callable, or PySide6 object.
        slot: of the receiver, e.g. ``setEnabled(bool)``.

    Returns:
        False if there is no such signal or slot, which is then complained about.
    """
    signature = _normalised(signal)
    if not _exists(sender, signature):
        complain(f"{type(sender).__name__} {sender.objectName()!r} has no signal {signal}")
        return False
    target = receiver
    if slot:
        target = _slot(receiver, _normalised(slot))
        if target is None:
            complain(f"{type(receiver).__name__} {receiver.objectName()!r} has no slot {slot}")
            return False
    called = guarded(target)
    _attach(sender, signature, called)
    key = _key(sender, signature)
    if key not in _connections:
        _connections[key] = []
        sender.destroyed.connect(lambda *_: _connections.pop(key, None))
    _connections[key].append((receiver, called))
    return True


def disconnect(sender: Any, signal: str, receiver: Any = None) -> bool:
    """Undo the connections of a signal to an equal callable, or all; False if there is none."""
    signature = _normalised(signal)
    connected = _connections.get(_key(sender, signature), [])
    found = [entry for entry in connected if receiver is None or entry[0] == receiver]
    for entry in found if receiver is None else found[:1]:
        connected.remove(entry)
        _detach(sender, signature, entry[1])
    return bool(found)


def guarded(receiver: Callable[..., Any]) -> Callable[..., None]:
    """What Qt calls for a Python callable: arguments trimmed, exceptions printed and noted, time measured."""
    wanted = _argument_count(receiver)
    name = getattr(receiver, "__qualname__", repr(receiver))

    def call(*args: Any) -> None:
        with pulse.busy(name):
            try:
                receiver(*[wrap(arg) for arg in args[:wanted]])
            except Exception as error:
                traceback.print_exc()
                complain(f"{name}: {type(error).__name__}: {error}")

    return call


def _argument_count(receiver: Callable[..., Any]) -> int | None:
    """How many arguments a Python function or method gets at most; None for all of them.

    Parameters with defaults count: PythonQt looks at the code object alone.
    """
    bound = inspect.ismethod(receiver)
    code = getattr(receiver.__func__ if bound else receiver, "__code__", None)
    if code is None or code.co_flags & inspect.CO_VARARGS:
        return None
    return code.co_argcount - bound


def _exists(sender: Any, signature: str) -> bool:
    offered = offer(type(sender).__name__)
    if offered is not None and signature.partition("(")[0] in offered.own and signature not in offered.signals:
        return False
    declared = _cpp_signals(sender)
    # A stand-in's signals of VTK objects are declared; what PySide6 calls them, PyObject, is no name in C++.
    return signature in declared or ("PyObject" not in signature and _meta(sender).indexOfSignal(signature) >= 0)


def _meta(sender: Any) -> QtCore.QMetaObject:
    """The meta-object of the class: PySide6 gives the same as metaObject(), and lets it die with the object."""
    return type(sender).staticMetaObject


def _attach(sender: Any, signature: str, called: Callable[..., None]) -> None:
    if signature in (declared := _cpp_signals(sender)):
        getattr(sender, declared[signature]).connect(called)
    else:
        QtCore.QObject.connect(sender, QtCore.SIGNAL(signature), called)


def _detach(sender: Any, signature: str, called: Callable[..., None]) -> None:
    if signature in (declared := _cpp_signals(sender)):
        getattr(sender, declared[signature]).disconnect(called)
    else:
        QtCore.QObject.disconnect(sender, QtCore.SIGNAL(signature), called)


def _cpp_signals(sender: Any) -> dict[str, str]:
    return {
        _normalised(signature): name
        for kind in reversed(type(sender).__mro__)
        for signature, name in vars(kind).get("cpp_signals", {}).items()
    }


def _slot(receiver: Any, signature: str) -> Callable[..., Any] | None:
    name, _, types = signature.removesuffix(")").partition("(")
    offered = offer(type(receiver).__name__)
    if offered is not None and name not in offered.slots | offered.qt:
        return None
    if not callable(method := getattr(receiver, name, None)):
        return None
    count = len([kind for kind in types.split(",") if kind])
    return lambda *args: method(*unwrap(args[:count]))


def _normalised(signature: str) -> str:
    return bytes(QtCore.QMetaObject.normalizedSignature(signature).data()).decode()


def _key(sender: Any, signature: str) -> tuple[int, str]:
    return shiboken6.Shiboken.getCppPointer(sender)[0], signature


class BoundSignal:
    """``widget.clicked``: the first overload of a signal."""

    def __init__(self, sender: Wrapper, name: str) -> None:
        self._sender, self._name = sender, name

    def connect(self, receiver: Callable[..., Any]) -> bool:
        return connect(self._sender.native, self._signature(), receiver)

    def disconnect(self, receiver: Callable[..., Any] | None = None) -> bool:
        return disconnect(self._sender.native, self._signature(), receiver)

    def emit(self, *args: Any) -> None:
        getattr(self._sender.native, self._name).emit(*unwrap(args))

    __call__ = emit

    def _signature(self) -> str:
        native = self._sender.native
        for signature, name in _cpp_signals(native).items():
            if name == self._name:
                return signature
        meta = _meta(native)
        signatures = [
            bytes(meta.method(index).methodSignature().data()).decode() for index in range(meta.methodCount())
        ]
        return next(signature for signature in signatures if signature.partition("(")[0] == self._name)


SignalAttribute.bind = BoundSignal


@replaces(QtCore.QObject, "connect")
def _connect(self: Wrapper, signal: str, receiver: Any, slot: str = "", /) -> bool:
    return connect(self.native, signal, receiver.native if isinstance(receiver, Wrapper) else receiver, slot)


@replaces(QtCore.QObject, "disconnect")
def _disconnect(self: Wrapper, signal: str, receiver: Any = None, /) -> bool:
    return disconnect(self.native, signal, receiver)
