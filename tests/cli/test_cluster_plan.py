"""Who runs where in a cluster of `dragonfly up`."""

from pathlib import Path

import pytest

from dragonfly.cli.up import plan as cluster_plan
from dragonfly.cli.up.plan import Plan, Wish, plan
from dragonfly.cli.up.settings import Kind, shares
from dragonfly.errors import InvalidSettings
from dragonfly.settings.loader import build

PREFIX = "127.70.9"
DATA, SOCKETS = Path("/data"), Path("/run/d")


def planned(
    *overrides: tuple[str, str], peers: int = 2, seed_peers: int = 1, ports: dict[int, int] | None = None
) -> Plan:
    wish = Wish(peers=peers, seed_peers=seed_peers, data_dir=DATA, socket_dir=SOCKETS, overrides=shares(overrides))
    return plan(wish, PREFIX, ports or {})


def endpoints(name: str, of: Plan) -> dict[str, str]:
    return next(member.endpoints for member in of.members if member.name == name)


def test_ready_document_tells_every_address() -> None:
    document = planned(peers=1).ready_document()
    assert document == {
        "manager": {"grpc": "127.70.9.2:65003", "rest": "127.70.9.2:8080"},
        "scheduler": {"grpc": "127.70.9.3:8002"},
        "seed_peers": [
            {
                "hostname": "seed-peer-1",
                "ip": "127.70.9.4",
                "socket": "/run/d/seed-peer-1.sock",
                "upload": "127.70.9.4:4000",
                "vortex": "127.70.9.4:4005",
                "metrics": "127.70.9.4:4002",
                "health": "127.70.9.4:4003",
            }
        ],
        "peers": [
            {
                "hostname": "peer-1",
                "ip": "127.70.9.16",
                "socket": "/run/d/peer-1.sock",
                "upload": "127.70.9.16:4000",
                "vortex": "127.70.9.16:4005",
                "metrics": "127.70.9.16:4002",
                "health": "127.70.9.16:4003",
            }
        ],
    }


def test_proxy_is_told_once_it_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_plan, "has_effect", lambda model, key: True)
    assert endpoints("peer-1", planned())["proxy"].endswith(":4001")


def test_members_are_in_the_order_of_their_start() -> None:
    assert [member.name for member in planned().members] == ["manager", "scheduler", "seed-peer-1", "peer-1", "peer-2"]


def test_largest_cluster_has_an_address_for_everybody() -> None:
    largest = planned(peers=cluster_plan.MOST_PEERS, seed_peers=cluster_plan.MOST_SEED_PEERS)
    addresses = [member.endpoints["ip"] for member in largest.of(Kind.SEED_PEER, Kind.PEER)]
    assert len(set(addresses)) == len(addresses) == 212
    assert addresses[-1] == "127.70.9.215"


def test_cluster_may_have_no_peers_at_all() -> None:
    document = planned(peers=0, seed_peers=0).ready_document()
    assert (document["seed_peers"], document["peers"]) == ([], [])


def test_every_settings_file_is_accepted_without_warnings() -> None:
    plain = planned()
    assert plain.warnings == ()
    for member in plain.members:
        model = {"manager": "ManagerSettings", "scheduler": "SchedulerSettings"}.get(member.name, "DaemonSettings")
        assert build(getattr(cluster_plan, model), member.tree, {}, "file").warnings == ()


def test_everything_a_member_writes_is_in_its_own_directory() -> None:
    for member in planned().members:
        assert member.settings_file.parent == member.log_file.parent == DATA / member.name
    peer = planned().of(Kind.PEER)[0]
    assert peer.tree["storage"]["dir"] == "/data/peer-1/storage"
    assert peer.settings_file == DATA / "peer-1" / "dfdaemon.yaml"


def test_scheduler_and_peers_are_told_where_the_manager_is() -> None:
    for member in planned(("manager:server.grpc.port.start", "5000")).members[1:]:
        assert member.tree["manager"]["addr"] == "127.70.9.2:5000"


def test_only_seed_peers_are_seed_peers() -> None:
    cluster = planned()
    assert cluster.of(Kind.SEED_PEER)[0].tree["seedPeer"] == {"enable": True, "type": "super"}
    assert "seedPeer" not in cluster.of(Kind.PEER)[0].tree


def test_health_is_asked_of_every_grpc_server() -> None:
    cluster = planned()
    assert cluster.members[0].health_targets == ("127.70.9.2:65003",)
    assert cluster.of(Kind.PEER)[0].health_targets == ("unix:/run/d/peer-1.sock", "127.70.9.16:4000")


def test_port_that_is_taken_everywhere_is_replaced_in_settings_and_document() -> None:
    cluster = planned(ports={4000: 14000, 8080: 18080})
    assert cluster.ready_document()["manager"]["rest"] == "127.70.9.2:18080"
    assert {member.endpoints["upload"].rpartition(":")[2] for member in cluster.of(Kind.PEER)} == {"14000"}


