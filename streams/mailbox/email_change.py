"""An e-mail change until it can be carried out: held and shown, never leave-one-and-make-another. Pure."""

from collections.abc import Mapping, Set

import msgspec

from streams.mailbox.claims import Claim, Standing

Place = tuple[str, str]
"""(client, normalised e-mail)."""


def settled(
    claims: Mapping[str, Claim], predecessors: Mapping[str, Set[Place]], others: Set[Place]
) -> dict[str, Claim]:
    """Each claim with the mailbox that it stays with for now.

    `predecessors`: the mailboxes that serve each claim, by what their clients reported or may just be making.
    `others`: mailboxes that someone not among `claims` claims; they are not renamed, so a claim may simply move away.

    Withdrawing one mailbox and creating the other would make a second subscriber and forget what the first one said.
    A claim of which a row is still missing stays where it is served as well.
    """
    staying = {(claim.recipient.baf_client_id, claim.email) for claim in claims.values()} | others
    return {gguid: _settled(claim, predecessors.get(gguid, frozenset()), staying) for gguid, claim in claims.items()}


def _settled(claim: Claim, served: Set[Place], staying: Set[tuple[str, str | None]]) -> Claim:
    former = sorted(
        email
        for client, email in served
        if client == claim.recipient.baf_client_id and email != claim.email and (client, email) not in staying
    )
    if former and (claim.email is not None or claim.standing is Standing.INCOMPLETE):
        return msgspec.structs.replace(claim, email=former[0], held_for=claim.email)
    return claim
