"""What PostgreSQL's and asyncpg's errors mean to the pipeline, said once."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from schemas.errors import AnswerLost, Misconfigured, PipelineError, Refused, Unavailable

_LATER = (
    asyncpg.TransactionRollbackError,  # deadlock, serialisation
    asyncpg.InsufficientResourcesError,  # disk full, too many connections
    asyncpg.OperatorInterventionError,  # shutdown, statement timeout
    asyncpg.CannotConnectNowError,
    asyncpg.LockNotAvailableError,
    asyncpg.ObjectInUseError,  # the replication origin is still held by the process before us
)
_NEVER = (
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InsufficientPrivilegeError,
    asyncpg.UndefinedTableError,
    asyncpg.UndefinedColumnError,
    asyncpg.UndefinedFunctionError,
    asyncpg.InvalidSchemaNameError,
)


def failure_of(error: BaseException) -> PipelineError | None:
    """The meaning of an error raised by asyncpg (a timeout is an `OSError`); None: it was not foreseen, let it rise.

    The far side's message is carried over only where it cannot quote a row.
    """
    match error:
        case asyncpg.PostgresError() if isinstance(error, _NEVER):
            return Misconfigured(f"PostgreSQL refuses ({error.sqlstate}): {error.args[0]}")
        case asyncpg.ClientConfigurationError():
            return Misconfigured(f"the database address cannot be used: {error}")
        case asyncpg.PostgresConnectionError() | asyncpg.ConnectionDoesNotExistError():
            return AnswerLost("the connection to PostgreSQL broke; the transaction may or may not have been committed")
        case asyncpg.PostgresError() if isinstance(error, _LATER):
            return Unavailable(f"PostgreSQL cannot do it now ({error.sqlstate})")
        case asyncpg.PostgresError():
            rule = error.constraint_name or error.column_name  # names of the schema's, which tell no value
            broken = f"{error.sqlstate}, {rule}" if rule else error.sqlstate
            return Refused(f"PostgreSQL refused a row ({broken})", kind=error.sqlstate)
        case asyncpg.InterfaceError() if "closed" in str(error):
            return Unavailable("the connection to PostgreSQL is closed")
        case asyncpg.InternalClientError() if "cannot switch to state" in str(error):
            # The server has said that it ends the session, and its end has not been noticed yet.
            return Unavailable("the session with PostgreSQL is being ended")
        case OSError():
            return Unavailable(f"PostgreSQL cannot be reached ({error.strerror or type(error).__name__})")
    return None


@asynccontextmanager
async def translated() -> AsyncIterator[None]:
    """Inside it, every foreseen error of asyncpg leaves as a `PipelineError`."""
    try:
        yield
    except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError) as error:
        failure = failure_of(error)
        if failure is None:
            raise
        raise failure from error
