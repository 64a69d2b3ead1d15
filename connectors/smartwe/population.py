"""People who might stand in a German CRM, with what they joined and agreed to. Pure: the same seed gives the same rows.

What was answered from a mailbox is drawn once for each client and distribution, so that everybody who shares a mailbox
offers a proof of the same kind.
"""

import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

import msgspec

from connectors.smartwe.names import DAY_ONE, DAYS, Mailbox, Names, Person

Row = tuple[Any, ...]
Batch = Mapping[str, list[Row]]
"""Table → rows of it, in the columns of `COLUMNS`."""


def _names_in(text: str) -> tuple[str, ...]:
    return tuple(text.split())


COLUMNS: Final[Mapping[str, tuple[str, ...]]] = {
    "address": _names_in(
        "gguid inserttimestamp updatetimestamp subject_id kind company_gguid salutation title first_name last_name"
        " company_name department position email1 street zip town country_iso language birthday phone mobile"
        " is_deactivated is_objected_global deleted_at x_customer_no x_employees x_revenue x_key_account"
        " x_last_visit_at x_newsletter_topics"
    ),
    "address_profile": _names_in(
        "gguid inserttimestamp address_gguid channel_code source_code email display_name language interests"
    ),
    "profile_identifier": _names_in("gguid profile_gguid id_type id_value strength first_seen last_seen"),
    "consent": _names_in(
        "gguid address_gguid baf_client_id distribution_gguid email kind proof_level requested_at confirmed_at"
        " captured_at source_identifier wording_version"
    ),
    "distribution_recipient": _names_in(
        "gguid inserttimestamp distribution_gguid baf_client_id address_gguid profile_gguid email_override desired"
        " desired_reason consent_gguid pin_leading"
    ),
}
"""Table → columns of its rows here, in the order in which foreign keys want the tables written."""

CHANNELS: Final = {"email": "E-Mail", "web": "Website", "phone": "Telefon", "event": "Veranstaltung"}
SOURCES: Final = {"web_form": "Webformular", "trade_fair": "Messe", "import": "Import", "referral": "Empfehlung"}

_ANSWERS: Final[tuple[str | None, ...]] = (
    *("doi",) * 62,
    *("written",) * 12,
    *("single_opt_in",) * 7,
    *("existing_customer",) * 6,
    *("imported_unproven",) * 4,
    *(None,) * 9,
)
_LEVELS: Final = {"doi": 3, "written": 2, "single_opt_in": 1, "existing_customer": 1}
_IMPOSSIBLE: Final = ("kein@", "nicht bekannt", "max@@doppelt.example", "vorname.nachname.example", "a b@leer.example")


class Room(msgspec.Struct, frozen=True):
    """A distribution that people join in some clients. `share`: which part of the people does, from 0 to 1."""

    distribution: str
    clients: tuple[str, ...]
    share: float


