"""What every training recipe shares: a folder that can be stopped and resumed at any step.

A run folder holds ``state.pt`` (modules, their exponential moving averages, optimisers, step), ``curves.csv`` and
``samples/``. Everything is written to a temporary name and renamed, so a killed run resumes from its last save.
"""

from __future__ import annotations

import csv
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from BrainGenLib.errors import BadInput

Network = TypeVar("Network", bound=nn.Module)


def pick_device(name: str = "auto") -> torch.device:
    """``auto`` is the first GPU, else the CPU."""
    if name != "auto":
        return torch.device(name)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def size_for(device: torch.device) -> Literal["gpu", "cpu"]:
    """Which of a recipe's sizes suits a device."""
    return "gpu" if device.type == "cuda" else "cpu"


def autocast(device: torch.device) -> torch.autocast:
    """bf16 where it pays (CUDA), full precision on CPUs, most of which only emulate it."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda")


def begun_with(run: Path, args: dict[str, Any]) -> dict[str, Any]:
    """Arguments of a run's network: those that it was begun with on whatever device, or ``args``, which are noted."""
    noted = run / "arguments.json"
    if not noted.is_file():
        run.mkdir(parents=True, exist_ok=True)
        temporary = run / "arguments.json.part"
        temporary.write_text(json.dumps(args), "utf-8")
        os.replace(temporary, noted)
    return arguments_of(run)


def arguments_of(run: Path) -> dict[str, Any]:
    """What :func:`begun_with` noted.

    Raises:
        FileNotFoundError: the run was never begun.
    """
    if not (run / "arguments.json").is_file():
        raise FileNotFoundError(f"{run} holds no run (arguments.json); train that recipe first.")
    return dict(json.loads((run / "arguments.json").read_text(encoding="utf-8")))


def load_averaged(network: Network, run: Path, name: str = "network") -> Network:
    """``network`` with the averaged weights ``name`` of a run, ready for inference.

    Raises:
        FileNotFoundError: the run has no checkpoint.
    """
    if not (run / "state.pt").is_file():
        raise FileNotFoundError(f"{run} holds no checkpoint (state.pt); train that recipe first.")
    average = torch.load(run / "state.pt", map_location="cpu", weights_only=True)["averages"][name]
    network.load_state_dict({k.removeprefix("module."): v for k, v in average.items() if k.startswith("module.")})
    return network.eval().requires_grad_(False)


@contextmanager
def folder_of(run: Path, recipe: str) -> Iterator[None]:
    """Note afterwards whose folder it is, if anything was begun in it.

    Raises:
        BadInput: it is another recipe's.
    """
    check_recipe(run, recipe)
    try:
        yield
    finally:
        if run.is_dir() and any(run.iterdir()):
            (run / "recipe.txt").write_text(recipe, "utf-8")


def check_recipe(run: Path, *recipes: str) -> None:
    """Let a run pass that is of one of these recipes, or does not say whose it is.

    Raises:
        BadInput: it is another recipe's.
    """
    noted = run / "recipe.txt"
    if noted.is_file() and (own := noted.read_text("utf-8")) not in recipes:
        raise BadInput(f"{run} is a run of {own}, not of {recipes[0]}; give each recipe a folder of its own.")


