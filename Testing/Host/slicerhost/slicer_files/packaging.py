"""The part of ``slicer.packaging`` that asks; nothing is ever installed."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import slicer
from packaging.requirements import Requirement


def load_requirements(path: str | Path) -> list[Requirement]:
    """The requirements of a requirements.txt."""
    lines = [line.strip() for line in Path(path).read_text("utf-8").splitlines()]
    return [Requirement(line) for line in lines if line and not line.startswith(("#", "-"))]


def pip_check(requirements: str | Requirement | list[str | Requirement]) -> bool:
    """Whether all of them are installed."""
    return not _missing(requirements)


def pip_install(requirements: str | list[str], **_options: object) -> None:
    """Replaced by the host, which keeps what was asked for."""
    raise RuntimeError(f"The host installs nothing, so neither {requirements}.")


def pip_ensure(
    requirements: str | Requirement | list[str | Requirement],
    constraints: str | Path | None = None,
    skip_packages: list[str] | None = None,
    prompt_install: bool = True,
    prompt_restart: bool = True,
    requester: str | None = None,
    skip_in_testing: bool = True,
    show_progress: bool = True,
) -> None:
    """Ask to install what is missing.

    Raises:
        RuntimeError: the user declines.
    """
    missing = [str(item) for item in _missing(requirements) if item.name not in (skip_packages or [])]
    if not missing or (skip_in_testing and slicer.app.testingEnabled()):
        return
    question = f"{requester or 'A module'} needs {', '.join(missing)}. Install?"
    if prompt_install and not slicer.util.confirmOkCancelDisplay(question):
        raise RuntimeError("Installation was declined.")
    pip_install(missing, constraints=constraints, show_progress=show_progress)


def _missing(requirements: str | Requirement | list[str | Requirement]) -> list[Requirement]:
    if isinstance(requirements, (str, Requirement)):
        requirements = [requirements]
    parsed = [Requirement(str(item)) for item in requirements]
    return [item for item in parsed if not (item.marker and not item.marker.evaluate()) and not _installed(item)]


def _installed(requirement: Requirement) -> bool:
    try:
        return requirement.specifier.contains(metadata.version(requirement.name), prereleases=True)
    except metadata.PackageNotFoundError:
        return False
