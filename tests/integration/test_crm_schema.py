"""The CRM database does by itself what its documentation says: defaults, versions, evidence, refusals, roles."""

import sys
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

import asyncpg
import pytest

from connectors.postgres import migrations
from connectors.smartwe import schema
from schemas.errors import Misconfigured
from tests.crm_database import CrmDatabase, crm_database

pytestmark = pytest.mark.stack

LONG_AGO = datetime(2001, 2, 3, tzinfo=UTC)
Session: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


@pytest.fixture(scope="module")
async def crm(stack_home: Path) -> AsyncIterator[CrmDatabase]:
    async with crm_database(stack_home, f"verteiler_{uuid.uuid4().hex[:12]}") as crm:
        yield crm


@pytest.fixture
async def user(crm: CrmDatabase) -> AsyncIterator[Session]:
    """A session with the rights of the CRM's own users; what it does is taken back."""
    session = await as_role(crm, schema.CRM_ROLE)
    attempt = session.transaction()
    await attempt.start()
    yield session
    await attempt.rollback()
    await session.close()


async def as_role(crm: CrmDatabase, role: str) -> Session:
    return await asyncpg.connect(f"{crm.write_back_dsn.get_secret_value().partition('?')[0]}?role={role}")


async def insert(session: Session, table: str, **row: Any) -> str:
    """A new row that names only this; its GGUID."""
    columns, places = ", ".join(row), ", ".join(f"${n}" for n in range(1, len(row) + 1))
    values = f"({columns}) values ({places})" if row else "default values"
    found = await session.fetchval(f"insert into crm.{table} {values} returning gguid", *row.values())
    return str(found)


async def consents(session: Session, address: str) -> list[asyncpg.Record]:
    return await session.fetch("select * from crm.consent where address_gguid = $1 order by kind", address)


async def refused(session: Session, statement: str, *values: Any) -> asyncpg.PostgresError:
    """The error that the statement ends in; the transaction goes on."""
    with pytest.raises(asyncpg.PostgresError) as caught:
        async with session.transaction():
            await session.execute(statement, *values)
    return caught.value


async def test_exactly_the_captured_tables_are_published(crm: CrmDatabase) -> None:
    published = await crm.admin.fetch(
        "select schemaname || '.' || tablename as name from pg_publication_tables where pubname = $1",
        schema.PUBLICATION,
    )

    expected = {f"crm.{table}" for table in schema.CAPTURED_TABLES} | {"cdc.heartbeat", "cdc.dbz_signal"}
    assert {row["name"] for row in published} == expected


async def test_the_documentation_names_every_table(crm: CrmDatabase) -> None:
    page = Path(__file__).parents[2].joinpath("docs", "crm-schema.md").read_text("utf-8")
    tables = await crm.admin.fetch("select tablename as name from pg_tables where schemaname in ('crm', 'cdc')")

    assert [row["name"] for row in tables if f"{row['name']}`" not in page] == []


@pytest.mark.parametrize("table", schema.CAPTURED_TABLES)
async def test_a_captured_table_shows_whole_old_rows_and_refuses_truncate(user: Session, table: str) -> None:
    identity = await user.fetchval("select relreplident from pg_class where oid = $1::regclass", f"crm.{table}")
    key = await user.fetchval(
        "select string_agg(attname, ',') from pg_index"
        " join pg_attribute on attrelid = indrelid and attnum = any (indkey)"
        " where indisprimary and indrelid = $1::regclass",
        f"crm.{table}",
    )
    error = await refused(user, f"truncate crm.{table} cascade")

    assert (identity, key) == (b"f", "gguid")
    assert isinstance(error, asyncpg.RestrictViolationError)


async def test_an_insert_names_only_what_it_means(user: Session) -> None:
    address = await insert(user, "address")
    row = await user.fetchrow("select * from crm.address where gguid = $1", address)

    assert row is not None
    assert len(address) == 32
    assert (row["kind"], row["is_deactivated"], row["is_objected_global"]) == ("person", False, False)
    assert (row["row_version"], row["insertuser"], row["deleted_at"]) == (1, schema.CRM_ROLE, None)
    assert row["subject_id"] is not None


async def test_an_update_raises_the_version_and_names_its_user(crm: CrmDatabase, user: Session) -> None:
    address = await insert(crm.admin, "address", inserttimestamp=LONG_AGO, updatetimestamp=LONG_AGO)

    await user.execute("update crm.address set town = 'Ulm', row_version = 1 where gguid = $1", address)

    row = await user.fetchrow("select * from crm.address where gguid = $1", address)
    assert row is not None
    assert (row["row_version"], row["updateuser"], row["inserttimestamp"]) == (2, schema.CRM_ROLE, LONG_AGO)
    assert row["updatetimestamp"] > LONG_AGO


