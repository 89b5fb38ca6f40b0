"""Places of step runs that the garbage collector has taken."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make the table of collected places."""
    op.create_table(
        "collected",
        sa.Column("step_run_id", sa.Text, primary_key=True),
        sa.Column("collected_at", sa.Text, nullable=False),
    )
