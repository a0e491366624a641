"""From a file and overrides to settings, or to one sentence about what is wrong."""

from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from dragonfly.dfdaemon.settings import DaemonSettings, StorageSettings
from dragonfly.errors import InvalidSettings
from dragonfly.manager.settings import ManagerSettings
from dragonfly.scheduler.settings import SchedulerSettings
from dragonfly.settings.loader import has_effect, knows, load
from dragonfly.settings.section import Section

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_file(text: str) -> Path:
        path = tmp_path / "dfdaemon.yaml"
        path.write_text(text)
        return path

    return write_file


def refusal(path: Path | None, overrides: dict[str, str] | None = None, model: type[Section] = DaemonSettings) -> str:
    with pytest.raises(InvalidSettings) as caught:
        load(model, path, overrides)
    return str(caught.value)


def test_no_file_means_the_defaults() -> None:
    assert load(DaemonSettings, None).settings == DaemonSettings()


@pytest.mark.parametrize("text", ["", "# only a comment\n", "---\n", "host:\n", "host:\nstorage:\n  server:\n"])
def test_empty_file_and_empty_sections_mean_the_defaults(write: Write, text: str) -> None:
    assert load(DaemonSettings, write(text)).settings == DaemonSettings()


def test_values_of_the_file_arrive_under_their_attributes(write: Write) -> None:
    text = """
host: {idc: hz-1, location: "asia|cn", schedulerClusterID: 3}
download: {pieceTimeout: 1m 30s, concurrentPieceCount: 4}
storage: {dir: /data, keep: false, server: {tcpPort: 5000}}
proxy:
  rules:
    - {regex: "blobs/sha256.*", useTLS: true, filteredQueryParams: [Expires, Signature]}
backend:
  requestHeader: {X-Cluster: a}
"""
    settings = load(DaemonSettings, write(text)).settings
    assert (settings.host.idc, settings.host.location, settings.host.scheduler_cluster_id) == ("hz-1", "asia|cn", 3)
    assert (settings.download.piece_timeout, settings.download.concurrent_piece_count) == (90.0, 4)
    assert (settings.storage.dir, settings.storage.keep) == (Path("/data"), False)
    assert settings.storage.server.tcp_port == 5000
    (rule,) = settings.proxy.rules
    assert (rule.use_tls, rule.filtered_query_params) == (True, ("Expires", "Signature"))
    assert settings.backend.request_header == {"X-Cluster": "a"}


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        load(DaemonSettings, None).settings.storage.keep = False  # type: ignore[misc]  # that it is refused is the point


def test_code_builds_sections_by_attribute_and_in_plain_units() -> None:
    assert StorageSettings(write_piece_timeout=5.0, write_buffer_size=10).write_piece_timeout == 5.0


class TestUnknownKeys:
    def test_file_and_whole_path_and_near_match_are_named(self, write: Write) -> None:
        path = write("download:\n  pieceTimout: 3s\n")
        expected = f'{path}: unknown key "download.pieceTimout"; did you mean "download.pieceTimeout"?'
        assert refusal(path) == expected

    @pytest.mark.parametrize(
        ("text", "unknown", "near"),
        [
            ("pieceTimeout: 3s", "pieceTimeout", "download.pieceTimeout"),
            ("downlaod: {protocol: tcp}", "downlaod", "download"),
            ("storage: {tcpPort: 1}", "storage.tcpPort", "storage.server.tcpPort"),
            ("schedulerClusterId: 1", "schedulerClusterId", "host.schedulerClusterID"),
            ("proxy: {rules: [{regex: a}, {regx: b}]}", "proxy.rules[1].regx", "proxy.rules[].regex"),
            ("download: {piece_timeout: 3s}", "download.piece_timeout", "download.pieceTimeout"),
            ("seedpeer: {enable: true}", "seedpeer", "seedPeer"),
            ("seedPeer: {enabled: true}", "seedPeer.enabled", "seedPeer.enable"),
        ],
    )
    def test_near_match_is_found_wherever_it_is_in_the_tree(
        self, write: Write, text: str, unknown: str, near: str
    ) -> None:
        assert refusal(write(text)).endswith(f'unknown key "{unknown}"; did you mean "{near}"?')

    @pytest.mark.parametrize("text", ["proxy: {whitelist: []}", "whitelist: 1", "jaeger: x", "12: 1", "yes: 1"])
    def test_nothing_is_suggested_where_nothing_is_near(self, write: Write, text: str) -> None:
        assert refusal(write(text)).endswith('"')

    def test_key_below_a_value_is_unknown(self) -> None:
        assert 'unknown key "storage.keep.always"' in refusal(None, {"storage.keep.always": "1"})

    def test_one_key_under_both_its_spellings_is_refused(self, write: Write) -> None:
        text = "gc: {policy: {diskThreshold: 1, distThreshold: 2}}"
        assert "gc.policy.diskThreshold is here twice, once as gc.policy.distThreshold" in refusal(write(text))


