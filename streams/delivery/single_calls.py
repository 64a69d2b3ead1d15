"""One mailbox, one call: leaving a list, writing attributes. Written down before, looked at again after."""

import logging
from typing import NamedTuple

from schemas import causes
from schemas.delivery import MAILBOX, CallState, Refusal, attribute_scope, list_scope, version_text
from schemas.errors import AnswerLost, PipelineError, Refused, Unavailable
from schemas.ids import gguid_of
from schemas.inxmail import AttributeValue
from schemas.mutations import Held, HeldList, Mutation
from streams.delivery import hearing, outcomes
from streams.delivery.desk import Desk
from streams.delivery.plan import Patch, Unsubscribe
from streams.delivery.reader import Reader
from streams.delivery.values import json_value

log = logging.getLogger(__name__)

UNSUBSCRIBE = "unsubscribe"
PATCH = "patch"


class Opened(NamedTuple):
    """A call that is written down. `is_first`: no earlier attempt of it may have been carried out."""

    op_id: str
    is_first: bool


class SingleCalls:
    """Carries out single calls of one client. Raises: PipelineError, when a call must be made again."""

    def __init__(self, desk: Desk, reader: Reader) -> None:
        self._desk = desk
        self._reader = reader

    async def carry_out(self, call: Unsubscribe | Patch) -> None:
        """Make the call, unless a newer mutation has come. Its outcome is in the tables when this returns."""
        if isinstance(call, Unsubscribe):
            await self._unsubscribe(call)
        else:
            await self._write(call)

    async def _begin(self, kind: str, mailbox: str, list_id: int | None, mutation: Mutation) -> Opened | None:
        """Write the call down here and in Kafka; None when a newer mutation has come."""
        version = mutation.version
        async with self._desk.ledger.transaction() as books:
            if not await books.calls.is_newest(mailbox, version):
                return None
            last = await books.calls.last(kind, mailbox, list_id, version)
            unanswered = last is not None and last.state in (CallState.OPEN, CallState.LOST)
            repeated = last is not None and (unanswered or last.state is CallState.UNDONE)
            ordinal = 0 if last is None else last.ordinal + (not repeated)
            op_id = gguid_of(self._desk.client, kind, mailbox, list_id or "", version.epoch, version.counter, ordinal)
            await books.calls.begin(
                op_id, kind, mailbox, list_id, version, ordinal, self._desk.positions.unsubscriptions
            )
        await self._desk.outbox.tell_calls([op_id])
        return Opened(op_id, not unanswered)

    async def _unsubscribe(self, call: Unsubscribe) -> None:
        opened = await self._begin(UNSUBSCRIBE, call.mailbox, call.list_id, call.mutation)
        if opened is None:
            return
        try:
            result = await self._desk.api.unsubscribe(call.list_id, call.email)
        except Refused as failure:
            await self._not_for_later(opened, failure)
            if failure.status == 404:
                await self._desk.directory.look_up_lists({call.list_id})
            is_list_known = call.list_id in self._desk.directory.lists
            ended = outcomes.unsubscription_refused(failure, is_list_known=is_list_known)
            await self._left(call, opened, ended, CallState.REFUSED)
        except AnswerLost:
            await self._lost(call, opened)
            raise
        except PipelineError:
            await self._end(opened, CallState.UNDONE)
            raise
        else:
            await self._left(call, opened, outcomes.unsubscribed_as(result), CallState.DONE)

    async def _left(self, call: Unsubscribe, opened: Opened, ended: outcomes.Ended, state: CallState) -> None:
        """Write down how the list is held now.

        Found to be so already by a first attempt, on a list that we held for subscribed: then the person was faster,
        and what the log says of it is her word, not our echo.
        """
        hers = ended.duplicate and opened.is_first and call.was is Held.SUBSCRIBED
        async with self._desk.ledger.transaction() as books:
            if ended.state is not None:
                # An import that is under way may subscribe after this call: then nobody knows, until it has ended.
                unsettled = await books.calls.is_subscribing_now(call.mailbox, call.list_id)
                held = HeldList(
                    call.list_id,
                    Held.UNKNOWN if unsettled else ended.state,
                    causes.DUPLICATE if hers else opened.op_id,
                    self._desk.now(),
                )
                await books.deliveries.put_lists([(call.mailbox, held)])
            if ended.error is not None:
                refusal = Refusal(ended.error, version_text(call.mutation.version))
                await books.deliveries.put_refusals({call.mailbox: {list_scope(call.list_id): refusal}})
            await books.calls.end(opened.op_id, CallState.DUPLICATE if hers else state)
            if hers:
                await books.listening.release(opened.op_id, hearing.DUPLICATE_TYPES)
            await books.deliveries.touch({call.mailbox: call.mutation.email})
        if ended.error is not None:
            log.error(
                "unsubscription not achieved",
                extra={"list_id": call.list_id, "error": ended.error, "op_id": opened.op_id},
            )
        self._desk.outbox.wake()

    async def _lost(self, call: Unsubscribe, opened: Opened) -> None:
        """Perhaps carried out: unknown, so it is called again, which is harmless."""
        async with self._desk.ledger.transaction() as books:
            held = HeldList(call.list_id, Held.UNKNOWN, opened.op_id, self._desk.now())
            await books.deliveries.put_lists([(call.mailbox, held)])
            await books.calls.end(opened.op_id, CallState.LOST)
            await books.deliveries.touch({call.mailbox: call.mutation.email})

    async def _end(self, opened: Opened, state: CallState) -> None:
        async with self._desk.ledger.transaction() as books:
            await books.calls.end(opened.op_id, state)
        self._desk.outbox.wake()

    async def _not_for_later(self, opened: Opened, failure: Refused) -> None:
        """Raises: Unavailable, when it is refused only while something else goes on."""
        if outcomes.is_for_later(failure):
            await self._end(opened, CallState.UNDONE)
            raise Unavailable(f"Inxmail is busy with it ({failure.kind}); it is tried again") from failure

    async def _write(self, call: Patch) -> None:
        opened = await self._begin(PATCH, call.mailbox, None, call.mutation)
        if opened is None:
            return
        try:
            written, refusals = await self._written(call, call.values)
        except Refused as failure:
            await self._not_for_later(opened, failure)
            await self._not_written(call, opened, failure)
        except PipelineError:
            await self._end(opened, CallState.LOST)
            raise
        else:
            async with self._desk.ledger.transaction() as books:
                await books.deliveries.put_values({call.mailbox: written})
                await books.deliveries.put_refusals({call.mailbox: refusals} if refusals else {})
                await books.calls.end(opened.op_id, CallState.DONE if written else CallState.REFUSED)
            self._desk.outbox.wake()

    async def _written(
        self, call: Patch, values: dict[str, str | None]
    ) -> tuple[dict[str, str | None], dict[str, Refusal]]:
        """What was written, and what was refused by scope. One bad value does not keep the others back.

        Raises: Refused, when it is about the recipient; any other PipelineError.
        """
        attributes = self._desk.directory.attributes
        present = {key: text for key, text in values.items() if key in attributes}
        named: dict[str, AttributeValue] = {
            attributes[key].name: json_value(attributes[key], text) for key, text in present.items()
        }
        if not named:
            return {}, {}
        try:
            await self._desk.api.write_attributes(call.recipient_id, named)
        except Refused as failure:
            if not outcomes.is_about_values(failure):
                raise
            return await self._apart(call, present, failure)
        return present, {}

    async def _apart(
        self, call: Patch, values: dict[str, str | None], failure: Refused
    ) -> tuple[dict[str, str | None], dict[str, Refusal]]:
        """The values that a refusal does not concern, written without the others."""
        attributes = self._desk.directory.attributes
        names = outcomes.refused_names(failure, [attributes[key].name for key in values])
        guilty = {key for key in values if attributes[key].name in names} or (
            set(values) if len(values) == 1 else set()
        )
        code = outcomes.code_of_refusal(failure)
        if guilty:
            if await self._desk.directory.refresh():
                return {}, {}  # definitions have changed: planned anew from what they are now
            groups = [{key: text for key, text in values.items() if key not in guilty}]
        else:
            keys = list(values)  # by halves: which of them it is costs few calls
            groups = [{key: values[key] for key in half} for half in (keys[: len(keys) // 2], keys[len(keys) // 2 :])]
        written: dict[str, str | None] = {}
        refusals = {attribute_scope(key): Refusal(code, values[key]) for key in guilty}
        for group in groups:
            more, refused = await self._written(call, group)
            written |= more
            refusals |= refused
        return written, refusals

    async def _not_written(self, call: Patch, opened: Opened, failure: Refused) -> None:
        """The recipient itself is refused. One that is not there is looked for under its address."""
        if failure.status != 404:
            refusal = Refusal(outcomes.code_of_refusal(failure), version_text(call.mutation.version))
            async with self._desk.ledger.transaction() as books:
                await books.deliveries.put_refusals({call.mailbox: {MAILBOX: refusal}})
                await books.calls.end(opened.op_id, CallState.REFUSED)
                await books.deliveries.touch({call.mailbox: call.mutation.email})
            self._desk.outbox.wake()
            return
        await self._end(opened, CallState.REFUSED)
        async with self._desk.ledger.reading() as books:
            held = await books.deliveries.mailboxes([call.mailbox])
        await self._reader.read(held)
