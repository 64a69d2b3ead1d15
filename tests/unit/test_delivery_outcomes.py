"""What the far side's answers mean for a mailbox."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.inxmail.failures import Refusal
from schemas.errors import Refused
from schemas.inxmail import FieldProblem, Problem, RowError
from schemas.mutations import Held
from streams.delivery.outcomes import (
    Ended,
    RowFault,
    assigned,
    code_of,
    fault_of,
    is_about_values,
    is_for_later,
    refused_names,
    unsubscribed_as,
    unsubscription_refused,
)

ROWS = {"ann@example.com": "A", "bea@example.com": "B"}


@pytest.mark.parametrize(
    ("error", "fault", "code"),
    [
        ("UNSUBSCRIPTION_ERROR", RowFault.LIST, "unsubscription_error"),
        ("ATTRIBUTE_PARSE_ERROR", RowFault.VALUES, "attribute_parse_error"),
        ("BLACKLIST_ERROR", RowFault.MAILBOX, "blacklisted"),
        ("EMAIL_PARSE_ERROR", RowFault.MAILBOX, "email_refused"),
        ("LINE_PARSE_ERROR", RowFault.MAILBOX, "line_parse_error"),
        ("SAVE_ERROR", RowFault.MAILBOX, "save_error"),
        ("NEVER_SEEN_BEFORE", RowFault.MAILBOX, "never_seen_before"),
    ],
)
def test_every_row_error_refuses_one_part(error: str, fault: RowFault, code: str) -> None:
    assert (fault_of(error), code_of(error)) == (fault, code)


def test_errors_find_their_rows_by_the_address_however_it_is_spelled() -> None:
    found = assigned([RowError("BLACKLIST_ERROR", " Ann@EXAMPLE.com ")], ROWS, 1)

    assert (found.rows, found.unassigned) == ({"A": "BLACKLIST_ERROR"}, ())


def test_an_error_that_names_no_row_leaves_rows_in_doubt() -> None:
    found = assigned([RowError("ATTRIBUTE_PARSE_ERROR", "31.13.2026")], ROWS, 1)

    assert (found.rows, found.unassigned) == ({}, ("ATTRIBUTE_PARSE_ERROR",))


def test_more_failures_than_errors_leave_rows_in_doubt() -> None:
    found = assigned([RowError("SAVE_ERROR", "ann@example.com")], ROWS, 2)

    assert (found.rows, found.unassigned) == ({"A": "SAVE_ERROR"}, ("UNKNOWN_ERROR",))


def test_a_warning_fails_no_row_and_a_missing_column_is_told() -> None:
    found = assigned(
        [RowError("COLUMN_NOT_FOUND_WARN", "Ort"), RowError("IGNORED_TRACKING_PERMISSION_WARN", "ann@example.com")],
        ROWS,
        0,
    )

    assert (found.rows, found.unassigned, found.columns_missing) == ({}, (), ("Ort",))


@given(
    st.lists(
        st.builds(RowError, st.sampled_from(["SAVE_ERROR", "X_WARN"]), st.sampled_from([None, "?", *ROWS])), max_size=6
    ),
    st.integers(0, 6),
)
def test_no_failed_row_is_ever_taken_for_a_success(errors: list[RowError], fail_count: int) -> None:
    found = assigned(errors, ROWS, fail_count)

    assert found.unassigned or len(found.rows) >= fail_count


@pytest.mark.parametrize(
    ("result", "ended"),
    [
        ("VERIFIED_UNSUBSCRIPTION", Ended(Held.UNSUBSCRIBED)),
        ("MANUAL_UNSUBSCRIPTION", Ended(Held.UNSUBSCRIBED)),
        ("DUPLICATE_UNSUBSCRIPTION", Ended(Held.UNSUBSCRIBED, duplicate=True)),
        ("NOT_IN_LIST_UNSUBSCRIPTION", Ended(Held.NONE)),
        ("NOT_IN_SYSTEM_UNSUBSCRIPTION", Ended(Held.NONE)),
        ("PENDING_UNSUBSCRIPTION", Ended(None, error="pending_unsubscription")),
        ("UNSUBSCRIPTION_INTERNAL_ERROR", Ended(None, error="unsubscription_internal_error")),
        ("SOMETHING_NEW", Ended(Held.UNSUBSCRIBED)),
        (None, Ended(Held.UNSUBSCRIBED)),
    ],
)
def test_an_unsubscription_ends_the_subscription_unless_it_failed_or_waits(result: str | None, ended: Ended) -> None:
    assert unsubscribed_as(result) == ended


@pytest.mark.parametrize(
    ("status", "kind", "is_list_known", "ended"),
    [
        (400, "unsubscription-error", True, Ended(Held.NONE)),
        (400, "blacklisted", True, Ended(Held.NONE)),
        (410, None, True, Ended(Held.NONE)),
        (404, "about:blank", True, Ended(Held.NONE)),
        (404, "about:blank", False, Ended(None, error="list_missing")),
        (400, "type-mismatch", True, Ended(None, error="type_mismatch")),
        (418, None, True, Ended(None, error="refused_418")),
    ],
)
def test_a_refused_unsubscription_of_no_member_is_what_was_wanted(
    status: int, kind: str | None, is_list_known: bool, ended: Ended
) -> None:
    assert unsubscription_refused(Refused("x", status=status, kind=kind), is_list_known=is_list_known) == ended


def test_a_locked_resource_is_tried_later_and_nothing_else_is() -> None:
    assert is_for_later(Refused("x", status=400, kind="locked-resource"))
    assert not is_for_later(Refused("x", status=400, kind="invalid-request-body"))


@pytest.mark.parametrize(
    ("status", "kind", "about"),
    [
        (400, "invalid-request-body", True),
        (400, "type-mismatch", True),
        (400, "unresolvable-request", True),
        (400, "something-new", True),
        (400, "blacklisted", False),
        (400, "locked-resource", False),
        (404, "about:blank", False),
        (409, "duplicate-resource", False),
    ],
)
def test_a_refusal_that_is_about_the_recipient_is_not_searched_for_among_its_values(
    status: int, kind: str, about: bool
) -> None:
    assert is_about_values(Refused("x", status=status, kind=kind)) is about


def test_a_refused_write_names_its_attributes_by_field_or_else_by_its_detail() -> None:
    by_field = Problem("invalid-request-body", invalid_fields=(FieldProblem("attributes.Ort", "too long"),))
    by_detail = Problem("unresolvable-request", detail="there is no attribute 'Ort'")
    names = ["Ort", "Vorname"]

    assert refused_names(Refusal("x", status=400, problem=by_field), names) == {"Ort"}
    assert refused_names(Refusal("x", status=400, problem=by_detail), names) == {"Ort"}
    assert refused_names(Refusal("x", status=400, problem=Problem()), names) == set()
