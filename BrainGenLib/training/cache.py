"""The training cache: what ``braingen prepare`` writes and every recipe reads.

``index.json`` lists the cases; arrays lie in ``piece-NNN.npz`` of at most 60 MB, so that a piece travels anywhere.
Images are uint8 (0 to the 99.5th percentile of the brain = 0..255, 0 outside the brain), labels are class indices of
:mod:`BrainGenLib.anatomy` (uint8, lesions merged in). Classes from 64 on are extra-cerebral tissue of whole-head
label maps: material for image synthesis, background for every target.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

PIECE_BYTES = 60_000_000


@dataclass
class CachedCase:
    """One subject (or one lesion mask) of the cache.

    Attributes:
        space: ``template`` (on GRID_1MM or GRID_2MM, see ``spacing``), ``head`` (whole-head label map, 1 mm RAS,
            own extent) or ``lesion`` (a lesion mask alone, template space, 2 mm).
        images: contrast name to the voxel size in mm (R, A, S) that the scan had before resampling.
    """

    id: str
    dataset: str
    split: str
    space: str
    spacing: int
    piece: str = ""
    has_labels: bool = False
    images: dict[str, tuple[float, float, float]] = field(default_factory=dict)
    pathologies: list[str] = field(default_factory=list)
    age: float | None = None
    sex: str | None = None
    licence: str = ""
    quality: dict[str, float] = field(default_factory=dict)


class CacheWriter:
    """Collects cases and writes a piece whenever the next case would make it too large."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cases: list[CachedCase] = []
        self._arrays: dict[str, np.ndarray] = {}
        self._pending: list[CachedCase] = []
        self._bytes = 0
        self._pieces = 0
        folder.mkdir(parents=True, exist_ok=True)

    def add(self, case: CachedCase, labels: np.ndarray | None, images: dict[str, np.ndarray]) -> None:
        """Add a case with its class map (uint8) and its images (contrast to uint8 volume)."""
        arrays = {f"{case.id}/{contrast}": volume for contrast, volume in images.items()}
        if labels is not None:
            arrays[f"{case.id}/labels"] = labels
            case.has_labels = True
        # Compressed size is not known beforehand; foreground voxels bound it closely enough for these maps.
        size = sum(int(np.count_nonzero(a)) for a in arrays.values())
        if self._bytes and self._bytes + size > PIECE_BYTES:
            self._flush()
        self._arrays.update(arrays)
        self._pending.append(case)
        self._bytes += size

    def _flush(self) -> None:
        name = f"piece-{self._pieces:03d}.npz"
        # Renamed when whole, so that a process that reads an older cache here never meets half a file.
        with (self.folder / f"{name}.part").open("wb") as file:
            np.savez_compressed(file, **self._arrays)  # type: ignore[arg-type]
        (self.folder / f"{name}.part").rename(self.folder / name)
        for case in self._pending:
            case.piece = name
        self.cases += self._pending
        self._arrays, self._pending, self._bytes = {}, [], 0
        self._pieces += 1

    def close(self) -> None:
        """Write the last piece and the index; the index comes last, so a folder with an index is whole."""
        if self._pending:
            self._flush()
        temporary = self.folder / "index.json.part"
        temporary.write_text(
            json.dumps({"version": 1, "cases": [asdict(case) for case in self.cases]}, indent=1), "utf-8"
        )
        temporary.rename(self.folder / "index.json")


class Cache:
    """Read access to a prepared cache; arrays are loaded on first use and kept.

    Raises:
        FileNotFoundError: the folder holds no finished cache.
    """

    def __init__(self, folder: Path) -> None:
        index = folder / "index.json"
        if not index.is_file():
            raise FileNotFoundError(
                f"{folder} holds no training cache; make one with `braingen prepare BIDS_DIR {folder}`."
            )
        self.folder = folder
        self.cases = [CachedCase(**case) for case in json.loads(index.read_text(encoding="utf-8"))["cases"]]
        self._arrays: dict[str, np.ndarray] = {}

    def select(
        self,
        *,
        split: str | None = None,
        space: str | None = None,
        contrast: str | None = None,
        labelled: bool | None = None,
        pathology: str | None = None,
        spacing: int | None = None,
    ) -> list[CachedCase]:
        """Cases that match every given field."""
        return [
            case
            for case in self.cases
            if (split is None or case.split == split)
            and (space is None or case.space == space)
            and (contrast is None or contrast in case.images)
            and (labelled is None or case.has_labels == labelled)
            and (pathology is None or pathology in case.pathologies)
            and (spacing is None or case.spacing == spacing)
        ]

    def labels(self, case: CachedCase) -> np.ndarray:
        """Class map of a case, uint8 (R, A, S)."""
        return self._array(case, "labels")

    def image(self, case: CachedCase, contrast: str) -> np.ndarray:
        """Image of a case, uint8 (R, A, S)."""
        return self._array(case, contrast)

    def forget(self, case: CachedCase) -> None:
        """Keep the arrays of a case no longer."""
        self._arrays = {key: array for key, array in self._arrays.items() if not key.startswith(f"{case.id}/")}

    def _array(self, case: CachedCase, name: str) -> np.ndarray:
        key = f"{case.id}/{name}"
        if key not in self._arrays:
            # Opened anew: workers that a process forks would share the place in an open file.
            with np.load(self.folder / case.piece) as piece:
                self._arrays[key] = piece[key]
        return self._arrays[key]
