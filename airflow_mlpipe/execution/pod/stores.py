"""The datastores of a step, opened inside of its pod."""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import cached_property
from typing import Any

from airflow_mlpipe.errors import ConfigError
from airflow_mlpipe.execution.pod.order import OrderPlace, PodOrder, PodStore, by_name
from airflow_mlpipe.model.data import is_web
from airflow_mlpipe.storage.credentials import resolve
from airflow_mlpipe.storage.datastore import AnyStore, documents_of, open_any
from airflow_mlpipe.storage.documents import DefaultDocuments, Documents
from airflow_mlpipe.storage.urls import is_folder


class PodStores:
    """Opens datastores with what the pod's environment knows: the target's secret, or the pod's own identity."""

    def __init__(self, stores: Iterable[PodStore], defaults: tuple[str, ...] = ()) -> None:
        """Know `stores`; `defaults` name the default datastore and those that were it before."""
        self._known = by_name(tuple(stores))
        self._defaults = defaults
        self._opened: dict[str, AnyStore] = {}

    @classmethod
    def of(cls, order: PodOrder) -> PodStores:
        """Return the datastores of an order."""
        return cls(order.stores, order.defaults)

    def __call__(self, name: str) -> AnyStore:
        """Return a datastore.

        Raises:
            ConfigError: if the order does not name it, or what it needs is missing.
        """
        if name not in self._opened:
            store = PodStore(name=name, url=name) if is_web(name) else self._of(name)
            self._opened[name] = open_any(store.name, store.url, self._options(store))
        return self._opened[name]

    def credentials(self, name: str) -> dict[str, Any]:
        """Return the options of a datastore elsewhere with its secrets; nothing of a folder, or of the web.

        Errors are those of opening it.
        """
        if is_web(name) or is_folder(self._of(name).url):
            return {}
        return resolve(name, self._of(name).url, self._options(self._of(name)), None)

    @cached_property
    def documents(self) -> Documents:
        """The default datastore, and behind it those that were it before."""
        first, *former = self._defaults
        return DefaultDocuments(documents_of(self(first)), lambda: [documents_of(self(name)) for name in former])

    def _of(self, name: str) -> PodStore:
        if name not in self._known:
            raise ConfigError(f"the pod's order does not name datastore '{name}', which its step needs")
        return self._known[name]

    def _options(self, store: PodStore) -> dict[str, Any]:
        """Return the options of a store: a connection counts where the pod has it."""
        variable = f"AIRFLOW_CONN_{str(store.options.get('conn_id', '')).upper()}"
        return {name: value for name, value in store.options.items() if name != "conn_id" or variable in os.environ}


def documents_at(place: OrderPlace) -> Documents:
    """Return the datastore with the order. What it says is not answered from copies."""
    return documents_of(PodStores([place.store])(place.store.name), cached=False)
