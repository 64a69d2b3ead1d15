"""Spellings of one mailbox, and hashes that no later version may change."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.ids import NORMALISER_VERSION, KeyRing, gguid_of, normalise_email

VECTORS = {
    " Max.Mustermann@Example.COM ": "max.mustermann@example.com",
    "jörg@bücher.example": "jörg@xn--bcher-kva.example",
    "JÖRG@xn--bcher-kva.example": "jörg@xn--bcher-kva.example",
    "info@MÜLLER.de": "info@xn--mller-kva.de",
    "strasse@straße.de": "strasse@xn--strae-oqa.de",
    "ＡＢＣ@example.com": "abc@example.com",
    "ann+news@example.com": "ann+news@example.com",
    "a.n.n@example.com": "a.n.n@example.com",
    "": None,
    "   ": None,
    "ann": None,
    "ann@": None,
    "@example.com": None,
    "ann@example..com": None,
    "a b@example.com": None,
    "ann@localhost": None,
}
RING = KeyRing([bytes(range(32))])


@pytest.mark.parametrize("raw", VECTORS)
def test_each_spelling_has_the_mailbox_that_it_always_had(raw: str) -> None:
    assert normalise_email(raw) == VECTORS[raw]


def test_hashes_are_frozen() -> None:
    assert NORMALISER_VERSION == 1
    assert RING.email_hash("ann@example.com").hex() == (
        "7fd723e36b1c9108cdb7920372eed4450ff2050f2cda0bd65d71e5d09de0079c"
    )
    assert RING.fingerprint() == "dbb9ceb2b9b53166"
    assert gguid_of("suppression", "a", 7) == "15E5E047D8CE570580C1CA7AE56612F3"


@given(st.emails())
def test_normalising_twice_is_normalising_once(email: str) -> None:
    once = normalise_email(email)

    assert once is None or normalise_email(once) == once


def test_the_same_address_is_another_mailbox_in_another_client() -> None:
    assert RING.mailbox_ref("a", "ann@example.com") != RING.mailbox_ref("b", "ann@example.com")


def test_a_later_key_of_the_ring_still_matches() -> None:
    rotated = KeyRing([b"n" * 32, bytes(range(32))])

    assert RING.email_hash("ann@example.com") in rotated.email_hashes("ann@example.com")


@pytest.mark.parametrize("keys", [[], [b"short"]])
def test_a_ring_without_a_good_key_is_refused(keys: list[bytes]) -> None:
    with pytest.raises(ValueError, match="key ring"):
        KeyRing(keys)
