"""The first schema."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def _seq() -> sa.Column[int]:
    return sa.Column("seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True)


def _texts(*names: str, nullable: bool = False) -> list[sa.Column[str]]:
    return [sa.Column(name, sa.Text, nullable=nullable) for name in names]


def _integers(*names: str, nullable: bool = False) -> list[sa.Column[int]]:
    return [sa.Column(name, sa.Integer, nullable=nullable) for name in names]


def _key(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text, primary_key=True)


def upgrade() -> None:
    """Make all tables."""
    _create_runs()
    _create_results()
    _create_records()


def _create_runs() -> None:
    _table("counters", _key("name"), *_integers("value"))
    _table("experiments", _key("name"), *_texts("created_at"))
    _table("specs", _key("digest"), *_texts("body", "created_at"))
    _table(
        "runs",
        _seq(),
        *_texts("id", "experiment", "pipeline", "spec_digest", "status", "engine", "created_at"),
        *_texts("started_at", "ended_at", nullable=True),
        *_texts("parameters"),
        *_integers("regenerate", "continue_on_step_failure"),
        *_texts("tags", "properties", "submitted_by", "source"),
        *_texts("dag_id", "error", nullable=True),
        *_integers("number"),
        sa.UniqueConstraint("id", name="uq_runs_id"),
    )
    op.create_index("ix_runs_experiment", "runs", ["experiment", "seq"])
    op.create_index("ix_runs_status", "runs", ["status", "seq"])
    _table(
        "steps",
        _key("run_id"),
        _key("step_id"),
        *_texts("step_run_id", "name"),
        *_integers("position"),
        *_texts("status", "decision", "reason"),
        *_texts("fingerprint", "derivation", "components", "result_id", "reused_from", nullable=True),
        sa.Column("saved_s", sa.Float, nullable=True),
        *_texts("started_at", "ended_at", nullable=True),
        *_integers("exit_code", nullable=True),
        *_texts("error", nullable=True),
        *_integers("try_number"),
        *_texts("written"),
        sa.UniqueConstraint("step_run_id", name="uq_steps_step_run_id"),
    )
    _table("stops", _key("run_id"), *_texts("stopped_by", "reason", "stopped_at"))


def _create_results() -> None:
    _table("written", _seq(), *_texts("owner_id", "body"))
    op.create_index("ix_written_owner_id", "written", ["owner_id", "seq"])
    _table(
        "results",
        _seq(),
        *_texts("id", "fingerprint", "derivation", "pipeline", "step", "run_id", "step_run_id", "created_at"),
        *_texts("doubtful", nullable=True),
        *_texts("body"),
        sa.UniqueConstraint("id", name="uq_results_id"),
    )
    op.create_index("ix_results_fingerprint", "results", ["fingerprint", "seq"])
    op.create_index("ix_results_derivation", "results", ["derivation", "fingerprint", "doubtful", "seq"])
    op.create_index("ix_results_step", "results", ["pipeline", "step", "created_at", "seq"])


def _create_records() -> None:
    _table("datastores", _key("name"), *_texts("url", "options"), *_integers("is_default"))
    _table(
        "datasets",
        _key("id"),
        *_texts("name"),
        *_integers("version"),
        *_texts("spec", "digest", "description", "tags", "created_at"),
        sa.UniqueConstraint("name", "version", name="uq_datasets_name_version"),
    )
    _table("computes", _key("name"), *_texts("spec", "created_at"))
    _table(
        "environments",
        _seq(),
        *_texts("name", "version", "spec", "created_at"),
        sa.UniqueConstraint("name", "version", name="uq_environments_name_version"),
    )
    _table(
        "models",
        _key("id"),
        *_texts("name"),
        *_integers("version"),
        *_texts("path", "digest"),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        *_texts("run_id", "framework", "framework_version", nullable=True),
        *_texts("description", "tags", "properties", "created_at"),
        sa.UniqueConstraint("name", "version", name="uq_models_name_version"),
    )
    op.create_index("ix_models_run_id", "models", ["run_id"])


def _table(name: str, *parts: Any) -> None:
    op.create_table(name, *parts)
