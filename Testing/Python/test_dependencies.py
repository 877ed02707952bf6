"""What a server is installed with can be installed again as it was tested."""

import importlib.metadata
import os
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

# Of Python since 3.11.
tomllib = pytest.importorskip("tomllib")
ROOT = Path(__file__).parents[2]
SET = ROOT / "constraints" / "serve.txt"
# Parts of builds of torch for graphics cards.
CARD = ("nvidia-", "cuda-", "triton")


def pins():
    lines = [line for line in SET.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    return {canonicalize_name(name): Version(version) for name, version in (line.split("==") for line in lines)}


def asked_for():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [Requirement(line) for line in project["dependencies"] + project["optional-dependencies"]["serve"]]


def installed(requirements, seen):
    """Names of what is installed for requirements, theirs included."""
    for requirement in requirements:
        name = canonicalize_name(requirement.name)
        extras = requirement.extras or {""}
        if (name, *extras) in seen or name.startswith(CARD):
            continue
        seen.add((name, *extras))
        found = [Requirement(line) for line in importlib.metadata.requires(name) or []]
        needed = [
            one
            for one in found
            if one.marker is None or any(one.marker.evaluate({"extra": extra}) for extra in extras)
        ]
        installed(needed, seen)
    return {name for name, *_ in seen}


def test_the_tested_set_fits_what_the_project_asks_for():
    versions = pins()
    for requirement in asked_for():
        assert requirement.specifier.contains(versions[canonicalize_name(requirement.name)]), requirement


def test_the_tested_set_is_whole():
    assert installed(asked_for(), set()) <= pins().keys()


def test_tests_run_with_the_tested_set():
    assert "constraints/serve.txt" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    if Path(os.environ.get("PIP_CONSTRAINT", "")).name == SET.name:
        here = {name: Version(Version(importlib.metadata.version(name)).public) for name in pins()}
        assert here == pins()
