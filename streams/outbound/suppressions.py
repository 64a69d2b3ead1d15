"""What an unsubscription heard at Inxmail leaves behind in the CRM's suppression file. Pure."""

from collections.abc import Iterator

from schemas.crm import SuppressionRecord
from schemas.facts import Meaning, UnsubscriptionEvent, meaning_of
from schemas.ids import Gguid, gguid_of
from streams.mailbox.desired import MailboxView
from streams.mailbox.structure import Structure


def suppression_gguid(event: UnsubscriptionEvent) -> Gguid:
    """The row that this event leaves, however often it is heard."""
    return gguid_of("suppression", event.client, "unsubscriptions", event.event_id)


def suppressions_from(view: MailboxView, structure: Structure, email_hash: bytes) -> Iterator[SuppressionRecord]:
    """One row for each time the person left a list that is bound, member or not; echoes of our own calls leave none."""
    for event in view.record.events:
        if (
            not isinstance(event, UnsubscriptionEvent)
            or event.op_id is not None
            or meaning_of(event) is not Meaning.UNSUBSCRIBED
        ):
            continue
        everywhere = event.type == "NOT_IN_SYSTEM_UNSUBSCRIPTION"
        binding = structure.lists.get((view.client, event.list_id)) if event.list_id is not None else None
        if binding is None and not everywhere:
            continue
        yield SuppressionRecord(
            gguid=suppression_gguid(event),
            epoch=0,
            version=0,
            scope="client" if everywhere else "list",
            baf_client_id=view.client,
            distribution_gguid=None if everywhere or binding is None else binding.distribution_gguid,
            email_hmac=email_hash,
            reason="unsubscribe",
            since=event.occurred_at,
            event_id=str(event.event_id),
        )
