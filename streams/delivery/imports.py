"""Imports: written down before they are sent, watched to their end, their rows judged one by one.

Whatever is killed in between, the next leader finds the import in the tables: one with an id is watched, one without
may have been accepted all the same, so it is waited until nothing unknown is under way, and its rows are read.
"""

import asyncio
import logging
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from typing import Any, Final, Protocol

from connectors.inxmail.pace import Urgency
from schemas.causes import is_ours
from schemas.delivery import (
    MAILBOX,
    NO_LIST,
    CallState,
    HeldMailbox,
    OpenImport,
    OpenRow,
    Refusal,
    list_scope,
    version_text,
)
from schemas.errors import AnswerLost, MalformedInput, PipelineError, Refused
from schemas.ids import gguid_of
from schemas.inxmail import ImportExecution, ImportState
from schemas.mutations import Held, Lane, Want
from streams.delivery import outcomes
from streams.delivery.aftermath import IMPORT_FAILED, Aftermath, Answers
from streams.delivery.chunks import ChunkSize
from streams.delivery.desk import Desk
from streams.delivery.gate import backoff_seconds
from streams.delivery.plan import Import
from streams.delivery.reader import Reader
from streams.delivery.values import cell
from streams.mailbox import door

log = logging.getLogger(__name__)

_POLL_GROWTH: Final = 1.5
_EXPECTED: Final = 0.95
"""Asked for a little before it is expected to be through: else nobody would notice that it has become faster."""
_LATE_GROWTH: Final = 1.1
_POLL_LONGEST_SECONDS: Final = 5.0
_OVERDUE_POLL_SECONDS: Final = 30.0
_FEW_FAILURES: Final = 3
"""So many imports in a row that came to nothing, and the single row of the next one is taken for the cause."""
_REST_SECONDS: Final = 1.0
_SETTLE_SECONDS: Final = 2.0
"""How long an import that was sent by a dead process may take to become visible."""
_FRESH_SECONDS: Final = 1.0
"""How old the last reading of the log may be when an import is sent that overrides opt-outs."""
_BLIND_WAIT_SECONDS: Final = 60.0
"""How long a lost import is taken to be under way where Inxmail does not list its imports."""


class _NothingToSend(Exception):
    """The door let no row through, or the plan is out of date."""


class _Stale(Exception):
    """The log was read too long ago."""


Drain = Callable[[], Awaitable[None]]


class Spawn(Protocol):
    """Starts a task that lives as long as the worker."""

    def __call__(self, work: Coroutine[Any, Any, None], /) -> object: ...


