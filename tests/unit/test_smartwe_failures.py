"""What PostgreSQL's errors mean: permanent before transient, and never a word of a row."""

import asyncpg
import pytest

from connectors.postgres.failures import failure_of, translated
from schemas.errors import AnswerLost, Misconfigured, PipelineError, Refused, Unavailable


@pytest.mark.parametrize(
    ("error", "meaning"),
    [
        (asyncpg.InvalidPasswordError("no"), Misconfigured),
        (asyncpg.InvalidCatalogNameError("no such database"), Misconfigured),
        (asyncpg.InsufficientPrivilegeError("no"), Misconfigured),
        (asyncpg.UndefinedTableError("no"), Misconfigured),
        (asyncpg.DeadlockDetectedError("deadlock"), Unavailable),
        (asyncpg.AdminShutdownError("stopping"), Unavailable),
        (asyncpg.CannotConnectNowError("starting"), Unavailable),
        (asyncpg.DiskFullError("full"), Unavailable),
        (asyncpg.ObjectInUseError("origin is active"), Unavailable),
        (asyncpg.QueryCanceledError("timeout"), Unavailable),
        (asyncpg.ConnectionDoesNotExistError("closed in the middle"), AnswerLost),
        (asyncpg.CheckViolationError("a row"), Refused),
        (asyncpg.UniqueViolationError("a key"), Refused),
        (asyncpg.InterfaceError("connection is closed"), Unavailable),
        (ConnectionRefusedError(111, "Connection refused"), Unavailable),
        (TimeoutError(), Unavailable),
    ],
)
def test_an_error_means_what_to_do_next(error: Exception, meaning: type[PipelineError]) -> None:
    assert type(failure_of(error)) is meaning


def test_a_mistake_of_our_own_is_left_alone() -> None:
    assert failure_of(asyncpg.InterfaceError("the server expects 2 arguments for this query, 1 was passed")) is None
    assert failure_of(KeyError("x")) is None


async def test_the_detail_line_which_quotes_rows_is_not_carried_over() -> None:
    raised = asyncpg.UndefinedTableError("relation does not exist")
    raised.detail = "Failing row contains (anna@x.example)"
    assert "anna" in str(raised)

    with pytest.raises(Misconfigured) as caught:
        async with translated():
            raise raised

    assert "anna" not in str(caught.value)


async def test_a_failure_keeps_its_cause() -> None:
    cause = asyncpg.DeadlockDetectedError("deadlock")

    with pytest.raises(Unavailable) as caught:
        async with translated():
            raise cause

    assert caught.value.__cause__ is cause
