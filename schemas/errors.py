"""Every failure raised on purpose, named after what happened; its disposition says what to do next.

PipelineError
├── MalformedInput   PARK    the record can never be read
├── Refused          PARK    the far side understood and said no
├── Unavailable      RETRY   the far side did not do it, yet
├── AnswerLost       RETRY   the far side may have done it: look before repeating
├── Fenced           HALT    another process leads now; nothing may be written any more
└── Misconfigured    HALT    nothing can succeed until a person acts
"""

from enum import Enum
from typing import ClassVar


class Disposition(Enum):
    """What the one who catches a failure does with it."""

    RETRY = "retry"
    PARK = "park"
    HALT = "halt"


class PipelineError(Exception):
    """A failure that was foreseen. The message holds no personal data."""

    disposition: ClassVar[Disposition]


class MalformedInput(PipelineError):
    """A record that no later attempt can read."""

    disposition = Disposition.PARK


class Refused(PipelineError):
    """The far side understood and said no. `kind` is its own short token, `status` the HTTP status."""

    disposition = Disposition.PARK

    def __init__(self, message: str, *, status: int | None = None, kind: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind


class Unavailable(PipelineError):
    """The far side did not do it, yet."""

    disposition = Disposition.RETRY

    def __init__(self, message: str, *, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class AnswerLost(PipelineError):
    """The request was sent and no answer came: it may have been carried out. Look before repeating."""

    disposition = Disposition.RETRY


class Fenced(PipelineError):
    """Another process holds the lease. Stop at once; what is unfinished belongs to the new leader."""

    disposition = Disposition.HALT


class Misconfigured(PipelineError):
    """Nothing can succeed until a person acts. Names every fault at once."""

    disposition = Disposition.HALT
