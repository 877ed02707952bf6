"""Networks whose weights come from a file are built without filling them first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

_FILLING = {torch.Tensor.normal_, torch.Tensor.uniform_}
"""Called by those functions of ``torch.nn.init`` that no mode can catch."""


class Unfilled(TorchFunctionMode):
    """Within it ``torch.nn.init`` leaves tensors as they are.

    Filling takes time, and on the meta device, where there is nothing to fill, random numbers import the compiler
    of PyTorch: two CPU-seconds and 66 MB of a process that generates one case.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _FILLING or getattr(func, "__module__", None) == torch.nn.init.__name__:
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        return func(*args, **kwargs)
