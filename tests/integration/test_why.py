"""`why` on what decide has really stored: the state, and everything that led to it, without telling who it is."""

from collections.abc import AsyncIterator

import msgspec
import pytest
from pydantic import SecretStr

from connectors.smartwe import schema
from schemas.errors import Misconfigured
from schemas.mutations import Mutation
from streams.chain import Kind
from streams.commands.why import explain
from streams.explanation import WhyReport
from streams.settings import DatabaseSettings, Settings
from tests.integration.decide_world import EMAIL, LIST, ROWS, World, change, gguid, left, new_world, result

pytestmark = pytest.mark.stack

RECIPIENT, PERSON, CONSENT, SUPPRESSION = gguid(12), gguid(10), gguid(13), gguid(14)


class Desk:
    """A pipeline's database with a CRM beside it, and the settings that lead there."""

    def __init__(self, world: World, settings: Settings) -> None:
        self.world = world
        self.settings = settings

    async def why(self, *, email: str | None = EMAIL, recipient: str | None = None, reveal: bool = False) -> WhyReport:
        by = {"recipient": recipient} if recipient else {"email": email}
        return await explain(self.settings, client="a", reveal=reveal, **by)

    async def mutation(self) -> Mutation:
        mutation = await self.world.mutation()
        assert mutation is not None
        return mutation


@pytest.fixture
async def desk(postgres_server: str) -> AsyncIterator[Desk]:
    async with new_world(postgres_server) as world:
        dsn = f"{postgres_server}/{await world.pool.fetchval('select current_database()')}"
        await schema.migrate(dsn)
        settings = Settings(
            database=DatabaseSettings(sync_dsn=SecretStr(dsn), crm_dsn=SecretStr(dsn)),
            hmac_keys=(SecretStr(b"0123456789abcdef".hex()),),
            clients=("a",),
        )
        yield Desk(world, settings)


async def subscribed(world: World) -> None:
    """Ann is a member, on a proof of hers."""
    await world.fold(*(change(table) for table in ROWS if table != "suppression"))


async def test_it_answers_when_nothing_is_known(desk: Desk) -> None:
    report = await desk.why()

    assert not report.known
    assert report.verdict.startswith("Nothing is known of this mailbox")


async def test_what_cannot_be_an_address_has_no_mailbox(desk: Desk) -> None:
    report = await desk.why(email="no address")

    assert not report.known and "cannot be an e-mail address" in report.verdict


async def test_a_client_that_is_none_of_ours_is_wrong_use(desk: Desk) -> None:
    with pytest.raises(Misconfigured, match="the clients are: a"):
        await explain(desk.settings, client="b", email=EMAIL)


@pytest.mark.parametrize("spelling", [EMAIL, "  ANN@example.COM"])
async def test_it_names_the_rule_and_the_proof_and_what_was_asked(desk: Desk, spelling: str) -> None:
    await subscribed(desk.world)

    report = await desk.why(email=spelling)

    (wish,) = report.lists
    assert (wish.list_id, wish.want, wish.rule) == (LIST, "subscribed", "member")
    assert wish.proof is not None and (wish.proof.ref, wish.proof.level) == (CONSENT, 2)
    assert report.version == "1.1" and report.answered is None
    assert "no answer yet" in report.verdict
    (claim,) = report.claims
    assert (claim.recipient, claim.is_leading, claim.sync_state) == (RECIPIENT, True, "dirty")


async def test_the_chain_is_in_order_and_names_the_records_it_was_read_from(desk: Desk) -> None:
    await subscribed(desk.world)
    await desk.world.fold(result(await desk.mutation()))
    await desk.world.fold(left(4711, at="2026-11-20"))

    chain = (await desk.why()).chain

    assert [step.at for step in chain] == sorted(step.at for step in chain)
    assert {Kind.CRM, Kind.EVIDENCE, Kind.EVENT, Kind.DECISION, Kind.RESULT, Kind.STATUS, Kind.SUPPRESSION} <= {
        step.kind for step in chain
    }
    (event,) = [step for step in chain if step.kind is Kind.EVENT]
    assert event.ref == "unsubscriptions:4711" and "read as unsubscribed: not our doing" in event.what
    assert event.place is not None and event.place.topic == "inxmail.a.unsubscriptions"
    (proof,) = [step for step in chain if step.ref == CONSENT]
    assert proof.place is not None and proof.place.topic == "smartwe.crm.consent"
    assert "a proof of level 2 for client a" in proof.what


async def test_after_an_objection_it_names_the_objection_and_the_proof_that_it_outweighs(desk: Desk) -> None:
    await subscribed(desk.world)
    await desk.world.fold(result(await desk.mutation()))
    await desk.world.fold(change("suppression"))

    report = await desk.why()

    (wish,) = report.lists
    assert (wish.want, wish.rule, wish.held) == ("unsubscribed", "objected", "subscribed")
    assert wish.objection is not None and wish.objection.ref == SUPPRESSION
    assert wish.proof is not None and wish.proof.ref == CONSENT
    assert report.version == "1.2" and report.answered == "1.1"
    assert any(step.ref == SUPPRESSION and "(unsubscribe)" in step.what for step in report.chain)
    assert report.claims[0].subscription_state == "unsubscribed" and report.claims[0].reason == "objected"


