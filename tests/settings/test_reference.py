"""The page docs/settings.md."""

from pathlib import Path

from dragonfly.cli.settings_page import listing, page

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"


def test_page_in_the_repository_is_the_one_the_models_make() -> None:
    assert PAGE.read_text() == page(), "run: dragonfly settings --markdown > docs/settings.md"


def test_page_tells_keys_defaults_and_what_has_no_effect() -> None:
    text = page()
    assert "| `download.collectedPieceTimeout` | `6m` | How long a parent may say nothing about its pieces. |" in text
    assert "| `proxy.rules[].useTLS` | `false` | *No effect yet.* " in text
    assert "| `upload.server.port` | `4000` |" in text
    assert "| `storage.fileMode` | `0600` |" in text


def test_no_row_of_a_table_has_a_stray_column() -> None:
    rows = [line for line in page().splitlines() if line.startswith("|")]
    assert {row.replace("\\|", "").count("|") for row in rows} == {4}


def test_listing_for_the_terminal_can_be_of_one_service() -> None:
    assert "storage.dir: /var/lib/dragonfly\n" in listing("dfdaemon")
    assert "storage.dir" not in listing("manager")
    assert "manager.yaml" in listing(None)
    assert "scheduler.yaml" in listing(None)
