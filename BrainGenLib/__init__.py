"""BrainGen: interactive synthesis of brain MRI with segmentations."""

__version__ = "0.1.0"
