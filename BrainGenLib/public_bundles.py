"""Models that others have published, as bundles: what is known of each, and how its files become one.

``Resources/PublicBundles/<name>.json`` (:class:`PublicBundle`) holds the whole configuration. Weights are downloaded
or given, checked, renamed to the keys of the installed MONAI, and written once in the layout of
:mod:`BrainGenLib.bundles` with the precision that they have; from then on the bundle is like any other.
"""

from __future__ import annotations

import io
import os
import pickle
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict

from BrainGenLib import bundles
from BrainGenLib.bundles import Bundle, Metadata, Network
from BrainGenLib.downloads import Progress, download
from BrainGenLib.errors import BadInput

if TYPE_CHECKING:
    from torch import Tensor

# Under one of these a training script puts the weights when it saves more than them.
_WRAPPERS = ("state_dict", "model", "unet_state_dict")

# Weights of MONAI Generative Models that its attention blocks declared but never applied.
_UNUSED = ".proj_attn."


class Licence(BaseModel):
    """What a user agrees to; its name is ``license`` of the metadata."""

    model_config = ConfigDict(extra="forbid")

    url: str
    terms: str


class PublicFile(BaseModel):
    """A published file of weights of one network.

    Attributes:
        names: what it is called where people keep it.
        md5: as the publisher states it; empty where none is stated.
        holds: numbers beside the weights that become parameters of the bundle.
        extra_keys: weights that the network does not have are left out, as the publisher's own script does.
    """

    model_config = ConfigDict(extra="forbid")

    url: str
    names: list[str]
    md5: str = ""
    megabytes: float
    holds: list[str] = []
    extra_keys: bool = False


class PublicBundle(BaseModel):
    """A published model: the metadata of the bundle that it becomes, and where its files and licence are."""

    model_config = ConfigDict(extra="forbid")

    metadata: Metadata
    licence: Licence
    page: str
    files: dict[str, PublicFile]

    @property
    def name(self) -> str:
        return self.metadata.name

    @property
    def megabytes(self) -> float:
        return sum(file.megabytes for file in self.files.values())


def available() -> dict[str, PublicBundle]:
    """Public bundles that can be installed, by name."""
    # Not at file scope: it imports numpy, which a list of names does not need.
    from BrainGenLib.spaces import resources

    entries = [
        PublicBundle.model_validate_json(path.read_text("utf-8"))
        for path in sorted(resources("PublicBundles").glob("*.json"))
    ]
    return {entry.name: entry for entry in entries}


def find(name: str) -> PublicBundle:
    """The public bundle of that name.

    Raises:
        BadInput: there is none; the message lists those that exist.
    """
    entries = available()
    if name not in entries:
        raise BadInput(f"There is no public bundle {name!r}; there are: {', '.join(entries)}.")
    return entries[name]


def check_free(entry: PublicBundle, root: Path) -> None:
    """Check that the bundle can be installed in ``root``: it is not there yet, and there is space.

    Raises:
        BadInput: it cannot.
    """
    from BrainGenLib.export.bids import check_space

    if (root / entry.name).exists():
        raise BadInput(f"{entry.name} is installed already; remove {root / entry.name} to install it anew.")
    # The published files and the bundle made of them.
    check_space(root, int(2.1e6 * entry.megabytes))


def located(entry: PublicBundle, given: Iterable[Path]) -> dict[str, Path]:
    """The files of an entry among files and folders that a user names, by network.

    Raises:
        BadInput: a path does not exist, or a file is not among them.
    """
    files: list[Path] = []
    for path in given:
        if not path.exists():
            raise BadInput(f"There is no file {path}.")
        files += sorted(path.rglob("*")) if path.is_dir() else [path]
    found = {}
    for network, file in entry.files.items():
        match = next((path for path in files if path.name in file.names), None)
        if match is None:
            raise BadInput(
                f"The {network} of {entry.name} is not among the given files: it is called "
                f"{' or '.join(file.names)}, and is at {file.url}."
            )
        found[network] = match
    return found


def downloaded(entry: PublicBundle, folder: Path, progress: Progress) -> dict[str, Path]:
    """Fetch the files of an entry into ``folder``, by network; those that are there already are used.

    Raises:
        BadInput: one cannot be fetched, or is not what its publisher states; a wrong one is removed.
    """
    found = {}
    for network, file in entry.files.items():
        path = folder / Path(urlsplit(file.url).path).name
        if not path.exists():
            # The publisher's figure is rounded.
            download(file.url, path, int(1.1e6 * file.megabytes), progress)
        try:
            check_file(path, file)
        except BadInput:
            path.unlink()
            raise
        found[network] = path
    return found


def check_file(path: Path, file: PublicFile) -> None:
    """Check that a file is what was published.

    Raises:
        BadInput: it is a web page, or does not match the publisher's checksum.
    """
    with path.open("rb") as opened:
        start = opened.read(512).lstrip().lower()
    if start.startswith((b"<!doctype", b"<html")):
        raise BadInput(f"{path} is a web page, not weights: the download was answered by a page; open {file.url}.")
    if file.md5 and bundles.file_digest(path, "md5") != file.md5:
        raise BadInput(
            f"{path} does not match the checksum of its publisher: it is damaged or another version. Get it again "
            f"from {file.url}."
        )