class Run:
    """A resumable training run.

    Args:
        folder: the run folder; an existing one is resumed.
        modules: networks by name, already on their device.
        optimizers: optimisers by name.
        averaged: names of the modules of which an exponential moving average is kept (what ships).
        decay: of that average.
        minutes: wall-clock budget of this process, towards whose end :meth:`progress` goes; None for no limit.
        save_every: seconds between checkpoints.
    """

    def __init__(
        self,
        folder: Path,
        modules: dict[str, nn.Module],
        optimizers: dict[str, torch.optim.Optimizer],
        *,
        averaged: tuple[str, ...] = (),
        decay: float = 0.999,
        minutes: float | None = None,
        save_every: float = 120.0,
    ) -> None:
        self.folder = folder
        self.modules = modules
        self.optimizers = optimizers
        self.averages = {
            name: AveragedModel(modules[name], multi_avg_fn=get_ema_multi_avg_fn(decay)) for name in averaged
        }
        self.step = 0
        self._start = time.monotonic()
        self._budget = None if minutes is None else minutes * 60
        self._save_every = save_every
        self._saved = self._start
        self._sums: dict[str, list[float | torch.Tensor]] = {}
        (folder / "samples").mkdir(parents=True, exist_ok=True)
        if (folder / "state.pt").is_file():
            self._load()

    def steps(self, total: int) -> Iterator[int]:
        """Yield step numbers until ``total`` or until the time budget is spent; saves on the way and at the end."""
        while self.step < total:
            if self._budget is not None and time.monotonic() - self._start > self._budget:
                break
            yield self.step
            self.step += 1
            if time.monotonic() - self._saved > self._save_every:
                self.save()
        self.save()

    def progress(self, total: int) -> float:
        """How much of the run is done, 0 to 1, in steps or in time, whichever is further: what a learning rate that
        falls to the end goes by, so that a run cut to its time is a finished one too."""
        spent = 0.0 if self._budget is None else (time.monotonic() - self._start) / self._budget
        return min(max(self.step / total, spent), 1.0)

    def update_averages(self) -> None:
        """Call after each optimiser step."""
        for name, average in self.averages.items():
            average.update_parameters(self.modules[name])

    def average(self, name: str) -> nn.Module:
        """The averaged network."""
        return self.averages[name].module

    def log(self, every: int = 50, **scalars: float | torch.Tensor) -> None:
        """Add scalars to the curves; a row with their means is written every ``every`` steps."""
        for name, value in scalars.items():
            # Not read before it is needed: a GPU would have to be waited for.
            self._sums.setdefault(name, []).append(value)
        if (self.step + 1) % every == 0:
            self.record(**{name: float(sum(values)) / len(values) for name, values in self._sums.items()})
            self._sums.clear()

    def record(self, **scalars: float) -> None:
        """Write one row per scalar to ``curves.csv`` (step, seconds, name, value) and print them."""
        seconds = time.monotonic() - self._start
        path = self.folder / "curves.csv"
        fresh = not path.exists()
        with path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            if fresh:
                writer.writerow(("step", "seconds", "name", "value"))
            writer.writerows((self.step, round(seconds, 1), name, f"{value:.6g}") for name, value in scalars.items())
        text = " ".join(f"{name} {value:.4g}" for name, value in scalars.items())
        print(f"step {self.step} {seconds:.0f}s {text}", flush=True)

    def picture(self, name: str, image: np.ndarray) -> Path:
        """Save an (H, W) or (H, W, 3) array in [0, 1] as ``samples/NAME-STEP.png``."""
        from PIL import Image

        path = self.folder / "samples" / f"{name}-{self.step:07d}.png"
        Image.fromarray((np.clip(image, 0, 1) * 255).astype(np.uint8)).save(path)
        return path

    def save(self) -> None:
        """Write the checkpoint."""
        state = {
            "step": self.step,
            "modules": {name: module.state_dict() for name, module in self.modules.items()},
            "averages": {name: average.state_dict() for name, average in self.averages.items()},
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
        }
        temporary = self.folder / "state.pt.part"
        torch.save(state, temporary)
        os.replace(temporary, self.folder / "state.pt")
        self._saved = time.monotonic()

    def _load(self) -> None:
        state = torch.load(self.folder / "state.pt", map_location="cpu", weights_only=True)
        self.step = state["step"]
        for kind, objects in (
            ("modules", self.modules),
            ("averages", self.averages),
            ("optimizers", self.optimizers),
        ):
            for name, thing in objects.items():
                thing.load_state_dict(state[kind][name])  # type: ignore[attr-defined]
        print(f"resumed {self.folder} at step {self.step}", flush=True)
