"""What is known of attributes and lists, and what is noticed when it changes."""

import logging
from collections.abc import Callable
from typing import Any

import pytest

from connectors.inxmail.pace import Urgency
from schemas.inxmail import Attribute, MailingList
from streams.delivery.directory import Directory

NAME, REVENUE = Attribute(1, "Vorname", "TEXT", 20), Attribute(3, "Umsatz", "FLOATING_POINT_NUMBER")


class Account:
    """Tells definitions."""

    def __init__(self, *attributes: Attribute) -> None:
        self.told = list(attributes)
        self.asked = 0

    async def attributes(self, *, urgency: Urgency) -> list[Attribute]:
        self.asked += 1
        return self.told

    async def lists(self, *, urgency: Urgency) -> list[MailingList]:
        return [MailingList(7, "Newsletter", "STANDARD"), MailingList(1, "System", "ADMIN")]


def directory(account: Any, clock: Callable[[], float] = lambda: 0.0) -> Directory:
    return Directory(account, clock)


async def test_what_is_read_first_is_no_change_and_only_lists_with_members_count() -> None:
    known = directory(Account(NAME))

    assert await known.refresh()
    assert (known.attributes, known.lists) == ({"1": NAME}, (7,))
    assert await known.changes(0.0) == set()


@pytest.mark.parametrize(
    ("after", "changed"),
    [
        pytest.param([NAME, REVENUE], {"3"}, id="new"),
        pytest.param([], {"1"}, id="gone"),
        pytest.param([Attribute(1, "Vorname", "TEXT", 5)], {"1"}, id="shorter"),
        pytest.param([Attribute(1, "Rufname", "TEXT", 20)], {"1"}, id="renamed"),
        pytest.param([Attribute(1, "Vorname", "INTEGER")], {"1"}, id="of another type"),
        pytest.param([NAME], set(), id="the same"),
    ],
)
async def test_what_changes_is_told_once(
    after: list[Attribute], changed: set[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    account = Account(NAME)
    known = directory(account)
    await known.refresh()
    account.told = after

    assert await known.refresh() is bool(changed)
    assert len(caplog.records) == bool(changed)
    assert await known.changes(0.01) == changed
    assert await known.changes(0.0) == set()


async def test_what_is_missing_is_not_asked_for_again_and_again() -> None:
    account, asked = Account(NAME), []
    times = iter((0.0, 10.0, 29.0, 31.0))
    known = directory(account, lambda: next(times))
    for _ in range(4):
        await known.look_up({"99"})
        asked.append(account.asked)

    assert asked == [1, 1, 1, 2]