@pytest.mark.parametrize(
    ("override", "profile", "address", "field", "expected"),
    [
        pytest.param(" o@x.example", "p@x.example", "a@x.example", "email1", "o@x.example", id="the membership's own"),
        pytest.param("  ", "p@x.example", "a@x.example", "email1", "p@x.example", id="the profile's"),
        pytest.param(None, None, "a@x.example", "email1", "a@x.example", id="the address's"),
        pytest.param(None, "\t", "a@x.example", "email2", "a@x.example", id="the field that the binding names"),
        pytest.param(None, None, None, "email1", None, id="none"),
    ],
)
async def test_a_consent_keeps_the_mailbox_that_was_meant_when_it_was_given(
    crm: CrmDatabase, user: Session, override: str | None, profile: str | None, address: str | None, field: str,
    expected: str | None,
) -> None:  # fmt: skip
    await insert(
        user, "distribution_binding", distribution_gguid=crm.distribution, baf_client_id="a", email_field=field
    )
    person = await insert(user, "address", **{field: address})
    await insert(user, "channel", code="c")
    await insert(user, "source", code="s")
    through = await insert(
        user, "address_profile", address_gguid=person, channel_code="c", source_code="s", email=profile
    )
    await insert(
        user, "distribution_recipient", distribution_gguid=crm.distribution, baf_client_id="a", address_gguid=person,
        profile_gguid=through, email_override=override,
    )  # fmt: skip

    await insert(
        user, "consent", address_gguid=person, baf_client_id="a", distribution_gguid=crm.distribution, kind="written"
    )
    await user.execute(f"update crm.address set {field} = 'later@x.example' where gguid = $1", person)

    (consent,) = await consents(user, person)
    assert consent["email"] == expected


async def test_a_consent_is_about_the_person_whatever_the_insert_says(user: Session) -> None:
    person = await insert(user, "address", email1="a@x.example")
    subject = await user.fetchval("select subject_id from crm.address where gguid = $1", person)

    await insert(
        user, "consent", address_gguid=person, baf_client_id="a", kind="written", subject_id=uuid.uuid4(),
        inserttimestamp=LONG_AGO, email="other@x.example",
    )  # fmt: skip

    (consent,) = await consents(user, person)
    assert consent["subject_id"] == subject
    assert consent["inserttimestamp"] > LONG_AGO
    assert consent["email"] == "other@x.example"


@pytest.mark.parametrize(
    ("row", "level"),
    [
        ({"kind": "doi", "requested_at": LONG_AGO, "confirmed_at": LONG_AGO}, 3),
        ({"kind": "doi", "requested_at": LONG_AGO}, 1),
        ({"kind": "written"}, 2),
        ({"kind": "single_opt_in"}, 1),
        ({"kind": "imported_unproven"}, 0),
        ({"kind": "written", "proof_level": 1}, 1),
    ],
)
async def test_a_consent_without_a_level_gets_the_one_its_kind_shows(
    user: Session, row: dict[str, Any], level: int
) -> None:
    consent = await insert(user, "consent", baf_client_id="a", email="a@x.example", **row)

    assert await user.fetchval("select proof_level from crm.consent where gguid = $1", consent) == level


async def test_evidence_is_only_added_to(user: Session) -> None:
    consent = await insert(user, "consent", baf_client_id="a", kind="written")

    deleting = await refused(user, "delete from crm.consent where gguid = $1", consent)
    editing = await refused(user, "update crm.consent set proof_level = 3 where gguid = $1", consent)

    assert "only added to" in str(deleting)
    assert "only added to" in str(editing)


async def test_a_consent_to_everybody_at_once_is_refused_and_an_objection_is_not(user: Session) -> None:
    error = await refused(user, "insert into crm.consent (kind) values ('written')")

    assert isinstance(error, asyncpg.CheckViolationError)
    await insert(user, "consent", kind="objection")


async def test_a_consent_of_nobody_is_refused(user: Session) -> None:
    error = await refused(
        user, "insert into crm.consent (kind, address_gguid, baf_client_id) values ('written', $1, 'a')", "0" * 32
    )

    assert isinstance(error, asyncpg.ForeignKeyViolationError)


