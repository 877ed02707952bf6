"""Encoded images to train the diffusion on: scans, varied, and painted ones, written once in pieces."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from BrainGenLib.methods.brain_ldm import told
from BrainGenLib.networks.image_autoencoder import STRIDE
from BrainGenLib.training import image_autoencoder
from BrainGenLib.training.image_material import ImageMaterial, Picture, augmented, loads, tensor_of
from BrainGenLib.training.sources import CONTRASTS

# Varied copies of every scan, and at least how many of all scans of a contrast; painted images.
COPIES = {"gpu": 8, "cpu": 2}
SCANS = {"gpu": 400, "cpu": 90}
PAINTED = {"gpu": 3000, "cpu": 800}
ENCODERS = {"gpu": 10, "cpu": 1}
"""Processes that vary, paint and encode: most of that is work for a CPU."""
PIECE = 50


@dataclass
class Latents:
    """Encoded images: ``z`` (n, C, …) float16, number of the contrast, conditions and which are known (n, K), whether
    painted, share of brain in each cell (n, …) float16."""

    z: np.ndarray
    contrast: np.ndarray
    conditions: np.ndarray
    known: np.ndarray
    painted: np.ndarray
    brain: np.ndarray


class Encoder:
    """Scans of the training split, and the autoencoder that encodes pictures.

    Args:
        cache: of ``braingen prepare``.
        run: of the autoencoder.
        where: device.
    """

    def __init__(self, cache: Path, run: Path, where: torch.device) -> None:
        self.source = (cache, run, where)
        self.material = ImageMaterial(cache)
        self.coder = image_autoencoder.trained(run).to(where)

    def write(self, path: Path, wanted: Sequence[tuple[str, int]]) -> None:
        """Latents of pictures, by contrast or ``painted`` and number, to a file."""
        by_contrast = image_autoencoder.contrasts(self.material.scans)
        where = self.source[2]
        pictures = []
        for name, number in wanted:
            if name == "painted":
                pictures.append(self.material.painted(10**6 + number, where))
            else:
                scans, rng = by_contrast[name], np.random.default_rng(number)
                generator = torch.Generator().manual_seed(number)
                pictures.append(augmented(scans[number % len(scans)], rng, generator, where))
        temporary = path.with_suffix(".part.npz")
        np.savez(temporary, **vars(self.rows(pictures)))
        temporary.rename(path)
        print(path.name, flush=True)

    @torch.no_grad()
    def rows(self, pictures: Sequence[Picture]) -> Latents:
        """Pictures, encoded."""
        found: dict[str, list[Any]] = {field.name: [] for field in fields(Latents)}
        for picture in pictures:
            image = tensor_of([picture]).to(self.source[2])
            brain = torch.nn.functional.avg_pool3d((image > 0).float(), STRIDE)[0, 0]
            values, known = told(
                {**loads(picture.conditions, self.material.bank.maximum), "painted": float(picture.painted)}
            )
            found["z"].append(self.coder.encode(image)[0].cpu().numpy().astype(np.float16))
            found["contrast"].append(np.int64(CONTRASTS.index(picture.contrast)))
            found["conditions"].append(values)
            found["known"].append(known)
            found["painted"].append(picture.painted)
            found["brain"].append(brain.cpu().numpy().astype(np.float16))
        return Latents(**{name: np.stack(values) for name, values in found.items()})


_encoder: Encoder


def _start(*source: Any) -> None:
    global _encoder
    torch.set_num_threads(1)
    _encoder = Encoder(*source)


def _write(path: Path, wanted: Sequence[tuple[str, int]]) -> None:
    _encoder.write(path, wanted)


def encode_all(encoder: Encoder, out: Path, size: str) -> Latents:
    """Latents of varied scans and of painted images, written in pieces to ``out``; those that exist are kept."""
    out.mkdir(parents=True, exist_ok=True)
    by_contrast = image_autoencoder.contrasts(encoder.material.scans)
    numbered = [
        (name, number)
        for name in by_contrast
        for number in range(max(SCANS[size], COPIES[size] * len(by_contrast[name])))
    ]
    numbered += [("painted", number) for number in range(PAINTED[size])]
    pieces = {out / f"latents-{i:05d}.npz": numbered[i : i + PIECE] for i in range(0, len(numbered), PIECE)}
    missing = {path: wanted for path, wanted in pieces.items() if not path.is_file()}
    if ENCODERS[size] == 1:
        for path, wanted in missing.items():
            encoder.write(path, wanted)
    elif missing:
        context = get_context("spawn")
        with ProcessPoolExecutor(ENCODERS[size], context, _start, encoder.source) as pool:
            list(pool.map(_write, missing.keys(), missing.values()))
    return read_latents(out)


def read_latents(folder: Path) -> Latents:
    """What :func:`encode_all` wrote."""
    pieces = [np.load(path) for path in sorted(folder.glob("latents-?????.npz"))]
    return Latents(*(np.concatenate([piece[field.name] for piece in pieces]) for field in fields(Latents)))


def part(latents: Latents, rows: np.ndarray) -> Latents:
    """Some of them."""
    return Latents(*(getattr(latents, field.name)[rows] for field in fields(Latents)))
