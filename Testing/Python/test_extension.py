"""What the extension installs and tells the Extensions Index, compared with what is in the tree."""

import json
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


# Fields that Slicer's schema of an entry (1.0.1) knows; it refuses others.
ENTRY_FIELDS = {
    "$schema",
    "build_dependencies",
    "build_subdirectory",
    "category",
    "enabled",
    "scm_revision",
    "scm_type",
    "scm_url",
    "tier",
}


def listed(file: Path, kind: str = "SCRIPTS|RESOURCES") -> set[str]:
    """Paths that a CMake file lists, relative to its folder."""
    lists = re.findall(rf"set\(\w*(?:{kind})\n(.*?)\)", file.read_text("utf-8"), re.DOTALL)
    return {line.strip() for text in lists for line in text.splitlines() if line.strip()}


def tracked(*folders: str) -> set[str]:
    """Files of the repository, or of the folders where it was unpacked without Git."""
    if (ROOT / ".git").exists():
        found = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard", *folders],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.splitlines()
    else:
        paths = [path for folder in folders for path in (ROOT / folder).rglob("*")]
        found = [path.relative_to(ROOT).as_posix() for path in paths if path.is_file()]
    return {name for name in found if "__pycache__" not in name and (ROOT / name).exists()}


def test_every_file_of_the_library_is_installed():
    wanted = {name for name in tracked("BrainGenLib", "Resources") if not name.startswith("Resources/Screenshots/")}
    assert listed(ROOT / "BrainGenLib.cmake") == wanted


def test_every_file_of_the_module_is_installed():
    inside = {name.removeprefix("BrainGen/") for name in tracked("BrainGen")} - {"CMakeLists.txt"}
    assert listed(ROOT / "BrainGen" / "CMakeLists.txt") == inside


@pytest.mark.parametrize("file", ["BrainGenLib.cmake", "BrainGen/CMakeLists.txt"])
def test_python_files_are_listed_as_scripts_which_are_byte_compiled(file):
    assert {name for name in listed(ROOT / file) if name.endswith(".py")} == listed(ROOT / file, "SCRIPTS")


def test_the_module_folder_is_what_slicer_scans():
    """A loose .py would be taken for a module of its own, an ``__init__.py`` would hide the folder from it."""
    assert [path.name for path in (ROOT / "BrainGen").glob("*.py")] == ["BrainGen.py"]
    assert not (ROOT / "BrainGen" / "__init__.py").exists()


def test_the_entry_of_the_index_agrees_with_the_project():
    entry = json.loads((ROOT / "BrainGen.json").read_text("utf-8"))
    cmake = (ROOT / "CMakeLists.txt").read_text("utf-8")
    assert entry["category"] == "Image Synthesis"
    assert re.search(r"project\((\w+)\)", cmake)[1] == "BrainGen"
    depends = re.search(r'set\(EXTENSION_DEPENDS "(.*)"\)', cmake)[1]
    assert depends.split() == entry["build_dependencies"] == ["PyTorch"]
    assert entry["scm_url"].removesuffix(".git") == re.search(r'set\(EXTENSION_HOMEPAGE "(.*)"\)', cmake)[1]


def test_the_entry_has_the_fields_that_the_index_asks_for():
    entry = json.loads((ROOT / "BrainGen.json").read_text("utf-8"))
    assert {"$schema", "category", "scm_url"} <= set(entry) <= ENTRY_FIELDS
    assert re.search(r"/slicer-extension-catalog-entry-schema-v1\.0\.\d\.json#$", entry["$schema"])
    assert entry["scm_url"].startswith("https://")
    assert entry["scm_type"] == "git"
    assert entry["tier"] in (1, 3, 5)


def test_a_clone_by_the_index_is_below_its_limit():
    """With a revision in the entry the index clones the whole history, which is above 100 MB; without, depth 1.

    Such a clone holds every file twice: in the tree, and compressed in ``.git``.
    """
    assert "scm_revision" not in json.loads((ROOT / "BrainGen.json").read_text("utf-8"))
    folders = ("BrainGen", "BrainGenLib", "Resources", "Testing", "benchmarks", "docs", "findings", "tools")
    sizes = [(ROOT / name).stat().st_size for name in tracked(*folders)]
    assert sum(sizes) < 48e6


def test_the_description_is_two_sentences():
    cmake = (ROOT / "CMakeLists.txt").read_text("utf-8")
    description = re.search(r'set\(EXTENSION_DESCRIPTION "(.*)"\)', cmake)[1]
    assert 1 <= len(re.findall(r"\.(?:\s|$)", description)) <= 2


@pytest.mark.parametrize("name", ["ICONURL", "SCREENSHOTURLS"])
def test_the_pictures_of_the_index_are_in_the_repository(name):
    cmake = (ROOT / "CMakeLists.txt").read_text("utf-8")
    for url in re.search(rf'set\(EXTENSION_{name} "(.*)"\)', cmake)[1].split():
        path = url.partition("/main/")[2]
        assert (ROOT / path).is_file(), url


def test_readme_and_licence_lie_in_the_root():
    assert (ROOT / "README.md").is_file()
    assert (ROOT / "LICENSE").is_file()
