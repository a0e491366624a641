"""Scheduler clusters are ranked by what their scopes say about the host that asks."""

import time

import pytest

from dragonfly.core.placement.clusters import Cluster, Ignored, Scopes, Weights, Whereabouts, rank, score

HOST = Whereabouts("10.1.2.3", "edge-7.hz.example", "hz-a", "asia|cn|hangzhou|rack-7")


def scored(scopes: Scopes, host: Whereabouts = HOST, **more: bool):
    return score(Cluster(id=1, scopes=scopes, **more), host)


def test_weights_sum_to_one():
    weights = Weights()
    assert weights.cidr + weights.hostname + weights.idc + weights.location + weights.default == pytest.approx(1)


@pytest.mark.parametrize(
    ("ip", "cidrs", "expected"),
    [
        ("10.1.2.3", ("10.0.0.0/8",), 1),
        ("10.1.2.3", ("192.168.0.0/16", "10.1.2.3/32"), 1),
        ("10.1.2.3", ("10.1.2.99/24",), 1),  # host bits set, as people write it
        ("10.1.2.3", ("10.1.2.3",), 1),
        ("10.1.2.3", ("192.168.0.0/16",), 0),
        ("10.1.2.3", ("fd00::/8",), 0),
        ("fd00::17", ("fd00::/8",), 1),
        ("fd00::17", ("10.0.0.0/8",), 0),
        ("::ffff:10.1.2.3", ("10.0.0.0/8",), 1),
        ("fe80::1%eth0", ("fe80::/10",), 1),
        ("not-an-ip", ("0.0.0.0/0", "::/0"), 0),
        ("", ("0.0.0.0/0",), 0),
        ("10.1.2.3", (), 0),
    ],
)
def test_cidr_term_is_one_inside_any_network_of_the_cluster(ip, cidrs, expected):
    assert scored(Scopes(cidrs=cidrs), Whereabouts(ip)).cidr == expected


@pytest.mark.parametrize(
    ("hostname", "patterns", "expected"),
    [
        ("edge-7.hz.example", ("edge",), 1),
        ("edge-7.hz.example", (r"^edge-\d+\.",), 1),
        ("edge-7.hz.example", ("^core", r"\.hz\."), 1),
        ("edge-7.hz.example", ("^hz",), 0),
        ("edge-7.hz.example", ("EDGE",), 0),
        ("edge-7.hz.example", ("(edge|core)-[0-9]+",), 1),
        ("", (".*",), 0),
        ("e" * 129, ("e",), 0),
    ],
)
def test_hostname_term_is_one_where_any_pattern_is_found(hostname, patterns, expected):
    assert scored(Scopes(hostnames=patterns), Whereabouts("10.0.0.1", hostname)).hostname == expected


@pytest.mark.parametrize(
    ("host", "scope", "expected"),
    [
        ("hz", "hz", 1),
        ("HZ", "hz", 1),
        ("sh", "hz|SH|bj", 1),
        ("h", "hz|sh", 0),
        ("hz|sh", "hz|sh", 1),
        ("", "", 0),
        ("hz", "", 0),
        ("", "hz", 0),
    ],
)
def test_idc_term_is_one_for_any_of_the_named_idcs_whatever_their_case(host, scope, expected):
    assert scored(Scopes(idc=scope), Whereabouts("10.0.0.1", idc=host)).idc == expected


@pytest.mark.parametrize(
    ("host", "scope", "expected"),
    [
        ("asia|cn|hz", "asia|cn|hz", 1),
        ("ASIA|cn", "asia|CN", 1),
        ("asia|cn|hz|rack-7", "asia|cn", 0.4),
        ("asia|cn", "asia|cn|hz|rack-7", 0.4),
        ("asia|jp", "asia|cn", 0.2),
        ("eu|de", "asia|cn", 0),
        ("a|b|c|d|e|f", "a|b|c|d|e|g", 1),
        ("eu|cn", "asia|cn", 0),  # only leading elements count
        ("", "asia", 0),
        ("asia", "", 0),
    ],
)
def test_location_term_counts_the_leading_elements_in_common(host, scope, expected):
    assert scored(Scopes(location=scope), Whereabouts("10.0.0.1", location=host)).location == pytest.approx(expected)


