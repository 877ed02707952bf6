"""Files that a browser sent, as checked volumes: NIfTI, NRRD, MGH, and DICOM series, also in a zip archive."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from BrainGenLib import anatomy
from BrainGenLib.errors import BadInput
from BrainGenLib.reading.scans import read_scan
from BrainGenLib.reading.segmentations import read_segmentation
from BrainGenLib.reading.volume import MIN_SLICES, Volume

MAX_BYTES = 1_000_000_000
_MAX_FILES = 10_000
_VOLUMES = (".nii", ".nii.gz", ".nrrd", ".mgh", ".mgz")
_SEGMENTATION = "segmentation"
KINDS = ("scan", _SEGMENTATION)


@dataclass
class Received:
    """A volume for the scene; ``labels`` says that its values are those of the label table."""

    name: str
    data: np.ndarray
    affine: np.ndarray
    labels: bool


def receive(folder: Path, kind: str) -> list[Received]:
    """Read what lies in a folder; it takes seconds, so call it in a thread.

    Args:
        folder: of the files; may be written to.
        kind: one of :data:`KINDS`.

    Raises:
        BadInput: a file cannot be used, or an archive is too large when unpacked.
    """
    for archive in [path for path in sorted(folder.iterdir()) if path.suffix.lower() == ".zip"]:
        _unpack(archive, folder)
    files = sorted(path for path in folder.iterdir() if path.is_file())
    volumes = [path for path in files if path.name.lower().endswith(_VOLUMES)]
    if not volumes and kind == "scan":
        volumes = _series(folder)
    if not volumes:
        raise BadInput(
            "None of the files can be used; choose a NIfTI or NRRD volume, or all files of a DICOM series (or a zip "
            "archive of them)."
        )
    return [_read(path, kind) for path in volumes]


def _read(path: Path, kind: str) -> Received:
    name = path.name.split(".")[0]
    if kind == _SEGMENTATION:
        classes: Volume = read_segmentation(path)
        return Received(name, anatomy.to_values(classes.data), classes.affine, True)
    scan = read_scan(path)
    return Received(name, scan.data, scan.affine, False)


def _unpack(archive: Path, folder: Path) -> None:
    """All files of an archive side by side, so that no name in it leads out of the folder."""
    try:
        with zipfile.ZipFile(archive) as opened:
            members = [member for member in opened.infolist() if not member.is_dir()]
            if len(members) > _MAX_FILES or sum(member.file_size for member in members) > MAX_BYTES:
                raise BadInput(
                    f"{archive.name} holds more than {_MAX_FILES} files or {MAX_BYTES / 1e9:g} GB; send one series."
                )
            for number, member in enumerate(members):
                (folder / f"{number:05d}-{Path(member.filename).name}").write_bytes(opened.read(member))
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:
        raise BadInput(f"{archive.name} is no readable zip archive ({error}).") from error
    archive.unlink()


def _series(folder: Path) -> list[Path]:
    """Every DICOM series of several slices as a file that the library's readers check."""
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    written = []
    for number, series in enumerate(sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder)) or ()):
        names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), series)
        if len(names) < MIN_SLICES:
            continue
        try:
            image = sitk.ReadImage(names)
        except RuntimeError as error:
            raise BadInput(f"The DICOM series {series} cannot be read: {error}") from error
        path = folder / f"series-{number + 1}.nrrd"
        sitk.WriteImage(image, str(path))
        written.append(path)
    return written
