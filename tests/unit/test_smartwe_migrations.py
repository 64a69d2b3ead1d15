"""Which migrations are missing, and when none may be applied."""

import pytest

from connectors.postgres.migrations import Migration, migrations_of, unapplied
from schemas.errors import Misconfigured

FILES = [Migration(name, "", f"sum of {name}") for name in ("0001_a.sql", "0002_b.sql", "0003_c.sql")]
SUMS = {migration.name: migration.checksum for migration in FILES}


def test_what_is_not_applied_is_missing_in_order() -> None:
    assert [m.name for m in unapplied(FILES, {"0001_a.sql": SUMS["0001_a.sql"]}, "crm")] == ["0002_b.sql", "0003_c.sql"]


def test_nothing_is_missing_when_all_is_applied() -> None:
    assert unapplied(FILES, SUMS, "crm") == []


@pytest.mark.parametrize(
    ("applied", "told"),
    [
        pytest.param({"0009_z.sql": "x"}, "newer version", id="a migration of a newer program"),
        pytest.param({"0001_a.sql": "other"}, "edited after", id="a file that was edited"),
        pytest.param({"0002_b.sql": SUMS["0002_b.sql"]}, "number it after 0002_b.sql", id="a number before the last"),
    ],
)
def test_a_history_that_is_not_ours_is_refused(applied: dict[str, str], told: str) -> None:
    with pytest.raises(Misconfigured, match=told):
        unapplied(FILES, applied, "crm")


def test_the_migrations_ship_with_the_package_and_are_numbered() -> None:
    names = [migration.name for migration in migrations_of("connectors.smartwe")]

    assert names == sorted(names)
    assert len({name[:4] for name in names}) == len(names)


def test_a_package_without_migrations_is_an_incomplete_installation() -> None:
    with pytest.raises(Misconfigured, match="install it again"):
        migrations_of("tests.unit")
