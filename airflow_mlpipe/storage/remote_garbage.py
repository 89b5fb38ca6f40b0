"""The places of attempts in remote datastores: listed, measured by the store's own clock, and removed.

Knows nothing of why. Several are asked for at once: each takes a few requests, and each request its time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from airflow_mlpipe.errors import MlpipeError, UnreachableError
from airflow_mlpipe.storage.garbage import PLACES

if TYPE_CHECKING:
    from airflow_mlpipe.storage.listing import Usage
    from airflow_mlpipe.storage.remote import RemoteStore

Given = TypeVar("Given")
Result = TypeVar("Result")

_AT_ONCE = 8
_SECOND_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class RemotePlace:
    """What an attempt wrote to a remote datastore.

    Attributes:
        name: the step run's id.
        path: the folder, in the datastore.
        store: the datastore.
        clock_ns: the time by its clock, from before anything was measured.
        usage: what lies there, once it is measured.
    """

    name: str
    path: str
    store: RemoteStore
    clock_ns: int
    usage: Usage | None = None

    @property
    def datastore(self) -> str:
        """Name of the datastore."""
        return self.store.name

    @property
    def size_bytes(self) -> int:
        """Sum of the sizes of its files; 0 before it is measured."""
        return 0 if self.usage is None else self.usage.size_bytes

    def is_younger(self, grace_ns: int) -> bool:
        """Whether something was written there later than `grace_ns` ago, to the second, or nobody can tell."""
        if self.usage is None or self.usage.written_ns is None:
            return True
        return self.usage.written_ns // _SECOND_NS * _SECOND_NS > self.clock_ns - grace_ns


def list_places(stores: Sequence[RemoteStore]) -> tuple[list[RemotePlace], dict[str, str]]:
    """Return the places in all stores, not measured, and by name why nothing is known of a store."""
    found: list[RemotePlace] = []
    away: dict[str, str] = {}
    for store, places in zip(stores, _each(_places, stores), strict=True):
        if isinstance(places, MlpipeError):
            away[store.name] = places.message
        else:
            found += places
    return found, away


def measure(places: Sequence[RemotePlace]) -> tuple[list[RemotePlace], dict[str, str]]:
    """Return the places with their sizes and ages, and by name why nothing more is known of a store.

    Of such a store no place is returned. Those that are gone meanwhile are left out.
    """
    measured = list(_each(lambda place: place.store.usage(place.path), places))
    away: dict[str, str] = {}
    for place, usage in zip(places, measured, strict=True):
        if isinstance(usage, MlpipeError):
            away.setdefault(place.datastore, usage.message)
    whole = [
        replace(place, usage=usage)
        for place, usage in zip(places, measured, strict=True)
        if not isinstance(usage, MlpipeError) and usage.files and place.datastore not in away
    ]
    return whole, away


def remove_places(places: Sequence[RemotePlace]) -> list[str | None]:
    """Remove places; return for each why it is not gone, or None. A store that goes away is asked no further."""
    away: dict[str, UnreachableError] = {}

    def remove(place: RemotePlace) -> None:
        if place.datastore in away:
            raise away[place.datastore]
        try:
            place.store.remove_tree(place.path)
        except UnreachableError as error:
            away[place.datastore] = error
            raise

    return [done.message if isinstance(done, MlpipeError) else None for done in _each(remove, places)]


def _places(store: RemoteStore) -> list[RemotePlace]:
    # Asked for first: what is written from now on is younger.
    clock_ns = store.clock_ns()
    return [
        RemotePlace(name, f"{folder}/{name}", store, clock_ns)
        for folder in PLACES
        for name in store.list_folder(folder)[0]
    ]


def _each(work: Callable[[Given], Result], given: Iterable[Given]) -> Iterable[Result | MlpipeError]:
    """Do `work` for each, several at once; an error of ours is an answer."""

    def one(item: Given) -> Result | MlpipeError:
        try:
            return work(item)
        except MlpipeError as error:
            return error

    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="mlpipe-gc") as pool:
        return list(pool.map(one, given))
