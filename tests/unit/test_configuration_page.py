from pathlib import Path

from streams.configuration import page

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"


def test_the_page_says_what_the_settings_say() -> None:
    assert PAGE.read_text("utf-8") == page(), "run: python -m streams.configuration > docs/configuration.md"


def test_every_setting_is_explained() -> None:
    rows = [line for line in page().splitlines() if line.startswith("| `VERTEILER_")]

    assert rows
    assert not [row for row in rows if row.split("|")[4].strip() == ""]


def test_no_secret_has_a_default_that_is_shown() -> None:
    for row in page().splitlines():
        if "| secret |" in row:
            assert row.split("|")[3].strip() in ("–", "must be set")
