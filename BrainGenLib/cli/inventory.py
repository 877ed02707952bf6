"""``braingen bundles`` and ``braingen info``: what is installed, what can be, and on what it would run."""

from __future__ import annotations

import platform
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table

from BrainGenLib import __version__, public_bundles
from BrainGenLib import bundles as library
from BrainGenLib.cli.console import EXIT_CODES, Json, emit, guarded, plain, remark
from BrainGenLib.errors import BadInput

app = typer.Typer(help="List the installed models, or install a public one.", invoke_without_command=True)


@app.callback()
def bundles(context: typer.Context, as_json: Json = False) -> None:
    """List the installed models: what they can do and which conditions they understand."""
    if context.invoked_subcommand is not None:
        return
    with guarded(as_json):
        table = Table("bundle", "version", "can", "contrasts", "conditions", "MB")
        installed, damaged = library.available(), False
        for bundle in installed.values():
            try:
                bundle.verify()
            except BadInput as error:
                damaged = True
                remark(str(error), as_json)
                continue
            data = bundle.metadata
            if as_json:
                emit(data.model_dump() | {"folder": str(bundle.folder), "sha256": bundle.sha256}, "", as_json)
            conditions = ", ".join(map(_range, data.conditions))
            megabytes = sum(bundle.weights(name).stat().st_size for name in data.networks) / 1e6
            lists = ", ".join(data.verbs), ", ".join(data.contrasts), conditions
            # Bundles come from elsewhere too.
            table.add_row(*(escape(plain(text)) for text in (data.name, data.version, *lists)), f"{megabytes:.1f}")
        if not as_json:
            Console().print(table)
            for entry in public_bundles.available().values():
                if entry.name not in installed:
                    print(f"braingen bundles install {entry.name}: {entry.metadata.title}, {entry.megabytes:.0f} MB")
        if damaged:
            raise typer.Exit(EXIT_CODES["bad_input"])


def _range(condition: library.Condition) -> str:
    unit = condition.short_unit
    if condition.millilitres:
        unit = f"load, 1 is {condition.millilitres:g} mL"
    return f"{condition.name} ({condition.minimum:g}–{condition.maximum:g}{' ' * bool(unit)}{unit})"


@app.command()
def install(
    name: Annotated[str, typer.Argument(help="Public bundle; `braingen bundles` lists them.")],
    given: Annotated[
        list[Path],
        typer.Option(
            "--from",
            help="Published file, or a folder with it, instead of a download (again for more).",
            default_factory=list,
            show_default=False,
        ),
    ],
    accept_licence: Annotated[
        bool, typer.Option("--accept-licence", help="You have read its licence and accept it: do not ask.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Install a model that others have published, once its licence is accepted."""
    with guarded(as_json):
        entry, root = public_bundles.find(name), library.user_folder()
        public_bundles.check_free(entry, root)
        sources = public_bundles.located(entry, given) if given else None
        if not accept_licence:
            _ask(entry, as_json)
        downloads = root / ".downloads" / name
        if sources is None:
            with _bar(as_json) as bar:
                task = bar.add_task(f"Downloading {name}", total=None)
                sources = public_bundles.downloaded(
                    entry, downloads, lambda done, size: bar.update(task, completed=done, total=size or None)
                )
        bundle = public_bundles.install(entry, sources, root)
        shutil.rmtree(downloads, ignore_errors=True)
        emit({"result": str(bundle.folder)}, str(bundle.folder), as_json)


def _ask(entry: public_bundles.PublicBundle, as_json: bool) -> None:
    """Show the licence and ask.

    Raises:
        BadInput: nobody accepts it.
    """
    data = entry.metadata
    if as_json:
        raise BadInput(f"{data.title} has its own licence ({entry.licence.url}); read it, then add --accept-licence.")
    typer.echo(f"{data.title}, {entry.megabytes:.0f} MB, {entry.page}", err=True)
    typer.echo(f"Licence: {data.license}, {entry.licence.url}\n{entry.licence.terms}", err=True)
    if unsigned := [file.names[0] for file in entry.files.values() if not file.md5]:
        typer.echo(f"Its publisher states no checksum of {', '.join(unsigned)}: only the address vouches.", err=True)
    try:
        accepted = typer.confirm("Do you accept this licence?", err=True)
    except typer.Abort:
        accepted = False
    if not accepted:
        raise BadInput("The licence was not accepted; nothing was installed.")


def _bar(as_json: bool) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    return Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True, disable=as_json)


def info(
    labels: Annotated[bool, typer.Option("--labels", help="List the label table instead.")] = False,
    as_json: Json = False,
) -> None:
    """Show versions, devices with their memory, and the installed models; or the label table."""
    with guarded(as_json):
        if labels:
            _label_table(as_json)
            return
        from BrainGenLib import devices

        machine: dict[str, Any] = {
            "braingen": __version__,
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "monai", "SimpleITK")},
            "platform": platform.platform(),
            "devices": [vars(device) for device in devices.available()],
            "bundles": {name: str(bundle.folder) for name, bundle in library.available().items()},
        }
        if as_json:
            emit(machine, "", as_json)
            return
        table = Table(show_header=False)
        for name, value in machine.items():
            if name == "devices":
                for device in value:
                    free = f"{device['title']}, {device['free']:.1f} of {device['total']:.1f} GB free"
                    table.add_row(f"device {device['name']}", escape(free))
            elif name == "bundles":
                for bundle, folder in value.items():
                    table.add_row(escape(plain(f"bundle {bundle}")), escape(plain(folder)))
            else:
                table.add_row(name, escape(value))
        Console().print(table)


def _label_table(as_json: bool) -> None:
    # numpy comes with the table; the other commands need not wait for it.
    from BrainGenLib import anatomy

    table = Table("value", "name", "tissue", "condition", "SNOMED CT")
    for label in anatomy.labels():
        if as_json:
            emit(vars(label), "", as_json)
        table.add_row(str(label.value), label.name, label.tissue, label.condition, label.sct_code)
    if not as_json:
        Console().print(table)
