"""Bulk imports: a CSV file whose rows take effect one after the other, as the clock allows."""

import csv
import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from enum import StrEnum

import msgspec

from connectors.inxmail_simulator.blacklist import is_address
from connectors.inxmail_simulator.options import ConflictMode, PermissionConflictMode
from connectors.inxmail_simulator.state import Account, Attribute, MailingList, Recipient
from connectors.inxmail_simulator.subscription import Permission, State, on_import
from connectors.inxmail_simulator.values import Value, from_text


class ImportState(StrEnum):
    NEW = "NEW"
    PROCESSING = "PROCESSING"
    SUCCESS = "SUCCESS"
    FAILED = "FAILED"
    CANCELED = "CANCELED"


FILE_STATES = {state: state.value for state in ImportState} | {ImportState.SUCCESS: "SUCCESSFUL"}


class Outcome(StrEnum):
    """How an import is made to end by a script; AS_IS lets the file decide."""

    AS_IS = "AS_IS"
    FAILED_HEADER = "FAILED_HEADER"
    FAILED_TRUNCATE = "FAILED_TRUNCATE"
    FAILED_HALFWAY = "FAILED_HALFWAY"
    CANCELED = "CANCELED"
    NEVER_ENDING = "NEVER_ENDING"


class RowError(StrEnum):
    EMAIL_PARSE_ERROR = "EMAIL_PARSE_ERROR"
    ATTRIBUTE_PARSE_ERROR = "ATTRIBUTE_PARSE_ERROR"
    LINE_PARSE_ERROR = "LINE_PARSE_ERROR"
    BLACKLIST_ERROR = "BLACKLIST_ERROR"
    UNSUBSCRIPTION_ERROR = "UNSUBSCRIPTION_ERROR"
    SAVE_ERROR = "SAVE_ERROR"
    IGNORED_IMPORT_ERROR = "IGNORED_IMPORT_ERROR"


class Script(msgspec.Struct, forbid_unknown_fields=True):
    """What is to happen to a coming import: its end, and errors for chosen rows (counted from 1) or every n-th."""

    outcome: Outcome = Outcome.AS_IS
    row_errors: dict[int, RowError] = {}
    every: int = 0
    every_error: RowError = RowError.SAVE_ERROR
    list_id: int | None = None
    count: int = 1

    def error_of(self, row: int) -> RowError | None:
        if self.every and row % self.every == 0:
            return self.every_error
        return self.row_errors.get(row)


class Failure(msgspec.Struct, gc=False):
    """One entry of an import's errors."""

    id: int
    error: str
    value: str | None


class Order(msgspec.Struct, frozen=True):
    """What the request asked for."""

    list_id: int | None
    resubscribe: bool
    truncate: bool
    conflict_mode: ConflictMode
    permission_conflict_mode: PermissionConflictMode


class Columns(msgspec.Struct, frozen=True):
    email: int
    permission: int | None
    attributes: tuple[tuple[int, Attribute], ...]
    unknown: tuple[str, ...]
    width: int


def columns_of(header: list[str], known: Callable[[str], Attribute | None]) -> Columns | None:
    """Understand the header row; None when it is no header: no `email`, or a name twice."""
    if "email" not in header or len(set(header)) < len(header):
        return None
    attributes = [
        (index, known(name)) for index, name in enumerate(header) if name not in ("email", "trackingPermission")
    ]
    return Columns(
        header.index("email"),
        header.index("trackingPermission") if "trackingPermission" in header else None,
        tuple((index, attribute) for index, attribute in attributes if attribute is not None),
        tuple(header[index] for index, attribute in attributes if attribute is None),
        len(header),
    )


def lines(data: bytes) -> Iterator[list[str] | None]:
    """Rows of a `;`-separated UTF-8 file; None for one that cannot be read. Blank lines are no rows."""
    text = data.decode("utf-8-sig", errors="surrogateescape")
    broken = not text.isascii() and any("\udc80" <= letter <= "\udcff" for letter in text)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=";", quotechar='"', doublequote=True, strict=True)
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error:
            yield None
            continue
        if broken and any("\udc80" <= letter <= "\udcff" for cell in row for letter in cell):
            yield None
        elif row:
            yield row


def unpacked(data: bytes, *, compressed: bool) -> bytes | None:
    """The file itself; None when it claims to be gzip and is not."""
    if not compressed and not data.startswith(b"\x1f\x8b"):
        return data
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error):
        return None


