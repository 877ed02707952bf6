"""The largest channel of every voxel, without the wait that PyTorch's argmax over leading channels costs on a CPU."""

from __future__ import annotations

import torch


def largest(scores: torch.Tensor) -> torch.Tensor:
    """Index (int64) of the largest of the channels (C, …), the first of equal ones; no value may be NaN.

    As ``scores.argmax(0)``, which strides through memory voxel by voxel on a CPU and takes more than twice as long.
    """
    if scores.device.type != "cpu":
        return scores.argmax(0)
    best = scores[0].clone()
    index = torch.zeros(best.shape, dtype=torch.int64)
    for channel in range(1, len(scores)):
        index.masked_fill_(scores[channel] > best, channel)
        torch.maximum(best, scores[channel], out=best)
    return index
