"""How a case was made: enough to make it again, and to tell why it differs if it does."""

from __future__ import annotations

import hashlib
import hmac
import platform
import secrets
from collections.abc import Iterator
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from BrainGenLib import __version__
from BrainGenLib.bundles import Bundle, file_sha256
from BrainGenLib.case import Case
from BrainGenLib.requests import Request, inputs_of

_PAUSES = 16


def record(request: Request, bundles: list[Bundle], inputs: Path, device: str, case: Case) -> dict[str, Any]:
    """The provenance of a case.

    ``arrays`` holds the SHA-256 of every volume: a re-run is identical when they are equal, whatever precision an
    export stored.
    """
    # Not at file scope: comparing two records needs no torch.
    import torch

    parts = [frame.case for frame in case.frames] or [case]
    return {
        "synthetic": case.synthetic,
        "skull_stripped": all(one.measurements.get("skull_stripped", True) for one in parts),
        "request": request.model_dump(mode="json"),
        "inputs": {name: fingerprint(inputs / name) for name in inputs_of(request)},
        "bundles": {bundle.name: _identity(bundle) for bundle in bundles},
        "software": {"braingen": __version__, "torch": torch.__version__, "monai": version("monai")},
        "platform": platform.platform(),
        "device": f"{device} ({torch.cuda.get_device_name(device)})" if device.startswith("cuda") else device,
        "threads": torch.get_num_threads(),
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "arrays": hashes(case),
    }


def fingerprint(path: Path, salt: str = "") -> str:
    """``salt:digest`` of a file, by which :func:`is_of` knows it again. With a salt of its own for every case, two
    cases do not tell that they were made from one scan, and no list of checksums tells which it was."""
    salt = salt or secrets.token_hex(16)
    return f"{salt}:{hmac.new(salt.encode(), file_sha256(path).encode(), 'sha256').hexdigest()}"


def is_of(path: Path, told: str) -> bool:
    """Whether a file is the one that a provenance tells of; cases of early versions hold its plain SHA-256."""
    salt = told.rpartition(":")[0]
    return (fingerprint(path, salt) if salt else file_sha256(path)) == told


def of_frame(whole: dict[str, Any], number: int) -> dict[str, Any]:
    """The provenance of a frame of a sweep: that of the sweep, of which it is the frame of that number, from 1."""
    prefix = _prefix(number)
    arrays = {name: digest for name, digest in whole.get("arrays", {}).items() if name.startswith(prefix)}
    return {
        **whole,
        "frame": number,
        "arrays": {name.removeprefix(prefix): digest for name, digest in arrays.items()},
    }


def _prefix(number: int) -> str:
    return f"{number:02d} "


def _identity(bundle: Bundle) -> dict[str, Any]:
    found: dict[str, Any] = {"version": bundle.metadata.version, "sha256": bundle.sha256}
    if base := bundle.metadata.finetuning:
        found["base"] = {"name": base.bundle, "version": base.version, "sha256": base.sha256}
    return found


def hashes(case: Case) -> dict[str, str]:
    """SHA-256 of each image (float32) and of the labels (uint16), by contrast name or ``labels``; of a sweep those of
    its frames, e.g. ``03 T1w``."""
    arrays = {name: volume.astype(np.float32) for name, volume in case.images.items()}
    if case.labels is not None:
        arrays["labels"] = case.labels.astype(np.uint16)
    found = {}
    for name, array in arrays.items():
        *_, found[name] = hashing(array)
    for number, frame in enumerate(case.frames, 1):
        found |= {_prefix(number) + name: digest for name, digest in hashes(frame.case).items()}
    return found


def hashing(array: np.ndarray) -> Iterator[str]:
    """SHA-256 of an array, pausing on the way; the last one is that of the whole."""
    digest = hashlib.sha256()
    for slab in np.array_split(array, _PAUSES):
        digest.update(np.ascontiguousarray(slab).tobytes())
        yield digest.hexdigest()


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """What is not the same between two provenance records of one request, as readable lines; empty when identical."""
    lines = [f"{name} differs" for name, digest in before["arrays"].items() if after["arrays"].get(name) != digest]
    if lines:
        for field in ("bundles", "software", "platform", "device", "threads"):
            if before[field] != after[field]:
                lines.append(f"{field}: then {before[field]}, now {after[field]}")
    return lines
