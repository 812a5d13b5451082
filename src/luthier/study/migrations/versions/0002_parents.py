"""The trial, and the epoch of it, whose weights a trial started from."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    for name in ("parent", "parent_epoch"):
        op.add_column("trials", sa.Column(name, sa.Integer(), nullable=True))


def downgrade() -> None:
    for name in ("parent_epoch", "parent"):
        op.drop_column("trials", name)
