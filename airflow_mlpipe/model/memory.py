"""How much the interpreter looks through memory while many objects are made that all stay."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def no_garbage() -> Iterator[None]:
    """Keep the collector from looking through many new objects, all of which live: up to half the time of making them.

    For moments, not for a whole program: cycles made meanwhile stay until it is over.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
