"""What an import came to, row by row."""

import logging
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

import msgspec

from connectors.store.delivery import Confirmed, ReadRecipient
from connectors.store.ledger import Books
from schemas.delivery import (
    MAILBOX,
    VALUES,
    CallState,
    OpenImport,
    OpenRow,
    Refusal,
    Settled,
    attribute_scope,
    list_scope,
    version_text,
)
from schemas.inxmail import ImportExecution, Recipient
from schemas.mutations import Held, HeldList
from streams.delivery import hearing, outcomes
from streams.delivery.desk import Desk
from streams.delivery.outcomes import RowErrors, RowFault
from streams.delivery.reader import NOTHING_LEARNT, Learnt, Reader, unsettle
from streams.delivery.values import canonical

log = logging.getLogger(__name__)

COLUMN_UNKNOWN: Final = "column_unknown"
IMPORT_FAILED: Final = "import_failed"
_PART: Final = 4000
"""Rows written in one transaction: nothing else is written meanwhile."""

Answers = Mapping[str, tuple[Settled, int]]
"""Mailbox → what its mutation is answered, and the dirt at which that was planned."""


class Judged(msgspec.Struct, frozen=True):
    """An import's rows, and what became of each.

    failures: mailbox → error code. left_at: when those had unsubscribed that were refused for it. unsent: ids of
    attributes that the far side did not take from the file. is_definition_changed: attributes are others by now.
    learnt: recipients that are still to be kept.
    """

    rows: list[OpenRow]
    failures: dict[str, str]
    left_at: dict[str, datetime]
    unsent: frozenset[str]
    is_definition_changed: bool
    learnt: Learnt = NOTHING_LEARNT


