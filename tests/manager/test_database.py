"""The database is made, brought up to date and shared without anyone's help."""

import asyncio
import multiprocessing
import sqlite3
import stat
import sys
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, select, text

from dragonfly.errors import StorageError
from dragonfly.manager.db import migrations
from dragonfly.manager.db.session import Database
from dragonfly.manager.db.tables import (
    ClusterLinkRow,
    SchedulerClusterRow,
    SchedulerRow,
    SeedPeerClusterRow,
    Table,
)

PATIENCE = 60.0  # seconds; no call takes so long, however busy the machine is


def test_head_is_the_newest_revision_that_ships():
    config = Config()
    config.set_main_option("script_location", "dragonfly.manager.db:migrations")
    config.set_main_option("path_separator", "os")
    assert ScriptDirectory.from_config(config).get_current_head() == migrations.HEAD


async def test_migrated_tables_are_the_ones_the_code_uses(tmp_path: Path):
    await (await Database.open(tmp_path / "m.db")).close()
    engine = create_engine(f"sqlite:///{tmp_path}/m.db")
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Table.metadata) == []
    engine.dispose()


async def test_empty_database_begins_with_one_cluster_of_each_kind(tmp_path: Path):
    database = await Database.open(tmp_path / "m.db")
    async with database.reading() as session:
        scheduler_cluster = await session.scalar(select(SchedulerClusterRow))
        seed_peer_cluster = await session.scalar(select(SeedPeerClusterRow))
        link = await session.scalar(select(ClusterLinkRow))
    await database.close()
    assert (scheduler_cluster.id, scheduler_cluster.name, scheduler_cluster.is_default) == (1, "cluster-1", True)
    assert scheduler_cluster.config == {"candidate_parent_limit": 3, "filter_parent_limit": 15, "job_rate_limit": 10}
    assert scheduler_cluster.client_config == {"load_limit": 200}
    assert (seed_peer_cluster.name, seed_peer_cluster.config) == ("seed-peer-cluster-1", {"load_limit": 2000})
    assert (link.scheduler_cluster_id, link.seed_peer_cluster_id) == (1, 1)


async def test_opening_again_changes_nothing_that_was_changed(tmp_path: Path):
    database = await Database.open(tmp_path / "m.db")
    async with database.writing() as session:
        (await session.get(SchedulerClusterRow, 1)).name = "renamed"
        await session.delete(await session.get(SeedPeerClusterRow, 1))
    await database.close()
    database = await Database.open(tmp_path / "m.db")
    async with database.reading() as session:
        assert [row.name for row in await session.scalars(select(SchedulerClusterRow))] == ["renamed"]
        assert list(await session.scalars(select(SeedPeerClusterRow))) == []
        assert list(await session.scalars(select(ClusterLinkRow))) == []  # went with its cluster
    await database.close()


async def test_directory_and_file_are_made_for_the_owner_only(tmp_path: Path):
    path = tmp_path / "new" / "m.db"
    database = await Database.open(path)
    async with database.writing() as session:
        await session.execute(text("UPDATE scheduler_cluster SET bio = 'x'"))
    files = [path, path.with_name("m.db-wal"), path.with_name("m.db-shm")]
    assert [stat.S_IMODE(each.stat().st_mode) for each in files] == [0o600] * 3
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    await database.close()


async def test_file_others_could_read_is_closed_to_them(tmp_path: Path):
    path = tmp_path / "m.db"
    path.touch(0o644)
    await (await Database.open(path)).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_path_may_hold_any_character(tmp_path: Path):
    path = tmp_path / "a b%20?mode=ro#x" / "m.db"
    await (await Database.open(path)).close()
    assert path.exists()


async def test_connections_wait_for_writers_and_keep_references_whole(tmp_path: Path):
    database = await Database.open(tmp_path / "m.db")
    async with database.reading() as session:
        pragmas = [
            await session.scalar(text(f"PRAGMA {name}")) for name in ("journal_mode", "foreign_keys", "busy_timeout")
        ]
    await database.close()
    assert pragmas == ["wal", 1, 10_000]


async def test_reader_sees_the_state_of_its_beginning_while_another_writes(tmp_path: Path):
    database = await Database.open(tmp_path / "m.db")
    name = select(SchedulerClusterRow.name)
    async with database.reading() as reader:
        assert await reader.scalar(name) == "cluster-1"
        async with database.writing() as writer:
            await writer.execute(text("UPDATE scheduler_cluster SET name = 'other'"))
        assert await reader.scalar(name) == "cluster-1"
    async with database.reading() as reader:
        assert await reader.scalar(name) == "other"
    await database.close()


