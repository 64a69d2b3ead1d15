"""One spelling for every attribute value, whatever the CRM or Inxmail calls it."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.inxmail import Attribute, AttributeType, AttributeValue
from streams.delivery.values import Unfit, canonical, cell, json_value


def attribute(kind: str, max_length: int | None = None) -> Attribute:
    return Attribute(1, "X", kind, max_length)


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        pytest.param("TEXT", "  Zoe\u0308 ", "Zoë", id="text is composed and trimmed"),
        pytest.param("TEXT", "   ", None, id="blank text is no value"),
        pytest.param("TEXT", 12, "12", id="a number in a text attribute"),
        pytest.param("TEXT", True, "true", id="a boolean in a text attribute"),
        pytest.param("INTEGER", "0012", "12", id="an integer from decimal text"),
        pytest.param("INTEGER", "12.000", "12", id="an integer with an empty fraction"),
        pytest.param("INTEGER", -3, "-3", id="a negative integer"),
        pytest.param("FLOATING_POINT_NUMBER", "12.5000", "12.5", id="trailing zeros say nothing"),
        pytest.param("FLOATING_POINT_NUMBER", 0.1 + 0.2, "0.3", id="binary noise says nothing"),
        pytest.param("FLOATING_POINT_NUMBER", "-0.0", "0", id="there is one zero"),
        pytest.param("FLOATING_POINT_NUMBER", "1e3", "1000", id="no exponent"),
        pytest.param("BOOLEAN", False, "false", id="a boolean"),
        pytest.param("BOOLEAN", "TRUE", "true", id="a boolean as text"),
        pytest.param("DATE_ONLY", "2026-03-29Z", "2026-03-29", id="a date as capture writes it"),
        pytest.param("DATE_ONLY", "2026-03-29", "2026-03-29", id="a date as Inxmail writes it"),
        pytest.param("DATE_AND_TIME", "2026-03-29T03:30:00.999999+02:00", "2026-03-29T01:30:00Z", id="UTC seconds"),
        pytest.param("DATE_AND_TIME", "0988-01-01T00:00:00Z", "0988-01-01T00:00:00Z", id="a year of three digits"),
        pytest.param("TIME_ONLY", "13:15:00Z", "13:15:00Z", id="a time"),
        pytest.param("TIME_ONLY", "13:15:00", "13:15:00Z", id="a time without zone"),
    ],
)
def test_a_value_has_one_spelling(kind: str, value: AttributeValue, expected: str | None) -> None:
    assert canonical(attribute(kind), value) == expected


@pytest.mark.parametrize(
    ("kind", "value", "code"),
    [
        ("INTEGER", "twelve", "type_mismatch"),
        ("INTEGER", "1.5", "type_mismatch"),
        ("INTEGER", True, "type_mismatch"),
        ("INTEGER", 10**18, "out_of_range"),
        ("INTEGER", "1e999999999", "out_of_range"),
        ("FLOATING_POINT_NUMBER", "NaN", "type_mismatch"),
        ("FLOATING_POINT_NUMBER", "1e400", "out_of_range"),
        ("BOOLEAN", "yes", "type_mismatch"),
        ("BOOLEAN", 1, "type_mismatch"),
        ("DATE_ONLY", "2026-02-30", "type_mismatch"),
        ("DATE_ONLY", "2026-03-29T00:00:00Z", "type_mismatch"),
        ("DATE_AND_TIME", "2026-03-29T01:30:00", "type_mismatch"),
        ("DATE_AND_TIME", "2026-03-29", "type_mismatch"),
        ("TIME_ONLY", "25:00:00", "type_mismatch"),
        ("POLYGON", "x", "attribute_type_unknown"),
    ],
)
def test_a_value_that_does_not_fit_is_named(kind: str, value: AttributeValue, code: str) -> None:
    assert canonical(attribute(kind), value) == Unfit(code)


def test_text_is_never_cut() -> None:
    assert canonical(attribute("TEXT", 3), "abcd") == Unfit("too_long")
    assert canonical(attribute("TEXT", 3), " abc ") == "abc"


anything = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**19), 10**19),
    st.floats(),
    st.text(max_size=40),
    st.decimals(allow_nan=True, places=4).map(str),
    st.datetimes().map(lambda at: at.isoformat() + "Z"),
    st.dates().map(str),
    st.times().map(str),
)


@given(st.sampled_from(sorted(AttributeType)), anything)
def test_what_was_sent_and_is_read_back_looks_unchanged(kind: str, value: AttributeValue) -> None:
    of = attribute(kind, 255)
    once = canonical(of, value)
    if isinstance(once, Unfit):
        return

    assert canonical(of, json_value(of, once)) == once
    assert canonical(of, cell(once)) == once


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_stays_within_fifteen_digits_of_itself(number: float) -> None:
    text = canonical(attribute("FLOATING_POINT_NUMBER"), number)

    if isinstance(text, Unfit):
        assert abs(number) > 1e308
        return
    assert isinstance(text, str)
    assert math.isclose(float(text), number, rel_tol=1e-14, abs_tol=5e-324) or abs(number) < 1e-300
