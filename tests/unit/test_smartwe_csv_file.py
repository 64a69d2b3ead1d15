"""A file from somebody's own CRM: what its lines say, and which of them say nothing."""

from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.smartwe.csv_file import BadLine, Column, CsvFile, Entry
from schemas.errors import MalformedInput

COLUMNS = (
    Column("salutation", "character varying", 80),
    Column("first_name", "character varying", 80),
    Column("last_name", "character varying", 80),
    Column("company_name", "character varying", 255),
    Column("street", "text"),
    Column("birthday", "date"),
    Column("x_customer_no", "text"),
    Column("x_employees", "bigint"),
    Column("x_revenue", "numeric"),
    Column("x_key_account", "boolean"),
    Column("x_newsletter_topics", "ARRAY"),
)
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def read(text: str, encoding: str = "utf-8") -> list[Entry | BadLine]:
    return list(CsvFile(text.encode(encoding), COLUMNS).entries(now=NOW))


def entry(text: str) -> Entry:
    (found,) = read(text)
    assert isinstance(found, Entry), found
    return found


def reason(text: str) -> str:
    (found,) = read(text)
    assert isinstance(found, BadLine), found
    return found.reason


@pytest.mark.parametrize(
    "header",
    [
        pytest.param("E-Mail;Vorname;Nachname", id="German with semicolons"),
        pytest.param("email,first_name,last_name", id="column names with commas"),
        pytest.param("E-MAIL-ADRESSE\tVORNAME\tName", id="capitals and tabs"),
        pytest.param("E-Mail; Vorname ;Familienname", id="blanks around"),
    ],
)
def test_columns_are_known_by_their_headers(header: str) -> None:
    delimiter = next(mark for mark in ";,\t" if mark in header)

    found = entry(f"{header}\n{delimiter.join(('anna@x.example', 'Anna', 'Groß'))}\n")

    assert found.fields == {"email1": "anna@x.example", "first_name": "Anna", "last_name": "Groß", "kind": "person"}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252"])
def test_umlauts_survive_however_the_file_was_saved(encoding: str) -> None:
    (found,) = read("E-Mail;Straße\nanna@x.example;Mühlstraße 4\n", encoding)

    assert isinstance(found, Entry)
    assert found.fields["street"] == "Mühlstraße 4"


def test_a_file_that_is_no_text_is_refused_as_a_whole() -> None:
    with pytest.raises(MalformedInput, match="save it as UTF-8"):
        CsvFile(b"E-Mail\n\x81\xff", COLUMNS)


@pytest.mark.parametrize("text", ["", "Vorname;Nachname\nAnna;Groß\n", "E-Mail;Mail\na@x.example;b@x.example\n"])
def test_a_file_without_one_column_of_addresses_is_refused_as_a_whole(text: str) -> None:
    with pytest.raises(MalformedInput):
        CsvFile(text.encode(), COLUMNS)


def test_columns_that_mean_nothing_here_are_named() -> None:
    file = CsvFile(b"E-Mail;Notiz;x_customer_no\na@x.example;egal;K-1\n", COLUMNS)

    assert file.ignored == ("Notiz",)


def test_values_are_read_as_the_column_means_them() -> None:
    found = entry(
        "email;birthday;x_employees;x_revenue;x_key_account;x_newsletter_topics\n"
        "a@x.example;31.01.1980;12;1.234,56;ja;Messen|Rezepte\n"
    )

    assert found.fields == {
        "email1": "a@x.example",
        "birthday": date(1980, 1, 31),
        "x_employees": 12,
        "x_revenue": Decimal("1234.56"),
        "x_key_account": True,
        "x_newsletter_topics": ["Messen", "Rezepte"],
        "kind": "person",
    }