class Population:
    """Draws households until `addresses` people and companies are there. `counts` says what was drawn."""

    def __init__(self, rooms: Sequence[Room], *, addresses: int, seed: int) -> None:
        self._rooms = tuple(rooms)
        self._left = addresses
        self._names = Names(seed)
        self._rows: dict[str, list[Row]] = {table: [] for table in COLUMNS}
        self.counts: Counter[str] = Counter()

    def batches(self, size: int) -> Iterator[Batch]:
        """About `size` people in each batch; a household is never parted."""
        while self._left > 0:
            if self._left > 1 and self._names.chance(0.12):
                self._draw_company()
            else:
                self._draw_person()
            if len(self._rows["address"]) >= size or self._left <= 0:
                yield self._rows
                self._rows = {table: [] for table in COLUMNS}

    def _draw_company(self) -> None:
        """A company with one to three contact persons, some of whom read only the mailbox of the company."""
        draw = self._names
        surname, trade = draw.one(draw.words.surnames), draw.one(draw.words.trades)
        name = f"{surname} {trade} {draw.one(draw.words.forms)}"
        domain = draw.domain(surname, trade)
        shared = draw.mailbox(draw.one(("info", "info", "info", "kontakt", "post")), domain, shared=True)
        company, place = draw.gguid(), draw.place()
        self._add(company, "company", place, shared, company_name=name)
        claimants = 1
        for _ in range(min(self._left, 1 + draw.below(3))):
            person = draw.person()
            mailbox = shared if draw.chance(0.25) else draw.mailbox(draw.local(person), domain)
            claimants += mailbox is shared
            self._add(draw.gguid(), "contact_person", place, mailbox, person, company=company, company_name=name)
        self.counts["shared_mailboxes"] += claimants > 1

    def _draw_person(self) -> None:
        """A private person; one in a hundred was entered twice, with the e-mail spelled in another way."""
        draw = self._names
        person, place = draw.person(), draw.place()
        twice = self._left > 1 and draw.chance(0.01)
        mailbox: Mailbox | None = None
        if (fate := draw.fraction()) < 0.05:
            self.counts["without_email"] += 1 + twice
        elif fate < 0.053:
            mailbox = Mailbox(draw.one(_IMPOSSIBLE), shared=True)
            self.counts["impossible_email"] += 1 + twice
        else:
            mailbox = draw.mailbox(draw.local(person), shared=twice)
            self.counts["shared_mailboxes"] += twice
        for _ in range(1 + twice):
            self._add(draw.gguid(), "person", place, mailbox, person)

    def _add(
        self,
        gguid: str,
        kind: str,
        place: tuple[str, str, str],
        mailbox: Mailbox | None,
        person: Person | None = None,
        *,
        company: str | None = None,
        company_name: str | None = None,
    ) -> None:
        draw, business = self._names, kind != "person"
        since = draw.instant()
        deactivated, deleted = draw.chance(0.02), draw.chance(0.005)
        objected = not business and draw.chance(0.003)
        self._left -= 1
        self.counts["addresses"] += 1
        self._rows["address"].append(
            (
                gguid,
                since,
                since,
                uuid.UUID(int=draw.bits(128), version=4),
                kind,
                company,
                person and person.salutation,
                person and person.title,
                person and person.first,
                person and person.last,
                company_name,
                draw.one(draw.words.departments) if company and draw.chance(0.6) else None,
                draw.one(draw.words.positions) if company and draw.chance(0.6) else None,
                draw.spelled(mailbox.email) if mailbox else None,
                *place,
                "DE",
                "de" if draw.chance(0.93) else "en",
                None if business or draw.chance(0.3) else date(1940, 1, 1) + timedelta(days=draw.below(24_000)),
                f"+49 30 23125 {draw.below(1000):03d}" if draw.chance(0.5) else None,
                f"+49 176 040690{draw.below(100):02d}" if draw.chance(0.4) else None,
                deactivated,
                objected,
                DAY_ONE + timedelta(days=DAYS) if deleted else None,
                f"K-{self.counts['addresses']:08d}",
                1 + draw.below(500) if kind == "company" else None,
                Decimal(draw.below(90_000_000)).scaleb(-2) if draw.chance(0.5) else None,
                draw.chance(0.05) if business else None,
                draw.instant() if business and draw.chance(0.4) else None,
                [topic for topic in draw.words.topics if draw.chance(0.2)] if draw.chance(0.3) else None,
            )
        )
        for what, so in ((kind, True), ("deactivated", deactivated), ("deleted", deleted), ("objected", objected)):
            self.counts[what] += so
        self.counts["consent/objection"] += objected  # the database appends it
        profile = self._draw_profiles(gguid, person, since) if person and draw.chance(0.06) else None
        for room in self._rooms:
            if draw.chance(room.share if mailbox else room.share / 4):
                for client in room.clients:
                    self._join(gguid, room.distribution, client, since, mailbox, profile)

    def _draw_profiles(self, address: str, person: Person, since: datetime) -> tuple[str, Mailbox] | None:
        """Two profiles. The second one often has a mailbox of its own; then both are given back."""
        draw = self._names
        own: tuple[str, Mailbox] | None = None
        for channel, source, share_with_email in (("email", "web_form", 0.0), ("event", "trade_fair", 0.6)):
            profile, email = draw.gguid(), None
            if draw.chance(share_with_email):
                own = (profile, draw.mailbox(draw.local(person)))
                email = draw.spelled(own[1].email)
            interests = ", ".join(topic for topic in draw.words.topics if draw.chance(0.3)) or None
            self._rows["address_profile"].append(
                (profile, since, address, channel, source, email, f"{person.first} {person.last}", "de", interests)
            )
            id_type, strength = draw.one((("customer_no", "strong"), ("gclid", "weak"), ("fbid", "weak")))
            self._rows["profile_identifier"].append(
                (draw.gguid(), profile, id_type, f"{draw.bits(64):016x}", strength, since, since)
            )
        self.counts["profiles"] += 2
        return own

    def _join(
        self,
        address: str,
        distribution: str,
        client: str,
        since: datetime,
        mailbox: Mailbox | None,
        profile: tuple[str, Mailbox] | None,
    ) -> None:
        """Memberships of one person in one list: by the address, by a profile, by both, or at another mailbox."""
        draw = self._names
        place = (client, distribution)
        if profile and draw.chance(0.5):
            self._add_recipient(address, place, since, profile[1], profile=profile[0])
            if draw.chance(0.8):
                return
        if mailbox and not mailbox.shared and draw.chance(0.01):
            override = draw.mailbox(f"{mailbox.email.partition('@')[0]}.privat")
            self._add_recipient(address, place, since, override, override=draw.spelled(override.email))
        else:
            self._add_recipient(address, place, since, mailbox)

    def _add_recipient(
        self,
        address: str,
        place: tuple[str, str],
        since: datetime,
        mailbox: Mailbox | None,
        *,
        profile: str | None = None,
        override: str | None = None,
    ) -> None:
        draw = self._names
        client, distribution = place
        consent = self._answer(address, place, mailbox) if mailbox else None
        desired, reason = "member", draw.one(("manual", "manual", "import", "rule"))
        if (fate := draw.fraction()) < 0.02:
            desired = "not_member"
        if fate < 0.005:
            reason = "person_request"
            self.counts["consent/withdrawal"] += 1  # the database appends it
        joined = since + timedelta(seconds=draw.below(300 * 86_400))
        pinned = draw.chance(0.01)
        self._rows["distribution_recipient"].append(
            (draw.gguid(), joined, distribution, client, address, profile, override, desired, reason, consent, pinned)
        )
        self.counts[f"recipients/{client}"] += 1

    def _answer(self, address: str, place: tuple[str, str], mailbox: Mailbox) -> str | None:
        """The proof offered for a membership; now and then with a withdrawal after it, or a withdrawal it overcame."""
        draw = self._names
        if place not in mailbox.answers:
            mailbox.answers[place] = (draw.one(_ANSWERS), draw.instant())
        kind, at = mailbox.answers[place]
        if kind is None:
            return None
        client, distribution = place
        whole_client = not mailbox.shared and draw.chance(0.04)
        gguid = self._append_consent(address, client, None if whole_client else distribution, mailbox, kind, at)
        if (fate := draw.fraction()) < 0.02:
            days = timedelta(days=2 + draw.below(200))
            self._append_consent(
                address, client, distribution, mailbox, "withdrawal", at + days if fate < 0.013 else at - days
            )
        return gguid

    def _append_consent(
        self, address: str, client: str, distribution: str | None, mailbox: Mailbox, kind: str, at: datetime
    ) -> str:
        draw = self._names
        gguid, level = draw.gguid(), _LEVELS.get(kind, 0)
        confirmed_at = at + timedelta(seconds=40 + draw.below(86_000)) if kind == "doi" else None
        requested_at = at if confirmed_at else None
        source = draw.one(("formular-startseite", "messe-2023", "kundenportal", "altbestand"))
        email, wording = draw.spelled(mailbox.email), "2018-05" if level else None
        self._rows["consent"].append(
            (gguid, address, client, distribution, email, kind, level, requested_at, confirmed_at, at, source, wording)
        )
        self.counts[f"consent/{kind}"] += 1
        return gguid
