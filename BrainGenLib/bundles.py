"""Bundles: models as folders that explain themselves, in the layout of the MONAI model zoo.

``<bundle>/configs/metadata.json`` (:class:`Metadata`), ``<bundle>/models/<network>.safetensors`` (fp16, plain or
packed by :mod:`BrainGenLib.packing`), ``<bundle>/docs/README.md`` (model card), ``<bundle>/LICENSE``.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import logging
import os
import re
from collections.abc import Iterator, Mapping
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, Field, StringConstraints

from BrainGenLib import packing
from BrainGenLib.errors import BadInput

if TYPE_CHECKING:
    from torch import Tensor, nn

# Metadata comes from files that a user may have downloaded: only these classes may be asked for, each of the module
# that defines it. Its package, where MONAI offers it too, may stand for the module.
NETWORKS = {
    "AgeJudge": "BrainGenLib.networks.age_judge",
    "Donors": "BrainGenLib.donors",
    "ImageAutoencoder": "BrainGenLib.networks.image_autoencoder",
    "ImageDenoiser": "BrainGenLib.networks.image_diffusion",
    "LabelAutoencoder": "BrainGenLib.networks.label_autoencoder",
    "LabelDenoiser": "BrainGenLib.networks.label_diffusion",
    "LabelUNet": "BrainGenLib.networks.label_unet",
    "SpadeRenderer": "BrainGenLib.networks.spade_renderer",
    "StyleEncoder": "BrainGenLib.networks.style_encoder",
    "TissueDenoiser": "BrainGenLib.networks.soft_tissue",
    "AutoencoderKL": "monai.networks.nets.autoencoderkl",
    "DiffusionModelUNet": "monai.networks.nets.diffusion_model_unet",
    "AutoencoderKlMaisi": "monai.apps.generation.maisi.networks.autoencoderkl_maisi",
    "DiffusionModelUNetMaisi": "monai.apps.generation.maisi.networks.diffusion_model_unet_maisi",
}
# Of all arguments of a network together, of one list, and of a number: more than any network has.
MAX_VALUES = 512
MAX_NUMBER = 100_000

NAME = r"[a-z0-9][a-z0-9._-]*"
"""Of a bundle that a user makes."""
# Arguments that only an NVIDIA card can honour. They change the arithmetic, not the weights.
_CUDA_ONLY = ("use_flash_attention", "norm_float16")

_BLOCK = 2**24  # bytes
_log = logging.getLogger(__name__)


class Condition(BaseModel):
    """A number that a bundle understands; panels build a slider of it."""

    name: str
    label: str
    kind: str = Field(description="pathology or anatomy")
    unit: str
    minimum: float
    maximum: float
    default: float
    marks: list[float] = Field(default=[], description="quartiles of the training data")
    millilitres: float | None = Field(default=None, description="volume in mL that the value 1 stands for")
    locatable: bool = Field(default=False, description="side and lobe can be asked for")
    trained_on: str = ""
    contrasts: list[str] = Field(default=[], description="for which it can be asked, if not for all")

    @property
    def short_unit(self) -> str:
        """The unit without what explains it: ``mL`` of ``mL in template space``."""
        return self.unit.partition(" ")[0]


class Network(BaseModel):
    """How to build one network of a bundle; ``sha256`` is of its weights file."""

    target: str
    args: dict[str, Any] = {}
    sha256: str = ""

    def build(self, device: str = "cpu") -> nn.Module:
        """The network with weights as its class makes them, for a device but not yet on it.

        Raises:
            BadInput: ``target`` is no network of :data:`NETWORKS`, or cannot be built with these arguments.
        """
        name = self.target.rpartition(".")[2]
        module = NETWORKS.get(name, "")
        if self.target not in (f"{module}.{name}", f"{module.rpartition('.')[0]}.{name}"):
            raise BadInput(f"{self.target} is not a network that BrainGen uses.")
        _check_arguments(self.target, self.args)
        plain = {} if device.startswith("cuda") else dict.fromkeys(set(_CUDA_ONLY) & set(self.args), False)
        try:
            return getattr(importlib.import_module(module), name)(**self.args | plain)
        # Their constructors raise whatever they stumble over.
        except Exception as error:
            raise BadInput(f"{name} cannot be built with the arguments of the bundle ({error}).") from error


def _check_arguments(target: str, args: Mapping[str, Any]) -> None:
    """Let numbers, switches and plain words pass, and lists of them."""
    left: list[Any] = list(args.values())
    for _ in range(MAX_VALUES):
        if not left:
            return
        value = left.pop()
        if isinstance(value, list):
            left += value
        # A path or an address is no plain word.
        elif isinstance(value, str) and not re.fullmatch(r"[A-Za-z0-9_]{1,64}", value):
            raise BadInput(f"{target} is given {value[:80]!r}, which is no argument of a network.")
        elif isinstance(value, (int, float)) and not abs(value) <= MAX_NUMBER:
            raise BadInput(f"{target} is given the number {value:.6g}, which is larger than any network.")
        elif not isinstance(value, (str, int, float, type(None))):
            raise BadInput(f"{target} is given a {type(value).__name__}, which is no argument of a network.")
    raise BadInput(f"{target} has more arguments than any network.")


# It names a file.
NetworkName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]


class FineTuning(BaseModel):
    """What a bundle was fine-tuned from, and how.

    Attributes:
        bundle, version, sha256: of the base.
        drift: δ of each channel of the latent, or one of all, in units of the noise's standard deviation.
        scans, subjects: that it has learnt from.
    """

    bundle: str
    version: str
    sha256: str
    scheme: str
    drift: list[float]
    variant: str
    scans: int
    subjects: int
    steps: int


class Metadata(BaseModel):
    """What a bundle says of itself."""

    name: str
    version: str
    title: str
    description: str
    verbs: list[str]
    family: Literal["", "brain-ldm", "latent-diffusion", "rectified-flow"] = Field(
        default="", description="of a model that draws images without labels: what runs it"
    )
    conditions: list[Condition] = []
    contrasts: list[str] = []
    grid: str = "MNI152 RAS"
    networks: dict[NetworkName, Network] = {}
    parameters: dict[str, Any] = Field(default={}, description="numbers that inference needs, e.g. latent statistics")
    donors: int = Field(default=0, description="people whom its cases are mosaics of")
    training_data: str = ""
    limits: list[str] = []
    lesion_dice: dict[str, float] = Field(
        default={}, description="of a segmenter: mean Dice of each pathology on held-out scans"
    )
    license: str = "Apache-2.0"
    attribution: str = ""
    finetuning: FineTuning | None = None


class Bundle:
    """An installed bundle.

    Raises:
        BadInput: the folder's metadata is missing or malformed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            self.metadata = Metadata.model_validate_json((folder / "configs" / "metadata.json").read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise BadInput(f"{folder} is not a readable bundle ({error}).") from error

    @property
    def name(self) -> str:
        return self.metadata.name

    def weights(self, network: str) -> Path:
        """Path of a network's weights."""
        return self.folder / "models" / f"{network}.safetensors"

    @cached_property
    def sha256(self) -> str:
        """Hash over metadata and weights: what provenance records."""
        digest = hashlib.sha256((self.folder / "configs" / "metadata.json").read_bytes())
        for name in sorted(self.metadata.networks):
            digest.update(_unchanged_sha256(self.weights(name)).encode())
        return digest.hexdigest()

    def verify(self) -> None:
        """Check every weights file against its checksum.

        Raises:
            BadInput: a file is missing or differs.
        """
        for name, network in self.metadata.networks.items():
            path = self.weights(name)
            if not path.is_file():
                raise BadInput(f"Bundle {self.name}: {path} is missing; install the bundle again.")
            if network.sha256 and _unchanged_sha256(path) != network.sha256:
                raise BadInput(f"Bundle {self.name}: {path} does not match its checksum; install the bundle again.")

    def load(self, network: str, device: str = "cpu") -> nn.Module:
        """Build a network and load its weights, float32, in eval mode.

        Raises:
            BadInput: it is no network that BrainGen uses, or its weights are missing, damaged or those of another.
        """
        import torch

        from BrainGenLib.networks.unfilled import Unfilled

        described = self.metadata.networks[network]
        # Without memory or arithmetic: how many numbers there may be.
        with Unfilled(), torch.device("meta"):
            wanted = described.build(device).state_dict()
        weights = packing.load(self.weights(network), sum(value.numel() for value in wanted.values()))
        if {key: value.shape for key, value in weights.items()} != {
            key: value.shape for key, value in wanted.items()
        }:
            raise BadInput(
                f"{self.weights(network)} does not hold the weights of {network}; install the bundle again."
            )
        with Unfilled():
            module = described.build(device)
        # Assigned, not copied: donors have hundreds of megabytes.
        module.load_state_dict(
            {key: value.float() if value.is_floating_point() else value for key, value in weights.items()},
            assign=True,
        )
        return module.to(device).eval().requires_grad_(False)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file."""
    return file_digest(path, "sha256")


def _unchanged_sha256(path: Path) -> str:
    """SHA-256 of a file that is read again only if it changed: public weights have gigabytes."""
    state = path.stat()
    return _sha256_of(path, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=256)
def _sha256_of(path: Path, size: int, mtime_ns: int) -> str:
    return file_sha256(path)


def file_digest(path: Path, algorithm: str) -> str:
    """Hexadecimal digest of a file by an algorithm that hashlib knows."""
    digest = hashlib.new(algorithm, usedforsecurity=False)
    for block in _blocks(path):
        digest.update(block)
    return digest.hexdigest()


def _blocks(path: Path) -> Iterator[bytes]:
    # Such files must not be read as a whole.
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            yield block


def user_folder() -> Path:
    """Where bundles go that a user installs."""
    return Path.home() / ".braingen" / "bundles"


def search_path() -> list[Path]:
    """Folders that hold bundles, first wins: ``BRAINGEN_BUNDLES``, the user's, the shipped ones."""
    here = Path(__file__).parent
    folders = [Path(part) for part in os.environ.get("BRAINGEN_BUNDLES", "").split(os.pathsep) if part]
    return [
        *folders,
        user_folder(),
        here.parent / "Resources" / "Bundles",
        here / "_resources" / "Bundles",
    ]


