"""The command ``braingen``. Nothing here imports torch before a command needs it.

Exit codes: 0 done, 1 something went wrong inside, 2 bad input or usage, 3 cancelled, 4 out of memory.
"""

from __future__ import annotations

import typer

from BrainGenLib.cli import browser, changing, inventory, serving, showing, sweeping, synthesis, training

app = typer.Typer(
    help=__doc__,
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    context_settings={"max_content_width": 118},
)
app.command()(synthesis.generate)
app.command()(synthesis.render)
app.command()(synthesis.segment)
app.command()(changing.counterfactual)
app.command()(sweeping.sweep)
app.command()(synthesis.replay)
app.command()(showing.scene)
app.command()(browser.app)
app.command()(inventory.info)
app.command()(training.prepare)
app.add_typer(inventory.app, name="bundles")
app.add_typer(training.app, name="train")
app.add_typer(serving.app, name="serve")
