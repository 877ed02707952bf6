"""Typed access to the parameters of a vtkMRMLScriptedModuleNode, and their binding to widgets."""

from .annotations import Choice, Decimals, Default, Maximum, Minimum, SingleStep, WithinRange
from .connectors import createGuiConnector
from .wrapper import parameterNodeWrapper

__all__ = [
    "Choice",
    "Decimals",
    "Default",
    "Maximum",
    "Minimum",
    "SingleStep",
    "WithinRange",
    "createGuiConnector",
    "parameterNodeWrapper",
]
