"""The tables, with upstream's names of tables and columns so that its SQL tools and dumps still read.

Differs from upstream: foreign keys exist, times are stored by us and not by triggers, members carry the stream that
holds their lease, ids are never given out twice, and there is no soft-delete flag (a deleted row is gone).
"""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, DateTime, ForeignKey, Integer, MetaData, String, Text, UniqueConstraint
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import DeclarativeBase, Mapped, MappedColumn, mapped_column
from sqlalchemy.types import TypeDecorator

from dragonfly.core.model.units import Seconds

JsonObject = dict[str, Any]
Id = BigInteger().with_variant(Integer, "sqlite")  # only INTEGER counts up by itself in SQLite


class UnixTime(TypeDecorator[Seconds]):
    """Seconds since 1970 in Python; a UTC date and time in SQL, which people can read there."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: Seconds | None, dialect: Dialect) -> datetime | None:
        return None if value is None else datetime.fromtimestamp(value, UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> Seconds | None:
        return None if value is None else value.replace(tzinfo=UTC).timestamp()


class Table(DeclarativeBase):
    """All tables; their constraints are named, so that migrations can find them."""

    metadata = MetaData(
        naming_convention={
            "pk": "pk_%(table_name)s",
            "uq": "uk_%(table_name)s_%(column_0_N_name)s",
            "ix": "idx_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
        }
    )


class RecordColumns:
    """What every noun's table has."""

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    created_at: Mapped[Seconds] = mapped_column(UnixTime)
    updated_at: Mapped[Seconds] = mapped_column(UnixTime)


def _name(length: int = 256) -> MappedColumn[str]:
    return mapped_column(String(length), default="")


class SchedulerClusterRow(RecordColumns, Table):
    __tablename__ = "scheduler_cluster"
    __table_args__ = (UniqueConstraint("name"), {"sqlite_autoincrement": True})

    name: Mapped[str] = _name()
    bio: Mapped[str] = _name(1024)
    config: Mapped[JsonObject] = mapped_column(JSON, default=dict)
    client_config: Mapped[JsonObject] = mapped_column(JSON, default=dict)
    seed_client_config: Mapped[JsonObject] = mapped_column(JSON, default=dict)
    scopes: Mapped[JsonObject] = mapped_column(JSON, default=dict)
    is_default: Mapped[bool] = mapped_column(default=False)


class SeedPeerClusterRow(RecordColumns, Table):
    __tablename__ = "seed_peer_cluster"
    __table_args__ = (UniqueConstraint("name"), {"sqlite_autoincrement": True})

    name: Mapped[str] = _name()
    bio: Mapped[str] = _name(1024)
    config: Mapped[JsonObject] = mapped_column(JSON, default=dict)


class ClusterLinkRow(Table):
    """Which seed peer clusters serve which scheduler clusters."""

    __tablename__ = "seed_peer_cluster_scheduler_cluster"

    seed_peer_cluster_id: Mapped[int] = mapped_column(
        Id, ForeignKey("seed_peer_cluster.id", ondelete="CASCADE"), primary_key=True
    )
    scheduler_cluster_id: Mapped[int] = mapped_column(
        Id, ForeignKey("scheduler_cluster.id", ondelete="CASCADE"), primary_key=True, index=True
    )


class MemberColumns:
    """What schedulers and seed peers have in common: where they are, and the lease that says they live."""

    host_name: Mapped[str] = _name()
    idc: Mapped[str] = _name(1024)
    location: Mapped[str] = _name(1024)
    ip: Mapped[str] = _name(64)
    port: Mapped[int]
    state: Mapped[str] = mapped_column(String(256), default="inactive")
    last_keep_alive_at: Mapped[Seconds] = mapped_column(UnixTime)
    keep_alive_stream: Mapped[str | None] = mapped_column(String(64))


class SchedulerRow(RecordColumns, MemberColumns, Table):
    __tablename__ = "scheduler"
    __table_args__ = (UniqueConstraint("host_name", "ip", "scheduler_cluster_id"), {"sqlite_autoincrement": True})

    config: Mapped[JsonObject] = mapped_column(JSON, default=dict)
    features: Mapped[list[str]] = mapped_column(JSON, default=list)
    scheduler_cluster_id: Mapped[int] = mapped_column(Id, ForeignKey("scheduler_cluster.id"), index=True)


class SeedPeerRow(RecordColumns, MemberColumns, Table):
    __tablename__ = "seed_peer"
    __table_args__ = (UniqueConstraint("host_name", "ip", "seed_peer_cluster_id"), {"sqlite_autoincrement": True})

    type: Mapped[str] = _name()
    download_port: Mapped[int]
    seed_peer_cluster_id: Mapped[int] = mapped_column(Id, ForeignKey("seed_peer_cluster.id"), index=True)


class ApplicationRow(RecordColumns, Table):
    __tablename__ = "application"
    __table_args__ = (UniqueConstraint("name"), {"sqlite_autoincrement": True})

    name: Mapped[str] = _name()
    url: Mapped[str] = mapped_column(Text, default="")
    bio: Mapped[str] = _name(1024)
    priority: Mapped[JsonObject] = mapped_column(JSON, default=dict)
