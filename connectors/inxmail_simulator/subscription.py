"""How a person comes onto a list and leaves it: the state machine as pure decisions, without clock or storage."""

from enum import StrEnum
from typing import NamedTuple


class State(StrEnum):
    """What a list knows of a recipient. NONE: no record, and so no barrier against the next import."""

    NONE = "NONE"
    SUBSCRIBED = "SUBSCRIBED"
    UNSUBSCRIBED = "UNSUBSCRIBED"


class Process(StrEnum):
    """Whether the list asks for a confirmation by mail."""

    SINGLE = "SINGLE"
    DOUBLE = "DOUBLE"


class Permission(StrEnum):
    GRANTED = "GRANTED"
    DENIED = "DENIED"


class Step(NamedTuple):
    """The token of answer and log, the state afterwards, and whether a confirmation is now awaited."""

    result: str
    state: State
    pending: bool = False


def on_subscription(state: State, process: Process) -> Step:
    """A subscription by form or REST. A repeated request while one is pending starts the confirmation again."""
    if state is State.SUBSCRIBED:
        return Step("DUPLICATE_SUBSCRIPTION", state)
    if process is Process.DOUBLE:
        return Step("PENDING_SUBSCRIPTION", state, pending=True)
    return Step("VERIFIED_SUBSCRIPTION", State.SUBSCRIBED)


def on_unsubscription(state: State, process: Process, *, subscription_pending: bool = False) -> Step | None:
    """An unsubscription by form or REST; None when the address is no member of the list."""
    if state is State.UNSUBSCRIBED and not subscription_pending:
        return Step("DUPLICATE_UNSUBSCRIPTION", state)
    if state is State.SUBSCRIBED:
        if process is Process.DOUBLE:
            return Step("PENDING_UNSUBSCRIPTION", state, pending=True)
        return Step("VERIFIED_UNSUBSCRIPTION", State.UNSUBSCRIBED)
    if subscription_pending:  # takes the request back; there was no membership yet to end
        return Step("VERIFIED_UNSUBSCRIPTION", state)
    return None


def on_import(state: State, *, resubscribe: bool) -> State | None:
    """The state after an import row; None when the row is refused, because the person has unsubscribed."""
    if state is State.UNSUBSCRIBED and not resubscribe:
        return None
    return State.SUBSCRIBED