@pytest.mark.parametrize(
    ("header", "cell", "told"),
    [
        ("birthday", "30.02.1980", "birthday: not a date"),
        ("birthday", "1980", "birthday: not a date"),
        ("x_employees", "zwölf", "x_employees: not a bigint"),
        ("x_employees", str(2**63), "x_employees: not a bigint"),
        ("x_revenue", "1.234", "x_revenue: not a numeric"),
        ("x_revenue", "NaN", "x_revenue: not a numeric"),
        ("x_key_account", "vielleicht", "x_key_account: not a boolean"),
        ("Vorname", "A" * 81, "first_name: longer than 80 characters"),
        ("Einwilligung", "bestimmt", "consent_kind: not a kind of consent that is known"),
        ("Einwilligung", "schriftlich", "a consent without the date on which it was given"),
        ("Bestätigt am", "gestern", "confirmed_at: not a date or time"),
        ("Bestätigt am", "01.01.2099", "confirmed_at: lies in the future"),
        ("Bestätigt am", "01.01.2020", "dates of a consent, but not which kind of consent"),
        ("Erfasst am", "0001-01-01", "captured_at: not a date or time"),
    ],
)
def test_a_cell_that_cannot_be_read_makes_its_line_bad_and_is_not_repeated(header: str, cell: str, told: str) -> None:
    assert reason(f"email;{header}\na@x.example;{cell}\n") == told
    assert cell not in told


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (";Anna", "no e-mail address"),
        ("kein@;Anna", "the e-mail address is none that can exist"),
        ("a@x.example", "1 columns instead of 2"),
        ("a@x.example;Anna;Groß", "3 columns instead of 2"),
    ],
)
def test_a_line_that_says_nothing_usable_is_told_with_its_reason(line: str, told: str) -> None:
    assert reason(f"email;first_name\n{line}\n") == told


def test_lines_count_as_an_editor_shows_them_even_behind_a_cell_of_two_lines() -> None:
    found = read('email;first_name\na@x.example;"An\nna"\n\nkein@;B\nc@x.example;C\n')

    assert [line.line for line in found] == [2, 5, 6]


def test_a_quote_in_the_wrong_place_spoils_only_its_own_line() -> None:
    found = read('email;first_name\n"a@x.example"x;A\nb@x.example;B\n')

    assert [type(line) for line in found] == [BadLine, Entry]
    assert [line.line for line in found] == [2, 3]


def test_a_double_opt_in_brings_both_of_its_dates() -> None:
    found = entry("email;Einwilligung;Angemeldet am;Bestätigt am;Quelle\n"
                  "a@x.example;Double-Opt-In;01.02.2023 10:00;2023-02-01T10:05:00+01:00;Formular\n")  # fmt: skip

    assert found.consent == {
        "kind": "doi",
        "requested_at": datetime(2023, 2, 1, 8, 0, tzinfo=UTC),  # no zone told: the earliest it can have been
        "confirmed_at": datetime(2023, 2, 1, 9, 5, tzinfo=UTC),
        "captured_at": datetime(2023, 2, 1, 9, 5, tzinfo=UTC),
        "source_identifier": "Formular",
    }


def test_a_bare_yes_is_a_consent_without_evidence() -> None:
    assert entry("email;Einwilligung\na@x.example;ja\n").consent == {"kind": "imported_unproven", "captured_at": NOW}


def test_a_bare_no_is_neither_a_consent_nor_an_objection() -> None:
    found = entry("email;Einwilligung\na@x.example;nein\n")

    assert (found.consent, found.left) == (None, False)


@pytest.mark.parametrize("word", ["abgemeldet", "Widerruf", "Widerspruch"])
def test_somebody_who_left_is_loaded_as_somebody_who_left(word: str) -> None:
    found = entry(f"email;Einwilligung\na@x.example;{word}\n")

    assert (found.consent, found.left) == (None, True)


@pytest.mark.parametrize(
    ("cells", "kind"), [("Anna;;", "person"), (";Groß GmbH;", "company"), ("Anna;Groß GmbH;", "contact_person")]
)
def test_names_say_whether_it_is_a_person_or_a_company(cells: str, kind: str) -> None:
    assert entry(f"Vorname;Firma;Anrede;email\n{cells};a@x.example\n").fields["kind"] == kind


@given(st.binary(max_size=300))
def test_any_bytes_give_lines_or_a_refusal(content: bytes) -> None:
    try:
        found = list(CsvFile(b"E-Mail;Geburtstag;Einwilligung;Erfasst am\n" + content, COLUMNS).entries(now=NOW))
    except MalformedInput:
        return

    assert all(isinstance(line, Entry | BadLine) for line in found)