@pytest.mark.parametrize("at_once", [True, False])
async def test_a_person_who_asks_to_leave_leaves_a_withdrawal(crm: CrmDatabase, user: Session, at_once: bool) -> None:
    person = await insert(user, "address", email1="A@x.example")
    leaving = {"desired": "not_member", "desired_reason": "person_request"}
    recipient = await insert(
        user, "distribution_recipient", distribution_gguid=crm.distribution, baf_client_id="a", address_gguid=person,
        **(leaving if at_once else {}),
    )  # fmt: skip
    if not at_once:
        await user.execute("update crm.distribution_recipient set desired = 'not_member' where gguid = $1", recipient)
        assert await consents(user, person) == []
        await user.execute(
            "update crm.distribution_recipient set desired_reason = 'person_request' where gguid = $1", recipient
        )
    await user.execute("update crm.distribution_recipient set pin_leading = true where gguid = $1", recipient)

    (withdrawal,) = await consents(user, person)
    assert (withdrawal["kind"], withdrawal["email"], withdrawal["proof_level"]) == ("withdrawal", "A@x.example", 0)
    assert (withdrawal["baf_client_id"], withdrawal["distribution_gguid"]) == ("a", crm.distribution)
    assert withdrawal["source_identifier"] == f"distribution_recipient/{recipient}"


@pytest.mark.parametrize("at_once", [True, False])
async def test_a_global_objection_leaves_one_for_all_clients(user: Session, at_once: bool) -> None:
    person = await insert(user, "address", email1="a@x.example", is_objected_global=at_once)
    await user.execute("update crm.address set is_objected_global = true where gguid = $1", person)
    await user.execute("update crm.address set town = 'Ulm' where gguid = $1", person)

    (objection,) = await consents(user, person)
    assert (objection["kind"], objection["baf_client_id"], objection["email"]) == ("objection", None, "a@x.example")


@pytest.mark.parametrize("date", ["0044-03-15 BC", "infinity", "-infinity", "10000-01-01"])
@pytest.mark.parametrize(
    ("table", "column"), [("address", "birthday"), ("address", "x_last_visit_at"), ("erasure_request", "due_at")]
)
async def test_dates_that_few_programs_understand_are_refused(
    user: Session, table: str, column: str, date: str
) -> None:
    error = await refused(user, f"insert into crm.{table} ({column}) values ('{date}')")

    assert error.constraint_name == f"{column}_is_a_common_date"


@pytest.mark.parametrize(
    ("table", "row"),
    [
        ("distribution_binding", {"inxmail_list_id": 5}),
        ("distribution_recipient", {"address_gguid": ...}),
        ("field_mapping", {"crm_table": "address", "crm_field": "town", "inxmail_attribute_id": 3}),
    ],
)
async def test_a_row_in_the_recycle_bin_does_not_stand_in_the_way_of_its_successor(
    crm: CrmDatabase, user: Session, table: str, row: dict[str, Any]
) -> None:
    person = await insert(user, "address")
    row = {name: person if value is ... else value for name, value in row.items()}
    if table != "field_mapping":
        row["distribution_gguid"] = crm.distribution
    first = await insert(user, table, baf_client_id="a", **row)
    columns, values = ", ".join(row), ", ".join(f"${n}" for n in range(1, len(row) + 1))

    again = await refused(
        user, f"insert into crm.{table} (baf_client_id, {columns}) values ('a', {values})", *row.values()
    )
    await user.execute(f"update crm.{table} set deleted_at = now() where gguid = $1", first)

    assert isinstance(again, asyncpg.UniqueViolationError)
    assert await insert(user, table, baf_client_id="a", **row) != first


async def test_double_opt_in_and_a_lower_level_exclude_each_other(user: Session) -> None:
    error = await refused(user, "insert into crm.distribution (requires_doi, required_proof) values (true, 1)")

    assert error.constraint_name == "double_opt_in_is_proof_level_3"


async def test_the_status_goes_with_its_recipient(crm: CrmDatabase, user: Session) -> None:
    person = await insert(user, "address")
    recipient = await insert(
        user, "distribution_recipient", distribution_gguid=crm.distribution, baf_client_id="a", address_gguid=person
    )
    await user.execute(
        "insert into crm.distribution_recipient_status (distribution_recipient_gguid) values ($1)", recipient
    )

    await user.execute("delete from crm.address where gguid = $1", person)

    left = await user.fetchval(
        "select count(*) from crm.distribution_recipient_status where distribution_recipient_gguid = $1", recipient
    )
    assert left == 0