class Aftermath:
    """Reads and writes down how imports of one client ended."""

    def __init__(self, desk: Desk, reader: Reader) -> None:
        self._desk = desk
        self._reader = reader

    async def judged(self, opened: OpenImport, execution: ImportExecution) -> Judged:
        """Read a completed import's errors at once, learn the ids of its recipients, and judge its rows.

        Raises: PipelineError; may be repeated.
        """
        desk = self._desk
        async with desk.ledger.reading() as books:
            rows = await books.calls.rows_of(opened.op_id)
        learnt = NOTHING_LEARNT
        if opened.list_id is not None:
            learnt = await self._reader.learn_new(opened.list_id, rows)
            learnt = await self._simple(opened.list_id, learnt)
        if not execution.fail_count and len(learnt.as_sent) == len(rows):
            return Judged(rows, {}, {}, frozenset(), False, learnt)  # seen, every one: there can be no errors
        mailbox_of = {named[1]: row.mailbox for row in rows if (named := desk.mailbox_of(row.email))}
        errors = outcomes.assigned(await desk.api.import_errors(execution.id), mailbox_of, execution.fail_count)
        if errors.rows or errors.unassigned or errors.columns_missing:
            codes = sorted({*errors.rows.values(), *errors.unassigned})
            facts = {"op_id": opened.op_id, "failed": execution.fail_count, "codes": codes}
            log.warning("import rows refused", extra=facts | {"columns_missing": len(errors.columns_missing)})
        seen = await self._seen(rows, errors, learnt)
        failures = dict(errors.rows)
        if errors.unassigned:
            failures |= {
                row.mailbox: errors.unassigned[0]
                for row in rows
                if row.mailbox not in failures and not self._took_effect(opened, row, seen.get(row.mailbox))
            }
        left_at = {
            mailbox: date
            for mailbox, code in failures.items()
            if code == outcomes.UNSUBSCRIPTION_ERROR
            and opened.list_id is not None
            and mailbox in seen
            and (date := seen[mailbox].dates()[1].get(opened.list_id)) is not None
        }
        doubtful = errors.columns_missing or any(
            outcomes.fault_of(code) is RowFault.VALUES for code in failures.values()
        )
        unsent = self._unsent(opened, errors)
        changed = bool(doubtful) and await desk.directory.refresh()
        return Judged(rows, failures, left_at, unsent, changed, learnt)

    async def _simple(self, list_id: int, learnt: Learnt) -> Learnt:
        """Without those of whom something is held on another list: they are read and kept as anybody is."""
        mailboxes = list(learnt.recipients)
        async with self._desk.ledger.reading() as books:
            held = await books.deliveries.lists_of(mailboxes)
        others = {
            mailbox
            for mailbox, lists in held.items()
            if any(state.state is not Held.NONE for other, state in lists.items() if other != list_id)
        }
        if not others:
            return learnt
        kept = {mailbox: found for mailbox, found in learnt.recipients.items() if mailbox not in others}
        recipients = await self._reader.fetch([learnt.recipients[mailbox].email for mailbox in sorted(others)])
        await self._reader.keep(recipients, self._desk.directory.lists)
        return Learnt(kept, learnt.as_sent - others, learnt.place)

    async def _seen(self, rows: Sequence[OpenRow], errors: RowErrors, learnt: Learnt) -> dict[str, Recipient]:
        """Mailbox → recipient: of those whose id is not known yet, and of those that the errors leave in doubt."""
        mailboxes = [row.mailbox for row in rows if row.mailbox not in errors.rows]
        strangers = [mailbox for mailbox in mailboxes if mailbox not in learnt.recipients]
        async with self._desk.ledger.reading() as books:
            doubtful = set(await books.deliveries.without_recipient(strangers))
        doubtful |= {mailbox for mailbox, code in errors.rows.items() if code == outcomes.UNSUBSCRIPTION_ERROR}
        if errors.unassigned:
            doubtful |= set(mailboxes)
        if not doubtful:
            return {}
        recipients = await self._reader.fetch([row.email for row in rows if row.mailbox in doubtful])
        await self._reader.keep(recipients, self._desk.directory.lists)
        return {named[0]: found for found in recipients if (named := self._desk.mailbox_of(found.email))}

    def _took_effect(self, opened: OpenImport, row: OpenRow, recipient: Recipient | None) -> bool:
        if recipient is None:
            return False
        if opened.list_id is not None:
            subscribed, unsubscribed = recipient.dates()
            state, _ = hearing.state_by_dates(subscribed.get(opened.list_id), unsubscribed.get(opened.list_id))
            return state is Held.SUBSCRIBED
        attributes = self._desk.directory.attributes
        return all(
            key in attributes and canonical(attributes[key], recipient.attributes.get(attributes[key].name)) == text
            for key, text in row.values.items()
        )

    def _unsent(self, opened: OpenImport, errors: RowErrors) -> frozenset[str]:
        """The columns that the far side passed over; when it does not say which, all of them."""
        if not errors.columns_missing:
            return frozenset()
        ids = {self._desk.directory.id_of(name) for name in errors.columns_missing}
        return frozenset(opened.columns) if None in ids else frozenset(key for key in ids if key is not None)

    async def complete(self, opened: OpenImport, judged: Judged, answers: Answers) -> list[str]:
        """Write down what it came to, in parts, the end of the import last; the mailboxes that are to be looked at.

        answers: what the mutations of rows are answered that succeeded, where nothing else has happened since. A list
        that was set to unknown while the import was under way stays so: somebody left meanwhile, and it is to be read
        or called again. A crash between two parts repeats them all.
        """
        desk, rows = self._desk, judged.rows
        now = desk.now()
        for first in range(0, len(rows), _PART):
            async with desk.ledger.transaction() as books:
                await self._write(books, opened, judged, answers, rows[first : first + _PART], now)
            desk.outbox.wake()
        mailboxes = [row.mailbox for row in rows]
        async with desk.ledger.transaction() as books:
            await books.deliveries.put_refusals(_refusals(opened, judged))
            await books.calls.end_import(opened.op_id, CallState.DONE, judged.failures)
            again = await books.deliveries.dirty_among(mailboxes)
        if judged.learnt.place is not None:
            await self._reader.advance(judged.learnt.place)
        log.info(
            "import completed",
            extra={"op_id": opened.op_id, "list_id": opened.list_id, "rows": len(rows), "failed": len(judged.failures)},
        )
        return again

    async def _write(
        self, books: Books, opened: OpenImport, judged: Judged, answers: Answers, rows: Sequence[OpenRow], now: datetime
    ) -> None:
        """What became of these rows."""
        failures, learnt = judged.failures, judged.learnt.recipients
        unknown: set[str] = set()
        if opened.list_id is not None:
            held = await books.deliveries.lists_of([row.mailbox for row in rows])
            unknown = {mailbox for mailbox, lists in held.items() if _is_unknown(lists, opened.list_id)}
            states = [
                (row.mailbox, self._state(opened.op_id, opened.list_id, row, judged, now))
                for row in rows
                if failures.get(row.mailbox) in (None, outcomes.UNSUBSCRIPTION_ERROR) and row.mailbox not in unknown
            ]
            await books.deliveries.put_lists(states)
        known = {found.recipient_id: row.mailbox for row in rows if (found := learnt.get(row.mailbox)) is not None}
        renamed = await books.deliveries.strangers(known) if known else []
        await unsettle(books, renamed)
        self._desk.look(renamed)
        done = await books.deliveries.confirm(
            [
                _confirmed(row, answers[row.mailbox], learnt.get(row.mailbox))
                for row in rows
                if row.mailbox in answers
                and row.mailbox not in failures
                and row.mailbox not in unknown
                and not judged.unsent
            ]
        )
        rest = [row for row in rows if row.mailbox not in done]
        await books.deliveries.put_recipients([learnt[row.mailbox] for row in rest if row.mailbox in learnt])
        await books.deliveries.put_values(
            {
                row.mailbox: {key: text for key, text in row.values.items() if key not in judged.unsent}
                for row in rest
                if row.mailbox not in failures
            }
        )
        await books.deliveries.touch({row.mailbox: row.email for row in rest if row.mailbox in failures})

    def _state(self, op_id: str, list_id: int, row: OpenRow, judged: Judged, now: datetime) -> HeldList:
        if row.mailbox in judged.failures:
            since = judged.left_at.get(row.mailbox, now)
            return HeldList(list_id, Held.UNSUBSCRIBED, outcomes.UNSUBSCRIPTION_ERROR, since)
        return HeldList(list_id, Held.SUBSCRIBED, op_id, now, row.claims)

    async def unknown(self, opened: OpenImport, *, refuse: str | None = None) -> list[str]:
        """Nobody knows what it came to: its list states are to be read; its mailboxes.

        refuse: the code with which its rows are not tried again; None: they are.
        """
        async with self._desk.ledger.transaction() as books:
            rows = await books.calls.rows_of(opened.op_id)
            mailboxes = [row.mailbox for row in rows]
            if opened.list_id is not None:
                held = await books.deliveries.lists_of(mailboxes)
                now = self._desk.now()
                states = [
                    (row.mailbox, HeldList(opened.list_id, Held.UNKNOWN, opened.op_id, now, _claims(held, row, opened)))
                    for row in rows
                ]
                await books.deliveries.put_lists(states)
            if refuse is not None:
                scope = MAILBOX if opened.list_id is None else list_scope(opened.list_id)
                refusals = {row.mailbox: {scope: Refusal(refuse, version_text(row.version))} for row in rows}
                await books.deliveries.put_refusals(refusals)
            await books.calls.end_import(opened.op_id, CallState.LOST, {})
            await books.deliveries.touch({row.mailbox: row.email for row in rows})
        return mailboxes


