"""The trial whose recipe a trial repeats on another seed."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("trials", sa.Column("repeats", sa.Integer(), nullable=True))


def downgrade() -> None:
    op.drop_column("trials", "repeats")
