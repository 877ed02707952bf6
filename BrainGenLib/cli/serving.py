"""``braingen serve``: this machine runs the jobs of others."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from BrainGenLib.cli.console import guarded
from BrainGenLib.service import tokens
from BrainGenLib.service.limits import Limits

app = typer.Typer(
    help="Serve the models of this machine over HTTP; docs/remote.md tells how to do that safely.",
    invoke_without_command=True,
)
_DEFAULT = Limits()


@app.callback()
def serve(
    context: typer.Context,
    host: Annotated[str, typer.Option(help="Address to listen at; any but loopback needs --tokens.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 for any that is free.")] = 8765,
    jobs: Annotated[
        Path, typer.Option(help="Folder of the jobs, with scans and results.", show_default="~/.braingen/jobs")
    ] = Path.home() / ".braingen" / "jobs",
    users: Annotated[Path | None, typer.Option("--tokens", help="File of `braingen serve token`.")] = None,
    max_upload: Annotated[int, typer.Option(min=1, help="MB of one submission.")] = _DEFAULT.upload_bytes // 2**20,
    max_waiting: Annotated[int, typer.Option(min=1, help="Waiting jobs of a user.")] = _DEFAULT.waiting,
    rate: Annotated[int, typer.Option(min=1, help="HTTP requests of a user in a minute.")] = _DEFAULT.per_minute,
    keep: Annotated[int, typer.Option(min=1, help="Finished jobs of a user that stay.")] = _DEFAULT.kept,
    keep_days: Annotated[float, typer.Option(min=0, help="Days that a finished job stays.")] = _DEFAULT.days,
    max_minutes: Annotated[float, typer.Option(min=0.1, help="Minutes that one job may run.")] = _DEFAULT.minutes,
) -> None:
    """Serve until stopped."""
    if context.invoked_subcommand is not None:
        return
    with guarded(as_json=False):
        # Here, because it is there only with `braingen[serve]`.
        from BrainGenLib.service.server import serve as run

        run(host, port, jobs, users, Limits(max_upload * 2**20, max_waiting, rate, keep, keep_days, max_minutes))


@app.command()
def token(
    name: Annotated[str, typer.Argument(help="User.")],
    users: Annotated[Path, typer.Option("--tokens", help="File to store the token's hash in.")],
) -> None:
    """Make a token for a user and print it, this once; an older one of the same user counts no more."""
    with guarded(as_json=False):
        print(tokens.issue(users, name))
