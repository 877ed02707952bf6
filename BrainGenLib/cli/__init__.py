"""The command ``braingen``. Nothing here imports torch before a command needs it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from BrainGenLib import __version__
from BrainGenLib.cli import browser, changing, inventory, serving, showing, sweeping, synthesis, training

app = typer.Typer(
    help="Synthetic brain MRI with segmentations: made from conditions, from a segmentation, or from a scan.",
    epilog="Exit codes: 0 done, 1 something went wrong inside, 2 bad input or usage, 3 cancelled, 4 out of memory.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    context_settings={"max_content_width": 118},
)


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=lambda value: _say_version(value), help="Say which.")
    ] = False,
) -> None:
    pass


def _say_version(wanted: bool) -> None:
    if wanted:
        print(f"braingen {__version__}")
        raise typer.Exit


def _examples(*commands: str) -> str:
    # typer takes an empty line for the end of a line.
    return "\n\n".join(["Examples:", *(f"braingen {command}" for command in commands)])


_COMMANDS: dict[Callable[..., None], tuple[str, ...]] = {
    synthesis.generate: (
        "generate --pathology wmh=0.3 --side wmh=left --contrast T1w --contrast FLAIR --out OUT",
        "generate --anatomy ventricles=60 --count 20 --seed 1 --out OUT",
        "generate --bundle brain-ldm --anatomy age=75 --out OUT",
    ),
    synthesis.render: ("render sub-01_dseg.nii.gz --contrast T1w --style sub-01_T1w.nii.gz --out OUT",),
    synthesis.segment: ("segment sub-01_T1w.nii.gz --out OUT",),
    changing.counterfactual: (
        "counterfactual T1w.nii.gz --known age=45 --set age=75 --variants 4 --out OUT",
        "counterfactual FLAIR.nii.gz --set wmh=0 --segmentation lesions.nii.gz --out OUT",
    ),
    sweeping.sweep: (
        "sweep --over wmh=0:1:6 --contrast FLAIR --out OUT",
        "sweep --scan T1w.nii.gz --known age=45 --over age=30:80:6 --out OUT",
    ),
    synthesis.replay: ("replay OUT/sub-0001 --input T1w.nii.gz",),
    showing.scene: ("scene OUT/sub-0001 --out case.mrb --screenshot case.png",),
    browser.app: ("app --port 8080",),
}
for _command, _lines in _COMMANDS.items():
    app.command(epilog=_examples(*_lines))(_command)
app.command()(inventory.info)
app.command(epilog=_examples("prepare BIDS CACHE --workers 8"))(training.prepare)
app.add_typer(inventory.app, name="bundles")
app.add_typer(training.app, name="train")
app.add_typer(serving.app, name="serve")
