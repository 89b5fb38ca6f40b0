"""A bucket as a datastore of a small workspace: named ``lake``, behind a proxy that can do harm to it."""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass

import pytest
from fault_proxy import Proxy
from fault_site import Ended, FaultSite

from airflow_mlpipe.catalog.rows import DatastoreRow
from airflow_mlpipe.model.data import OutputSpec
from airflow_mlpipe.model.step import StepSpec
from airflow_mlpipe.sdk.workspace import Workspace
from airflow_mlpipe.storage.datastore import open_store
from airflow_mlpipe.storage.remote import RemoteStore

LAKE = "lake"
WRITE = 'mkdir -p "$1/sub"; cat "$2"/*.txt > "$1/all.txt"; echo deep > "$1/sub/deep.txt"'
FAIL = f"{WRITE}; exit 3"
DEADLINE_S = 2.0
SIZE_BYTES = len("one\ntwo\n") + len("deep\n")

_NUMBERS = itertools.count(1)


@dataclass
class Lake:
    """The datastore.

    Attributes:
        site: its workspace.
        proxy: what the workspace reaches it through.
        store: the same bucket, reached directly.
        opened: the workspace, once somebody has looked at it; kept with its connections.
    """

    site: FaultSite
    proxy: Proxy
    store: RemoteStore
    opened: Workspace | None = None

    @classmethod
    def make(cls, site: FaultSite, proxy: Proxy, environment: pytest.MonkeyPatch) -> Lake:
        """Make a bucket and register it in the workspace."""
        url = f"s3://lake-{os.getpid()}-{next(_NUMBERS)}/team"
        store = open_store(LAKE, url, {"endpoint_url": proxy.upstream, "key": "id", "secret": "s3cr3t"})
        assert isinstance(store, RemoteStore)
        store.create_container()
        environment.setenv("MLPIPE_DATASTORE_LAKE_KEY", "id")
        environment.setenv("MLPIPE_DATASTORE_LAKE_SECRET", "s3cr3t")
        lake = cls(site, proxy, store)
        lake.register(LAKE, url)
        return lake

    def register(self, name: str, url: str) -> None:
        """Register a place behind the proxy."""
        options = {"endpoint_url": self.proxy.url, "deadline_s": DEADLINE_S}
        self.site.catalog.put_datastore(DatastoreRow(name=name, url=url, options=options))
        self.opened = None

    @property
    def workspace(self) -> Workspace:
        """The workspace, for what looks after it as a whole."""
        self.opened = self.opened or Workspace.from_config(self.site.dir / "config.json")
        return self.opened

    def run(self, script: str = WRITE, **fields) -> Ended:
        """Run the step ``make`` whose output lies here."""
        return self.site.run(self.step(script, **fields))

    def step(self, script: str = WRITE, **fields) -> StepSpec:
        """The step ``make`` with its output here."""
        return self.site.make_step(script=script, outputs=(OutputSpec(name="out", datastore=LAKE),), **fields)

    def leave(self, store: RemoteStore | None = None) -> str:
        """Run a step that fails, and leave something in its place as one that died does; return the place."""
        failed = self.run(FAIL)
        place = f"azureml/{failed.steps['make'].step_run_id}"
        for name in ("out/all.txt", "out/sub/deep.txt"):
            (store or self.store).write_bytes(f"{place}/{name}", b"half")
        return place

    def paths(self, ended: Ended | None = None) -> list[str]:
        """What lies here, or in the place of a run's step."""
        below = "azureml" if ended is None else f"azureml/{ended.steps['make'].step_run_id}"
        return [file.path for file in self.store.listing(below)] if self.store.exists(below) else []

    def everything(self) -> dict[str, str | None]:
        """Every object of the datastore with its identity."""
        names = self.store.filesystem()
        base = self.store.url.removeprefix("s3://")
        return {path.removeprefix(f"{base}/"): each["ETag"] for path, each in names.find(base, detail=True).items()}