async def test_a_crm_user_adds_and_drops_columns(user: Session) -> None:
    await user.execute("alter table crm.address drop column x_revenue")
    await user.execute("alter table crm.address add column x_revenue text")

    await insert(user, "address", x_revenue="viel")


@pytest.mark.parametrize(
    ("role", "allowed", "statement"),
    [
        (schema.CAPTURE_ROLE, True, "select * from crm.address"),
        (schema.CAPTURE_ROLE, True, "update cdc.heartbeat set ts = now() where id = 1"),
        (schema.CAPTURE_ROLE, True, "insert into cdc.dbz_signal values ('1', 'execute-snapshot', '{}')"),
        (schema.CAPTURE_ROLE, False, "select * from crm.distribution_recipient_status"),
        (schema.CAPTURE_ROLE, False, "update crm.address set town = 'Ulm'"),
        (schema.WRITE_BACK_ROLE, True, "insert into crm.consent (kind) values ('objection')"),
        (schema.WRITE_BACK_ROLE, True, "delete from crm.suppression"),
        (schema.WRITE_BACK_ROLE, True, "select pg_replication_origin_session_is_setup()"),
        (schema.WRITE_BACK_ROLE, False, "update crm.distribution_recipient set desired = 'member'"),
        (schema.WRITE_BACK_ROLE, False, "update crm.address set is_objected_global = false"),
        (schema.WRITE_BACK_ROLE, False, "update crm.pipeline_identity set normaliser_version = 2"),
        (schema.CRM_ROLE, True, "delete from crm.suppression"),
        (schema.CRM_ROLE, False, "select pg_replication_origin_session_is_setup()"),
    ],
)
async def test_a_role_may_do_its_work_and_no_more(crm: CrmDatabase, role: str, allowed: bool, statement: str) -> None:
    session = await as_role(crm, role)
    attempt = session.transaction()
    await attempt.start()
    try:
        if allowed:
            await session.execute(statement)
        else:
            assert isinstance(await refused(session, statement), asyncpg.InsufficientPrivilegeError)
    finally:
        await attempt.rollback()
        await session.close()


async def test_the_capture_role_may_replicate_and_the_others_may_not(crm: CrmDatabase) -> None:
    rows = await crm.admin.fetch(
        "select rolname, rolreplication, rolsuper from pg_roles where rolname = any ($1::text[])",
        [schema.CAPTURE_ROLE, schema.WRITE_BACK_ROLE, schema.CRM_ROLE],
    )

    assert {row["rolname"] for row in rows if row["rolreplication"]} == {schema.CAPTURE_ROLE}
    assert not any(row["rolsuper"] for row in rows)


async def test_a_migration_that_fails_leaves_nothing_behind(crm: CrmDatabase, tmp_path: Path) -> None:
    folder = tmp_path / "half_done" / "migrations"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").touch()
    (folder / "0001_good.sql").write_text("create table half.good (id int)")
    (folder / "0002_bad.sql").write_text("create table half.bad (id nonsense)")
    sys.path.insert(0, str(tmp_path))
    try:
        with pytest.raises(Misconfigured, match=r"0002_bad\.sql .* as it was before"):
            await migrations.migrate(crm.admin, "half_done", "half")
        assert await crm.admin.fetchval("select to_regnamespace('half')") is None

        (folder / "0002_bad.sql").write_text("create table half.bad (id int)")
        assert await migrations.pending(crm.admin, "half_done", "half") == ["0001_good.sql", "0002_bad.sql"]
        assert await migrations.migrate(crm.admin, "half_done", "half") == ["0001_good.sql", "0002_bad.sql"]
        assert await migrations.migrate(crm.admin, "half_done", "half") == []

        (folder / "0001_good.sql").write_text("create table half.good (id bigint)")
        with pytest.raises(Misconfigured, match=r"edited after they had been applied \(0001_good\.sql\)"):
            await migrations.pending(crm.admin, "half_done", "half")
    finally:
        sys.path.remove(str(tmp_path))


async def test_another_key_or_normaliser_is_refused_and_a_further_key_in_the_ring_is_not(crm: CrmDatabase) -> None:
    stored = await crm.admin.fetchrow("select * from crm.pipeline_identity")
    assert stored is not None
    fingerprint, version = stored["hmac_fingerprint"], stored["normaliser_version"]

    await schema.check_identity(crm.admin, fingerprint, version)
    await schema.check_identity(crm.admin, "a newer key", version, also_matches=[fingerprint])
    with pytest.raises(Misconfigured, match=r"another key silently voids every suppression.* normalises e-mail"):
        await schema.provision_identity(crm.admin, "another", version + 1)
