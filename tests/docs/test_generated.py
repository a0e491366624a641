"""Documentation that is made from the code agrees with it."""

from docs import generate


def test_generated_documents_are_up_to_date() -> None:
    assert generate.outdated() == [], "run `make docs`"
