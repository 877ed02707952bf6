"""How a typed value is kept in a parameter node, so that it is saved with the scene."""

from __future__ import annotations

import enum
import json
import pathlib
import types
import typing
from collections.abc import Callable, Iterator, MutableMapping, MutableSequence
from typing import Any

import slicer

from .annotations import Default

_PATHS = (pathlib.Path, pathlib.PurePath, pathlib.PurePosixPath, pathlib.PosixPath)


def split(annotated: Any) -> tuple[Any, list[Any]]:
    """A type and what ``Annotated`` says about it."""
    if typing.get_origin(annotated) is typing.Annotated:
        kind, *annotations = typing.get_args(annotated)
        return kind, annotations
    return annotated, []


def node_classes(kind: Any) -> tuple[type, ...]:
    """The classes of nodes that a type names, or a union with None, without which Slicer cannot hold a fresh one."""
    classes = [kind]
    if typing.get_origin(kind) in (typing.Union, types.UnionType) and type(None) in typing.get_args(kind):
        classes = [item for item in typing.get_args(kind) if item is not type(None)]
    every = all(isinstance(item, type) and issubclass(item, slicer.vtkMRMLNode) for item in classes)
    return tuple(classes) if every else ()


def parameter(annotated: Any) -> Parameter:
    """The storage for a type.

    Raises:
        TypeError: the host does not know how to keep it.
    """
    kind, annotations = split(annotated)
    if nodes := node_classes(kind):
        return _Node(nodes, annotations, ())
    origin, arguments = typing.get_origin(kind) or kind, typing.get_args(kind)
    for known, storage in _STORAGES.items():
        if origin is known or (known is enum.Enum and isinstance(origin, type) and issubclass(origin, known)):
            return storage(origin, annotations, arguments)
    raise TypeError(f"The host keeps no parameter of type {annotated}.")


class Parameter:
    """A value kept as text."""

    fresh: Callable[[], Any] = str

    def __init__(self, kind: Any, annotations: list[Any], arguments: tuple[Any, ...]) -> None:
        self.kind, self.arguments = kind, arguments
        self._validators = [annotation for annotation in annotations if hasattr(annotation, "validate")]
        self.given = next((item for item in annotations if isinstance(item, Default)), None)

    def default(self) -> Any:
        return self.given.value if self.given else self.fresh()

    def accepted(self) -> tuple[type, ...]:
        return (self.kind,)

    def check(self, value: Any) -> None:
        """Raise what Slicer raises for a value of another type, or outside what the annotations allow."""
        if value is None:
            raise ValueError("A parameter must not be None")
        if not isinstance(value, self.accepted()):
            raise TypeError(f"A parameter of type {self.kind} cannot hold {value!r}")
        for validator in self._validators:
            validator.validate(value)

    def encode(self, value: Any) -> str:
        return str(value)

    def decode(self, text: str) -> Any:
        return self.kind(text)

    def is_in(self, node: Any, name: str) -> bool:
        return node.HasParameter(name)

    def write(self, node: Any, name: str, value: Any) -> None:
        self.check(value)
        node.SetParameter(name, self.encode(value))

    def read(self, node: Any, name: str) -> Any:
        # A node that was reset, as by closing a scene, holds nothing.
        if not self.is_in(node, name):
            self.write(node, name, self.default())
        return self.decode(node.GetParameter(name))


class _Integer(Parameter):
    fresh = int


class _Float(Parameter):
    fresh = float

    def accepted(self) -> tuple[type, ...]:
        return (int, float)


class _Bool(Parameter):
    fresh = bool

    def decode(self, text: str) -> bool:
        return text == "True"


class _Path(Parameter):
    fresh = pathlib.Path


class _Enum(Parameter):
    def fresh(self) -> enum.Enum:
        return next(iter(self.kind))

    def encode(self, value: enum.Enum) -> str:
        return value.name

    def decode(self, text: str) -> enum.Enum:
        return self.kind[text]


