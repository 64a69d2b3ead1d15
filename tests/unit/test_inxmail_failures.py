"""Every answer has a meaning, permanent ones first."""

import pytest

from connectors.inxmail.failures import Refusal, failure_in, failure_of
from schemas.errors import AnswerLost, Misconfigured, Refused, Unavailable


@pytest.mark.parametrize("repeatable", [True, False])
def test_every_status_has_a_meaning(repeatable: bool) -> None:
    for status in range(100, 600):
        failure = failure_of(status, repeatable=repeatable)
        assert (failure is None) == (200 <= status < 300), status


@pytest.mark.parametrize(
    ("status", "repeatable", "kind"),
    [
        (401, True, Misconfigured),
        (403, False, Misconfigured),
        (302, True, Misconfigured),
        (400, True, Refused),
        (404, False, Refused),
        (409, False, Refused),
        (413, False, Refused),
        (501, False, Refused),
        (429, False, Unavailable),
        (503, False, Unavailable),
        (500, True, Unavailable),
        (502, True, Unavailable),
        (500, False, AnswerLost),
        (502, False, AnswerLost),
        (504, False, AnswerLost),
    ],
)
def test_what_a_status_means_depends_on_whether_it_may_be_repeated(
    status: int, repeatable: bool, kind: type[Exception]
) -> None:
    assert type(failure_of(status, repeatable=repeatable)) is kind


def test_a_refusal_carries_its_token_and_the_fields_it_names() -> None:
    body = b'{"type":"invalid-request-body","title":"x","invalidFields":[{"field":"attributes.Ort","problem":"long"}]}'
    failure = failure_in(400, body, repeatable=True, retry_after_seconds=None)

    assert isinstance(failure, Refusal)
    assert (failure.status, failure.kind, failure.fields) == (400, "invalid-request-body", ("attributes.Ort",))


@pytest.mark.parametrize("body", [b"<html>Bad gateway</html>", b"", b"\xff\xfe", b"[1]"])
def test_a_body_that_is_no_problem_leaves_the_status_to_speak(body: bytes) -> None:
    assert isinstance(failure_in(502, body, repeatable=True, retry_after_seconds=None), Unavailable)
    assert isinstance(failure_in(404, body, repeatable=True, retry_after_seconds=None), Refused)


def test_no_message_ever_quotes_the_far_side() -> None:
    body = b'{"type":"no such address ann@example.com here","detail":"ann@example.com"}'
    failure = failure_in(400, body, repeatable=True, retry_after_seconds=None)

    assert "ann" not in str(failure)


def test_the_time_that_was_asked_for_travels_along() -> None:
    failure = failure_in(429, b"{}", repeatable=True, retry_after_seconds=7.0)

    assert isinstance(failure, Unavailable)
    assert failure.retry_after_seconds == 7.0
