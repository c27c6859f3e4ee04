"""Freed memory that glibc keeps is given back to the system."""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress


def trim_heap() -> None:
    """Give back what was freed: glibc keeps it in holes between blocks that live on, for each thread by itself."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # a C library that has no such function
            ctypes.CDLL(None).malloc_trim(0)
