"""Which formats are read, by the ending of a file's name; nothing here is slow to import."""

from __future__ import annotations

from pathlib import Path

from BrainGenLib.errors import BadInput

ENDINGS = (".nii.gz", ".nii", ".nrrd", ".mgz", ".mgh")

_ADVICE = {
    (".img", ".hdr", ".img.gz", ".hdr.gz"): "half of a NIfTI or Analyze pair; convert both to one .nii.gz",
    (".nhdr", ".raw", ".raw.gz"): "half of a NRRD volume in two files; save it as one .nrrd",
    (".mha", ".mhd", ".zraw"): "a MetaImage; save it as .nii.gz or .nrrd",
    (".mnc", ".mnc.gz"): "a MINC volume; convert it to .nii.gz",
    (".head", ".brik", ".brik.gz"): "an AFNI volume; convert it to .nii.gz",
    (".dcm", ".ima"): "a DICOM file; convert its series to .nii.gz",
    (".zip", ".tar", ".tar.gz", ".tgz", ".7z", ".rar"): "an archive; unpack it and choose one volume",
    (".mrb", ".mrml"): "a scene of 3D Slicer; save the volume or segmentation from it",
}


def ending(path: Path) -> str:
    """The ending of a volume's name in small letters, e.g. ``.nii.gz``.

    Raises:
        BadInput: it is of no format that is read; says what to do instead.
    """
    if path.is_dir():
        raise BadInput(
            f"{path} is a folder; give a scan as one file. Convert DICOM first, e.g. dcm2niix -z y -o OUT {path}"
        )
    name = path.name.lower()
    for known in ENDINGS:
        if name.endswith(known):
            return known
    for endings, advice in _ADVICE.items():
        if name.endswith(endings):
            raise BadInput(f"{path.name} is {advice}.")
    if not path.exists():
        raise BadInput(f"There is no file {path}.")
    raise BadInput(
        f"{path.name} cannot be read: its name ends in none of {', '.join(ENDINGS)}. Convert it to NIfTI (.nii.gz)."
    )
