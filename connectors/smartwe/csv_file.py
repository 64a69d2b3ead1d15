"""A person's own export of people, read line by line: what each line says, or what is wrong with it. Pure.

Headers may be German or English. Reasons name columns, never what stands in them.
"""

import csv
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any, Final

import msgspec

from schemas.errors import MalformedInput
from schemas.ids import normalise_email

_SYNONYMS: Final[Mapping[str, tuple[str, ...]]] = {
    "email": ("email", "emailadresse", "mail", "mailadresse", "email1", "emailaddress"),
    "salutation": ("salutation", "anrede"),
    "title": ("title", "titel", "akademischertitel"),
    "first_name": ("firstname", "vorname"),
    "last_name": ("lastname", "nachname", "name", "familienname", "surname"),
    "company_name": ("companyname", "company", "firma", "unternehmen", "organisation"),
    "department": ("department", "abteilung"),
    "position": ("position", "funktion"),
    "street": ("street", "strasse", "strasseundhausnummer"),
    "zip": ("zip", "plz", "postleitzahl", "postcode"),
    "town": ("town", "ort", "stadt", "city"),
    "country_iso": ("countryiso", "country", "land", "laendercode"),
    "language": ("language", "sprache"),
    "birthday": ("birthday", "geburtstag", "geburtsdatum"),
    "phone": ("phone", "telefon", "telefonnummer"),
    "mobile": ("mobile", "mobil", "mobiltelefon", "handy"),
    "consent_kind": ("consentkind", "consent", "einwilligung", "einwilligungsart"),
    "requested_at": ("requestedat", "angemeldetam", "anmeldedatum", "angefordertam"),
    "confirmed_at": ("confirmedat", "bestaetigtam", "bestaetigungsdatum"),
    "captured_at": ("capturedat", "erfasstam", "einwilligungvom"),
    "source_identifier": ("sourceidentifier", "source", "quelle", "herkunft"),
}
CONSENT_FIELDS: Final = frozenset({"consent_kind", "requested_at", "confirmed_at", "captured_at", "source_identifier"})
_INSTANTS: Final = ("requested_at", "confirmed_at", "captured_at")

_CONSENTS: Final[Mapping[str, str | None]] = {
    **dict.fromkeys(("doi", "doubleoptin", "doppelt"), "doi"),
    **dict.fromkeys(("written", "schriftlich"), "written"),
    **dict.fromkeys(("singleoptin", "einfach"), "single_opt_in"),
    **dict.fromkeys(("existingcustomer", "bestandskunde", "bestandskundin"), "existing_customer"),
    **dict.fromkeys(("contract", "vertrag"), "contract"),
    **dict.fromkeys(("importedunproven", "ja", "yes", "true", "wahr", "1", "x"), "imported_unproven"),
    **dict.fromkeys(("withdrawal", "widerruf", "abgemeldet", "widerspruch", "unsubscribed"), "withdrawal"),
    **dict.fromkeys(("nein", "no", "false", "falsch", "0"), None),
}
"""A bare yes is a statement without evidence, a bare no the lack of one: only leaving is an objection."""

_GERMAN_SUMMER: Final = timezone(timedelta(hours=2))
"""Taken where no zone is told: the earliest that it can have been in Germany, so that proofs never look newer."""


_TRUTHS: Final = {"ja": True, "true": True, "1": True, "x": True, "nein": False, "false": False, "0": False}


class Column(msgspec.Struct, frozen=True):
    """A column of `crm.address` that a file may fill: its type as PostgreSQL calls it, its longest text."""

    name: str
    type: str
    max_length: int | None = None


class Entry(msgspec.Struct, frozen=True):
    """One good line. `fields` are columns of `address`; `mailbox` is the normalised e-mail."""

    line: int
    mailbox: str
    fields: Mapping[str, Any]
    consent: Mapping[str, Any] | None
    left: bool
    """The line says that this person has left."""


class BadLine(msgspec.Struct, frozen=True):
    """A line that says nothing usable, and why. Lines count from 1, as an editor shows them."""

    line: int
    reason: str


