"""Which objects a query means: label and field selectors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from .answer import Refusal


def matches(query: Mapping[str, str], found: dict[str, Any]) -> bool:
    """Return whether an object is meant by a query's ``labelSelector`` and ``fieldSelector``."""
    labels = found["metadata"].get("labels") or {}
    return _labels(query.get("labelSelector", ""), labels) and _fields(query.get("fieldSelector", ""), found)


def _labels(selector: str, labels: dict[str, str]) -> bool:
    # A comma inside parentheses belongs to a set.
    return all(_label(term.strip(), labels) for term in re.split(r",(?![^()]*\))", selector) if term.strip())


def _label(term: str, labels: dict[str, str]) -> bool:
    if match := re.fullmatch(r"(\S+)\s+(in|notin)\s*\(([^)]*)\)", term):
        values = [value.strip() for value in match[3].split(",")]
        return (labels.get(match[1]) in values) == (match[2] == "in")
    if match := re.fullmatch(r"([^=!\s]+)\s*(!=|==|=)\s*(\S*)", term):
        return (labels.get(match[1]) == match[3]) == (match[2] != "!=")
    if match := re.fullmatch(r"(!?)([^=!\s]+)", term):
        return (match[2] in labels) == (match[1] == "")
    raise Refusal(400, f"unable to parse requirement: {term}")


def _fields(selector: str, found: dict[str, Any]) -> bool:
    for term in filter(None, selector.split(",")):
        match = re.fullmatch(r"([\w.]+)(!=|==|=)(.*)", term)
        if match is None:
            raise Refusal(400, f"unable to parse field selector: {term}")
        value: Any = found
        for name in match[1].split("."):
            value = value.get(name) if isinstance(value, dict) else None
        if (str(value or "") == match[3]) != (match[2] != "!="):
            return False
    return True
