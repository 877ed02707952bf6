"""A guard against PySide6 6.12 on Python before 3.12."""

from __future__ import annotations

import ctypes
import sys

_MANY = 1_000_000


def keep_constants_alive() -> None:
    """Hold so many references to None and True that PySide6 cannot use them up; to be called now and then.

    It gives back one of True with every emit and one of None with every slot call without having taken it; at zero
    Python ends with a fatal error. Since 3.12 Python no longer counts them.
    """
    if sys.version_info >= (3, 12):
        return
    for constant in (None, True, False):
        if sys.getrefcount(constant) < _MANY:
            # Never freed, also not when Python ends.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object([constant] * _MANY))