class Import:
    """One import on its way. `advance` carries out rows; between two calls everybody may look and write."""

    def __init__(
        self, id_: int, file_id: int, file_name: str, data: bytes | None, order: Order, script: Script, now: float
    ) -> None:
        self.id = id_
        self.file_id = file_id
        self.file_name = file_name
        self.order = order
        self.script = script
        self.state = ImportState.NEW
        self.success_count = 0
        self.fail_count = 0
        self.errors: list[Failure] = []
        self.created_at = now
        self.row = 0
        self._rows: Iterator[list[str] | None] = iter(()) if data is None else lines(data)
        self._readable = data is not None
        self._columns: Columns | None = None
        self._last_row: int | None = None
        self._seen: set[str] = set()
        if script.outcome in (Outcome.FAILED_HALFWAY, Outcome.CANCELED) and data is not None:
            self._last_row = max(sum(1 for _ in lines(data)) - 1, 0) // 2

    @property
    def ended(self) -> bool:
        return self.state not in (ImportState.NEW, ImportState.PROCESSING)

    def start(self, account: Account, now: float) -> None:
        """Leave NEW: read the header, take people off the list when asked to."""
        header = next(self._rows, None) if self._readable else None
        self._columns = None if header is None else columns_of(header, account.attribute_names.get)
        if self._columns is None or self.script.outcome is Outcome.FAILED_HEADER:
            self._fail("HEADER_ERROR")
            return
        if self.script.outcome is Outcome.FAILED_TRUNCATE:
            self._fail("DELETE_RECIPIENTS_ERROR")
            return
        self.state = ImportState.PROCESSING
        for name in self._columns.unknown:
            self._note("COLUMN_NOT_FOUND_WARN", name)
        mailing_list = self._list(account)
        if self.order.truncate and mailing_list is not None:
            for id_ in mailing_list.subscribed.copy():
                account.enter(mailing_list, account.recipients[id_], State.NONE, None, now)

    def advance(self, account: Account, rows: int, now: float) -> int:
        """Carry out up to that many rows; gives how many there were. The end of the file ends the import."""
        mailing_list = self._list(account)
        if self.order.list_id is not None and mailing_list is None:
            self._fail("IMPORT_CRASHED_ERROR")  # the list was deleted meanwhile
            return 0
        done = 0
        while done < rows and self.state is ImportState.PROCESSING:
            if self._last_row is not None and self.row >= self._last_row:
                if self.script.outcome is Outcome.CANCELED:
                    self.state = ImportState.CANCELED
                else:
                    self._fail("IMPORT_CRASHED_ERROR")
                break
            try:
                row = next(self._rows)
            except StopIteration:
                if self.script.outcome is not Outcome.NEVER_ENDING:
                    self.state = ImportState.SUCCESS
                break
            self.row += 1
            done += 1
            error, value = self._apply(account, mailing_list, row, now)
            if error is None:
                self.success_count += 1
            else:
                self.fail_count += 1
                self._note(error, value)
        if self.ended:
            self._rows, self._seen = iter(()), set()
        return done

    def _apply(
        self, account: Account, mailing_list: MailingList | None, row: list[str] | None, now: float
    ) -> tuple[str | None, str | None]:
        columns = self._columns
        assert columns is not None
        if row is None or len(row) != columns.width:
            return RowError.LINE_PARSE_ERROR, row[0] if row else None
        email = row[columns.email]
        if not is_address(email):
            return RowError.EMAIL_PARSE_ERROR, email
        if (scripted := self.script.error_of(self.row)) is not None:
            return scripted, email
        if account.blacklist.blocks(email):
            return RowError.BLACKLIST_ERROR, email
        if account.behaviour.import_duplicate_row == "ignore":
            if email.lower() in self._seen:
                return RowError.IGNORED_IMPORT_ERROR, email
            self._seen.add(email.lower())
        recipient = account.find(email)
        mode = self.order.conflict_mode
        values: dict[int, Value] = {}
        for index, attribute in columns.attributes:
            cell = row[index]
            if not cell:
                if mode == "OVERWRITE_FULL":
                    values[attribute.position] = None
                continue
            try:
                values[attribute.position] = from_text(attribute.type, attribute.max_length, cell)
            except ValueError:
                return RowError.ATTRIBUTE_PARSE_ERROR, cell if account.behaviour.import_error_value == "cell" else email
        permission: Permission | None = None
        if columns.permission is not None and (cell := row[columns.permission]):
            if cell not in Permission.__members__:
                return RowError.ATTRIBUTE_PARSE_ERROR, cell if account.behaviour.import_error_value == "cell" else email
            permission = Permission[cell]
        if mailing_list is None:
            if permission is not None:
                self._note("IGNORED_TRACKING_PERMISSION_WARN", email)
            self._save(account, recipient, email, values, now)
            return None, None
        before = account.state_of(mailing_list, recipient)
        state = on_import(before, resubscribe=self.order.resubscribe)
        if state is None:
            if account.behaviour.import_refused_row_updates:
                self._save(account, recipient, email, values, now)
            return RowError.UNSUBSCRIPTION_ERROR, email
        if before is State.SUBSCRIBED and self.order.permission_conflict_mode == "KEEP_EXISTING":
            permission = None
        recipient = self._save(account, recipient, email, values, now)
        log = account.behaviour.permission_event_on_import
        account.enter(mailing_list, recipient, state, permission, now, log_permission=log)
        if before is not State.SUBSCRIBED and account.behaviour.event_on_import:
            account.log(account.subscriptions, "MANUAL_SUBSCRIPTION", mailing_list, recipient, now)
        return None, None

    def _save(
        self, account: Account, recipient: Recipient | None, email: str, values: dict[int, Value], now: float
    ) -> Recipient:
        if recipient is None:
            return account.add_recipient(email, values, now)
        if self.order.conflict_mode != "KEEP_EXISTING":
            account.change_recipient(recipient, values, now)
        return recipient

    def _list(self, account: Account) -> MailingList | None:
        return None if self.order.list_id is None else account.lists.get(self.order.list_id)

    def _fail(self, error: str) -> None:
        self.state = ImportState.FAILED
        self._note(error, None)

    def _note(self, error: str, value: str | None) -> None:
        self.errors.append(Failure(len(self.errors) + 1, error, value))


