"""What a workspace holds by name: read-only dictionaries that say how to make what is missing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeVar

from airflow_mlpipe.errors import ConfigError

T = TypeVar("T")

SHOWN = 10
"""How many of the existing names an error lists."""


class UnknownNameError(ConfigError, KeyError):
    """A workspace has nothing of that kind and name.

    It is a :class:`KeyError` too, so that ``in`` and ``get`` of the workspace's dictionaries work as in v1.
    """

    def __str__(self) -> str:
        return self.message


class NamedView(Mapping[str, T]):
    """A dictionary of what is registered in a workspace now; every access asks the catalog."""

    def __init__(self, names: Callable[[], Iterable[str]], get: Callable[[str], T]) -> None:
        """Show what these two find.

        Args:
            names: lists the names.
            get: returns the object of a name, or raises UnknownNameError.
        """
        self._names = names
        self._get = get

    def __getitem__(self, name: str) -> T:
        return self._get(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names())

    def __len__(self) -> int:
        return len(list(self._names()))

    def __contains__(self, name: object) -> bool:
        return any(name == known for known in self._names())

    def __repr__(self) -> str:
        return repr(dict(self))


def listed(names: Iterable[str]) -> str:
    """Return `names` for an error's text: the first ten, or ``none``."""
    known = sorted(names)
    more = f" and {len(known) - SHOWN} more" if len(known) > SHOWN else ""
    return (", ".join(f"'{name}'" for name in known[:SHOWN]) or "none yet") + more
