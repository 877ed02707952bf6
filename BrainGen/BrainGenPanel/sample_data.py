"""Samples for trying the module, in Slicer's Sample Data: made by BrainGen, so nobody was scanned."""

from pathlib import Path

from slicer.i18n import tr as _

FOLDER = Path(__file__).parents[1] / "Resources" / "SampleData"
# One case with white matter hyperintensities: file, name, how Slicer loads it, SHA-256.
SAMPLES = (
    (
        "BrainGenSample_T1w.nii.gz",
        "BrainGenSample T1w",
        "VolumeFile",
        "3a02108c253bb41d844649f677cefac4eb256748b0d3402f9539594dcf4b61c8",
    ),
    (
        "BrainGenSample_FLAIR.nii.gz",
        "BrainGenSample FLAIR",
        "VolumeFile",
        "f95e59835518f8ed1aeba717510b2d33862c30d7d3618f009588b2928f632293",
    ),
    (
        "BrainGenSample_segmentation.seg.nrrd",
        "BrainGenSample segmentation",
        "SegmentationFile",
        "5148117a0be95e0e9e1363eaca3de83f466a76d88df385924f4e4869a6f82d65",
    ),
)


def register() -> None:
    """Add the samples to the module Sample Data."""
    from SampleData import SampleDataLogic

    if hasattr(SampleDataLogic, "registerCustomSampleDataCategory"):  # not before Slicer 5.11
        SampleDataLogic.registerCustomSampleDataCategory("BrainGen", title=_("BrainGen"))
    for file, name, kind, checksum in SAMPLES:
        SampleDataLogic.registerCustomSampleDataSource(
            category="BrainGen",
            sampleName=name,
            thumbnailFileName=str(FOLDER / "BrainGenSample.png"),
            uris=(FOLDER / file).as_uri(),
            fileNames=file,
            nodeNames=name,
            loadFileTypes=kind,
            checksums=f"SHA256:{checksum}",
        )
