"""Leases: who computes a result right now."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the table of leases."""
    texts = ("run_id", "step_run_id", "token", "acquired_at", "heartbeat_at", "expires_at")
    op.create_table(
        "leases",
        sa.Column("fingerprint", sa.Text, primary_key=True),
        *(sa.Column(name, sa.Text, nullable=False) for name in texts),
        sa.Column("doubted_at", sa.Text, nullable=True),
        sa.UniqueConstraint("token", name="uq_leases_token"),
    )
