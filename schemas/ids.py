"""What identifies a mailbox, and under which key: e-mail normalisation, keyed hashes, record keys. Pure."""

import hashlib
import hmac
import unicodedata
import uuid
from collections.abc import Sequence
from functools import lru_cache
from typing import NewType

from email_validator import EmailNotValidError, validate_email

Gguid = NewType("Gguid", str)
"""32 upper-case hex digits: the key of a CRM row."""
MailboxRef = NewType("MailboxRef", str)
"""64 lower-case hex digits: HMAC-SHA-256 over (client, normalised e-mail)."""

NORMALISER_VERSION = 1
"""Raised whenever a test vector of `normalise_email` changes: every stored hash depends on it."""

_EVENT_NAMESPACE = uuid.UUID("6f1f0b5e-6d0b-5a53-9f0a-3d2f3c0f7c11")


@lru_cache(maxsize=200_000)
def normalise_email(raw: str) -> str | None:
    """The one spelling of a mailbox: NFKC, trimmed, lower case, domain in A-label form; None when it can be no address.

    No folding that a provider might do (dots, plus tags): those are other mailboxes until the provider says so.
    Non-ASCII local parts are valid.
    """
    text = unicodedata.normalize("NFKC", raw).strip().lower()
    if not text:
        return None
    try:
        parsed = validate_email(text, check_deliverability=False, allow_smtputf8=True, test_environment=True)
    except EmailNotValidError:
        return None
    return f"{parsed.local_part}@{parsed.ascii_domain}".lower()


class KeyRing:
    """HMAC keys for hashes of e-mail addresses: the first writes, any matches."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        if not keys or any(len(key) < 16 for key in keys):
            raise ValueError("a key ring needs at least one key, each of 16 bytes or more")
        self._keys = tuple(keys)

    def mailbox_ref(self, client: str, email: str) -> MailboxRef:
        """The record key of a mailbox. `email` is already normalised."""
        return MailboxRef(self._digest(self._keys[0], f"{client}\0{email}").hex())

    def email_hash(self, email: str) -> bytes:
        """32 bytes over the normalised e-mail alone: matches a mailbox in every client (`email_hmac` in the CRM)."""
        return self._digest(self._keys[0], email)

    def email_hashes(self, email: str) -> tuple[bytes, ...]:
        """The hash under each key of the ring, the writing key first."""
        return tuple(self._digest(key, email) for key in self._keys)

    def fingerprint(self) -> str:
        """Names the writing key without telling it: 16 hex digits."""
        return self._digest(self._keys[0], "verteiler key fingerprint").hex()[:16]

    @staticmethod
    def _digest(key: bytes, message: str) -> bytes:
        return hmac.digest(key, message.encode(), hashlib.sha256)


def gguid_of(*parts: str | int) -> Gguid:
    """The same parts give the same GGUID, for ever: a row that is written twice is one row."""
    return Gguid(uuid.uuid5(_EVENT_NAMESPACE, "\0".join(str(part) for part in parts)).hex.upper())
