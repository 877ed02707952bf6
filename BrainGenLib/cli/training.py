"""``braingen prepare`` and ``braingen train …``: from a BIDS tree to a bundle."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from BrainGenLib.cli.console import Device, guarded
from BrainGenLib.errors import BadInput

app = typer.Typer(
    help="Train the networks of the shipped bundles, or write a bundle from a run.", no_args_is_help=True
)


class Recipe(str, Enum):
    """What can be trained."""

    SEGMENTER = "segmenter"
    LABEL_AUTOENCODER = "label-autoencoder"
    LABEL_DIFFUSION = "label-diffusion"
    NORMATIVE = "normative"
    DONORS = "donors"
    SOFT_TISSUE = "soft-tissue"
    RENDERER = "renderer"
    IMAGE_AUTOENCODER = "image-autoencoder"
    IMAGE_BROAD = "image-broad"
    IMAGE_DIFFUSION = "image-diffusion"
    AGE_JUDGE = "age-judge"


# Not imported at file scope: they need torch.
TRAIN = {recipe: f"BrainGenLib.training.{recipe.value.replace('-', '_')}" for recipe in Recipe}
EXPORT = {
    Recipe.SEGMENTER: "BrainGenLib.training.segmenter",
    Recipe.LABEL_DIFFUSION: "BrainGenLib.training.label_diffusion",
    Recipe.NORMATIVE: "BrainGenLib.training.normative",
    Recipe.DONORS: "BrainGenLib.training.donors_export",
    Recipe.SOFT_TISSUE: "BrainGenLib.training.soft_tissue",
    Recipe.RENDERER: "BrainGenLib.training.renderer_export",
    Recipe.IMAGE_DIFFUSION: "BrainGenLib.training.image_export",
}
CacheFolder = Annotated[Path, typer.Argument(help="Training cache that `braingen prepare` wrote.")]
Steps = Annotated[int | None, typer.Option(help="Length of the run.", show_default="the recipe's")]
Minutes = Annotated[
    float | None,
    typer.Option(help="Stop after that time, towards which the learning rate falls; call again to go on."),
]


def prepare(
    bids: Annotated[Path, typer.Argument(help="BIDS tree with raw scans and label derivatives.")],
    out: Annotated[Path, typer.Argument(help="Folder of the training cache.")],
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
) -> None:
    """Turn a BIDS tree into the training cache."""
    with guarded(as_json=False):
        from BrainGenLib.training.prepare import prepare as run

        try:
            run(bids, out, workers=workers)
        except ValueError as error:
            raise BadInput(str(error)) from error


def _train(recipe: Recipe) -> Callable[..., None]:
    def command(
        cache: CacheFolder,
        run: Annotated[Path, typer.Argument(help="Run folder, resumed if it exists; best named after the recipe.")],
        minutes: Minutes = None,
        steps: Steps = None,
        device: Device = "auto",
    ) -> None:
        with guarded(as_json=False):
            from BrainGenLib.training.run import folder_of

            train = importlib.import_module(TRAIN[recipe]).train
            with folder_of(run, recipe.value):
                train(cache, run, device=device, minutes=minutes, steps=steps)

    return command


_TRAINS = {
    Recipe.SEGMENTER: "The segmenter of scans of any contrast (bundle segmenter).",
    Recipe.LABEL_AUTOENCODER: "The autoencoder of label maps; first of brainspade3d.",
    Recipe.LABEL_DIFFUSION: "The diffusion of label maps, in the autoencoder's latent space (brainspade3d).",
    Recipe.NORMATIVE: "Volumes of ventricles and brain by age and sex (brainspade3d).",
    Recipe.DONORS: "The people of patch diffusion, chosen from the cache; --steps is their number (brainspade3d).",
    Recipe.SOFT_TISSUE: "Shares of tissues within voxels (brainspade3d).",
    Recipe.IMAGE_AUTOENCODER: "The autoencoder of images; first of brain-ldm.",
    Recipe.IMAGE_BROAD: "The diffusion of images of every contrast, from which image-diffusion begins.",
    Recipe.IMAGE_DIFFUSION: "The diffusion of images from age, sex, volumes and loads (brain-ldm).",
    Recipe.AGE_JUDGE: "The regression of age that judges changed scans (brain-ldm).",
}
for _recipe, _help in _TRAINS.items():
    app.command(_recipe.value, help=_help)(_train(_recipe))


@app.command()
def renderer(
    cache: CacheFolder,
    run: Annotated[Path, typer.Argument(help="Run folder, resumed if it exists.")],
    start: Annotated[
        str | None, typer.Option(help="Bundle whose renderer a new run begins with.", show_default="a new one")
    ] = None,
    minutes: Minutes = None,
    steps: Steps = None,
    device: Device = "auto",
) -> None:
    """The renderer of label maps in a style, with its style encoder (brainspade3d)."""
    with guarded(as_json=False):
        from BrainGenLib.training.renderer import train
        from BrainGenLib.training.run import folder_of

        with folder_of(run, Recipe.RENDERER.value):
            train(cache, run, device=device, minutes=minutes, steps=steps, start=start)


@app.command()
def finetune(
    data: Annotated[Path, typer.Argument(help="BIDS folder of 5 to 50 scans, or a training cache of them.")],
    run: Annotated[Path, typer.Argument(help="Run folder, resumed if it exists.")],
    name: Annotated[str, typer.Option(help="Of the new bundle.")],
    bundle: Annotated[str, typer.Option(help="Model to start from, of the family brain-ldm.")] = "brain-ldm",
    scheme: Annotated[
        str, typer.Option(help="basic, textual-inversion, dreambooth, custom-diffusion or lora.")
    ] = "basic",
    drift: Annotated[
        str, typer.Option(help="0, auto, or standard deviations of the latent's means between subjects.")
    ] = "0",
    variant: Annotated[str, typer.Option(help="Of drift in training: V1, V2, or the paper's V3.")] = "V3",
    folder: Annotated[
        Path | None, typer.Option(help="Where the bundle goes.", show_default="~/.braingen/bundles")
    ] = None,
    minutes: Minutes = None,
    steps: Steps = None,
    device: Device = "auto",
) -> None:
    """Fine-tune an image model on a few scans of your own, with or without Latent Drifting, to a new bundle."""
    with guarded(as_json=False):
        from BrainGenLib.training import finetuning
        from BrainGenLib.training.run import folder_of

        with folder_of(run, "finetune"):
            written = finetuning.train(
                data,
                run,
                bundle=bundle,
                name=name,
                scheme=scheme,
                drift=drift,
                variant=variant,
                folder=folder,
                device=device,
                minutes=minutes,
                steps=steps,
            )
        print(f"Bundle {written.name} in {written.folder}", flush=True)


@app.command()
def export(
    recipe: Annotated[Recipe, typer.Argument(help="What the run trained.")],
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    bundle: Annotated[Path, typer.Argument(help="Bundle folder; its other networks stay.")],
) -> None:
    """Write the networks of a run into a bundle; an autoencoder goes with its diffusion."""
    with guarded(as_json=False):
        if recipe not in EXPORT:
            together = "label-diffusion" if recipe is Recipe.LABEL_AUTOENCODER else "image-diffusion"
            raise BadInput(f"{recipe.value} is no network of a bundle by itself: export {together}.")
        from BrainGenLib.training.run import check_recipe

        # What was begun on painted images alone can be a model of images by itself.
        check_recipe(run, recipe.value, *([Recipe.IMAGE_BROAD.value] if recipe is Recipe.IMAGE_DIFFUSION else []))
        importlib.import_module(EXPORT[recipe]).export(run, bundle)