class CsvFile:
    """The decoded file. `ignored` are headers that mean nothing here.

    Raises: MalformedInput, when it is no text, or its first line is not one of headers with the e-mail among them.
    """

    def __init__(self, content: bytes, columns: Sequence[Column]) -> None:
        self.encoding, text = _decoded(content)
        known = {re.sub(r"[^a-z0-9]", "", column.name): column.name for column in columns}
        known |= {spelling: field for field, spellings in _SYNONYMS.items() for spelling in spellings}
        self.delimiter = max(";,\t", key=lambda mark: _recognised(text, mark, known))
        self._columns = {column.name: column for column in columns}
        self._reader = csv.reader(io.StringIO(text, newline=""), delimiter=self.delimiter, strict=True)
        try:
            header = next(self._reader, [])
        except csv.Error as error:
            raise MalformedInput(f"the first line cannot be read as CSV: {error}") from None
        self._fields = [known.get(_plain(name)) for name in header]
        self.ignored = tuple(name for name, field in zip(header, self._fields, strict=True) if field is None and name)
        named = [field for field in self._fields if field is not None]
        if "email" not in named:
            raise MalformedInput("the first line names no column for the e-mail address, such as `E-Mail` or `email`")
        if twice := sorted({field for field in named if named.count(field) > 1}):
            raise MalformedInput(f"several columns of the first line mean the same: {', '.join(twice)}")

    def entries(self, *, now: datetime) -> Iterator[Entry | BadLine]:
        """Every line after the header in order; empty ones are passed over. `now`: no consent is later than this."""
        line = self._reader.line_num + 1
        while True:
            try:
                cells = next(self._reader, None)
            except csv.Error as error:
                yield BadLine(line, f"not readable as CSV: {error}")
                line = self._reader.line_num + 1
                continue
            if cells is None:
                return
            if any(cell.strip() for cell in cells):
                yield self._entry(line, cells, now)
            line = self._reader.line_num + 1

    def _entry(self, line: int, cells: Sequence[str], now: datetime) -> Entry | BadLine:
        if len(cells) != len(self._fields):
            return BadLine(line, f"{len(cells)} columns instead of {len(self._fields)}")
        told = {f: c.strip() for f, c in zip(self._fields, cells, strict=True) if f is not None and c.strip()}
        if "email" not in told:
            return BadLine(line, "no e-mail address")
        if (mailbox := normalise_email(told["email"])) is None:
            return BadLine(line, "the e-mail address is none that can exist")
        fields: dict[str, Any] = {"email1": told.pop("email")}
        try:
            fields |= {f: _value(self._columns[f], text) for f, text in told.items() if f not in CONSENT_FIELDS}
            kind, consent = _consent(told, now)
        except ValueError as error:
            return BadLine(line, str(error))
        if len(fields["email1"]) > 254:
            return BadLine(line, "email: longer than 254 characters")
        named = "first_name" in fields or "last_name" in fields
        business = "company_name" in fields
        fields["kind"] = "contact_person" if business and named else "company" if business else "person"
        return Entry(line, mailbox, fields, consent, left=kind == "withdrawal")


def _decoded(content: bytes) -> tuple[str, str]:
    for encoding in ("utf-8-sig", "cp1252"):
        try:
            return encoding, content.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise MalformedInput("the file is neither UTF-8 nor Windows-1252 text; save it as UTF-8")


def _recognised(text: str, delimiter: str, known: Mapping[str, str]) -> int:
    header = next(iter(text.splitlines()), "")
    return sum(_plain(name) in known for name in header.split(delimiter))


def _plain(name: str) -> str:
    name = name.strip().lower()
    for umlaut, letters in (("ä", "ae"), ("ö", "oe"), ("ü", "ue"), ("ß", "ss")):
        name = name.replace(umlaut, letters)
    return re.sub(r"[^a-z0-9]", "", name)


def _value(column: Column, text: str) -> Any:
    """The text as the column's type. Raises: ValueError, with the reason in words."""
    read = _READERS.get(column.type)
    if read is not None:
        try:
            return read(text)
        except (ValueError, KeyError, ArithmeticError):
            raise ValueError(f"{column.name}: not a {column.type}") from None
    if column.max_length is not None and len(text) > column.max_length:
        raise ValueError(f"{column.name}: longer than {column.max_length} characters")
    return text


def _consent(told: Mapping[str, str], now: datetime) -> tuple[str | None, Mapping[str, Any] | None]:
    """Kind and the columns of a consent row; no row for a no and for leaving. Raises: ValueError, with the reason."""
    times: dict[str, datetime] = {}
    for field in _INSTANTS:
        if field in told:
            try:
                times[field] = _instant(told[field])
            except (ValueError, ArithmeticError):
                raise ValueError(f"{field}: not a date or time") from None
            if times[field] > now:
                raise ValueError(f"{field}: lies in the future")
    if "consent_kind" not in told:
        if times:
            raise ValueError("dates of a consent, but not which kind of consent")
        return None, None
    try:
        kind = _CONSENTS[_plain(told["consent_kind"])]
    except KeyError:
        raise ValueError("consent_kind: not a kind of consent that is known") from None
    if kind is None or kind == "withdrawal":
        return kind, None
    if not times and kind != "imported_unproven":
        raise ValueError("a consent without the date on which it was given")
    captured_at = times.get("captured_at") or max(times.values(), default=now)
    source = {"source_identifier": told["source_identifier"]} if "source_identifier" in told else {}
    return kind, {"kind": kind, **times, "captured_at": captured_at, **source}


def _date(text: str) -> date:
    if found := re.fullmatch(r"(\d{1,2})\.(\d{1,2})\.(\d{4})", text):
        return date(int(found[3]), int(found[2]), int(found[1]))
    return date.fromisoformat(text)


def _instant(text: str) -> datetime:
    day, _, time = text.replace("T", " ").partition(" ")
    parsed = datetime.fromisoformat(f"{_date(day).isoformat()}T{time.strip() or '00:00'}")
    return (parsed if parsed.tzinfo else parsed.replace(tzinfo=_GERMAN_SUMMER)).astimezone(UTC)


def _number(text: str) -> Decimal:
    """`1234.56`, `1234,56` or `1.234,56`. `1.234` is refused: it may be a thousand and more, or one and a bit."""
    if re.fullmatch(r"-?\d{1,3}(\.\d{3})+", text):
        raise ValueError
    number = Decimal(text.replace(".", "").replace(",", ".") if "," in text else text)
    if not number.is_finite():
        raise ValueError
    return number


def _integer(text: str) -> int:
    number = int(text)
    if not -(2**63) <= number < 2**63:
        raise ValueError
    return number


_READERS: Final[Mapping[str, Callable[[str], Any]]] = {
    "date": _date,
    "timestamp with time zone": _instant,
    "numeric": _number,
    "bigint": _integer,
    "boolean": lambda text: _TRUTHS[text.lower()],
    "ARRAY": lambda text: [part.strip() for part in re.split(r"[|,]", text) if part.strip()],
}
