"""The tables of the catalog, for Alembic to compare with. Nothing else imports this module.

Times are ISO texts in UTC with microseconds, JSON is text in ASCII, flags are 0 and 1: the same bytes in every
database. ``seq`` counts what was committed: it orders rows that bear the same time. There are no foreign
keys: rows are deleted by the garbage collector only, which knows what refers to what.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Float, Index, Integer, MetaData, Table, Text, UniqueConstraint

metadata = MetaData()


def _seq() -> Column[int]:
    # SQLite numbers rows by itself only where the column is called INTEGER.
    return Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True)


def _text(name: str, *, nullable: bool = False, primary_key: bool = False) -> Column[str]:
    return Column(name, Text, nullable=nullable, primary_key=primary_key)


def _integer(name: str, *, nullable: bool = False) -> Column[int]:
    return Column(name, Integer, nullable=nullable)


counters = Table("counters", metadata, _text("name", primary_key=True), _integer("value"))

workspace = Table("workspace", metadata, _text("id", primary_key=True), _text("name"))

publications = Table(
    "publications",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=False),
    _text("version"),
    _text("digest"),
    _text("name"),
    Index("ix_publications_name", "name", "seq"),
)

experiments = Table("experiments", metadata, _text("name", primary_key=True), _text("created_at"))

specs = Table("specs", metadata, _text("digest", primary_key=True), _text("body"), _text("created_at"))

runs = Table(
    "runs",
    metadata,
    _seq(),
    _text("id"),
    _text("experiment"),
    _text("pipeline"),
    _text("spec_digest"),
    _text("status"),
    _text("engine"),
    _text("created_at"),
    _text("started_at", nullable=True),
    _text("ended_at", nullable=True),
    _text("parameters"),
    _integer("regenerate"),
    _integer("continue_on_step_failure"),
    _text("tags"),
    _text("properties"),
    _text("submitted_by"),
    _text("source"),
    _text("dag_id", nullable=True),
    _text("error", nullable=True),
    _integer("number"),
    UniqueConstraint("id", name="uq_runs_id"),
    Index("ix_runs_experiment", "experiment", "seq"),
    Index("ix_runs_status", "status", "seq"),
)

steps = Table(
    "steps",
    metadata,
    _text("run_id", primary_key=True),
    _text("step_id", primary_key=True),
    _text("step_run_id"),
    _text("name"),
    _integer("position"),
    _text("status"),
    _text("decision"),
    _text("reason"),
    _text("fingerprint", nullable=True),
    _text("derivation", nullable=True),
    _text("components", nullable=True),
    _text("result_id", nullable=True),
    _text("reused_from", nullable=True),
    Column("saved_s", Float, nullable=True),
    _text("started_at", nullable=True),
    _text("ended_at", nullable=True),
    _integer("exit_code", nullable=True),
    _text("error", nullable=True),
    _integer("try_number"),
    _text("written"),
    UniqueConstraint("step_run_id", name="uq_steps_step_run_id"),
)

stops = Table(
    "stops",
    metadata,
    _text("run_id", primary_key=True),
    _text("stopped_by"),
    _text("reason"),
    _text("stopped_at"),
)

written = Table(
    "written",
    metadata,
    _seq(),
    _text("owner_id"),
    _text("body"),
    Index("ix_written_owner_id", "owner_id", "seq"),
)

results = Table(
    "results",
    metadata,
    _seq(),
    _text("id"),
    _text("fingerprint"),
    _text("derivation"),
    _text("pipeline"),
    _text("step"),
    _text("run_id"),
    _text("step_run_id"),
    _text("created_at"),
    _text("doubtful", nullable=True),
    _text("body"),
    UniqueConstraint("id", name="uq_results_id"),
    Index("ix_results_fingerprint", "fingerprint", "seq"),
    Index("ix_results_derivation", "derivation", "fingerprint", "doubtful", "seq"),
    Index("ix_results_step", "pipeline", "step", "created_at", "seq"),
)

leases = Table(
    "leases",
    metadata,
    _text("fingerprint", primary_key=True),
    _text("run_id"),
    _text("step_run_id"),
    _text("token"),
    _text("acquired_at"),
    _text("heartbeat_at"),
    _text("expires_at"),
    _text("doubted_at", nullable=True),
    UniqueConstraint("token", name="uq_leases_token"),
)

collected = Table("collected", metadata, _text("step_run_id", primary_key=True), _text("collected_at"))

datastores = Table(
    "datastores",
    metadata,
    _text("name", primary_key=True),
    _text("url"),
    _text("options"),
    _integer("is_default"),
)

datasets = Table(
    "datasets",
    metadata,
    _text("id", primary_key=True),
    _text("name"),
    _integer("version"),
    _text("spec"),
    _text("digest"),
    _text("description"),
    _text("tags"),
    _text("created_at"),
    _text("run_id", nullable=True),
    UniqueConstraint("name", "version", name="uq_datasets_name_version"),
)

computes = Table("computes", metadata, _text("name", primary_key=True), _text("spec"), _text("created_at"))

environments = Table(
    "environments",
    metadata,
    _seq(),
    _text("name"),
    _text("version"),
    _text("spec"),
    _text("created_at"),
    UniqueConstraint("name", "version", name="uq_environments_name_version"),
)

models = Table(
    "models",
    metadata,
    _text("id", primary_key=True),
    _text("name"),
    _integer("version"),
    _text("path"),
    _text("digest"),
    Column("size_bytes", BigInteger, nullable=False),
    _text("run_id", nullable=True),
    _text("framework", nullable=True),
    _text("framework_version", nullable=True),
    _text("description"),
    _text("tags"),
    _text("properties"),
    _text("created_at"),
    UniqueConstraint("name", "version", name="uq_models_name_version"),
    Index("ix_models_run_id", "run_id"),
)
