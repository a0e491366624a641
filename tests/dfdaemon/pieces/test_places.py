"""Who may be connected, and who makes room."""

from hypothesis import given
from hypothesis import strategies as st

from dragonfly.dfdaemon.pieces.places import Places


def test_a_newcomer_gets_the_place_of_whoever_is_idle_longest() -> None:
    places = Places[str](3, 3)
    for guest in ("a", "b", "c"):
        places.join(guest, "10.0.0.1")
        places.rest(guest)
    places.work("a")
    places.rest("a")  # it has spoken since
    assert not places.has_room("10.0.0.2")
    assert places.yielding("10.0.0.2") == "b"


def test_an_address_that_has_its_share_makes_room_for_itself() -> None:
    places = Places[str](10, 2)
    for guest, ip in (("neighbour", "10.0.0.2"), ("a", "10.0.0.1"), ("b", "10.0.0.1")):
        places.join(guest, ip)
        places.rest(guest)
    assert not places.has_room("10.0.0.1")
    assert places.has_room("10.0.0.2")
    assert places.yielding("10.0.0.1") == "a"
    assert places.yielding() == "neighbour"


def test_the_busy_yield_to_nobody() -> None:
    places = Places[str](1, 1)
    places.join("a", "10.0.0.1")
    assert places.yielding("10.0.0.2") is None
    assert places.yielding("10.0.0.1") is None
    places.rest("a")
    places.leave("a")
    places.leave("a")
    assert places.has_room("10.0.0.1")
    assert len(places) == 0


@given(st.lists(st.tuples(st.sampled_from(["join", "rest", "work", "leave"]), st.integers(0, 5), st.integers(0, 2))))
def test_what_is_counted_is_what_is_there(steps: list[tuple[str, int, int]]) -> None:
    places, there, idle = Places[int](4, 2), dict[int, str](), list[int]()
    for step, guest, network in steps:
        ip = f"10.0.0.{network}"
        if step == "join" and guest not in there and places.has_room(ip):
            places.join(guest, ip)
            there[guest] = ip
        elif step == "leave":
            places.leave(guest)
            there.pop(guest, None)
        elif step in ("rest", "work") and guest in there:
            (places.rest if step == "rest" else places.work)(guest)
        else:
            continue
        idle = [other for other in idle if other != guest] + ([guest] if step == "rest" else [])
        assert (places.guests(), len(places)) == (list(there), len(there))
        assert places.yielding() == (idle[0] if idle else None)
        for network_ip in ("10.0.0.0", "10.0.0.1", "10.0.0.2"):
            count = sum(other == network_ip for other in there.values())
            assert places.has_room(network_ip) == (len(there) < 4 and count < 2)
            if count == 2:
                mine = [other for other in idle if there[other] == network_ip]
                assert places.yielding(network_ip) == (mine[0] if mine else None)
