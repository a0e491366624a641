"""What is read out of rounds: order, medians of ratios, goals, numbers as people read them."""

import pytest

from bench.rounds import Goal, Round, alternate, median, percentile, ratio, shown, slope


def test_sides_take_turns_in_an_order_that_turns_round_each_time() -> None:
    seen: list[str] = []

    def run(name: str) -> Round:
        seen.append(name)
        return {}

    alternate({"ours": lambda: run("ours"), "theirs": lambda: run("theirs")}, 2)

    assert seen == ["theirs", "ours", "ours", "theirs", "theirs", "ours"]


def test_the_round_that_warms_up_is_not_kept() -> None:
    counter = iter(range(10))

    rounds = alternate({"ours": lambda: {"rate": next(counter)}}, 3)

    assert rounds == [{"ours rate": 1}, {"ours rate": 2}, {"ours rate": 3}]


def test_what_is_measured_is_told_as_it_comes() -> None:
    lines: list[str] = []

    alternate({"ours": lambda: {"rate": 1.5}}, 1, say=lines.append)

    assert lines == ["round 0, ours: rate 1.5", "round 1, ours: rate 1.5"]


def test_a_ratio_is_the_median_of_the_rounds_ratios_not_the_ratio_of_medians() -> None:
    rounds = [{"a": 1.0, "b": 1.0}, {"a": 10.0, "b": 20.0}, {"a": 100.0, "b": 400.0}]

    assert ratio(rounds, "a", "b") == 0.5
    assert median(rounds, "a") == 10.0


def test_a_ratio_counts_only_rounds_that_have_both_sides() -> None:
    rounds = [{"a": 3.0}, {"b": 5.0}, {"a": 2.0, "b": 1.0}]

    assert ratio(rounds, "a", "b") == 2.0


@pytest.mark.parametrize("read", [lambda rounds: median(rounds, "c"), lambda rounds: ratio(rounds, "a", "c")])
def test_what_no_round_has_cannot_be_read(read) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(KeyError):
        read([{"a": 1.0, "b": 1.0}])


@pytest.mark.parametrize(("percent", "expected"), [(0, 1), (1, 1), (50, 50), (90, 90), (99, 99), (100, 100)])
def test_a_percentile_is_a_value_that_was_measured(percent: float, expected: float) -> None:
    assert percentile([float(n) for n in range(100, 0, -1)], percent) == expected


def test_slope_is_growth_per_sample() -> None:
    assert slope([5.0, 7.0, 9.0, 11.0]) == pytest.approx(2.0)
    assert slope([4.0, 4.0, 4.0]) == 0.0
    assert slope([4.0]) == 0.0


def test_a_goal_is_met_at_its_bound() -> None:
    assert Goal(at_least=0.75).is_met(0.75)
    assert not Goal(at_least=0.75).is_met(0.7499)
    assert Goal(at_most=1.25).is_met(1.25)
    assert not Goal(at_most=1.25).is_met(1.26)


def test_a_goal_reads_as_a_bound() -> None:
    assert str(Goal(at_least=0.75)) == "≥ 0.75"
    assert str(Goal(at_most=120)) == "≤ 120"
    assert str(Goal(at_least=1, at_most=2)) == "≥ 1 and ≤ 2"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.0004, "0.0004"),
        (0.02313, "0.0231"),
        (1.25, "1.25"),
        (812.4, "812"),
        (1e4, "10 000"),
        (-3.5, "-3.5"),
    ],
)
def test_numbers_have_the_figures_that_mean_something(value: float, text: str) -> None:
    assert shown(value) == text
