"""The first tables: observations, labels, looks, alarms. A released revision is frozen."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

# SQLite counts up only what it calls INTEGER.
NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "monitor_observations",
        sa.Column("number", NUMBER, nullable=False),
        sa.Column("model", sa.String(200), nullable=False),
        sa.Column("id", sa.String(300), nullable=False),
        sa.Column("time", sa.Double(), nullable=False),
        sa.Column("version", sa.String(200), nullable=False),
        sa.Column("predicted", sa.Text(), nullable=True),
        sa.Column("confidence", sa.Double(), nullable=True),
        sa.Column("output", sa.LargeBinary(), nullable=False),
        sa.Column("features", sa.LargeBinary(), nullable=True),
        sa.Column("statistics", sa.Text(), nullable=False),
        sa.Column("input", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("number", name="pk_monitor_observations"),
    )
    op.create_index("uq_monitor_observations_model_id", "monitor_observations", ["model", "id"], unique=True)
    op.create_index("ix_monitor_observations_model_number", "monitor_observations", ["model", "number"])
    op.create_index("ix_monitor_observations_model_time", "monitor_observations", ["model", "time"])
    op.create_table(
        "monitor_labels",
        sa.Column("model", sa.String(200), nullable=False),
        sa.Column("id", sa.String(300), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("time", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("model", "id", name="pk_monitor_labels"),
    )
    op.create_table(
        "monitor_looks",
        sa.Column("number", NUMBER, nullable=False),
        sa.Column("model", sa.String(200), nullable=False),
        sa.Column("version", sa.String(200), nullable=False),
        sa.Column("time", sa.Double(), nullable=False),
        sa.Column("seen", sa.BigInteger(), nullable=False),
        sa.Column("said", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_monitor_looks"),
    )
    op.create_index("ix_monitor_looks_model_version", "monitor_looks", ["model", "version", "number"])
    op.create_table(
        "monitor_alarms",
        sa.Column("number", NUMBER, nullable=False),
        sa.Column("model", sa.String(200), nullable=False),
        sa.Column("version", sa.String(200), nullable=False),
        sa.Column("kind", sa.String(40), nullable=False),
        sa.Column("began", sa.Double(), nullable=False),
        sa.Column("ended", sa.Double(), nullable=True),
        sa.Column("said", sa.Text(), nullable=False),
        sa.Column("told", sa.String(8), nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_monitor_alarms"),
    )
    op.create_index("ix_monitor_alarms_model", "monitor_alarms", ["model"])


def downgrade() -> None:
    for table in ("monitor_alarms", "monitor_looks", "monitor_labels", "monitor_observations"):
        op.drop_table(table)