class Imports:
    """All imports of one client. `drain` reads the unsubscription log to its end."""

    def __init__(
        self, desk: Desk, reader: Reader, drain: Drain, spawn: Spawn, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._desk = desk
        self._drain = drain
        self._spawn = spawn
        self._clock = clock
        self._busy: dict[int, str] = {}
        self._lanes: dict[str, Lane] = {}
        self._answers: dict[str, Answers] = {}
        self._judging: Counter[int] = Counter()
        self._judgement = asyncio.Lock()
        self._aftermath = Aftermath(desk, reader)
        self._failures: Counter[int] = Counter()
        self._resting: dict[int, float] = {}
        self._heard_at = clock()
        self.chunks = ChunkSize(desk.settings.import_rows)
        self.overdue: set[str] = set()
        """Imports that take longer than they may: held, and watched all the same."""

    def __contains__(self, list_id: object) -> bool:
        """Whether another import for this list (NO_LIST: for attributes) has to wait."""
        return list_id in self._busy or (list_id != NO_LIST and not self._desk.may_subscribe)

    @property
    def most_rows(self) -> int:
        """Rows in one file."""
        return self.chunks.rows

    def __len__(self) -> int:
        return len(self._lanes)

    async def resume(self) -> None:
        """Take over the imports that a former leader left open."""
        async with self._desk.ledger.reading() as books:
            unfinished = await books.calls.unfinished()
        for opened in unfinished:
            self._busy[opened.list_id or NO_LIST] = opened.op_id
            self._lanes[opened.op_id] = Lane.NORMAL
            log.info("import taken over", extra={"op_id": opened.op_id, "phase": opened.phase})
            if opened.import_id is not None:
                self._spawn(self._finish(opened, opened.import_id))
            else:
                self._spawn(self._find_out(opened))

    def start(self, planned: Import, lane: Lane) -> None:
        """Carry out an import. Its mailboxes are held until it is written down."""
        desk = self._desk
        op_id = gguid_of(desk.client, "import", planned.list_id or NO_LIST, desk.now().isoformat(), time.time_ns())
        self._busy[planned.list_id or NO_LIST] = op_id
        self._lanes[op_id] = lane
        self._answers[op_id] = {row.mailbox: (row.answer, row.dirt) for row in planned.rows if row.answer is not None}
        for row in planned.rows:
            desk.agenda.hold(row.mailbox, lane)
        self._spawn(self._carry_out(op_id, planned))

    async def _carry_out(self, op_id: str, planned: Import) -> None:
        desk = self._desk
        await desk.gate.passage()
        try:
            if planned.resubscribe:
                await self._hear()
            opened, rows = await self._intend(op_id, planned)
        except PipelineError as failure:
            desk.gate.failed(failure)
            for row in planned.rows:
                desk.put_down(row.mailbox)
            self._free(op_id, planned.list_id, ())
            return
        for row in planned.rows:
            desk.agenda.let_go(row.mailbox)
        desk.look({row.mailbox for row in planned.rows} - {row.mailbox for row in rows}, self._lane(op_id))
        del planned  # it is in the tables: not to be kept in memory until it ends
        try:
            await desk.outbox.tell_calls([opened.op_id])
            execution = await self._post(opened, rows)
        except _NothingToSend:
            await self._undone(opened, rows)
        except AnswerLost as failure:
            log.warning("import answer lost", extra={"op_id": opened.op_id, "reason": str(failure)})
            desk.gate.failed(failure)
            await self._find_out(opened)
        except Refused as failure:
            await self._refused(opened, rows, failure)
        except PipelineError as failure:
            desk.gate.failed(failure)
            await self._undone(opened, rows)
        else:
            desk.gate.succeeded()
            async with desk.ledger.transaction() as books:
                await books.calls.posted(opened.op_id, execution.id)
            log.info(
                "import posted",
                extra={"op_id": opened.op_id, "import_id": execution.id, "list_id": opened.list_id, "rows": len(rows)},
            )
            count = len(rows)
            self.chunks.accepted(count)
            del rows
            await self._finish(opened, execution.id, count)

    def _lane(self, op_id: str) -> Lane:
        return self._lanes.get(op_id, Lane.NORMAL)

    async def _hear(self) -> None:
        """Read the unsubscription log to its end."""
        await self._drain()
        self._heard_at = self._clock()

    async def _intend(self, op_id: str, planned: Import) -> tuple[OpenImport, list[OpenRow]]:
        desk = self._desk
        positions = (desk.positions.subscriptions, desk.positions.unsubscriptions)
        what = (planned.list_id, planned.resubscribe, planned.columns)
        async with desk.ledger.transaction() as books:
            opened, taken = await books.calls.intend(op_id, what, planned.rows, positions)
        return opened, [row for row in planned.rows if row.mailbox in taken]

    async def _past_the_door(self, opened: OpenImport, rows: list[OpenRow]) -> list[OpenRow]:
        """The rows that may still be subscribed, by what has been heard up to now. The others are written off it."""
        if opened.list_id is None:
            return rows
        by_mailbox = {row.mailbox: row for row in rows}
        async with self._desk.ledger.reading() as books:
            doubtful = await books.calls.doubtful_rows(opened.op_id)
            held = await books.deliveries.mailboxes(doubtful) if doubtful else []
        passed = {each.mailbox for each in held if self._may_pass(opened, by_mailbox[each.mailbox], each)}
        turned_back = sorted(set(doubtful) - passed)
        if not turned_back:
            return rows
        async with self._desk.ledger.transaction() as books:
            await books.calls.drop_rows(opened.op_id, turned_back)
        rules = Counter(_rule(each, opened.list_id) for each in held if each.mailbox not in passed)
        log.info(
            "subscriptions turned back at the door",
            extra={"op_id": opened.op_id, "list_id": opened.list_id, "rules": dict(rules)},
        )
        self._desk.look(turned_back, self._lane(opened.op_id))
        return [row for row in rows if row.mailbox not in set(turned_back)]

    def _may_pass(self, opened: OpenImport, row: OpenRow, held: HeldMailbox) -> bool:
        if opened.list_id is None or held.desired is None or held.desired.version != row.version:
            return False
        wish = next((wish for wish in held.desired.lists if wish.list_id == opened.list_id), None)
        state = held.lists.get(opened.list_id)
        if wish is None or wish.want is not Want.SUBSCRIBED:
            return False
        if state is not None and state.state is Held.UNKNOWN:
            return False  # something was heard since it was planned: to be read first
        heard = door.objections(opened.list_id, held.events, state, is_ours=state is not None and is_ours(state.cause))
        allowed = door.may_resubscribe if opened.resubscribe else door.may_subscribe
        return allowed(wish, heard, self._desk.skew)

    async def _post(self, opened: OpenImport, rows: list[OpenRow]) -> ImportExecution:
        """Send it, past the door. One that overrides opt-outs hears the log again if its turn was long in coming."""
        attributes = self._desk.directory.attributes
        if not attributes.keys() >= set(opened.columns):
            raise _NothingToSend  # an attribute is gone since: planned anew
        names = [attributes[key].name for key in opened.columns]

        async def let_through() -> list[tuple[str, ...]]:
            if opened.resubscribe and self._clock() - self._heard_at > _FRESH_SECONDS:
                raise _Stale
            passed = await self._past_the_door(opened, rows)
            if not passed:
                raise _NothingToSend
            return [(row.email, *(cell(row.values[key]) for key in opened.columns)) for row in passed]

        urgency = Urgency.BULK if self._lane(opened.op_id) is Lane.BULK else Urgency.NORMAL
        while True:
            try:
                return await self._desk.api.start_import(
                    opened.list_id, resubscribe=opened.resubscribe, columns=names, rows=let_through, urgency=urgency
                )
            except _Stale:
                await self._hear()
                urgency = Urgency.LOGS  # it has waited for its turn already

    async def _undone(self, opened: OpenImport, rows: Sequence[OpenRow]) -> None:
        """It was surely not carried out: planned anew."""
        async with self._desk.ledger.transaction() as books:
            await books.calls.end_import(opened.op_id, CallState.UNDONE, {})
        self._free(opened.op_id, opened.list_id, [row.mailbox for row in rows])

    async def _refused(self, opened: OpenImport, rows: Sequence[OpenRow], failure: Refused) -> None:
        """The far side refuses the import as a whole; nothing of it was carried out."""
        log.error(
            "import refused",
            extra={"op_id": opened.op_id, "list_id": opened.list_id, "status": failure.status, "kind": failure.kind},
        )
        if failure.status == 413 and len(rows) > 1:
            self.chunks.too_large(len(rows))
            await self._undone(opened, rows)
        elif failure.kind == "locked-resource":  # somebody else imports into this list
            self._rest(opened.list_id)
            await self._undone(opened, rows)
        else:
            missing = failure.status == 404 and opened.list_id is not None
            code = "list_missing" if missing else outcomes.code_of_refusal(failure)
            scope = MAILBOX if opened.list_id is None else list_scope(opened.list_id)
            refusals = {row.mailbox: {scope: Refusal(code, version_text(row.version))} for row in rows}
            async with self._desk.ledger.transaction() as books:
                await books.deliveries.put_refusals(refusals)
                await books.calls.end_import(opened.op_id, CallState.UNDONE, {})
            self._free(opened.op_id, opened.list_id, list(refusals))

    async def _find_out(self, opened: OpenImport) -> None:
        """Nobody knows whether it was accepted: wait until nothing unknown is under way, then read its rows."""
        began = self._clock()
        interval = self._desk.settings.import_poll_seconds
        # One that overrides opt-outs must surely not begin when its rows have been read.
        settle_seconds = (
            max(_SETTLE_SECONDS, self._desk.settings.timeout_seconds) if opened.resubscribe else _SETTLE_SECONDS
        )
        while True:
            waited = self._clock() - began
            running = await self._desk.gate.insist(self._unknown_running)
            settled = waited >= (settle_seconds if running is not None else _BLIND_WAIT_SECONDS)
            if not running and settled:
                break
            if waited > self._desk.settings.import_deadline_seconds:
                self._note_overdue(opened)
                if not opened.resubscribe:
                    break
            await asyncio.sleep(interval)
            interval = min(_POLL_LONGEST_SECONDS, interval * _POLL_GROWTH)
        self.overdue.discard(opened.op_id)
        self._free(opened.op_id, opened.list_id, await self._aftermath.unknown(opened))

    async def _unknown_running(self) -> int | None:
        """How many imports are under way that are not known to be ours; None when Inxmail does not say."""
        async with self._desk.ledger.reading() as books:
            ours = await books.calls.own_import_ids()
        try:
            executions = await self._desk.api.import_executions()
        except (Refused, MalformedInput) as failure:
            log.warning("Inxmail does not list its imports", extra={"reason": str(failure)})
            return None
        return sum(not execution.has_ended and execution.id not in ours for execution in executions)

    async def _finish(self, opened: OpenImport, import_id: int, rows: int = 0) -> None:
        """Watch it to its end, and write down what it came to."""
        key = opened.list_id or NO_LIST
        execution = await self._watch(opened, import_id, rows)
        if execution is None or execution.state != ImportState.SUCCESS:
            state = execution.state if execution is not None else "forgotten"
            log.error("import not completed", extra={"op_id": opened.op_id, "import_id": import_id, "state": state})
            if rows and execution is not None:
                self.chunks.failed(rows)
            is_cause = rows == 1 and self._failures[key] >= _FEW_FAILURES
            again = await self._aftermath.unknown(opened, refuse=IMPORT_FAILED if is_cause else None)
            self._rest(opened.list_id)
            self._free(opened.op_id, opened.list_id, again)
            return
        self._failures.pop(key, None)
        if not opened.resubscribe and not self._judging[key]:
            # The far side is through with it: the next one may run while this one's rows are judged.
            self._open_list(key, opened.op_id)
        self._judging[key] += 1
        answers = self._answers.pop(opened.op_id, {})
        async with self._judgement:
            again = await self._judge(opened, execution, answers)
        self._judging[key] -= 1
        self._free(opened.op_id, opened.list_id, again)

    async def _judge(self, opened: OpenImport, execution: ImportExecution, answers: Answers) -> list[str]:
        """Write down what a completed import came to; the mailboxes that are to be looked at.

        One at a time: each reads the new recipients from where the one before has come.
        """
        gate = self._desk.gate
        try:
            if opened.resubscribe:
                await gate.insist(self._hear)
            judged = await gate.insist(lambda: self._aftermath.judged(opened, execution))
        except (Refused, MalformedInput) as failure:
            log.error(
                "import cannot be judged; its rows are read", extra={"op_id": opened.op_id, "reason": str(failure)}
            )
            return await self._aftermath.unknown(opened)
        return await self._aftermath.complete(opened, judged, answers)

    async def _watch(self, opened: OpenImport, import_id: int, rows: int) -> ImportExecution | None:
        """Its last state; None when Inxmail does not know it any more.

        Asked for when it should be through by what others took; then in growing intervals.
        """
        began = self._clock()
        first = self._desk.settings.import_poll_seconds
        expected = _EXPECTED * rows * self.chunks.seconds_for_a_row
        growth = _LATE_GROWTH if expected > first else _POLL_GROWTH
        interval = min(_POLL_LONGEST_SECONDS, max(first, expected))
        while True:
            await asyncio.sleep(interval)
            try:
                execution = await self._desk.gate.insist(lambda: self._desk.api.import_execution(import_id))
            except (Refused, MalformedInput):
                return None
            waited = self._clock() - began
            if execution.has_ended:
                self.overdue.discard(opened.op_id)
                if rows and execution.state == ImportState.SUCCESS:
                    self.chunks.took(rows, waited)
                return execution
            interval = max(first, min(_POLL_LONGEST_SECONDS, waited * (growth - 1)))
            if waited > self._desk.settings.import_deadline_seconds:
                self._note_overdue(opened)
                interval = _OVERDUE_POLL_SECONDS

    def _note_overdue(self, opened: OpenImport) -> None:
        if opened.op_id not in self.overdue:
            self.overdue.add(opened.op_id)
            log.error(
                "import takes longer than it may; its mailboxes are held",
                extra={"op_id": opened.op_id, "list_id": opened.list_id},
            )

    def _rest(self, list_id: int | None) -> None:
        """The list is given some time before the next import, longer after each failure in a row."""
        key = list_id or NO_LIST
        self._failures[key] += 1
        self._resting[key] = _REST_SECONDS + backoff_seconds(self._failures[key], draw=random.random())

    def _free(self, op_id: str, list_id: int | None, mailboxes: Iterable[str]) -> None:
        """The import is over: these mailboxes are planned anew, and another may follow."""
        key = list_id or NO_LIST
        self._desk.look(mailboxes, self._lane(op_id))
        self._lanes.pop(op_id, None)
        self._answers.pop(op_id, None)
        self._desk.outbox.wake()
        self._desk.ease()
        seconds = self._resting.pop(key, 0.0)
        if seconds:
            asyncio.get_running_loop().call_later(seconds, self._open_list, key, op_id)
        else:
            self._open_list(key, op_id)

    def _open_list(self, key: int, op_id: str) -> None:
        """Another import for the list may begin, unless one has begun since."""
        if self._busy.get(key) == op_id:
            del self._busy[key]
        self._desk.awake.set()


def _rule(held: HeldMailbox, list_id: int) -> str:
    wishes = held.desired.lists if held.desired is not None else ()
    return next((wish.rule for wish in wishes if wish.list_id == list_id), "unclaimed")
