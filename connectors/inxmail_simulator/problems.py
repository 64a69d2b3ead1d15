"""What the API answers when it says no: `application/problem+json` with a short token as its type."""

from collections.abc import Iterable, Mapping
from http import HTTPStatus

from schemas.errors import Refused

BLANK = "about:blank"

_TITLES = {
    "invalid-request-body": "The request body is invalid",
    "missing-parameter": "A required parameter is missing",
    "invalid-parameter-value": "A parameter has an invalid value",
    "type-mismatch": "A value has the wrong type",
    "missing-request-part": "A required part of the request is missing",
    "unresolvable-request": "The request refers to something that cannot be resolved",
    "locked-resource": "The resource is locked",
    "blacklisted": "The address is blacklisted",
    "subscription-error": "The subscription was refused",
    "unsubscription-error": "The unsubscription was refused",
    "duplicate-resource": "The resource exists already",
}


class Problem(Refused):
    """A request refused. There is no 422 among the API's statuses: a body that fails validation is 400."""

    def __init__(
        self,
        status: int,
        kind: str = BLANK,
        *,
        detail: str | None = None,
        general: Iterable[str] = (),
        fields: Iterable[tuple[str, str]] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        title = _TITLES.get(kind) or HTTPStatus(status).phrase
        super().__init__(title, status=status, kind=kind)
        self.http_status = status
        self.headers = dict(headers or {})
        self.body: dict[str, object] = {"type": kind, "title": title}
        if detail is not None:
            self.body["detail"] = detail
        general, fields = list(general), list(fields)
        if kind == "invalid-request-body":
            self.body["generalErrors"] = general
            self.body["invalidFields"] = [{"field": field, "problem": problem} for field, problem in fields]
        if kind != BLANK:
            self.body["_links"] = {}


def not_found() -> Problem:
    return Problem(404)


def method_not_allowed(*allowed: str) -> Problem:
    return Problem(405, headers={"Allow": ", ".join(allowed)})


def invalid_body(*fields: tuple[str, str], general: Iterable[str] = (), detail: str | None = None) -> Problem:
    return Problem(400, "invalid-request-body", fields=fields, general=general, detail=detail)


def invalid_parameter(name: str, problem: str) -> Problem:
    return Problem(400, "invalid-parameter-value", detail=f"{name}: {problem}")


def type_mismatch(name: str) -> Problem:
    return Problem(400, "type-mismatch", detail=f"{name}: must be a number")


def undocumented(what: str) -> Problem:
    """501: the endpoint exists, but how it looks is not known. A guess must never pass for the contract."""
    return Problem(
        501,
        detail=f"{what}: exists in the API, but its form is not publicly documented, so the simulator does not invent"
        " one. Where a simulator default exists, name it in the option `undocumented` to switch it on.",
    )


def not_simulated(what: str) -> Problem:
    return Problem(501, detail=f"{what}: not simulated yet.")