class TestWrongValues:
    @pytest.mark.parametrize(
        ("text", "sentence"),
        [
            (
                "download: {pieceTimeout: 30}",
                'download.pieceTimeout is 30, wanted a duration such as "30s" or "1h 5m" (a number alone has no unit)',
            ),
            (
                "download: {pieceTimeout: 30000000000}",
                'download.pieceTimeout is 30000000000, wanted a duration such as "30s" or "1h 5m"'
                " (a number alone has no unit)",
            ),
            (
                "download: {pieceTimeout: soon}",
                'download.pieceTimeout is "soon", wanted a duration such as "30s" or "1h 5m"',
            ),
            (
                "upload: {bandwidthLimit: 4 lots}",
                'upload.bandwidthLimit is "4 lots", wanted a size such as "4MiB" or "50GB"',
            ),
            ("upload: {bandwidthLimit: -1}", 'upload.bandwidthLimit is -1, wanted a size such as "4MiB" or "50GB"'),
            ("upload: {bandwidthLimit: 1.5}", 'upload.bandwidthLimit is 1.5, wanted a size such as "4MiB" or "50GB"'),
            ("upload: {bandwidthLimit: true}", 'upload.bandwidthLimit is true, wanted a size such as "4MiB" or "50GB"'),
            (
                "upload: {bandwidthLimit: 0}",
                'upload.bandwidthLimit is 0, wanted bytes per second above 0, such as "100MB"'
                " (50GB or more is no limit)",
            ),
            ("download: 5", "download is 5, wanted a mapping"),
            ("download: []", "download is a list, wanted a mapping"),
            ("host: {hostname: 12}", "host.hostname is 12, wanted text (put it in quotes)"),
            ("host: {ip: 300.1.1.1}", 'host.ip is "300.1.1.1", wanted an IP address such as "192.168.0.7"'),
            ("storage: {keep: 'true'}", 'storage.keep is "true", wanted true or false'),
            ("storage: {dir: }", "storage.dir is nothing, wanted a path"),
            ("storage: {dir: [a]}", "storage.dir is a list, wanted a path"),
            ("download: {concurrentPieceCount: 0}", "download.concurrentPieceCount is 0, wanted 1 or more"),
            ("download: {concurrentPieceCount: 1.5}", "download.concurrentPieceCount is 1.5, wanted a whole number"),
            ("upload: {server: {port: 70000}}", "upload.server.port is 70000, wanted 65535 or less"),
            ("upload: {server: {requestRateLimit: 0}}", "upload.server.requestRateLimit is 0, wanted more than 0"),
            ("download: {protocol: rdma}", 'download.protocol is "rdma", wanted one of tcp or quic'),
            ("seedPeer: {type: supr}", 'seedPeer.type is "supr", wanted one of normal, super, strong, weak'),
            (
                "gc: {policy: {diskHighThresholdPercent: 100}}",
                "gc.policy.diskHighThresholdPercent is 100, wanted 99 or less",
            ),
            ("proxy: {rules: {regex: a}}", "proxy.rules is a mapping, wanted a list"),
            ("proxy: {rules: [a]}", 'proxy.rules[0] is "a", wanted a mapping'),
            ("proxy: {rules: [{redirect: a}]}", "proxy.rules[0].regex is missing"),
            (
                "proxy: {server: {basicAuth: {username: '', password: b}}}",
                'proxy.server.basicAuth.username is "", wanted at least 1 characters',
            ),
            (
                "backend: {requestHeader: {X-Number: 1}}",
                "backend.requestHeader.X-Number is 1, wanted text (put it in quotes)",
            ),
            ("backend: {requestHeader: none}", 'backend.requestHeader is "none", wanted a mapping'),
        ],
    )
    def test_path_and_what_was_given_and_what_is_wanted_are_named(self, write: Write, text: str, sentence: str) -> None:
        path = write(text)
        assert refusal(path) == f"{path}: {sentence}"

    def test_regular_expression_that_is_none_is_refused_with_the_reason(self, write: Write) -> None:
        sentence = refusal(write("proxy: {rules: [{regex: '('}]}"))
        assert 'proxy.rules[0].regex is "(", wanted a regular expression (' in sentence

    def test_further_problems_are_counted(self, write: Write) -> None:
        assert refusal(write("storage: {keep: 1, dir: 2, cacheCapacity: x}")).endswith("(and 2 more)")

    def test_zero_needs_no_unit(self, write: Write) -> None:
        assert load(DaemonSettings, write("gc: {policy: {pageCacheIdleTimeout: 0}}")).settings.gc.policy is not None

    def test_long_values_are_cut_short(self, write: Write) -> None:
        assert len(refusal(write(f"host: {{ip: {'x' * 5000}}}"))) < 300

    def test_database_that_is_not_supported_yet_is_refused(self) -> None:
        sentence = refusal(None, {"database.type": "mysql"}, ManagerSettings)
        assert 'database.type is "mysql", wanted sqlite (mysql, mariadb, postgres and polardb' in sentence

    def test_listen_address_of_the_manager_is_checked(self) -> None:
        assert load(ManagerSettings, None, {"server.rest.addr": "127.0.0.1:9"}).settings.server.rest.ip == "127.0.0.1"
        assert "wanted an address such as" in refusal(None, {"server.rest.addr": "localhost"}, ManagerSettings)


