"""How attributes are spelled as keys, and what a tree knows about its keys."""

import pytest

from dragonfly.dfdaemon.settings import DaemonSettings
from dragonfly.settings.nearest import nearest
from dragonfly.settings.section import Idle, Section, keys_of, spelled, walk


@pytest.mark.parametrize(
    ("attribute", "key"),
    [
        ("piece_timeout", "pieceTimeout"),
        ("idc", "idc"),
        ("ca_cert", "caCert"),
        ("tcp_port", "tcpPort"),
        ("use_tls", "useTLS"),
        ("tls_config", "tlsConfig"),
        ("scheduler_cluster_id", "schedulerClusterID"),
        ("enable_ipv6", "enableIPv6"),
        ("enable_task_id_based_blob_digest", "enableTaskIDBasedBlobDigest"),
        ("peer_gc_interval", "peerGCInterval"),
        ("cache_temporary_redirect_ttl", "cacheTemporaryRedirectTTL"),
        ("enable_hickory_dns", "enableHickoryDNS"),
        ("broker_db", "brokerDB"),
        ("advertise_ip", "advertiseIP"),
        ("ip", "ip"),
    ],
)
def test_attributes_are_spelled_as_the_reference_does(attribute: str, key: str) -> None:
    assert spelled(attribute) == key


class Inner(Section):
    used: int = 1
    unused: Idle[int] = 2


class Outer(Section):
    inner: Inner = Inner()
    optional: Inner | None = None
    many: tuple[Inner, ...] = ()
    free: dict[str, str] | None = None
    idle: Idle[Inner] = Inner()


def test_walk_tells_every_path_and_whether_it_has_no_effect() -> None:
    assert {path: idle for path, _, idle in walk(Outer)} == {
        "inner": False,
        "inner.used": False,
        "inner.unused": True,
        "optional": False,
        "optional.used": False,
        "optional.unused": True,
        "many": False,
        "many[].used": False,
        "many[].unused": True,
        "free": False,
        "idle": True,
        "idle.used": True,
        "idle.unused": True,
    }


def test_keys_tell_what_kind_of_value_they_hold() -> None:
    keys = keys_of(Outer)
    assert (keys["optional"].section, keys["optional"].many) == (Inner, False)
    assert (keys["many"].section, keys["many"].many) == (Inner, True)
    assert keys["free"].mapping
    assert not keys["inner"].mapping


def test_nearest_looks_through_several_trees() -> None:
    assert nearest("stroage.dir", Outer, DaemonSettings) == "storage.dir"
    assert nearest("zzzz", Outer, DaemonSettings) is None
