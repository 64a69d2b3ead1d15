"""People come into the CRM from a seed or from a file: what is reported is what is there."""

import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from connectors.smartwe import schema
from connectors.smartwe.csv_import import load_csv
from connectors.smartwe.expectation import expected_memberships
from connectors.smartwe.sample import ClientTargets, SampleReport, load_sample
from schemas.errors import MalformedInput, Misconfigured, Refused, Unavailable
from tests.crm_database import CrmDatabase, crm_database

pytestmark = pytest.mark.stack

TARGETS = {
    "a": ClientTargets((1, 2), {"first_name": 1, "x_revenue": 2}),
    "b": ClientTargets((7, 8), {"first_name": 21, "birthday": 22}),
}
ADDRESSES = 3_000


@pytest.fixture(scope="module")
async def crm(stack_home: Path) -> AsyncIterator[CrmDatabase]:
    async with crm_database(stack_home, f"verteiler_{uuid.uuid4().hex[:12]}") as crm:
        yield crm


@pytest.fixture(scope="module")
def dsn(crm: CrmDatabase) -> str:
    """With the rights of the CRM's own users."""
    return f"{crm.write_back_dsn.get_secret_value().partition('?')[0]}?role={schema.CRM_ROLE}"


@pytest.fixture(scope="module")
async def loaded(dsn: str) -> tuple[SampleReport, list[int]]:
    told: list[int] = []
    report = await load_sample(
        dsn, addresses=ADDRESSES, seed=7, clients=["a", "b"], bindings=TARGETS, progress=told.append
    )
    return report, told


async def counted(crm: CrmDatabase, statement: str) -> dict[str, int]:
    return {row[0]: row[1] for row in await crm.admin.fetch(statement)}


async def test_the_report_of_a_sample_is_what_the_crm_holds(
    crm: CrmDatabase, loaded: tuple[SampleReport, list[int]]
) -> None:
    report, told = loaded

    kinds = await counted(crm, "select kind, count(*) from crm.address group by 1")
    consents = await counted(crm, "select kind, count(*) from crm.consent group by 1")
    recipients = await counted(crm, "select baf_client_id, count(*) from crm.distribution_recipient group by 1")
    assert kinds == {"person": report.persons, "contact_person": report.contact_persons, "company": report.companies}
    assert sum(kinds.values()) == report.addresses == told[-1] == ADDRESSES
    assert told == sorted(told)
    assert consents == report.consents
    assert recipients == report.recipients


async def test_each_client_gets_its_own_list_and_one_that_all_share(
    crm: CrmDatabase, loaded: tuple[SampleReport, list[int]]
) -> None:
    rows = await crm.admin.fetch(
        "select d.title, d.requires_doi, b.baf_client_id, b.inxmail_list_id from crm.distribution_binding b"
        " join crm.distribution d on d.gguid = b.distribution_gguid order by b.inxmail_list_id"
    )

    assert [tuple(row) for row in rows] == [
        ("Newsletter A", False, "a", 1),
        ("Newsletter für alle", False, "a", 2),
        ("Newsletter B", True, "b", 7),
        ("Newsletter für alle", False, "b", 8),
    ]
    assert set(loaded[0].distributions) == {"Newsletter A", "Newsletter B", "Newsletter für alle"}


async def test_some_of_the_sample_must_be_subscribed_everywhere_and_some_nowhere(
    crm: CrmDatabase, loaded: tuple[SampleReport, list[int]]
) -> None:
    expected = await expected_memberships(crm.admin)

    report, _ = loaded
    assert {place[:2] for place in expected} == {("a", 1), ("a", 2), ("b", 7), ("b", 8)}
    assert ADDRESSES / 3 < len(expected) < sum(report.recipients.values())


async def test_the_same_seed_is_refused_and_another_is_loaded_on_top(
    crm: CrmDatabase, dsn: str, loaded: tuple[SampleReport, list[int]]
) -> None:
    with pytest.raises(Refused, match="seed 7 is already loaded"):
        await load_sample(dsn, addresses=10, seed=7, clients=["a", "b"], bindings=TARGETS)

    await load_sample(dsn, addresses=10, seed=8, clients=["a", "b"], bindings=TARGETS)

    assert await crm.admin.fetchval("select count(*) from crm.address") == ADDRESSES + 10