async def test_writers_in_a_row_leave_connections_to_readers(tmp_path: Path):
    database = await Database.open(tmp_path / "m.db")
    go_on = asyncio.Event()

    async def write() -> None:
        async with database.writing():
            await go_on.wait()

    async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as writers:
        for _ in range(20):
            writers.create_task(write())
        async with database.reading() as session:
            assert await session.scalar(select(SchedulerClusterRow.name)) == "cluster-1"
        go_on.set()
    await database.close()


async def test_failed_transaction_leaves_nothing_behind(tmp_path: Path):
    database = await Database.open(tmp_path / "m.db")

    async def fail_midway() -> None:
        async with database.writing() as session:
            await session.execute(text("UPDATE scheduler_cluster SET name = 'other'"))
            raise LookupError

    with pytest.raises(LookupError):
        await fail_midway()
    async with database.reading() as session:
        assert await session.scalar(select(SchedulerClusterRow.name)) == "cluster-1"
    await database.close()


async def test_ids_are_never_given_out_twice(tmp_path: Path):
    database = await Database.open(tmp_path / "m.db")
    ids = []
    for _ in range(2):
        async with database.writing() as session:
            row = SchedulerRow(
                host_name="a", ip="10.0.0.1", port=8002, idc="", location="", scheduler_cluster_id=1,
                created_at=0, updated_at=0, last_keep_alive_at=0,
            )  # fmt: skip
            session.add(row)
            await session.flush()
            ids.append(row.id)
            await session.delete(row)
    await database.close()
    assert ids == [1, 2]


async def test_database_of_a_newer_manager_is_refused_and_left_alone(tmp_path: Path):
    path = tmp_path / "m.db"
    await (await Database.open(path)).close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    with pytest.raises(StorageError, match="written by a newer manager"):
        await Database.open(path)
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [("9999",)]
    connection.close()


@pytest.mark.parametrize("content", [b"not a database at all, but long enough to look at" * 100])
async def test_file_that_is_no_database_is_refused_in_a_sentence(tmp_path: Path, content: bytes):
    path = tmp_path / "m.db"
    path.write_bytes(content)
    with pytest.raises(StorageError, match="not a database"):
        await Database.open(path)
    assert path.read_bytes() == content


async def test_directory_in_the_way_is_refused_in_a_sentence(tmp_path: Path):
    with pytest.raises(StorageError, match="failed: Is a directory"):
        await Database.open(tmp_path)


async def test_many_openers_at_once_in_one_process_migrate_once(tmp_path: Path):
    databases = await asyncio.gather(*(Database.open(tmp_path / "m.db") for _ in range(5)))
    async with databases[3].reading() as session:
        assert len(list(await session.scalars(select(SchedulerClusterRow)))) == 1
    for database in databases:
        await database.close()


def _open_in_process(path: Path, results: "multiprocessing.Queue[str]") -> None:
    async def names() -> str:
        database = await Database.open(path)
        try:
            async with database.reading() as session:
                return ",".join(await session.scalars(select(SchedulerClusterRow.name)))
        finally:
            await database.close()

    try:
        results.put(asyncio.run(names()))
    except Exception as error:  # the parent has to hear of it, whatever it is
        results.put(repr(error))


@pytest.mark.slow
def test_many_processes_starting_at_once_migrate_once(tmp_path: Path):
    spawn = multiprocessing.get_context("spawn")
    results: multiprocessing.Queue[str] = spawn.Queue()
    processes = [spawn.Process(target=_open_in_process, args=(tmp_path / "m.db", results)) for _ in range(4)]
    for process in processes:
        process.start()
    found = [results.get(timeout=60) for _ in processes]
    for process in processes:
        process.join(timeout=60)
    assert found == ["cluster-1"] * 4


@pytest.mark.skipif(sys.platform == "win32", reason="no such mode there")
async def test_alembic_is_not_needed_once_the_tables_are_there(tmp_path: Path):
    path = tmp_path / "m.db"
    await (await Database.open(path)).close()
    code = (
        "import asyncio, sys; from pathlib import Path; from dragonfly.manager.db.session import Database\n"
        "async def main(): await (await Database.open(Path(sys.argv[1]))).close()\n"
        "asyncio.run(main()); sys.exit('alembic' in sys.modules)"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, str(path))
    assert await asyncio.wait_for(process.wait(), 60) == 0
