"""The metadata database of a workspace, and the DAGs in it."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow import settings
from airflow.models import import_all_models
from airflow.models.base import Base
from airflow.models.dagbundle import DagBundleModel
from airflow.models.dagrun import DagRun
from airflow.models.pool import Pool
from airflow.models.serialized_dag import SerializedDagModel
from airflow.serialization.definitions.dag import SerializedDAG
from airflow.serialization.serialized_objects import LazyDeserializedDAG
from airflow.utils import db
from airflow.utils.state import DagRunState, State, TaskInstanceState
from sqlalchemy import create_engine, event, select, text
from sqlalchemy.exc import DatabaseError
from sqlalchemy.orm import Session

if TYPE_CHECKING:
    from airflow.sdk import DAG

BUNDLE = "mlpipe-embedded"
"""Name of the bundle row that the DAGs of embedded runs hang on; no scheduler ever reads it."""


_ALEMBIC_TABLE = """CREATE TABLE alembic_version (
\tversion_num VARCHAR(32) NOT NULL,
\tCONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
)"""


def open_database(path: Path) -> Session:
    """Return a session on the metadata database at `path`; it is made, or migrated, if need be.

    A database that cannot be read is set aside and made anew: it holds nothing that the catalog does not.
    """
    import_all_models()

    @event.listens_for(settings.engine, "connect")
    def tune(connection: Any, _record: Any) -> None:
        # With WAL this leaves out the fsync of each commit; a crash of the machine may lose the last
        # states of a run that is dead anyway, and does not damage the file.
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("PRAGMA busy_timeout=30000")

    if not path.exists():
        _create_database(path)
    session: Session = settings.Session()
    try:
        revision = session.scalar(text("SELECT version_num FROM alembic_version"))
    except DatabaseError as error:
        session.close()
        if "locked" in str(error):
            # Somebody looks at it with a tool of theirs; it is whole.
            raise
        settings.engine.dispose()
        for file in path.parent.glob(f"{path.name}*"):
            file.rename(file.with_name(f"damaged-{file.name}"))
        _create_database(path)
        return settings.Session()
    if revision != head_revision():
        session.close()
        db.upgradedb()
        session = settings.Session()
    return session


def head_revision() -> str:
    """Return the schema revision of this version of Airflow."""
    return list(db._REVISION_HEADS_MAP.values())[-1]


def _create_database(path: Path) -> None:
    """Make an empty metadata database: what ``airflow db migrate`` does, without Alembic and its 1.3 s."""
    # Elsewhere first: a database that was only half made must not be found at the next start.
    draft = path.with_name(f"draft-{os.getpid()}.db")
    draft.unlink(missing_ok=True)
    engine = create_engine(f"sqlite:///{draft}")
    with engine.begin() as connection:
        Base.metadata.create_all(connection, checkfirst=False)
        connection.execute(text(_ALEMBIC_TABLE))
        connection.execute(text("INSERT INTO alembic_version VALUES (:head)"), {"head": head_revision()})
    with Session(engine) as session:
        db.add_default_pool_if_not_exists(session=session)
        db.synchronize_log_template(session=session)
        session.add(DagBundleModel(name=BUNDLE))
        session.commit()
    engine.dispose()
    draft.replace(path)


def migrate_database() -> Session:
    """Bring the database that Airflow's settings name up to date and return a session on it."""
    import_all_models()
    db.initdb()
    session: Session = settings.Session()
    if session.get(DagBundleModel, BUNDLE) is None:
        session.add(DagBundleModel(name=BUNDLE))
        session.commit()
    return session


def end_runs(session: Session, run_ids: Collection[str]) -> list[str]:
    """Mark those of the runs that have not ended as failed, with their tasks. Returns their ids."""
    open_runs = session.scalars(select(DagRun).where(DagRun.state.in_(State.unfinished_dr_states)))
    ended = [run for run in open_runs if run.run_id in run_ids]
    for run in ended:
        for ti in run.get_task_instances(session=session):
            if ti.state not in State.finished:
                ti.state = (
                    TaskInstanceState.FAILED if ti.state == TaskInstanceState.RUNNING else TaskInstanceState.SKIPPED
                )
        run.state = DagRunState.FAILED
    session.commit()
    return [run.run_id for run in ended]


def ensure_pools(session: Session, slots: Mapping[str, int | None]) -> dict[str, float]:
    """Make or change pools; None for no limit. Returns the slots of every pool there is."""
    pools = {pool.pool: pool for pool in session.scalars(select(Pool))}
    for name, size in slots.items():
        size = -1 if size is None else size
        if name not in pools:
            pools[name] = Pool(pool=name, slots=size, description="compute target", include_deferred=True)
            session.add(pools[name])
        elif pools[name].slots != size:
            pools[name].slots = size
    session.commit()
    return {name: float("inf") if pool.slots == -1 else pool.slots for name, pool in pools.items()}


def write_dag(session: Session, dag: DAG) -> SerializedDAG:
    """Store `dag` as its newest version, unless it is that already, and return what the scheduler would see."""
    lazy = LazyDeserializedDAG.from_dag(dag)
    SerializedDAG.bulk_write_to_db(BUNDLE, None, [lazy], session=session)
    SerializedDagModel.write_dag(lazy, bundle_name=BUNDLE, session=session)
    session.commit()
    stored = SerializedDagModel.get(dag.dag_id, session=session)
    if stored is None:
        raise RuntimeError(f"DAG '{dag.dag_id}' was not found after it was written")
    return stored.dag
