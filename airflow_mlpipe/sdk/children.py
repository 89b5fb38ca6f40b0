"""The runs below a run, and how they are picked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TypeVar

T = TypeVar("T")


class Children(list[T]):
    """The runs below a run: a list that ``next`` works on too.

    v1 gave an iterator, and its samples say ``next(run.get_children())`` as often as ``list(...)``.
    """

    def __init__(self, runs: Iterable[T] = ()) -> None:
        """Hold `runs`."""
        super().__init__(runs)
        self._rest: Iterator[T] | None = None

    def __next__(self) -> T:
        if self._rest is None:
            self._rest = iter(self)
        return next(self._rest)


def has(have: Mapping[str, str], wanted: str | Mapping[str, object] | None) -> bool:
    """Tell whether tags or properties fit v1's filter: a dict of values, or one name that must be there."""
    if not wanted:
        return True
    if isinstance(wanted, str):
        return wanted in have
    return all(have.get(key) == ("" if value is None else str(value)) for key, value in wanted.items())
