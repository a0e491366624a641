"""docs/performance.md: each scenario writes its own section, and nobody else's."""

from bench.page import OPENING, filled, section, skipped
from bench.rounds import Figure, Goal

FIGURES = [
    Figure(name="rate / iperf3", value=0.8, goal=Goal(at_least=0.75)),
    Figure(name="CPU", value=0.9, unit="s/GiB", goal=Goal(at_most=0.7)),
    Figure(name="rate", value=2.5, unit="GiB/s"),
]


def test_a_section_is_a_table_with_its_machine_and_missed_goals_in_bold() -> None:
    assert section("One hop", "What it is.", "two cores", FIGURES) == (
        "## One hop\n\nWhat it is.\n\n*two cores*\n\n"
        "| | measured | goal |\n|---|---|---|\n"
        "| rate / iperf3 | 0.8 | ≥ 0.75 |\n"
        "| CPU | 0.9 s/GiB | **≤ 0.7** |\n"
        "| rate | 2.5 GiB/s |  |"
    )


def test_an_empty_page_begins_with_what_it_is() -> None:
    assert filled("", "upload", "figures") == (f"{OPENING}\n<!-- upload: begin -->\nfigures\n<!-- upload: end -->\n")


def test_a_new_scenario_goes_to_the_end() -> None:
    page = filled(filled("", "upload", "uploads"), "memory", "megabytes")

    assert page.index("uploads") < page.index("megabytes")


def test_measuring_one_scenario_again_keeps_the_others() -> None:
    page = filled(filled(filled("", "one-hop", "old hop"), "upload", "old upload"), "memory", "old memory")

    again = filled(page, "upload", "new upload")

    assert again == page.replace("old upload", "new upload")


def test_writing_the_same_again_changes_nothing() -> None:
    page = filled(filled("", "one-hop", "hop"), "upload", "figures")

    assert filled(page, "one-hop", "hop") == page


def test_what_people_write_around_the_sections_stays() -> None:
    page = filled("", "upload", "old") + "\nA remark.\n"

    assert filled(page, "upload", "new").endswith("new\n<!-- upload: end -->\n\nA remark.\n")


def test_a_skipped_scenario_does_not_take_away_what_was_measured_elsewhere() -> None:
    page = filled("", "upload", "measured")

    assert filled(page, "upload", skipped("Upload", "no room"), only_if_absent=True) == page


def test_a_scenario_never_measured_says_why() -> None:
    page = filled("", "many-files", skipped("Many files", "there is no nginx"), only_if_absent=True)

    assert "## Many files\n\nNot measured: there is no nginx." in page