class ImportDesk:
    """All imports of an account and the pace at which they advance."""

    def __init__(self) -> None:
        self.imports: dict[int, Import] = {}
        self.scripts: list[Script] = []
        self._active: dict[int, tuple[float, float]] = {}
        """Import id → (time up to which it has been advanced, rows it has earned and not yet carried out)."""

    def accept(self, file_name: str, data: bytes | None, order: Order, now: float) -> Import:
        """Take an import; nothing is visible yet. The first script that fits is used up by it."""
        script = next((s for s in self.scripts if s.list_id in (None, order.list_id)), None)
        if script is not None:
            script.count -= 1
            if script.count <= 0:
                self.scripts.remove(script)
        id_ = len(self.imports) + 1
        self.imports[id_] = accepted = Import(id_, id_ + 100, file_name, data, order, script or Script(), now)
        self._active[id_] = (now, 0.0)
        return accepted

    def busy(self, list_id: int) -> bool:
        return any(self.imports[id_].order.list_id == list_id for id_ in self._active)

    @property
    def waiting(self) -> bool:
        """Whether any import may still move by the clock."""
        return bool(self._active)

    def settle(self, account: Account, now: float, row_limit: int) -> bool:
        """Advance by what the clock allows, at most that many rows in all; True when rows that are due remain."""
        rate = account.behaviour.import_rows_per_second
        left = row_limit
        for id_, (since, saved) in list(self._active.items()):
            moving = self.imports[id_]
            if moving.state is ImportState.NEW:
                started_at = moving.created_at + account.behaviour.import_start_ms / 1000
                if now < started_at:
                    continue
                moving.start(account, now)
            else:
                started_at = since
            earned = saved + max(now - started_at, 0) * (rate or 0)
            due = left if rate is None else min(int(earned), left)
            if rate != 0 and moving.state is ImportState.PROCESSING:
                done = moving.advance(account, due, now) if due else 0
                earned -= done
                left -= done
                if done < due:
                    earned = 0
            if moving.ended:
                del self._active[id_]
            else:
                self._active[id_] = (now, earned)
        return left <= 0

    def step(self, account: Account, id_: int, rows: int, now: float) -> Import:
        """Advance one import by hand, whatever the clock says. Raises: KeyError."""
        moving = self.imports[id_]
        if moving.state is ImportState.NEW:
            moving.start(account, now)
        moving.advance(account, rows, now)
        if moving.ended:
            self._active.pop(id_, None)
        else:
            self._active[id_] = (now, 0.0)
        return moving
