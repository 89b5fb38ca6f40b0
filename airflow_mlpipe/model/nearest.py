"""The names that somebody may have meant."""

from __future__ import annotations

from collections.abc import Iterable


def nearest(name: str, names: Iterable[str]) -> str:
    """Return ``; did you mean 'x' or 'y'?`` for the names that look like `name`, or an empty text."""
    from difflib import get_close_matches

    close = get_close_matches(name, list(names), n=3, cutoff=0.6)
    folded = [known for known in names if known.casefold() == name.casefold() and known not in close]
    found = [f"'{known}'" for known in (*folded, *close)][:3]
    return f"; did you mean {' or '.join(found)}?" if found else ""