async def test_a_recipient_leads_to_the_mailbox_that_it_uses(desk: Desk) -> None:
    await subscribed(desk.world)

    assert await desk.why(recipient=RECIPIENT.lower()) == await desk.why()


async def test_a_deleted_recipient_is_still_explained(desk: Desk) -> None:
    await subscribed(desk.world)
    await desk.world.fold(change("distribution_recipient", "d"))

    report = await desk.why(recipient=RECIPIENT)

    assert report.known and not report.claims
    assert any(step.ref == RECIPIENT and step.what.endswith("deleted") for step in report.chain)


async def test_a_held_e_mail_change_is_told(desk: Desk) -> None:
    await subscribed(desk.world)
    await desk.world.fold(result(await desk.mutation()))
    await desk.world.fold(change("address_profile", "u", email="ann.other@example.net"))

    report = await desk.why(recipient=RECIPIENT)

    assert "An e-mail change is held" in report.verdict
    assert report.claims[0].held_for == "a••••@e••••" and report.claims[0].error == "email_change_held"


async def test_no_word_of_it_tells_who_it_is_unless_asked_for(desk: Desk) -> None:
    await subscribed(desk.world)
    await desk.world.fold(result(await desk.mutation()))
    await desk.world.fold(change("address_profile", "u", email="ann.other@example.net"), left())

    hidden = msgspec.json.encode(await desk.why()).decode().lower()

    assert "ann" not in hidden.replace("cannot", "") and "example" not in hidden
    assert EMAIL in msgspec.json.encode(await desk.why(reveal=True)).decode()


async def test_it_tells_whether_the_crm_already_shows_the_newest_status(desk: Desk) -> None:
    await subscribed(desk.world)
    await desk.world.pool.execute(
        f"insert into crm.baf_client (baf_client_id) values ('a');"
        f"insert into crm.distribution (gguid) values ('{gguid(2)}');"
        f"insert into crm.address (gguid) values ('{PERSON}');"
        f"insert into crm.distribution_recipient (gguid, distribution_gguid, baf_client_id, address_gguid)"
        f" values ('{RECIPIENT}', '{gguid(2)}', 'a', '{PERSON}');"
        f"insert into crm.distribution_recipient_status (distribution_recipient_gguid, subscription_state, sync_state,"
        f" pipeline_epoch, pipeline_version) values ('{RECIPIENT}', 'proposed', 'dirty', 1, 1)"
    )

    before = await desk.why()
    await desk.world.fold(result(await desk.mutation()))
    after = await desk.why()

    assert before.claims[0].shown_in_crm is True
    assert after.claims[0].shown_in_crm is False
    assert [step.version for step in after.chain if step.kind is Kind.WRITTEN] == ["1.1"]


async def test_without_the_crm_the_rest_is_still_told(desk: Desk) -> None:
    await subscribed(desk.world)
    away = desk.settings.database.model_copy(update={"crm_dsn": SecretStr("postgresql://nobody@127.0.0.1:9/crm")})
    desk.settings = desk.settings.model_copy(update={"database": away})

    report = await desk.why()

    assert report.known and report.lists[0].rule == "member"
    assert report.claims[0].shown_in_crm is None
    assert len(report.faults) == 1 and report.faults[0].startswith("what the CRM shows was not read")


async def test_it_tells_what_the_clients_worker_did(desk: Desk) -> None:
    await subscribed(desk.world)
    mailbox = (await desk.mutation()).mailbox
    await desk.world.pool.execute(
        f"insert into sync.desired (client, mailbox, epoch, counter, body) values ('a', '{mailbox}', 1, 1, '{{}}');"
        f"insert into sync.delivery (client, mailbox, email, recipient_id, epoch, counter)"
        f" values ('a', '{mailbox}', 'x', 77, 1, 1);"
        f"insert into sync.delivery_list (client, mailbox, list_id, state, cause)"
        f" values ('a', '{mailbox}', 7, 'none', 'read');"
        f"insert into sync.open_import (client, op_id, list_id, resubscribe, columns, phase, subscription_position)"
        f" values ('a', 'op-import', 7, false, '[]', 'posted', 0);"
        f"insert into sync.open_import_row (client, op_id, mailbox, email, held_values, epoch, counter, claims,"
        f" failure) values ('a', 'op-import', '{mailbox}', 'x', '{{}}', 1, 1, '[]', 'INVALID');"
        f"insert into sync.effect (client, op_id, kind, mailbox, list_id, epoch, counter, outcome, attempts)"
        f" values ('a', 'op-leave', 'unsubscribe', '{mailbox}', 7, 1, 1, 'done', 2)"
    )

    report = await desk.why()

    assert report.recipient_id == 77
    assert (report.lists[0].held, report.lists[0].held_cause) == ("none", "read")
    assert [(step.kind, step.ref, step.version) for step in report.chain if step.kind in (Kind.TOLD, Kind.CALL)] == [
        (Kind.TOLD, None, "1.1"),
        (Kind.CALL, "op-import", "1.1"),
        (Kind.CALL, "op-leave", "1.1"),
    ]
    calls = " / ".join(step.what for step in report.chain if step.kind is Kind.CALL)
    assert "this mailbox was refused: INVALID" in calls and "unsubscribe on list 7: done after 2 attempts" in calls
