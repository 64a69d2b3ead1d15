"""Every rule and reason that a record can carry has words for people."""

import re

from streams.explanation import RULES
from streams.mailbox import rule
from streams.mailbox.claims import Standing


def test_every_rule_is_explained() -> None:
    named = set(re.findall(r"^  (\w+) {2,}", rule.__doc__ or "", re.MULTILINE))

    assert len(named) > 5 and named <= RULES.keys()


def test_every_standing_of_a_claim_is_explained() -> None:
    assert {standing.value for standing in Standing} <= RULES.keys()
