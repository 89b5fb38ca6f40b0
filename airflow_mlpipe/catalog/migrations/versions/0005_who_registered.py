"""Which step run has registered a version of a dataset."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add the column; who has registered the versions that are there is not known."""
    op.add_column("datasets", sa.Column("run_id", sa.Text, nullable=True))
