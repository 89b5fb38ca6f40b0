"""The catalog: what happened in a workspace."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_mlpipe.catalog.agreements import AgreementPart
from airflow_mlpipe.catalog.connection import Database
from airflow_mlpipe.catalog.datasets import DatasetPart
from airflow_mlpipe.catalog.leases import LeasePart
from airflow_mlpipe.catalog.models import ModelPart
from airflow_mlpipe.catalog.part import utc_now
from airflow_mlpipe.catalog.publications import PublicationPart
from airflow_mlpipe.catalog.records import RecordPart
from airflow_mlpipe.catalog.results import ResultPart
from airflow_mlpipe.catalog.runs import RunPart
from airflow_mlpipe.catalog.schema import create_schema, update_schema
from airflow_mlpipe.catalog.steps import StepPart

if TYPE_CHECKING:
    from airflow_mlpipe.catalog.keeper import Keeper


class Catalog(
    RunPart, StepPart, ResultPart, LeasePart, RecordPart, DatasetPart, ModelPart, AgreementPart, PublicationPart
):
    """Experiments, runs, results and everything that is registered by name, in one database.

    Safe to use from many processes and threads, and in a child of a process that used it. Each writing method is one
    transaction. All of them raise StorageError if the database cannot be read or written now (its disk is full, another
    process has kept it locked), UnreachableError if its server does not answer, and ConfigError if it is damaged.

    Make one with :meth:`create` or :meth:`open`.
    """

    @classmethod
    def create(cls, url: str, now: Callable[[], datetime] = utc_now) -> Catalog:
        """Make the catalog at `url` if there is none, bring it up to date, and open it.

        Args:
            url: ``sqlite:///<path>`` (four slashes before an absolute one) or ``postgresql://...``.
            now: the clock; gives aware times.

        Raises:
            ConfigError: if it cannot be made there, or was made by a newer version of the package.
        """
        return cls(_ready(Database(url), create_schema), now)

    @classmethod
    def open(cls, url: str, now: Callable[[], datetime] = utc_now, patience_s: float | None = None) -> Catalog:
        """Open the catalog at `url`; one made by an older version of the package is brought up to date.

        Args:
            url: as for :meth:`create`.
            now: the clock; gives aware times.
            patience_s: how long a server that does not answer is asked again; None: not at all before it has answered
                once, half a minute afterwards.

        Raises:
            ConfigError: if there is none, if it is damaged, or was made by a newer version of the package.
            UnreachableError: if its server does not answer.
        """
        return cls(_ready(Database(url, patience_s), update_schema), now)

    @classmethod
    def salvage(cls, url: str, now: Callable[[], datetime] = utc_now) -> tuple[Catalog, Path | None]:
        """Open the catalog at `url` in whatever state it is; tables that are lost are made anew, without their rows.

        Args:
            url: as for :meth:`create`.
            now: the clock; gives aware times.

        Returns:
            the catalog, and where a file was put that could not be used at all, or None.

        Raises:
            ConfigError: if it was made by a newer version of the package, or a database cannot be made there.
        """
        from airflow_mlpipe.catalog.salvage import salvage_schema

        database = Database(url)
        aside = None

        def prepare(found: Database) -> None:
            nonlocal aside
            aside = salvage_schema(found)

        return cls(_ready(database, prepare), now), aside

    @property
    def keeper(self) -> Keeper:
        """What looks after the catalog as a whole: reads all of it, puts back and takes away."""
        from airflow_mlpipe.catalog.keeper import Keeper

        return Keeper(self._database, self._now)

    def close(self) -> None:
        """Close the connections of this process. The next use opens new ones."""
        self._database.close()


def _ready(database: Database, prepare: Callable[[Database], None]) -> Database:
    try:
        prepare(database)
    except BaseException:
        database.close()
        raise
    return database