class TestWarnings:
    def test_known_key_without_effect_is_named(self, write: Write) -> None:
        loaded = load(DaemonSettings, write("proxy: {prefetch: true}\nstorage: {keep: false, cacheCapacity: 1GiB}"))
        assert loaded.warnings == (
            "proxy.prefetch is known but has no effect yet",
            "storage.cacheCapacity is known but has no effect yet",
        )

    def test_keys_with_effect_cause_none(self, write: Write) -> None:
        assert load(DaemonSettings, write("storage: {keep: false}\nmanager: {addr: 'a:1'}")).warnings == ()

    def test_override_without_effect_is_named_once(self, write: Write) -> None:
        loaded = load(DaemonSettings, write("proxy: {prefetch: true}"), {"proxy.prefetch": "false"})
        assert loaded.warnings == ("proxy.prefetch is known but has no effect yet",)

    def test_elements_of_a_list_are_named_by_their_place(self, write: Write) -> None:
        loaded = load(DaemonSettings, write("proxy: {rules: [{regex: a}]}"))
        assert loaded.warnings == ("proxy.rules[0].regex is known but has no effect yet",)

    def test_effect_of_a_key_can_be_asked_for(self) -> None:
        assert has_effect(DaemonSettings, "storage.dir")
        assert not has_effect(DaemonSettings, "security.enable")


class TestOverrides:
    def test_override_wins_over_the_file_and_leaves_the_rest(self, write: Write) -> None:
        path = write("storage: {dir: /a, keep: false}")
        storage = load(DaemonSettings, path, {"storage.dir": "/b"}).settings.storage
        assert (storage.dir, storage.keep) == (Path("/b"), False)

    @pytest.mark.parametrize(
        ("key", "text", "model", "expected"),
        [
            ("storage.keep", "false", DaemonSettings, False),
            ("download.concurrentPieceCount", "3", DaemonSettings, 3),
            ("download.pieceTimeout", "1h 5m", DaemonSettings, 3900.0),
            ("host.location", "asia|cn", DaemonSettings, "asia|cn"),
            ("host.idc", "", DaemonSettings, None),
            ("scheduler.retryInterval", "250ms", SchedulerSettings, 0.25),
        ],
    )
    def test_value_is_read_as_yaml(self, key: str, text: str, model: type[Section], expected: object) -> None:
        value: object = load(model, None, {key: text}).settings
        for attribute in {"concurrentPieceCount": "download.concurrent_piece_count"}.get(
            key.rpartition(".")[2], key.replace("pieceTimeout", "piece_timeout").replace("retryI", "retry_i")
        ).split("."):
            value = getattr(value, attribute)
        assert value == expected

    def test_whole_list_and_whole_section_can_be_set(self) -> None:
        overrides = {"proxy.rules": "[{regex: a}]", "storage": "{dir: /x, keep: false}"}
        settings = load(DaemonSettings, None, overrides).settings
        assert settings.proxy.rules[0].regex == "a"
        assert settings.storage.dir == Path("/x")

    def test_section_set_to_nothing_is_at_its_defaults_again(self, write: Write) -> None:
        path = write("storage: {dir: /x}")
        assert load(DaemonSettings, path, {"storage": ""}).settings == DaemonSettings()

    def test_name_below_a_free_mapping_may_have_dots(self) -> None:
        settings = load(DaemonSettings, None, {"backend.requestHeader.X-A.b": "'1'"}).settings
        assert settings.backend.request_header == {"X-A.b": "1"}

    def test_unknown_key_is_refused_with_its_near_match(self) -> None:
        expected = '--set: unknown key "storage.kep"; did you mean "storage.keep"?'
        assert refusal(None, {"storage.kep": "true"}) == expected

    def test_wrong_value_is_blamed_on_the_override(self, write: Write) -> None:
        sentence = refusal(write("storage: {dir: /a}"), {"storage.keep": "maybe"})
        assert sentence == '--set: storage.keep is "maybe", wanted true or false'

    def test_value_that_is_not_yaml_is_refused(self) -> None:
        assert refusal(None, {"host.idc": "["}).startswith("--set host.idc: line ")

    @pytest.mark.parametrize("key", ["", ".", "storage.", "storage..dir", ".storage", "storage dir"])
    def test_malformed_keys_are_unknown(self, key: str) -> None:
        assert "unknown key" in refusal(None, {key: "1"})
        assert not knows(DaemonSettings, key)
