"""Samples for trying the module, in Slicer's Sample Data: made by BrainGen, so nobody was scanned."""

from pathlib import Path

from slicer.i18n import tr as _

FOLDER = Path(__file__).parents[1] / "Resources" / "SampleData"
# File, what it is, how Slicer loads it, SHA-256.
SAMPLES = ()


def register() -> None:
    """Add the samples to the module Sample Data."""
    import SampleData

    SampleData.SampleDataLogic.registerCustomSampleDataCategory("BrainGen", title=_("BrainGen"))
    for file, name, kind, checksum in SAMPLES:
        SampleData.SampleDataLogic.registerCustomSampleDataSource(
            category="BrainGen",
            sampleName=name,
            thumbnailFileName=str(FOLDER / "BrainGenSample.png"),
            uris=(FOLDER / file).as_uri(),
            fileNames=file,
            nodeNames=name,
            loadFileTypes=kind,
            checksums=f"SHA256:{checksum}",
        )
