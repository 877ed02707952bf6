"""Files that a browser sent, as checked volumes: NIfTI, NRRD, MGH, and DICOM series, also in a zip archive."""

from __future__ import annotations

import gzip
import shutil
import struct
import tempfile
import zipfile
import zlib
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from BrainGenLib import anatomy
from BrainGenLib.case import MARK
from BrainGenLib.errors import BadInput
from BrainGenLib.reading import dicom
from BrainGenLib.reading.scans import read_scan
from BrainGenLib.reading.segmentations import possible_lesions, read_segmentation
from BrainGenLib.service import volumes

MAX_BYTES = 1_000_000_000
"""Of all files together, of what archives hold, and of all volumes in memory."""
_MAX_FILES = 10_000
_MAX_NAME = 100
_VOLUMES = (*volumes.ENDINGS, ".mgh", ".mgz")
_SEGMENTATION = "segmentation"
KINDS = ("scan", _SEGMENTATION)


@dataclass
class Received:
    """A volume for the scene.

    Attributes:
        name: of the user's file.
        data: (i, j, k) grey values; of a segmentation, values of the label table.
        affine: 4×4 voxel to world, RAS+ mm.
        labels: whether it is a segmentation.
        synthetic: whether BrainGen made it, as name or header of the file say.
    """

    name: str
    data: np.ndarray
    affine: np.ndarray
    labels: bool
    synthetic: bool = False


@dataclass
class Unnamed:
    """A mask, or a tumour map of BraTS, which does not say of which lesion it is.

    Attributes:
        name: of the user's file.
        path: of the file, which is read again when that is known.
        lesions: pathologies that it may be of.
    """

    name: str
    path: Path
    lesions: list[str]

    def named(self, lesion: str) -> Received:
        """The segmentation, once it is known which lesion it shows; it takes seconds, so call it in a thread.

        Raises:
            BadInput: it cannot be of that lesion.
        """
        classes = read_segmentation(self.path, lesion)
        return Received(self.name, anatomy.to_values(classes.data), classes.affine, True)


def plain_name(name: str) -> str:
    """The last part of a name that a browser or an archive gave, as any file system takes it."""
    name = "".join(filter(str.isprintable, Path(name.replace("\\", "/")).name))
    # File systems count bytes, and scenes write files whose names are longer.
    name = name.encode()[-_MAX_NAME:].decode(errors="ignore")
    return name if name.strip(". ") else "file"


def receive(folder: Path, kind: str) -> list[Received | Unnamed]:
    """Read what lies in a folder and those below; it takes seconds, so call it in a thread.

    Args:
        folder: of the files; may be written to.
        kind: one of :data:`KINDS`.

    Raises:
        BadInput: a file cannot be used, or they are too large when unpacked.
    """
    for archive in [path for path in _files(folder) if path.suffix.lower() == ".zip"]:
        _unpack(archive, folder, MAX_BYTES - sum(path.stat().st_size for path in _files(folder)))
    files = _files(folder)
    found = [path for path in files if path.name.lower().endswith(_VOLUMES)]
    if not found and kind == "scan":
        found = _series(files, folder)
    if not found:
        raise BadInput(
            "None of the files can be used; choose a NIfTI or NRRD volume, or all files of a DICOM series (or a zip "
            "archive of them)."
        )
    received: list[Received | Unnamed] = []
    for path in found:
        _check(path)
        received.append(_read(path, kind))
        if sum(item.data.nbytes for item in received if isinstance(item, Received)) > MAX_BYTES:
            raise BadInput(f"The volumes take more than {MAX_BYTES / 1e9:g} GB in memory together; send fewer.")
    return received


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _check(path: Path) -> None:
    """Let a file pass that fits into memory and names no other; the reader checks the rest."""
    if path.name.lower().endswith(volumes.ENDINGS):
        volumes.check(path)
        return
    try:
        with (gzip.open if path.name.lower().endswith(".mgz") else open)(path, "rb") as file:
            sizes = struct.unpack(">4i", file.read(20)[4:])
    except (OSError, EOFError, zlib.error, struct.error) as error:
        raise BadInput(f"{path.name} cannot be read: it is no MGH volume, or damaged.") from error
    if min(sizes) < 1 or prod(sizes) * 4 > volumes.MAX_BYTES:
        raise BadInput(f"{path.name} is larger than the {volumes.MAX_BYTES / 2**20:.0f} MB that a volume may take.")


def _read(path: Path, kind: str) -> Received | Unnamed:
    name = path.name.split(".")[0] or kind
    if kind != _SEGMENTATION:
        scan = read_scan(path)
        return Received(name, scan.data, scan.affine, False, _is_synthetic(path))
    try:
        classes = read_segmentation(path)
    except BadInput:
        # What can be read as a lesion once it is named is no bad file.
        if not (lesions := possible_lesions(path)):
            raise
        return Unnamed(name, path, lesions)
    return Received(name, anatomy.to_values(classes.data), classes.affine, True, _is_synthetic(path))


def _is_synthetic(path: Path) -> bool:
    """Whether a file that can be read says that BrainGen made it."""
    if MARK in path.name or not path.name.lower().endswith((".nii", ".nii.gz")):
        return MARK in path.name
    header: Any = nib.load(path).header
    return bytes(header["descrip"]).startswith(MARK.encode())


def _unpack(archive: Path, folder: Path, most: int) -> None:
    """The files of an archive in folders of their own, so that no name in it leads out or meets another.

    Args:
        archive: which goes.
        folder: to put those in.
        most: bytes that the files may have together.
    """
    too_large = f"{archive.name} holds more than {_MAX_FILES} files or {MAX_BYTES / 1e9:g} GB; send one series."
    folder = Path(tempfile.mkdtemp(dir=folder))
    try:
        with zipfile.ZipFile(archive) as opened:
            members = [member for member in opened.infolist() if not member.is_dir()]
            if len(members) > _MAX_FILES or sum(member.file_size for member in members) > most:
                raise BadInput(too_large)
            for number, member in enumerate(members):
                place = folder / f"{number:05d}"
                place.mkdir()
                # No more than its entry says, so no more than all of them say.
                with opened.open(member) as packed, (place / plain_name(member.filename)).open("wb") as file:
                    shutil.copyfileobj(packed, file)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
        raise BadInput(f"{archive.name} is no readable zip archive ({error}).") from error
    archive.unlink()


def _series(files: list[Path], folder: Path) -> list[Path]:
    """Every stack of DICOM slices as a file that the library's readers check."""
    import SimpleITK as sitk

    # Of what is no DICOM, in the terminal of the server.
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    slices, made = (Path(tempfile.mkdtemp(dir=folder)) for _ in range(2))
    for number, path in enumerate(files):
        path.rename(slices / f"{number:05d}")
    written: list[Path] = []
    for stack in dicom.stacks(slices, volumes.MAX_BYTES):
        try:
            image = sitk.ReadImage(stack.files)
        except RuntimeError as error:
            raise BadInput(f"The DICOM series {stack.name} cannot be read: {error}") from error
        # Series may have the same description.
        path = made / str(len(written)) / f"{stack.name}.nrrd"
        path.parent.mkdir()
        sitk.WriteImage(image, str(path))
        written.append(path)
    return written
