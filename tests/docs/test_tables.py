"""The tables people look things up in: one row for each thing, where it is looked for."""

from docs import generate


def rows(name: str, heading: str) -> list[list[str]]:
    """The cells of the table that begins with `heading`."""
    _, _, table = (generate.ROOT / name).read_text().partition(f"\n| {heading} |")
    lines = table.partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.replace("\\|", "/").strip("|").split("|")] for line in lines]


def test_glossary_is_in_alphabetical_order_without_a_word_twice() -> None:
    words = [word.lower() for word, _ in rows("GLOSSARY.md", "word")]
    assert words == sorted(set(words))
    assert "seed peer" in words


def test_no_departure_from_the_reference_stands_twice_or_without_a_reason() -> None:
    departures = rows("docs/compatibility.md", "where")
    names = [row[0] for row in departures]
    assert len(names) == len(set(names))
    assert len(names) > 40
    assert [row for row in departures if len(row) != 4 or not all(row)] == []