def install(entry: PublicBundle, sources: Mapping[str, Path], root: Path) -> Bundle:
    """Make a bundle of published files.

    Args:
        entry: what is published.
        sources: network to file, checked by nobody yet.
        root: folder of bundles; it gets the new one complete or not at all.

    Raises:
        BadInput: the bundle is there already, a file is not what was published, cannot be read safely or lacks
            weights, or the disk is full.
    """
    from safetensors import SafetensorError

    check_free(entry, root)
    metadata = entry.metadata.model_copy(deep=True)
    weights = {}
    for network, path in sources.items():
        check_file(path, entry.files[network])
        weights[network], numbers = read_checkpoint(path, metadata.networks[network], entry.files[network])
        metadata.parameters |= numbers
    licence = f"{metadata.license}\n{entry.licence.url}\n\n{entry.licence.terms}\n"
    try:
        root.mkdir(parents=True, exist_ok=True)
        # One level deeper than bundles are searched for.
        with tempfile.TemporaryDirectory(dir=root, prefix=".installing-") as temporary:
            bundles.write(Path(temporary) / entry.name, metadata, weights, _card(entry), licence)
            os.replace(Path(temporary) / entry.name, root / entry.name)
    except (OSError, SafetensorError) as error:
        raise BadInput(f"{root} cannot be written ({error}); free some space or rights, and try again.") from error
    return Bundle(root / entry.name)


def read_checkpoint(path: Path, network: Network, file: PublicFile) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Weights of a published file under the keys of the installed MONAI, and the numbers that stand beside them.

    Nothing of the file is executed. Precision stays as it is.

    Raises:
        BadInput: the file cannot be read, holds code, or does not hold the weights of the network.
    """
    import torch

    # Without memory or arithmetic. It also imports MONAI, which lets torch read MONAI's own kind of tensor.
    with torch.device("meta"):
        module: Any = network.build()
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise BadInput(
            f"{path} holds more than weights (it is damaged, or would run code when opened) and was not opened. Get "
            f"it from {file.url}."
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError) as error:
        raise BadInput(f"{path} cannot be read as weights of PyTorch; get it again from {file.url}.") from error
    state = checkpoint
    for key in _WRAPPERS:
        if isinstance(checkpoint, Mapping) and isinstance(checkpoint.get(key), Mapping):
            state = checkpoint[key]
            break
    if not isinstance(state, Mapping) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise BadInput(f"{path} holds no weights of a network; get it again from {file.url}.")
    if absent := [name for name in file.holds if name not in checkpoint]:
        raise BadInput(f"{path} does not hold {absent[0]}, which the model needs; get it again from {file.url}.")
    found = _renamed(module, dict(state))
    wanted = module.state_dict()
    problems = {
        "lacks": [key for key in wanted if key not in found],
        "has another shape of": [key for key in wanted if key in found and found[key].shape != wanted[key].shape],
        "also holds": [key for key in found if key not in wanted and not file.extra_keys],
    }
    for problem, keys in problems.items():
        if keys:
            raise BadInput(
                f"{path} does not fit {network.target.rpartition('.')[2]}: it {problem} {keys[0]}"
                f"{f' and {len(keys) - 1} more' if len(keys) > 1 else ''}. Get the published file from {file.url}."
            )
    return {key: found[key] for key in wanted}, {name: float(checkpoint[name]) for name in file.holds}


def _renamed(module: Any, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights under the keys of ``module`` (on the meta device) where they have the keys of MONAI Generative
    Models; what MONAI does not know how to rename keeps its key."""
    if set(module.state_dict()) <= set(state) or not hasattr(module, "load_old_state_dict"):
        return state
    new: dict[str, Tensor] = {}
    # MONAI renames and loads in one go; here it must not load. It takes what it uses out of the dict that it is
    # given, and leaves its own values, here without data, for what the dict does not have.
    module.load_state_dict = lambda renamed, strict=True: new.update(renamed)
    left = dict(state)
    try:
        with redirect_stdout(io.StringIO()):
            module.load_old_state_dict(left)
    except KeyError:
        return state
    unknown = {key: value for key, value in left.items() if _UNUSED not in key}
    return unknown | {key: value for key, value in new.items() if not value.is_meta}


def _card(entry: PublicBundle) -> str:
    data = entry.metadata
    limits = "\n".join(f"- {limit}" for limit in data.limits)
    return (
        f"# {data.title}\n\n{data.description}\n\nPublished at {entry.page}; converted by BrainGen, weights "
        f"unchanged.\n\n## Data\n\n{data.training_data}\n\n## Limits\n\n{limits}\n\n## Licence\n\n"
        f"{data.license}, {entry.licence.url}\n\n{entry.licence.terms}\n\n{data.attribution}\n"
    )
