"""Kubernetes' quantities: ``500m``, ``2``, ``64Mi``."""

from __future__ import annotations

import re

from .answer import Refusal

SUFFIXES = {"m": 1e-3, "": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
SUFFIXES |= {"Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40}


def parse(quantity: str | int | float) -> float:
    """Return a quantity in its base unit: cores, bytes, pieces.

    Raises:
        Refusal: if it is none.
    """
    match = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)(Ki|Mi|Gi|Ti|m|k|M|G|T|)", str(quantity))
    if match is None:
        raise Refusal(422, f"quantities must match the regular expression of Kubernetes, not {quantity!r}")
    return float(match[1]) * SUFFIXES[match[2]]
