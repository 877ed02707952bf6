"""The line of a section in which a sweep is chosen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trame_server.utils.typed_state import TypedState

from BrainGenLib import sweeps
from BrainGenLib.browser.state import AxisChoice, SweepState
from BrainGenLib.bundles import Metadata
from BrainGenLib.errors import BadInput
from BrainGenLib.requests import Counterfactual, Generate, Request, parse


class SweepLogic:
    """Args: server of trame, and the section, whose name its state is kept under."""

    def __init__(self, server: Any, section: str) -> None:
        self._typed: TypedState[SweepState] = TypedState(server.state, SweepState, namespace=section)
        self._axes: dict[str, sweeps.Axis] = {}
        self._typed.bind_changes({self._typed.name.over: lambda *_: self._prefill()})

    @property
    def chosen(self) -> bool:
        """Whether a sweep is asked for."""
        return self._typed.data.over in self._axes

    def offer(self, verb: str, bundle: Metadata, contrasts: Sequence[str]) -> None:
        """Offer what may be varied in these contrasts; what no longer may is not chosen any more."""
        self._axes = {axis.name: axis for axis in sweeps.axes(verb, bundle, contrasts)}
        data = self._typed.data
        data.axes = [
            AxisChoice(axis.label, axis.name, axis.unit, axis.minimum, axis.maximum, axis.wanted)
            for axis in self._axes.values()
        ]
        if not self.chosen:
            data.over = ""

    def request(self, frame: Generate | Counterfactual) -> Request:
        """The sweep that is asked for, over frames that are as this one but for what is swept over.

        Raises:
            BadInput: from where, to where or how many is no number; both ends are one; there are too few or too many.
        """
        data = self._typed.data
        try:
            values = self._axes[data.over].values(float(data.start), float(data.stop), int(data.frames))
        except (TypeError, ValueError) as error:
            raise BadInput("Say from where to where the sweep goes, and in how many frames.") from error
        return parse({"verb": "sweep", "of": frame.model_dump(), "over": data.over, "values": values})

    def _prefill(self) -> None:
        if self.chosen:
            axis = self._axes[self._typed.data.over]
            self._typed.data.start, self._typed.data.stop = axis.minimum, axis.maximum
