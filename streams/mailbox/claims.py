"""A claim: one distribution recipient's assertion "I use this mailbox in this client". Pure."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec

from schemas.ids import normalise_email
from schemas.smartwe import Address, Profile, Recipient
from streams.mailbox.structure import Structure


class Standing(StrEnum):
    """What a claim asks for, and if it asks for nothing, why."""

    MEMBER = "member"
    NOT_MEMBER = "not_member"
    PERSON_REQUEST = "person_request"
    ADDRESS_GONE = "address_gone"
    ADDRESS_DEACTIVATED = "address_deactivated"
    PROFILE_GONE = "profile_gone"
    EMAIL_MISSING = "email_missing"
    EMAIL_IMPOSSIBLE = "email_impossible"
    DISTRIBUTION_DELETED = "distribution_deleted"
    INCOMPLETE = "incomplete"
    """A row that it needs has not arrived yet: nothing may follow from that."""


class Person(msgspec.Struct, frozen=True):
    """An address with its profiles: typed, and as plain columns for mapped values."""

    address: Address | None
    columns: Mapping[str, Any]
    profiles: Mapping[str, Profile]
    profile_columns: Mapping[str, Mapping[str, Any]]


NOBODY = Person(None, {}, {}, {})


class Claim(msgspec.Struct, frozen=True):
    """`email` is normalised and is the mailbox claimed now; `held_for` the new one of a change that is held."""

    recipient: Recipient
    person: Person
    columns: Mapping[str, Any]
    standing: Standing
    email: str | None
    held_for: str | None = None
    changed_at: datetime | None = None

    @property
    def gguid(self) -> str:
        """The recipient's GGUID, which is the claim's."""
        return self.recipient.gguid


def claim_of(recipient: Recipient, columns: Mapping[str, Any], person: Person, structure: Structure) -> Claim:
    """The claim that a live recipient row makes. The e-mail comes from override, then profile, then address."""
    standing, email = _stand(recipient, person, structure)
    changed_at = columns.get("updatetimestamp")
    return Claim(
        recipient=recipient,
        person=person,
        columns=columns,
        standing=standing,
        email=email,
        changed_at=datetime.fromisoformat(changed_at) if isinstance(changed_at, str) else None,
    )


def _stand(recipient: Recipient, person: Person, structure: Structure) -> tuple[Standing, str | None]:
    profile = person.profiles.get(recipient.profile_gguid) if recipient.profile_gguid else None
    if person.address is None:
        return Standing.INCOMPLETE, None
    if recipient.profile_gguid and profile is None:
        return Standing.INCOMPLETE, None
    raw = _raw_email(recipient, profile, person.address, structure)
    email = normalise_email(raw) if raw and raw.strip() else None
    if recipient.desired != "member":
        return _refusal(recipient), email
    if person.address.deleted_at is not None:
        return Standing.ADDRESS_GONE, email
    if person.address.is_deactivated:
        return Standing.ADDRESS_DEACTIVATED, email
    if profile is not None and profile.deleted_at is not None:
        return Standing.PROFILE_GONE, email
    distribution = structure.distributions.get(recipient.distribution_gguid)
    if distribution is not None and distribution.deleted_at is not None:
        return Standing.DISTRIBUTION_DELETED, email
    if not raw or not raw.strip():
        return Standing.EMAIL_MISSING, None
    if email is None:
        return Standing.EMAIL_IMPOSSIBLE, None
    return Standing.MEMBER, email


def _refusal(recipient: Recipient) -> Standing:
    return Standing.PERSON_REQUEST if recipient.desired_reason == "person_request" else Standing.NOT_MEMBER


def _raw_email(recipient: Recipient, profile: Profile | None, address: Address, structure: Structure) -> str | None:
    if recipient.email_override and recipient.email_override.strip():
        return recipient.email_override
    if profile is not None and profile.email and profile.email.strip():
        return profile.email
    binding = structure.bindings.get((recipient.distribution_gguid, recipient.baf_client_id))
    value: str | None = getattr(address, (binding and binding.email_field) or "email1", None)
    return value