async def test_a_list_that_belongs_to_another_distribution_is_refused(
    crm: CrmDatabase, dsn: str, loaded: tuple[SampleReport, list[int]]
) -> None:
    await crm.admin.execute(
        "insert into crm.distribution_binding (distribution_gguid, baf_client_id, inxmail_list_id)"
        " values ($1, 'a', 99)",
        crm.distribution,
    )

    with pytest.raises(Refused, match="list 99 of client a is bound to another distribution"):
        await load_sample(dsn, addresses=1, seed=9, clients=["a"], bindings={"a": ClientTargets((99,), {})})


async def test_a_target_without_a_column_is_refused_before_anything_is_changed(crm: CrmDatabase, dsn: str) -> None:
    with pytest.raises(Misconfigured, match="no column shoe_size"):
        await load_sample(
            dsn, addresses=1, seed=10, clients=["z"], bindings={"z": ClientTargets((1,), {"shoe_size": 1})}
        )

    assert not await crm.admin.fetchval("select exists (select from crm.baf_client where baf_client_id = 'z')")


FILE = """\
Anrede;Vorname;Nachname;E-Mail;Einwilligung;Angemeldet am;Bestätigt am;x_revenue
Frau;Anna;Müller;Anna@Müller.example;Double-Opt-In;01.02.2023 10:00;01.02.2023 10:05;1.234,56
Herr;Bernd;Groß;kein@;;;;
Herr;Carl;Lang;carl@x.example;;;;
Herr;Dora;Kurz;dora@x.example;;;;999999999999999999
Herr;Emil;Klein;emil@x.example;abgemeldet;;;
Frau;Anna;Müller;ANNA@müller.example;;;;
"""


async def test_good_lines_of_a_file_are_loaded_and_bad_ones_told(crm: CrmDatabase, dsn: str, tmp_path: Path) -> None:
    path = tmp_path / "export.csv"
    path.write_bytes(FILE.encode("cp1252"))
    count = "select count(*) from crm.distribution_recipient where distribution_gguid = $1"
    before = await crm.admin.fetchval(count, crm.distribution)

    tried = await load_csv(dsn, path, client="a", distribution="Neues", dry_run=True)
    assert await crm.admin.fetchval(count, crm.distribution) == before
    told: list[int] = []
    report = await load_csv(dsn, path, client="a", distribution=crm.distribution, progress=told.append)
    again = await load_csv(dsn, path, client="a", distribution="Neues")

    assert msgspec.structs.replace(tried, dry_run=False) == report
    assert (report.lines, report.loaded, report.already_there, report.without_consent, report.left) == (6, 3, 1, 1, 1)
    assert [line.line for line in report.bad] == [3, 5]
    assert told == [6]
    assert (again.loaded, again.already_there) == (0, 4)
    rows = await crm.admin.fetch(
        "select a.first_name, r.desired, c.kind, c.proof_level, c.email from crm.distribution_recipient r"
        " join crm.address a on a.gguid = r.address_gguid left join crm.consent c on c.address_gguid = a.gguid"
        " where r.distribution_gguid = $1 order by 1",
        crm.distribution,
    )
    assert [tuple(row) for row in rows] == [
        ("Anna", "member", "doi", 3, "Anna@Müller.example"),
        ("Carl", "member", None, None, None),
        ("Emil", "not_member", "withdrawal", 0, "emil@x.example"),
    ]


@pytest.mark.parametrize(
    ("client", "distribution", "told"),
    [
        ("nobody", "Neues", "there is no client nobody"),
        ("a", "Altes", "no distributions are called Altes"),
        ("nobody", "Altes", "no client nobody; no distributions"),
    ],
)
async def test_a_file_for_a_place_that_does_not_exist_is_refused(
    dsn: str, tmp_path: Path, client: str, distribution: str, told: str
) -> None:
    path = tmp_path / "export.csv"
    path.write_text(FILE)

    with pytest.raises(Misconfigured, match=told):
        await load_csv(dsn, path, client=client, distribution=distribution)


async def test_a_file_that_cannot_be_opened_is_one_clear_sentence(dsn: str, tmp_path: Path) -> None:
    with pytest.raises(MalformedInput, match="cannot be opened: No such file"):
        await load_csv(dsn, tmp_path / "missing.csv", client="a", distribution="Neues")


async def test_a_database_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    path = tmp_path / "export.csv"
    path.write_text(FILE)

    with pytest.raises(Unavailable, match="cannot be reached"):
        await load_csv("postgresql://nobody@127.0.0.1:1/nothing", path, client="a", distribution="Neues")
