"""Amounts as people write them: memory, processors, GPUs."""

from __future__ import annotations

import math
import re

from airflow_mlpipe.errors import ParameterError

GIB = 1 << 30

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(b|[kmgt](?:i?b|i)?)", re.IGNORECASE)
_POWERS = {"b": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def size_bytes(given: object, what: str) -> int:
    """Return an amount of memory in bytes.

    Args:
        given: a text with a unit - ``512m``, ``8g``, ``8Gi``, ``1.5 GB``; every unit is a power of 1024 - or a number,
            which is GiB.
        what: how it is called in an error.

    Raises:
        ParameterError: if it is neither, or not above 0.
    """
    if isinstance(given, (int, float)) and not isinstance(given, bool) and math.isfinite(given) and given > 0:
        return round(given * GIB)
    if isinstance(given, str) and (match := _SIZE.fullmatch(given.strip())):
        found = round(float(match[1]) * 1024.0 ** _POWERS[match[2][0].lower()])
        if found > 0:
            return found
    raise ParameterError(
        f"{what}={given!r} is not allowed; give a text with a unit such as '512m' or '8g', "
        "or a number of GiB such as 8.5"
    )


def processors(given: object, what: str) -> float:
    """Return a number of processors: a number above 0, or a text as Kubernetes has it (``2``, ``500m``).

    Raises:
        ParameterError: if it is neither.
    """
    found = given
    if isinstance(given, str):
        match = re.fullmatch(r"(\d+(?:\.\d+)?)(m?)", given.strip())
        found = None if match is None else float(match[1]) / (1000 if match[2] else 1)
    if isinstance(found, (int, float)) and not isinstance(found, bool) and math.isfinite(found) and found > 0:
        return float(found)
    raise ParameterError(f"{what}={given!r} is not allowed; give a number of processors above 0, such as 2 or 0.5")


def gpu_count(given: object, what: str) -> int:
    """Return a number of GPUs: a whole number from 0, or -1 (or ``all``) for all of a machine.

    Raises:
        ParameterError: if it is neither.
    """
    found: object = given
    if isinstance(given, str):
        text = given.strip().lower()
        found = -1 if text == "all" else int(text) if re.fullmatch(r"\d{1,4}", text) else None
    if isinstance(found, int) and not isinstance(found, bool) and found >= -1:
        return found
    raise ParameterError(f"{what}={given!r} is not allowed; give a whole number from 0, or -1 for all")


def size_text(size: int) -> str:
    """Return bytes for people: ``8 GiB``, ``512 MiB``."""
    for power, unit in ((3, "GiB"), (2, "MiB"), (1, "KiB")):
        if size >= 1024**power:
            return f"{size / 1024**power:.4g} {unit}"
    return f"{size} bytes"