def test_total_weighs_every_term():
    scopes = Scopes("hz-a", "asia|cn", ("10.0.0.0/8",), ("^edge",))
    found = scored(scopes, is_default=True)
    assert (found.cidr, found.hostname, found.idc, found.location, found.default) == (1, 1, 1, 0.4, 1)
    assert found.total == pytest.approx(0.30 + 0.30 + 0.25 + 0.14 * 0.4 + 0.01)


def test_perfect_match_scores_one_and_no_match_scores_nothing():
    scopes = Scopes("hz-a", HOST.location, ("10.0.0.0/8",), ("edge",))
    assert scored(scopes, is_default=True).total == pytest.approx(1)
    assert scored(Scopes()).total == 0


def test_clusters_are_ranked_best_first_and_none_is_dropped():
    clusters = [
        Cluster(id=1, is_default=True),
        Cluster(id=2, scopes=Scopes(idc="hz-a")),
        Cluster(id=3, scopes=Scopes(cidrs=("10.0.0.0/8",))),
        Cluster(id=4),
    ]
    assert [each.cluster_id for each in rank(clusters, HOST)] == [3, 2, 1, 4]


def test_equal_clusters_keep_the_order_of_their_ids():
    assert [each.cluster_id for each in rank([Cluster(id=9), Cluster(id=2), Cluster(id=5)], HOST)] == [2, 5, 9]


def test_own_weights_change_the_ranking():
    clusters = [Cluster(id=1, scopes=Scopes(idc="hz-a")), Cluster(id=2, scopes=Scopes(cidrs=("10.0.0.0/8",)))]
    only_idc = Weights(cidr=0, hostname=0, idc=1, location=0, default=0)
    assert [each.cluster_id for each in rank(clusters, HOST, only_idc)] == [1, 2]


def test_senseless_entries_are_ignored_with_a_reason_and_the_rest_still_counts():
    found = scored(Scopes(cidrs=("10.0.0.0/99", "10.0.0.0/8", ""), hostnames=("(", "^edge")))
    assert (found.cidr, found.hostname) == (1, 1)
    assert [each.entry for each in found.ignored] == ["10.0.0.0/99", "", "("]
    assert found.ignored[0] == Ignored("10.0.0.0/99", "not a network such as 10.0.0.0/8 or fd00::/8")
    assert found.ignored[2].reason.startswith("not a regular expression")


@pytest.mark.parametrize(
    "pattern",
    [
        "(a+)+$",
        "(a|a)*$",
        "(a*)*b",
        "((a)?){5,}",
        "(a?){50}b",
        "(?:[a-z]+)*!",
        "(a|aa)+?$",
        r"(\w+\s?)*$",
        "a*a*a*a*b",
        r"(a)\1",
        "x" * 257,
        "(" * 200 + ")" * 200,
        "a{99999999999999999999}",
    ],
)
def test_patterns_that_could_take_forever_are_ignored(pattern):
    found = scored(Scopes(hostnames=(pattern,)), Whereabouts("10.0.0.1", "a" * 60))
    assert found.hostname == 0
    assert [each.entry for each in found.ignored] == [pattern]


@pytest.mark.parametrize(
    "pattern", [r"^edge-\d+\.hz\.", "(edge|core)", r"[(+*)]+x", r"\(a\+\)+", "(edge)+", "a.*b.*c.*"]
)
def test_ordinary_patterns_are_used(pattern):
    assert scored(Scopes(hostnames=(pattern,))).ignored == ()


def test_the_worst_pattern_we_accept_is_done_in_a_moment():
    began = time.process_time()
    scored(Scopes(hostnames=(".*.*.*x",)), Whereabouts("10.0.0.1", "a" * 128))
    assert time.process_time() - began < 1
