"""``braingen prepare`` and ``braingen train …``: from a BIDS tree to a bundle."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from BrainGenLib.cli.console import Device, guarded

app = typer.Typer(
    help="Train the networks of the shipped bundles, or write a bundle from a run.", no_args_is_help=True
)


class Recipe(str, Enum):
    """What can be trained; the module of ``BrainGenLib.training`` has the same name with underscores."""

    SEGMENTER = "segmenter"
    LABEL_AUTOENCODER = "label-autoencoder"
    LABEL_DIFFUSION = "label-diffusion"
    RENDERER = "renderer"

    def call(self, function: str) -> Callable:
        """A function of the recipe's module, which imports torch."""
        module = importlib.import_module(f"BrainGenLib.training.{self.value.replace('-', '_')}")
        return getattr(module, function)


def prepare(
    bids: Annotated[Path, typer.Argument(help="BIDS tree with raw scans and label derivatives.")],
    out: Annotated[Path, typer.Argument(help="Folder of the training cache.")],
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
) -> None:
    """Turn a BIDS tree into the training cache."""
    with guarded(as_json=False):
        from BrainGenLib.training.prepare import prepare as run

        run(bids, out, workers=workers)


def _train(recipe: Recipe) -> Callable[..., None]:
    def command(
        cache: Annotated[Path, typer.Argument(help="Training cache that `braingen prepare` wrote.")],
        run: Annotated[Path, typer.Argument(help="Run folder; an existing run goes on.")],
        minutes: Annotated[float | None, typer.Option(help="Stop after that time; call again to go on.")] = None,
        steps: Annotated[int | None, typer.Option(help="Length of the run. [default: the recipe's]")] = None,
        device: Device = "auto",
    ) -> None:
        with guarded(as_json=False):
            recipe.call("train")(cache, run, device=device, minutes=minutes, steps=steps)

    return command


for _recipe in Recipe:
    app.command(_recipe.value, help=f"Train the {_recipe.value.replace('-', ' ')}.")(_train(_recipe))


@app.command()
def export(
    recipe: Annotated[Recipe, typer.Argument(help="What the run trained.")],
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    bundle: Annotated[Path, typer.Argument(help="Bundle folder; its other networks stay.")],
) -> None:
    """Write the networks of a run into a bundle."""
    with guarded(as_json=False):
        recipe.call("export")(run, bundle)
