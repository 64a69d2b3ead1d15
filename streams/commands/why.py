"""`verteiler why`: a mailbox's state, and the chain of events and rules that led to it."""

import asyncio
import sys
from pathlib import Path
from typing import Final

import msgspec
from rich.console import Console
from rich.markup import escape

from connectors.kafka import catalogue
from connectors.postgres.reading import reading
from connectors.smartwe.inspection import ShownStatus, statuses
from connectors.store.decisions import ClaimRow, FoldedRow
from connectors.store.history import History
from schemas.errors import Misconfigured, PipelineError
from schemas.ids import normalise_email
from schemas.mutations import Evidence, Lane
from schemas.smartwe import Binding, Distribution, Recipient, Suppression, read_row
from streams.chain import Gathered
from streams.commands.output import tell
from streams.explanation import WhyReport, explanation_of
from streams.mailbox import evidence
from streams.settings import Settings, read_settings

_HIDDEN: Final = "••••"


def why(home: Path, *, client: str, email: str | None, recipient: str | None, reveal: bool, as_json: bool) -> None:
    """Print the answer, also when nothing is known. Ends with exit code 1 when a part of it could not be read.

    Raises: Misconfigured; Unavailable, when the pipeline's database is not there.
    """
    settings = read_settings(home)
    report = asyncio.run(explain(settings, client=client, email=email, recipient=recipient, reveal=reveal))
    tell(report, as_json=as_json, human=lambda console: render(report, console))
    if report.faults:
        sys.exit(1)


async def explain(
    settings: Settings, *, client: str, email: str | None = None, recipient: str | None = None, reveal: bool = False
) -> WhyReport:
    """The answer for the mailbox with that address, or the one of that recipient (GGUID). Addresses are masked
    unless `reveal`.

    Raises: Misconfigured, for a client that is not one of ours; Unavailable.
    """
    if client not in settings.client_ids:
        known = ", ".join(settings.client_ids) or "none"
        raise Misconfigured(f"there is no client {client!r}; the clients are: {known}")
    faults: list[str] = []
    address = normalise_email(email) if email is not None else None
    if email is not None and address is None:
        return WhyReport(client, False, "This cannot be an e-mail address: no mailbox is ever made for it.")
    ring = settings.key_ring()
    async with reading(settings.database.sync_dsn) as connection:
        history = History(connection, client)
        if recipient is not None:
            recipient = recipient.upper()
            own = await history.claims((), recipient)
            address = next((claim.email for claim in own if claim.email), None)
        hashes = ring.email_hashes(address) if address else ()
        mailbox = ring.mailbox_ref(client, address) if address else None
        claims = await history.claims(hashes, recipient)
        decided = await history.mailbox(hashes)
        served = decided.result.claims if decided and decided.result else ()
        recipients = sorted({*(claim.recipient for claim in claims), *served, *((recipient,) if recipient else ())})
        keys = [(catalogue.RECIPIENT_STATUS, gguid) for gguid in recipients]
        if mailbox:
            keys += [(catalogue.mutations(client, lane), mailbox) for lane in Lane]
        rows = await history.rows([claim.person for claim in claims], hashes, recipients)
        lists = await history.lists(mailbox) if mailbox else []
        structure = _above(await history.structure(), claims, {held.list_id for held in lists})
        gathered = Gathered(
            client=client,
            email=_shown(address, reveal),
            mailbox=mailbox,
            claims=tuple(_claim_shown(claim, reveal) for claim in claims),
            decided=decided,
            rows=(*structure, *(row for row in rows if _concerns(row, client, address))),
            events=tuple(await history.events(hashes)),
            emissions=tuple(await history.emissions(keys, hashes)),
            delivered=await history.delivered(mailbox) if mailbox else None,
            lists=tuple(lists),
            calls=tuple(await history.calls(mailbox)) if mailbox else (),
            crm=None,
        )
    try:
        crm = await _in_crm(settings, recipients)
    except PipelineError as error:
        crm = None
        faults.append(f"what the CRM shows was not read: {error}")
    return explanation_of(msgspec.structs.replace(gathered, crm=crm), faults)


async def _in_crm(settings: Settings, recipients: list[str]) -> dict[str, ShownStatus]:
    async with reading(settings.database.crm_dsn) as connection:
        return await statuses(connection, recipients)


def _concerns(row: FoldedRow, client: str, address: str | None) -> bool:
    """Whether a row may bear on this mailbox: of patterns those that mean it, of memberships those in this client."""
    columns = msgspec.json.decode(row.body)
    if row.entity == "suppression" and columns.get("match") == "pattern":
        typed = read_row(row.entity, columns)
        return address is not None and isinstance(typed, Suppression) and evidence.matches(typed, address)
    if row.entity == "distribution_recipient":
        typed = read_row(row.entity, columns)
        return isinstance(typed, Recipient) and typed.baf_client_id == client
    return True


