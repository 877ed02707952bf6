"""``braingen app``: the panel as a web page."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from BrainGenLib.cli.console import Server, guarded
from BrainGenLib.errors import BadInput


def app(
    host: Annotated[
        str, typer.Option(help="Address to listen on; the page needs the token in the URL that is printed.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 8080,
    threads: Annotated[int | None, typer.Option(help="CPU threads of the worker; all if not given.")] = None,
    results: Annotated[
        Path,
        typer.Option(
            help="Folder that keeps scans and results until they are deleted in the page; each app needs its own.",
            show_default="~/.braingen/app",
        ),
    ] = Path.home() / ".braingen" / "app",
    server: Server = None,
) -> None:
    """Serve the panel as a web page, with Slicer's views; needs `pip install 'braingen\\[app]'`."""
    with guarded(as_json=False):
        if find_spec("trame_slicer") is None:
            raise BadInput("The browser app needs trame-slicer; install it with `pip install 'braingen[app]'`.")
        from BrainGenLib.browser.access import new_token
        from BrainGenLib.browser.app import BrowserApp
        from BrainGenLib.browser.shelf import Shelf
        from BrainGenLib.jobs import WorkerProcess
        from BrainGenLib.service.remote import TOKEN_VARIABLE, MirrorProcess
        from BrainGenLib.session import Session

        token = os.environ.get(TOKEN_VARIABLE, "")
        session = Session(lambda: MirrorProcess(server, token) if server else WorkerProcess(threads=threads))
        page = BrowserApp("braingen", session, Shelf(results), server or "", token)
        page.serve(host, port, new_token())