class _Node(Parameter):
    """A reference to a node of the scene; the kind is a tuple of classes."""

    def accepted(self) -> tuple[type, ...]:
        return self.kind

    def fresh(self) -> None:
        return None

    def check(self, value: Any) -> None:
        if value is not None:
            super().check(value)

    def write(self, node: Any, name: str, value: Any) -> None:
        self.check(value)
        # Says that the parameter was given, for it may have been given as None.
        node.SetParameter(name, "")
        node.SetNodeReferenceID(name, value.GetID() if value is not None else None)

    def read(self, node: Any, name: str) -> Any:
        return node.GetNodeReference(name)


class _List(Parameter):
    fresh = list

    def accepted(self) -> tuple[type, ...]:
        return (list, tuple, MutableSequence)

    def check(self, value: Any) -> None:
        super().check(value)
        for item in value:
            parameter(self.arguments[0]).check(item)

    def encode(self, value: Any) -> str:
        item = parameter(self.arguments[0])
        return json.dumps([item.encode(entry) for entry in value])

    def decode(self, text: str) -> list[Any]:
        item = parameter(self.arguments[0])
        return [item.decode(entry) for entry in json.loads(text)]

    def read(self, node: Any, name: str) -> ObservedList:
        return ObservedList(super().read(node, name), lambda value: self.write(node, name, value))


class _Dict(Parameter):
    fresh = dict

    def accepted(self) -> tuple[type, ...]:
        return (dict, MutableMapping)

    def check(self, value: Any) -> None:
        super().check(value)
        for pair in value.items():
            for kind, item in zip(self.arguments, pair, strict=True):
                parameter(kind).check(item)

    def encode(self, value: Any) -> str:
        key, item = map(parameter, self.arguments)
        return json.dumps({key.encode(name): item.encode(entry) for name, entry in value.items()})

    def decode(self, text: str) -> dict[Any, Any]:
        key, item = map(parameter, self.arguments)
        return {key.decode(name): item.decode(entry) for name, entry in json.loads(text).items()}

    def read(self, node: Any, name: str) -> ObservedDict:
        return ObservedDict(super().read(node, name), lambda value: self.write(node, name, value))


class ObservedList(MutableSequence):
    """A list that writes itself back; no ``list``, as in Slicer."""

    def __init__(self, items: list[Any], write: Callable[[Any], None]) -> None:
        self._items, self._write = items, write

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: Any) -> Any:
        return self._items[index]

    def __setitem__(self, index: Any, value: Any) -> None:
        self._items[index] = value
        self._write(self._items)

    def __delitem__(self, index: Any) -> None:
        del self._items[index]
        self._write(self._items)

    def insert(self, index: int, value: Any) -> None:
        self._items.insert(index, value)
        self._write(self._items)

    def __eq__(self, other: object) -> bool:
        return self._items == (other._items if isinstance(other, ObservedList) else other)

    __hash__ = None

    def __repr__(self) -> str:
        return f"ObservedList({self._items})"


class ObservedDict(MutableMapping):
    """A dict that writes itself back; no ``dict``, and ``get`` and ``pop`` take the key alone, as in Slicer."""

    def __init__(self, items: dict[Any, Any], write: Callable[[Any], None]) -> None:
        self._items, self._write = items, write

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._items)

    def __getitem__(self, key: Any) -> Any:
        return self._items[key]

    def __setitem__(self, key: Any, value: Any) -> None:
        self._items[key] = value
        self._write(self._items)

    def __delitem__(self, key: Any) -> None:
        del self._items[key]
        self._write(self._items)

    def get(self, key: Any) -> Any:
        return self._items.get(key)

    def pop(self, key: Any) -> Any:
        value = self._items.pop(key)
        self._write(self._items)
        return value

    def __eq__(self, other: object) -> bool:
        return self._items == (other._items if isinstance(other, ObservedDict) else other)

    __hash__ = None

    def __repr__(self) -> str:
        return f"ObservedDict({self._items})"


_STORAGES: dict[Any, type[Parameter]] = {
    str: Parameter,
    bool: _Bool,
    int: _Integer,
    float: _Float,
    list: _List,
    dict: _Dict,
    **dict.fromkeys(_PATHS, _Path),
    enum.Enum: _Enum,
}
