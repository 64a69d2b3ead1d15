"""The loop that makes what is held equal to what should be: take mailboxes, plan, settle or call, look again."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from itertools import count
from typing import Final

from connectors.inxmail.pace import Urgency
from schemas.delivery import NO_LIST, HeldMailbox, Settled
from schemas.errors import PipelineError
from schemas.mutations import Lane, Outcome, Version
from streams.delivery.agenda import is_at_least
from streams.delivery.desk import Desk
from streams.delivery.gate import backoff_seconds
from streams.delivery.gathering import LONGEST_IN_BACKLOG_SECONDS, LONGEST_SECONDS, Gathering
from streams.delivery.imports import Imports, Spawn
from streams.delivery.means import Means
from streams.delivery.plan import Patch, Plan, Unsubscribe, plan, unknown_attributes
from streams.delivery.reader import Reader
from streams.delivery.single_calls import SingleCalls

log = logging.getLogger(__name__)

_MOST_MAILBOXES: Final = 2000
"""Planned at once; meanwhile nothing else of this process moves."""
_PATIENCE_SECONDS: Final = 30.0
"""How long a subscription that the door does not let through waits for a newer decision, before it is told so."""
_CALL_SECONDS: Final = 0.1
"""What a call is taken to last before one was measured."""
BARRED: Final = "objection_heard"


class Deliverer:
    """Delivery to one client."""

    def __init__(self, desk: Desk, reader: Reader, calls: SingleCalls, imports: Imports, spawn: Spawn) -> None:
        self._desk = desk
        self._reader = reader
        self._calls = calls
        self._imports = imports
        self._spawn = spawn
        self._queue: asyncio.PriorityQueue[tuple[int, int, Unsubscribe | Patch]] = asyncio.PriorityQueue()
        self._sequence = count()
        self._failures: dict[str, int] = {}
        self._barred: dict[str, tuple[Version, float]] = {}
        self._gathering = Gathering()
        self._planning = (Lane.BULK, 0)
        desk.counts += [self._gathering.count, self._count_planning]

    @property
    def barred(self) -> int:
        """Mailboxes that the door keeps waiting for a newer decision."""
        return len(self._barred)

    async def run(self) -> None:
        """Plan whatever comes, for ever."""
        desk = self._desk
        while True:
            await self._something_to_do()
            while True:
                await desk.gate.sight()
                desk.agenda.awake(self._now())
                desk.agenda.release(self._has_room, self._imports.most_rows)
                lane, mailboxes = desk.agenda.take(_MOST_MAILBOXES)
                if not mailboxes:
                    break
                self._planning = lane, len(mailboxes)
                await self._turn(lane, mailboxes)
                self._planning = lane, 0
                self._send(has_more=True)
                desk.ease()
            self._send(has_more=desk.has_backlog())
            desk.ease()

    def _count_planning(self, lane: Lane) -> int:
        planned, count = self._planning
        return count if is_at_least(planned, lane) else 0

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()

    async def _something_to_do(self) -> None:
        """Return when anything new is on the agenda, or the time of something that waits for it has come."""
        times = (self._desk.agenda.next_time, self._gathering.next_time(self._imports, self._longest_seconds()))
        due = min((time for time in times if time is not None), default=None)
        try:
            async with asyncio.timeout_at(due):
                await self._desk.awake.wait()
        except TimeoutError:
            pass
        self._desk.awake.clear()

    def _has_room(self, list_id: int) -> bool:
        """Whether rows for that list may be gathered."""
        if list_id != NO_LIST and not self._desk.may_subscribe:
            return False
        return self._gathering.rows_for(list_id) < self._imports.most_rows

    def _longest_seconds(self) -> float:
        """How long rows are gathered at most."""
        is_backlog = self._desk.has_backlog() or len(self._desk.agenda) > 2 * _MOST_MAILBOXES
        return LONGEST_IN_BACKLOG_SECONDS if is_backlog else LONGEST_SECONDS

    def _send(self, *, has_more: bool) -> None:
        """Begin the imports whose time has come."""
        more_bulk = self._desk.agenda.count(Lane.BULK) > self._desk.agenda.count(Lane.NORMAL)
        while True:
            found = self._gathering.take(
                self._imports.most_rows,
                self._now(),
                busy=self._imports,
                has_more=has_more,
                more_bulk=more_bulk,
                longest_seconds=self._longest_seconds(),
            )
            if found is None:
                return
            lane, planned = found
            self._imports.start(planned, lane)

    async def work(self) -> None:
        """Make single calls, one after the other, for ever. Several of these run side by side."""
        while True:
            _, _, call = await self._queue.get()
            await self._make(call)

    async def _make(self, call: Unsubscribe | Patch) -> None:
        desk = self._desk
        await desk.gate.passage()
        try:
            await self._calls.carry_out(call)
        except PipelineError as failure:
            desk.gate.failed(failure)
            self._try_later(call.mailbox)
        else:
            desk.gate.succeeded()
            self._failures.pop(call.mailbox, None)
            desk.put_down(call.mailbox)

    def _try_later(self, mailbox: str) -> None:
        """One mailbox that fails again and again must not keep the others waiting."""
        failures = self._failures[mailbox] = self._failures.get(mailbox, 0) + 1
        seconds = backoff_seconds(failures, draw=1.0)
        asyncio.get_running_loop().call_later(seconds, self._desk.put_down, mailbox)

    async def _turn(self, lane: Lane, mailboxes: Sequence[str]) -> None:
        desk = self._desk
        async with desk.ledger.reading() as books:
            held = await books.deliveries.mailboxes(mailboxes)
        try:
            if await self._met(held):
                async with desk.ledger.reading() as books:
                    held = await books.deliveries.mailboxes(mailboxes)
        except PipelineError as failure:
            desk.gate.failed(failure)
            desk.look(mailboxes, lane)
            return
        resting = self._resting(lane, mailboxes)
        self._gathering.drop(mailboxes)
        made = plan(
            held,
            desk.directory.attributes,
            resting=resting,
            busy_lists=_Full(self._has_room),
            means=self._means(),
            import_rows=self._imports.most_rows,
            skew=desk.skew,
        )
        by_mailbox = {each.mailbox: each for each in held}
        await self._settle(made, by_mailbox)
        self._begin(lane, made, by_mailbox)

    def _means(self) -> Means:
        pace, settings = self._desk.api.pace, self._desk.settings
        figures = pace.figures()
        return Means(
            requests_left=figures.left,
            seconds_left=figures.seconds_left,
            window_requests=figures.limit,
            queued=self._queue.qsize(),
            call_seconds=pace.seconds_of(Urgency.NORMAL, otherwise=_CALL_SECONDS),
            at_once=max(1, settings.max_in_flight - 1),
            import_seconds=self._imports.chunks.seconds_for,
            most=settings.bulk_threshold,
        )

    def _resting(self, lane: Lane, mailboxes: Sequence[str]) -> frozenset[str]:
        """Those whose wish to subscribe is too young to be sent; they are looked at again when it is not."""
        loop, fresh = asyncio.get_running_loop(), self._desk.fresh
        resting = {mailbox: until for mailbox in mailboxes if (until := fresh.get(mailbox, 0.0)) > loop.time()}
        for mailbox in mailboxes:
            if mailbox not in resting:
                fresh.pop(mailbox, None)
        if resting:
            self._desk.agenda.add_at(max(resting.values()), tuple(resting), lane)
        return frozenset(resting)

    async def _met(self, held: Sequence[HeldMailbox]) -> bool:
        """Get to know what these mailboxes name for the first time; whether something was read for that."""
        if unknown := unknown_attributes(held, self._desk.directory.attributes):
            await self._desk.directory.look_up(unknown)
        wishes = (wish.list_id for each in held if each.desired is not None for wish in each.desired.lists)
        return await self._reader.meet(set(wishes))

    async def _settle(self, made: Plan, held: dict[str, HeldMailbox]) -> None:
        given_up = [held[mailbox] for mailbox in made.refused if self._has_waited(held[mailbox])]
        answers = [(held[each.mailbox], each.settled, each.claims) for each in made.settlements]
        answers += [(each, _barred_answer(each), {}) for each in given_up]
        for mailbox in held:
            if mailbox not in made.refused:
                self._barred.pop(mailbox, None)
        if answers:
            async with self._desk.ledger.transaction() as books:
                await books.deliveries.settle(answers)
            self._desk.outbox.wake()

    def _has_waited(self, held: HeldMailbox) -> bool:
        """Note a mailbox that the door keeps back; whether it has waited long enough for a newer decision."""
        assert held.desired is not None
        version, now = held.desired.version, asyncio.get_running_loop().time()
        known = self._barred.get(held.mailbox)
        if known is None or known[0] != version:
            self._barred[held.mailbox] = (version, now)
            rules = sorted({wish.rule for wish in held.desired.lists})
            log.info("subscription waits for a newer decision", extra={"mailbox": held.mailbox, "rules": rules})
            return False
        return now - known[1] >= _PATIENCE_SECONDS

    def _begin(self, lane: Lane, made: Plan, held: dict[str, HeldMailbox]) -> None:
        agenda = self._desk.agenda
        for mailbox, list_id in made.waiting.items():
            agenda.wait_for_list(list_id, (mailbox,), lane)
        for call in made.calls:
            agenda.hold(call.mailbox, lane)
            urgency = 2 if isinstance(call, Patch) else int(not call.is_objection)
            self._queue.put_nowait((urgency, next(self._sequence), call))
        for planned in made.imports:
            self._gathering.put(planned, lane, self._now())
        if made.reads:
            for mailbox in made.reads:
                agenda.hold(mailbox, lane)
            self._spawn(self._read([held[mailbox] for mailbox in made.reads]))

    async def _read(self, held: Sequence[HeldMailbox]) -> None:
        try:
            later = await self._reader.read(held)
        except PipelineError as failure:
            self._desk.gate.failed(failure)
            for each in held:
                self._try_later(each.mailbox)
        else:
            self._desk.gate.succeeded()
            for each in held:
                if each.mailbox in later:
                    self._try_later(each.mailbox)
                else:
                    self._failures.pop(each.mailbox, None)
                    self._desk.put_down(each.mailbox)


class _Full:
    """The lists for which no more rows are gathered at the moment."""

    def __init__(self, has_room: Callable[[int], bool]) -> None:
        self._has_room = has_room

    def __contains__(self, list_id: object) -> bool:
        return isinstance(list_id, int) and not self._has_room(list_id)


def _barred_answer(held: HeldMailbox) -> Settled:
    assert held.desired is not None
    return Settled(
        version=held.desired.version,
        desired_hash=held.desired.desired_hash,
        outcome=Outcome.QUARANTINED,
        error=BARRED,
        leader=held.desired.leader,
        claims=held.desired.claims,
        rejected_values=held.settled.rejected_values,
    )
