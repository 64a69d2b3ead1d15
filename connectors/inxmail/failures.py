"""What an answer of Inxmail means when it is not the one hoped for. Said once; pure."""

from typing import Final

import msgspec

from schemas.errors import AnswerLost, MalformedInput, Misconfigured, PipelineError, Refused, Unavailable
from schemas.inxmail import Problem

_NOT_NOW: Final = frozenset({408, 425, 429, 503})
"""Refused before anything was done."""
_NEVER: Final = frozenset({501, 505})
"""The server cannot do this at all: asking again changes nothing."""


def failure_of(
    status: int, *, repeatable: bool = True, kind: str | None = None, retry_after_seconds: float | None = None
) -> PipelineError | None:
    """What a status means; None: it was done. Permanent meanings come first.

    `repeatable`: the request may be sent again without harm (every GET, and a merge-patch). After a server's error
    to any other request nobody knows whether it was carried out.
    """
    if 200 <= status < 300:
        return None
    if status in (401, 403):
        return Misconfigured(
            f"Inxmail rejects the credentials or their rights ({status}); the client is paused and nothing is dropped:"
            " renew them in the settings"
        )
    if 300 <= status < 400:
        return Misconfigured(f"Inxmail answers with a redirect ({status}); correct base_url in the settings")
    if status in _NEVER:
        return Refused(f"Inxmail does not offer this ({status})", status=status, kind=kind)
    if status in _NOT_NOW or status < 200:
        return Unavailable(f"Inxmail cannot do it now ({status})", retry_after_seconds=retry_after_seconds)
    if status >= 500:
        if repeatable:
            return Unavailable(f"Inxmail failed ({status})", retry_after_seconds=retry_after_seconds)
        return AnswerLost(f"Inxmail failed ({status}): it may have been carried out all the same")
    return Refused(f"Inxmail refused ({status}, {kind or 'no reason given'})", status=status, kind=kind)


class Refusal(Refused):
    """A refusal with the fields it names. `fields`: as the far side spells them; never their values."""

    def __init__(self, message: str, *, status: int, problem: Problem) -> None:
        super().__init__(message, status=status, kind=problem.type)
        self.fields = tuple(found.field for found in problem.invalid_fields)
        self.detail = problem.detail
        """The far side's own words: may quote a value, so it is compared and never logged."""


def failure_in(
    status: int, body: bytes, *, repeatable: bool, retry_after_seconds: float | None
) -> PipelineError | None:
    """The failure in an answer, with what its problem body says."""
    try:
        problem = msgspec.json.decode(body, type=Problem)
    except (msgspec.DecodeError, UnicodeDecodeError):
        problem = Problem()  # an HTML page, or nothing: the status alone speaks
    failure = failure_of(
        status, repeatable=repeatable, kind=_token(problem.type), retry_after_seconds=retry_after_seconds
    )
    if isinstance(failure, Refused):
        return Refusal(str(failure), status=status, problem=problem)
    return failure


def unreadable(what: str, *, repeatable: bool) -> PipelineError:
    """A success whose body is cut off or no JSON."""
    if repeatable:
        return Unavailable(f"Inxmail's answer about {what} was cut off")
    return AnswerLost(f"Inxmail carried out {what}, and its answer cannot be read")


def misshapen(what: str, error: msgspec.ValidationError) -> MalformedInput:
    """JSON of a shape that we do not know. Tells where, and no value."""
    return MalformedInput(f"Inxmail's answer about {what} has an unknown shape: {str(error).rpartition(' - ')[2]}")


def _token(text: str) -> str | None:
    """A problem type, when it is a short token and not a sentence that could quote a value."""
    return text if text and len(text) <= 40 and all(c.isalnum() or c in "-:_" for c in text) else None
