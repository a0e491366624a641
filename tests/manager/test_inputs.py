"""What members say is checked; what is wrong is named in a sentence."""

import pytest

from dragonfly.errors import InvalidInput
from dragonfly.manager import inputs


@pytest.mark.parametrize("text", ["a", "edge-7.hz.example", "Host_1", "1", "a" * 253])
def test_host_names_are_taken_as_they_are(text):
    assert inputs.hostname(text) == text


@pytest.mark.parametrize("text", ["", "-a", "a-", "a b", "a/b", "a\n", "é", "a\x00", "a" * 254, "..", "<script>"])
def test_what_is_no_host_name_is_refused(text):
    with pytest.raises(InvalidInput, match=r"^hostname .* is not a host name$"):
        inputs.hostname(text)


@pytest.mark.parametrize(
    ("text", "proper"),
    [("10.0.0.1", "10.0.0.1"), ("FD00:0::1", "fd00::1"), ("::ffff:10.0.0.1", "10.0.0.1"), ("0.0.0.0", "0.0.0.0")],
)
def test_addresses_get_one_spelling(text, proper):
    assert inputs.caller_ip(text) == proper


@pytest.mark.parametrize(
    "text", ["", "10.0.0", "10.0.0.256", "010.0.0.1", "localhost", "10.0.0.1:80", " 10.0.0.1", "1"]
)
def test_what_is_no_address_is_refused(text):
    with pytest.raises(InvalidInput, match="is not an IP address"):
        inputs.caller_ip(text)


@pytest.mark.parametrize("text", ["0.0.0.0", "::", "224.0.0.1", "ff02::1", "::ffff:0.0.0.0"])
def test_members_have_addresses_others_can_connect_to(text):
    with pytest.raises(InvalidInput, match="others can connect to"):
        inputs.member_ip(text)


@pytest.mark.parametrize(("number", "fine"), [(1023, False), (1024, True), (65534, True), (65535, False), (-1, False)])
def test_ports_are_those_of_the_reference(number, fine):
    if fine:
        assert inputs.port(number) == number
    else:
        with pytest.raises(InvalidInput, match=f"download_port {number} is outside 1024 to 65534"):
            inputs.port(number, "download_port")


@pytest.mark.parametrize("number", [0, 2**63, 2**64 - 1])
def test_ids_the_tables_cannot_hold_are_refused(number):
    with pytest.raises(InvalidInput, match="scheduler_cluster_id"):
        inputs.record_id(number, "scheduler_cluster_id")


@pytest.mark.parametrize("text", ["a\nb", "\x00", "x" * 1025])
def test_places_are_one_short_line(text):
    with pytest.raises(InvalidInput, match=r"^idc "):
        inputs.place(text, "idc")


def test_places_may_be_in_any_language():
    assert inputs.place("亚洲|中国|杭州", "location") == "亚洲|中国|杭州"


def test_features_are_kept_once_in_order():
    assert inputs.features(["preheat", "schedule", "preheat"]) == ["preheat", "schedule"]


@pytest.mark.parametrize("names", [["Sched ule"], [""], ["x" * 65], [f"f{number}" for number in range(17)]])
def test_features_that_make_no_sense_are_refused(names):
    with pytest.raises(InvalidInput, match="feature"):
        inputs.features(names)


def test_config_is_a_json_object():
    assert inputs.json_object(b'{"manager_keep_alive_interval": 5000000000}', "config") == {
        "manager_keep_alive_interval": 5_000_000_000
    }


@pytest.mark.parametrize(
    "text",
    [b"{", b"[]", b"1", b"\xff", b'{"a": NaN}', b'{"a": 1e999}', b"[" * 16_000, b'{"a": "' + b"x" * 20_000 + b'"}'],
)
def test_config_of_any_other_kind_is_refused(text):
    with pytest.raises(InvalidInput, match=r"^config "):
        inputs.json_object(text, "config")


def test_refusals_do_not_repeat_endless_input():
    with pytest.raises(InvalidInput) as refusal:
        inputs.hostname("x" * 100_000)
    assert len(str(refusal.value)) < 200