def available() -> dict[str, Bundle]:
    """Installed bundles by name; one that cannot be read is left out, and the log names it."""
    return _available()[0]


def _available() -> tuple[dict[str, Bundle], list[Path]]:
    """Bundles by name, and the folders of those that cannot be read."""
    found: dict[str, Bundle] = {}
    unreadable = []
    for root in search_path():
        for config in sorted(root.glob("*/configs/metadata.json")):
            try:
                bundle = Bundle(config.parent.parent)
            except BadInput as error:
                _log.warning("%s", error)
                unreadable.append(config.parent.parent)
                continue
            found.setdefault(bundle.name, bundle)
    return found, unreadable


def find(name: str) -> Bundle:
    """The bundle of that name.

    Raises:
        BadInput: there is none; the message lists those that exist, and those that cannot be read.
    """
    bundles, unreadable = _available()
    if name not in bundles:
        raise BadInput(
            f"There is no bundle {name!r}; installed are: {', '.join(bundles) or 'none'}."
            + (f" These cannot be read: {', '.join(map(str, unreadable))}." if unreadable else "")
        )
    return bundles[name]


def save(folder: Path, metadata: Metadata, networks: dict[str, nn.Module], card: str, licence: str) -> Bundle:
    """Write a bundle with weights in half precision, packed. Existing networks not named here stay."""
    import torch

    weights = {
        name: packing.pack(
            {
                key: value.detach().cpu().to(torch.float16 if value.is_floating_point() else value.dtype)
                for key, value in network.state_dict().items()
            }
        )
        for name, network in networks.items()
    }
    return write(folder, metadata, weights, card, licence)


def write(
    folder: Path, metadata: Metadata, weights: Mapping[str, Mapping[str, Tensor]], card: str, licence: str
) -> Bundle:
    """Write a bundle: weights per network as they are, checksums, model card."""
    from safetensors.torch import save_file

    for part in ("configs", "models", "docs"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for name, tensors in weights.items():
        path = folder / "models" / f"{name}.safetensors"
        save_file({key: value.contiguous() for key, value in tensors.items()}, path.with_suffix(".part"))
        path.with_suffix(".part").chmod(0o644)  # safetensors writes for the owner alone
        os.replace(path.with_suffix(".part"), path)
        metadata.networks[name].sha256 = file_sha256(path)
    (folder / "docs" / "README.md").write_text(card, "utf-8")
    (folder / "LICENSE").write_text(licence, "utf-8")
    config = folder / "configs" / "metadata.json"
    config.with_suffix(".part").write_text(json.dumps(metadata.model_dump(), indent=2), "utf-8")
    os.replace(config.with_suffix(".part"), config)
    return Bundle(folder)
