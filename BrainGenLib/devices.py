"""Which device computes, and what there is."""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass

import psutil
import torch

from BrainGenLib.errors import BadInput


@dataclass(frozen=True)
class Device:
    """A device that requests may name. Memory in GB."""

    name: str
    title: str
    total: float
    free: float


def available() -> list[Device]:
    """All devices, best first: CUDA cards, Apple's GPU, the CPU."""
    found = []
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        found.append(Device(f"cuda:{index}", torch.cuda.get_device_name(index), total / 1e9, free / 1e9))
    memory = psutil.virtual_memory()
    if torch.backends.mps.is_available():
        found.append(Device("mps", "Apple GPU", memory.total / 1e9, memory.available / 1e9))
    title = f"{torch.get_num_threads()} threads"
    return [*found, Device("cpu", title, memory.total / 1e9, memory.available / 1e9)]


def pick(name: str = "auto") -> str:
    """The device of that name; ``auto`` is the first CUDA card, else the CPU.

    Raises:
        BadInput: there is no such device; the message lists those there are.
    """
    if name == "auto":
        return "cuda:0" if torch.cuda.is_available() else "cpu"
    names = [device.name for device in available()]
    wanted = "cuda:0" if name == "cuda" else name
    if wanted not in names:
        raise BadInput(f"There is no device {name!r} on this machine; there are: {', '.join(names)} (or auto).")
    return wanted


def trim_memory() -> None:
    """Give freed memory back to the system: glibc keeps what lies below anything that is still used, after an
    anatomy 200 MB."""
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)