def _above(rows: list[FoldedRow], claims: list[ClaimRow], lists: set[int]) -> list[FoldedRow]:
    """Of the structure, the client itself and what the claims' and the held lists' distributions are."""
    typed = [(row, read_row(row.entity, msgspec.json.decode(row.body))) for row in rows]
    distributions = {claim.distribution for claim in claims}
    distributions |= {
        found.distribution_gguid for _, found in typed if isinstance(found, Binding) and found.inxmail_list_id in lists
    }
    kept = []
    for row, found in typed:
        match found:
            case Binding() if found.distribution_gguid not in distributions:
                continue
            case Distribution() if found.gguid not in distributions:
                continue
        kept.append(row)
    return kept if claims or lists else []


def _claim_shown(claim: ClaimRow, reveal: bool) -> ClaimRow:
    return msgspec.structs.replace(
        claim, email=_shown(claim.email, reveal), held_for=_shown(claim.held_for, reveal), email_hash=None
    )


def _shown(address: str | None, reveal: bool) -> str | None:
    """An address as it may be shown: enough to tell two of one's own apart."""
    if address is None or reveal:
        return address
    local, _, domain = address.rpartition("@")
    return f"{local[:1]}{_HIDDEN}@{domain[:1]}{_HIDDEN}"


def render(report: WhyReport, console: Console) -> None:
    """Show the answer to a person."""
    console.print(f"[bold]{escape(report.verdict)}[/]")
    if report.known:
        facts = (
            ("client", report.client),
            ("mailbox", report.email),
            ("key on the bus", report.mailbox),
            ("recipient at Inxmail", report.recipient_id),
            ("version asked", report.version),
            ("version answered", report.answered),
            ("outcome", report.outcome),
            ("error", report.error),
            ("fields refused", ", ".join(f"{name}: {code}" for name, code in report.rejected_values.items())),
        )
        for name, value in facts:
            if value not in (None, ""):
                console.print(f"  {name}: {escape(str(value))}")
        for title, lines in (
            ("who uses it", _claims(report)),
            ("lists", _lists(report)),
            ("what led here", _chain(report)),
        ):
            if lines:
                console.print(f"[bold]{title}[/]")
            for line in lines:
                console.print(line, soft_wrap=True)  # ids stay whole, to be copied
    for fault in report.faults:
        console.print(f"[red]{escape(fault)}[/]")


def _claims(report: WhyReport) -> list[str]:
    lines = []
    for claim in report.claims:
        leads = ", which leads" if claim.is_leading else ""
        why = f" ({claim.reason}{f': {claim.because}' if claim.because else ''})" if claim.reason else ""
        progress = ", ".join(part for part in (claim.sync_state, claim.error) if part) or "not decided"
        shown = {True: "the CRM shows it", False: "the CRM does not show it yet", None: "the CRM was not asked"}
        lines.append(f"  recipient {claim.recipient}{leads}: [cyan]{claim.subscription_state or 'not decided'}[/]{why}")
        lines.append(f"    person {claim.person}, distribution {claim.distribution}")
        lines.append(f"    {progress}; {shown[claim.shown_in_crm]}")
        if claim.held_for:
            lines.append(f"    waits to become {escape(claim.held_for)}")
    return lines


def _lists(report: WhyReport) -> list[str]:
    lines = []
    for wish in report.lists:
        cause = f" ({wish.held_cause})" if wish.held_cause else ""
        since = f" since {wish.held_since:%Y-%m-%d %H:%M:%S}" if wish.held_since else ""
        wanted = f"[cyan]{wish.want}[/] by rule {wish.rule}" if wish.want else "nothing wanted"
        lines.append(f"  list {wish.list_id}: {wanted}{f': {wish.because}' if wish.because else ''}")
        lines.append(f"    proof: {_evidence(wish.proof)}")
        lines.append(f"    objection: {_evidence(wish.objection)}")
        lines.append(f"    held at Inxmail: {wish.held or 'unknown'}{cause}{since}")
    return lines


def _evidence(found: Evidence | None) -> str:
    if found is None:
        return "none"
    level = f", level {found.level}" if found.level else ""
    return f"{found.ref} of {found.at:%Y-%m-%d %H:%M:%S}{level}"


def _chain(report: WhyReport) -> list[str]:
    lines = []
    for step in report.chain:
        record = f"{step.place.topic}/{step.place.partition}/{step.place.offset}" if step.place else None
        version = f"version {step.version}" if step.version else None
        position = f"position {step.position}" if step.position else None
        details = "  ".join(part for part in (step.ref, version, position, record) if part)
        lines.append(f"  {f'{step.at:%Y-%m-%d %H:%M:%S.%f}'[:-3]}  [cyan]{step.kind:11}[/] {escape(step.what)}")
        if details:
            lines.append(f"{' ' * 27}[dim]{escape(details)}[/]")
    return lines