def _confirmed(row: OpenRow, answer: tuple[Settled, int], found: ReadRecipient | None) -> Confirmed:
    settled, dirt = answer
    return Confirmed(
        mailbox=row.mailbox,
        dirt=dirt,
        values=row.values if found is None or found.values is row.values else found.values | row.values,
        recipient_id=found.recipient_id if found else None,
        remote_email=found.remote_email if found else None,
        answer=settled,
    )


def _is_unknown(held: Mapping[int, HeldList], list_id: int) -> bool:
    return list_id in held and held[list_id].state is Held.UNKNOWN


def _claims(held: Mapping[str, Mapping[int, HeldList]], row: OpenRow, opened: OpenImport) -> tuple[str, ...]:
    before = held[row.mailbox].get(opened.list_id or 0)
    return before.claims if before is not None else ()


def _refusals(opened: OpenImport, judged: Judged) -> dict[str, dict[str, Refusal]]:
    """What is not to be tried again. Not where a definition has changed: then the next try is another one."""
    refusals: dict[str, dict[str, Refusal]] = {}
    for row in judged.rows:
        code = judged.failures.get(row.mailbox)
        if code is None:
            if judged.unsent and not judged.is_definition_changed:
                refusals[row.mailbox] = {
                    attribute_scope(key): Refusal(COLUMN_UNKNOWN, text)
                    for key, text in row.values.items()
                    if key in judged.unsent
                }
            continue
        fault = outcomes.fault_of(code)
        if fault is RowFault.LIST:
            if opened.resubscribe:  # it should not be possible: not again with the same proof
                refusal = Refusal(outcomes.code_of(code), version_text(row.version))
                refusals[row.mailbox] = {list_scope(opened.list_id or 0): refusal}
        elif fault is RowFault.VALUES and row.values:
            if not judged.is_definition_changed:
                # Which of them it is, only a single call tells.
                refusals[row.mailbox] = {VALUES: Refusal(outcomes.code_of(code), version_text(row.version))}
        else:
            refusals[row.mailbox] = {MAILBOX: Refusal(outcomes.code_of(code), version_text(row.version))}
    return refusals
