"""Clusters, their members and applications; one cluster of each kind to begin with.

A step states its tables itself and never imports them: tables.py moves on, history does not.
There is no way down: a backup of the file is.
"""

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Make the tables, then the first clusters, with the figures upstream starts with."""
    scheduler_cluster, seed_peer_cluster = _clusters()
    link = _links()
    _members()
    _applications()
    now = datetime.fromtimestamp(time.time(), UTC).replace(tzinfo=None)
    stamps = {"created_at": now, "updated_at": now}
    op.bulk_insert(scheduler_cluster, [_FIRST_SCHEDULER_CLUSTER | stamps])
    op.bulk_insert(seed_peer_cluster, [_FIRST_SEED_PEER_CLUSTER | stamps])
    op.bulk_insert(link, [{"seed_peer_cluster_id": 1, "scheduler_cluster_id": 1}])


_FIRST_SCHEDULER_CLUSTER: dict[str, Any] = {
    "id": 1,
    "name": "cluster-1",
    "bio": "",
    "config": {"candidate_parent_limit": 3, "filter_parent_limit": 15, "job_rate_limit": 10},
    "client_config": {"load_limit": 200},
    "seed_client_config": {},
    "scopes": {},
    "is_default": True,
}
_FIRST_SEED_PEER_CLUSTER: dict[str, Any] = {
    "id": 1,
    "name": "seed-peer-cluster-1",
    "bio": "",
    "config": {"load_limit": 2000},
}


def _record() -> Iterator[sa.Column[Any]]:
    yield sa.Column("id", _ID, primary_key=True)
    yield sa.Column("created_at", sa.DateTime, nullable=False)
    yield sa.Column("updated_at", sa.DateTime, nullable=False)


def _texts(**lengths: int) -> Iterator[sa.Column[Any]]:
    return (sa.Column(name, sa.String(length), nullable=False) for name, length in lengths.items())


def _objects(*names: str) -> Iterator[sa.Column[Any]]:
    return (sa.Column(name, sa.JSON, nullable=False) for name in names)


def _clusters() -> tuple[sa.Table, sa.Table]:
    scheduler_cluster = op.create_table(
        "scheduler_cluster",
        *_record(),
        *_texts(name=256, bio=1024),
        *_objects("config", "client_config", "seed_client_config", "scopes"),
        sa.Column("is_default", sa.Boolean, nullable=False),
        sa.UniqueConstraint("name", name="uk_scheduler_cluster_name"),
        sqlite_autoincrement=True,
    )
    seed_peer_cluster = op.create_table(
        "seed_peer_cluster",
        *_record(),
        *_texts(name=256, bio=1024),
        *_objects("config"),
        sa.UniqueConstraint("name", name="uk_seed_peer_cluster_name"),
        sqlite_autoincrement=True,
    )
    return scheduler_cluster, seed_peer_cluster


def _links() -> sa.Table:
    name = "seed_peer_cluster_scheduler_cluster"
    link = op.create_table(
        name,
        sa.Column("seed_peer_cluster_id", _ID, nullable=False),
        sa.Column("scheduler_cluster_id", _ID, nullable=False),
        sa.PrimaryKeyConstraint("seed_peer_cluster_id", "scheduler_cluster_id", name=f"pk_{name}"),
        _reference("seed_peer_cluster", of=name, ondelete="CASCADE"),
        _reference("scheduler_cluster", of=name, ondelete="CASCADE"),
    )
    op.create_index(f"idx_{name}_scheduler_cluster_id", name, ["scheduler_cluster_id"])
    return link


def _members() -> None:
    for member, cluster, own in (
        ("scheduler", "scheduler_cluster", [*_objects("config", "features")]),
        ("seed_peer", "seed_peer_cluster", [*_texts(type=256), sa.Column("download_port", sa.Integer, nullable=False)]),
    ):
        op.create_table(
            member,
            *_record(),
            *_texts(host_name=256, idc=1024, location=1024, ip=64),
            sa.Column("port", sa.Integer, nullable=False),
            *own,
            *_texts(state=256),
            sa.Column("last_keep_alive_at", sa.DateTime, nullable=False),
            sa.Column("keep_alive_stream", sa.String(64)),
            sa.Column(f"{cluster}_id", _ID, nullable=False),
            sa.UniqueConstraint("host_name", "ip", f"{cluster}_id", name=f"uk_{member}_host_name_ip_{cluster}_id"),
            _reference(cluster, of=member),
            sqlite_autoincrement=True,
        )
        op.create_index(f"idx_{member}_{cluster}_id", member, [f"{cluster}_id"])


def _applications() -> None:
    op.create_table(
        "application",
        *_record(),
        *_texts(name=256, bio=1024),
        sa.Column("url", sa.Text, nullable=False),
        *_objects("priority"),
        sa.UniqueConstraint("name", name="uk_application_name"),
        sqlite_autoincrement=True,
    )


def _reference(cluster: str, *, of: str, ondelete: str | None = None) -> sa.ForeignKeyConstraint:
    column = f"{cluster}_id"
    return sa.ForeignKeyConstraint([column], [f"{cluster}.id"], name=f"fk_{of}_{column}", ondelete=ondelete)