class TestOverrides:
    def test_key_goes_to_every_service_that_knows_it(self) -> None:
        given = shares([("host.idc", "hz")])
        assert [kind for kind in Kind if given[kind]] == [Kind.SCHEDULER, Kind.SEED_PEER, Kind.PEER]

    @pytest.mark.parametrize(
        ("prefix", "kinds"),
        [
            ("manager", {Kind.MANAGER}),
            ("scheduler", {Kind.SCHEDULER}),
            ("dfdaemon", {Kind.SEED_PEER, Kind.PEER}),
            ("seed", {Kind.SEED_PEER}),
        ],
    )
    def test_prefix_names_who_is_meant(self, prefix: str, kinds: set[Kind]) -> None:
        given = shares([(f"{prefix}:network.enableIPv6", "true")])
        assert {kind for kind in Kind if given[kind]} == kinds

    def test_later_override_wins(self) -> None:
        assert shares([("storage.keep", "true"), ("seed:storage.keep", "false")])[Kind.SEED_PEER] == {
            "storage.keep": "false"
        }

    @pytest.mark.parametrize(
        ("key", "sentence"),
        [
            ("storage.kep", 'unknown key "storage.kep"; did you mean "storage.keep"?'),
            ("manager:storage.keep", 'unknown key "storage.keep"'),
            ("scheduler:scheduler.retryLimits", 'did you mean "scheduler.retryLimit"?'),
            ("peer:storage.keep", 'unknown key "peer:storage.keep"'),
            ("seed:", 'unknown key "seed:"'),
        ],
    )
    def test_key_that_nobody_meant_knows_is_refused(self, key: str, sentence: str) -> None:
        with pytest.raises(InvalidSettings) as caught:
            shares([(key, "1")])
        assert sentence in str(caught.value)

    def test_override_is_in_the_settings_file(self) -> None:
        cluster = planned(("seed:storage.keep", "false"), ("backend.requestHeader", "{a: b}"))
        assert cluster.of(Kind.SEED_PEER)[0].tree["storage"]["keep"] is False
        assert "keep" not in cluster.of(Kind.PEER)[0].tree["storage"]
        assert cluster.of(Kind.PEER)[0].tree["backend"] == {"requestHeader": {"a": "b"}}

    def test_override_of_a_port_is_in_the_document(self) -> None:
        cluster = planned(("upload.server.port", "5000"), ("manager:server.rest.addr", "':9'"))
        assert endpoints("peer-2", cluster)["upload"] == "127.70.9.17:5000"
        assert cluster.ready_document()["manager"]["rest"] == "127.70.9.2:9"

    def test_server_on_every_address_is_told_by_the_members_own(self) -> None:
        assert endpoints("peer-1", planned(("upload.server.ip", "0.0.0.0"), peers=1, seed_peers=0))["upload"] == (
            "127.70.9.16:4000"
        )

    def test_metrics_of_manager_and_scheduler_are_told_when_enabled(self) -> None:
        cluster = planned(("metrics.enable", "true"))
        assert endpoints("manager", cluster)["metrics"] == "127.70.9.2:8000"
        assert endpoints("scheduler", cluster)["metrics"] == "127.70.9.3:8000"

    def test_override_without_effect_is_warned_of_once(self) -> None:
        assert planned(("proxy.prefetch", "true")).warnings == ("proxy.prefetch is known but has no effect yet",)

    @pytest.mark.parametrize(
        ("key", "value", "shared"),
        [
            ("upload.server.ip", "127.0.0.1", "127.0.0.1:4000"),
            ("download.server.socketPath", "/tmp/one.sock", "/tmp/one.sock"),
            ("health.server.port", "4000", "127.70.9.4:4000"),
        ],
    )
    def test_override_that_makes_services_share_an_address_is_refused(self, key: str, value: str, shared: str) -> None:
        with pytest.raises(InvalidSettings, match="more than one service would listen on") as caught:
            planned((key, value))
        assert shared in str(caught.value)

    def test_port_that_would_be_unknown_is_refused(self) -> None:
        with pytest.raises(InvalidSettings, match="the upload port of seed-peer-1 is 0"):
            planned(("upload.server.port", "0"))

    def test_wrong_value_is_refused(self) -> None:
        with pytest.raises(InvalidSettings, match=r'storage\.keep is "maybe", wanted true or false'):
            planned(("storage.keep", "maybe"))

    def test_socket_path_that_is_too_long_is_refused(self) -> None:
        with pytest.raises(InvalidSettings, match="longer than 107 bytes"):
            planned(("download.server.socketPath", "/" + "x" * 107), peers=1, seed_peers=0)
