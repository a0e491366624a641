"""The local files that stand in for a manager."""

import re
from pathlib import Path

import pytest

from dragonfly.errors import InvalidSettings
from dragonfly.settings.dynconfig import DaemonDynconfig, SchedulerDynconfig
from dragonfly.settings.loader import load


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "dynconfig.yaml"


def test_defaults_are_the_references() -> None:
    assert DaemonDynconfig().scheduler.addr == "dragonfly-scheduler:8002"
    cluster = SchedulerDynconfig().scheduler_cluster_config
    assert (cluster.candidate_parent_limit, cluster.filter_parent_limit) == (3, 15)


def test_scheduler_addresses_are_read(file: Path) -> None:
    file.write_text('scheduler: {addr: "scheduler.example:8002", addrs: ["10.0.0.1:8002", "10.0.0.2:8002"]}\n')
    scheduler = load(DaemonDynconfig, file).settings.scheduler
    assert scheduler.addr == "scheduler.example:8002"
    assert scheduler.addrs == ("10.0.0.1:8002", "10.0.0.2:8002")


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ('scheduler: {addr: "http://scheduler"}', "scheduler.addr"),
        ('scheduler: {addrs: ["10.0.0.1:8002", "10.0.0.2:99999"]}', "scheduler.addrs[1]"),
    ],
)
def test_wrong_scheduler_address_is_refused_with_its_place(file: Path, text: str, path: str) -> None:
    file.write_text(text)
    with pytest.raises(InvalidSettings, match=re.escape(f"{file}: {path} is ") + ".*wanted host:port"):
        load(DaemonDynconfig, file)


@pytest.mark.parametrize(
    "text",
    [
        "clientConfig: {blockList: {persistentTask: {upload: {tags: [a]}}}}",
        "clientConfig: {block_list: {persistent_task: {upload: {tags: [a]}}}}",
    ],
)
def test_block_list_is_read_in_the_files_and_in_the_managers_spelling(file: Path, text: str) -> None:
    file.write_text(text)
    loaded = load(DaemonDynconfig, file)
    assert loaded.settings.client_config.block_list.persistent_task.upload.tags == ("a",)


def test_limits_of_a_cluster_are_read(file: Path) -> None:
    file.write_text("schedulerClusterConfig: {candidateParentLimit: 5, filterParentLimit: 10, jobRateLimit: 10}\n")
    cluster = load(SchedulerDynconfig, file).settings.scheduler_cluster_config
    assert (cluster.candidate_parent_limit, cluster.filter_parent_limit) == (5, 10)


def test_unknown_key_is_refused(file: Path) -> None:
    file.write_text("scheduler: {address: a}\n")
    with pytest.raises(InvalidSettings, match=r'did you mean "scheduler\.addr'):
        load(DaemonDynconfig, file)
