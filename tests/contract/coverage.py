"""Which test shows which well-founded statement about the API. `python -m tests.contract.coverage` prints the page.

Well founded: seen in the vendor's own code or in a recorded answer of a real server, or in two independent clients.
"""

import sys
from typing import NamedTuple


class Statement(NamedTuple):
    """One statement in our words, and `module.test` of what shows it, modules and tests without their `test_`."""

    about: str
    says: str
    tests: tuple[str, ...]


STATEMENTS = (
    Statement(
        "every request",
        "Basic authentication; without it 401",
        ("conventions.without_credentials_nothing_is_told",),
    ),
    Statement(
        "every request",
        "trailing slashes and empty path segments are accepted",
        ("conventions.trailing_and_double_slashes_are_accepted",),
    ),
    Statement(
        "every request",
        "success is `application/hal+json;charset=UTF-8`, an error `application/problem+json`",
        ("conventions.a_success_is_hal", "conventions.an_unknown_object_is_404_about_blank_as_a_problem"),
    ),
    Statement(
        "every request",
        "either kind of JSON is accepted, in `Accept` and as a body",
        ("conventions.either_kind_of_json_may_be_accepted", "subscriptions.a_body_may_come_as_either_kind_of_json"),
    ),
    Statement(
        "every request",
        "three rate headers on every answer, the reset in seconds; caching, sniffing and framing forbidden",
        (
            "conventions.the_rate_headers_are_on_every_answer",
            "conventions.the_remaining_budget_falls_and_the_reset_counts_seconds",
            "conventions.answers_may_not_be_kept_framed_or_guessed_at",
        ),
    ),
    Statement(
        "every request",
        "over the limit 429 `about:blank`",
        ("simulator_shell.beyond_the_budget_it_is_429_until_the_window_ends",),
    ),
    Statement(
        "every request",
        "problems carry a short token as `type`; bad values are 400 and never 422",
        (
            "conventions.a_value_that_makes_no_sense_is_400_with_a_short_token",
            "definitions.a_list_that_is_not_valid_is_400_and_names_the_field",
            "definitions.a_body_that_is_no_json_is_400",
        ),
    ),
    Statement(
        "collections",
        "items under `_embedded`, links `self`, `first`, `curies`; `next` with `afterId` and `pageSize` until absent",
        (
            "conventions.a_page_links_to_itself_and_to_the_first_and_names_its_curies",
            "conventions.pages_follow_next_until_it_is_absent_and_only_then_comes_upcoming",
        ),
    ),
    Statement(
        "collections",
        "filters are carried in the links",
        ("conventions.filters_are_carried_in_the_links", "conventions.the_next_link_carries_the_filters"),
    ),
    Statement(
        "collections",
        "`inx:upcoming` on the last page only; it gives what is new, and nothing that merely changed",
        (
            "conventions.an_upcoming_link_with_nothing_new_is_empty_and_has_an_upcoming_link_again",
            "recipients.new_recipients_and_no_changed_ones_come_by_the_upcoming_link",
            "definitions.new_lists_come_by_the_upcoming_link",
            "subscriptions.events_come_by_the_upcoming_link_once_and_in_order",
        ),
    ),
    Statement(
        "collections", "no match is 200 and empty", ("conventions.a_collection_without_a_match_is_200_and_not_404",)
    ),
    Statement("collections", "dates are UTC to the second", ("conventions.dates_are_utc_to_the_second",)),
    Statement(
        "`GET /`",
        "only links, the seven that were recorded, no `self`",
        (
            "conventions.the_root_holds_links_to_the_resources_and_nothing_else",
            "conventions.the_links_of_the_root_start_with_the_base_url_that_was_called",
        ),
    ),
    Statement(
        "`GET /recipients`",
        "`attributes`, `subscribedTo`, `subscribedToAny`, `unsubscribedFromAny`, `email`, `lastModifiedSince`,"
        " `attributes.{name}` and the data of lists",
        (
            "recipients.a_page_gives_the_attributes_that_were_chosen_and_no_other",
            "recipients.attributes_are_given_only_when_asked_for",
            "recipients.recipients_of_any_of_several_lists_are_found_once",
            "recipients.several_addresses_can_be_looked_for_at_once",
            "recipients.changed_recipients_are_found_by_their_last_modification",
            "recipients.a_recipient_can_be_found_by_the_value_of_an_attribute",
            "imports.who_is_imported_is_found_by_list_and_address_together",
            "subscriptions.who_left_can_be_read_with_the_date",
            "subscriptions.permissions_are_found_by_recipient_and_their_changes_are_logged",
        ),
    ),
    Statement(
        "`GET /recipients/{id}`",
        "`?allAttributes` as a bare flag; unknown is 404",
        (
            "recipients.a_bare_flag_gives_all_attributes",
            "conventions.an_unknown_object_is_404_about_blank_as_a_problem",
        ),
    ),
    Statement(
        "`PATCH /recipients/{id or address}`",
        "a merge patch, by id or address; an unknown attribute is named",
        (
            "recipients.a_patch_by_address_changes_only_what_is_sent",
            "recipients.the_id_survives_a_new_address",
            "recipients.an_unknown_attribute_in_a_patch_is_named_in_the_detail",
        ),
    ),
    Statement(
        "`DELETE /recipients/{id}`",
        "deletes from the whole system",
        ("recipients.a_deleted_recipient_is_404_and_missing_from_the_collection",),
    ),
    Statement(
        "`GET /attributes[/{id}]`",
        "id, name, type, length of texts only; paged; `If-Modified-Since`; the address is not among them",
        (
            "definitions.attributes_have_id_name_and_type_and_only_text_has_a_length",
            "definitions.one_attribute_reads_as_in_the_collection",
            "definitions.the_address_is_not_among_the_attributes",
            "definitions.if_modified_since_is_honoured_on_attributes",
        ),
    ),
    Statement(
        "`POST /attributes`",
        "name and type are enough; a taken name is refused",
        (
            "definitions.an_attribute_needs_no_more_than_name_and_type",
            "definitions.an_attribute_is_created_and_its_name_is_unique",
        ),
    ),
    Statement(
        "`GET /lists`",
        "the recorded fields; by time of creation",
        (
            "definitions.lists_have_a_type_a_date_and_a_sender",
            "definitions.lists_are_found_by_the_time_of_their_creation",
        ),
    ),
    Statement(
        "`POST /lists`",
        "201 with the object; name, type and sender are required, the rest is kept",
        (
            "definitions.a_list_is_created_with_201_read_replaced_and_deleted_with_204",
            "definitions.a_list_keeps_all_its_optional_fields",
        ),
    ),
    Statement(
        "`GET`, `PUT`, `DELETE /lists/{id}`",
        "200, 200, 204",
        ("definitions.a_list_is_created_with_201_read_replaced_and_deleted_with_204",),
    ),
    Statement(
        "`POST /events/subscriptions`",
        "200 and not 201, with `result`; the list's id may be a text; attributes, permission and source",
        (
            "subscriptions.a_subscription_answers_200_and_not_201_with_a_result",
            "subscriptions.the_list_id_may_be_a_text",
            "subscriptions.a_second_subscription_is_a_duplicate",
            "subscriptions.a_subscription_brings_attributes",
            "subscriptions.a_subscription_takes_numbers_as_text_and_tells_where_it_came_from",
            "subscriptions.what_is_no_address_cannot_subscribe",
        ),
    ),
    Statement(
        "`GET /events/subscriptions`",
        "by `listId`, `types`, time; embeds recipients",
        (
            "subscriptions.an_event_is_logged_and_found_by_list_and_type",
            "subscriptions.events_are_found_by_time",
            "subscriptions.an_event_embeds_its_recipient_with_the_chosen_attributes",
        ),
    ),
    Statement(
        "`POST /events/unsubscriptions`",
        "200; refused with 400 `unsubscription-error`",
        (
            "subscriptions.leaving_answers_200_and_a_second_time_it_is_a_duplicate",
            "subscriptions.who_is_on_no_list_cannot_leave_it",
        ),
    ),
    Statement(
        "`GET /events/unsubscriptions`",
        "by `listIds`, `types`, time; the upcoming link",
        (
            "subscriptions.an_event_is_logged_and_found_by_list_and_type",
            "subscriptions.events_are_found_by_time",
            "subscriptions.events_come_by_the_upcoming_link_once_and_in_order",
        ),
    ),
    Statement(
        "`POST /imports/recipients`",
        "201, `NEW`, zero counts, at once; one part `file`, also packed, also without a last line break; a missing part"
        " is 400 `missing-request-part`",
        (
            "imports.an_import_answers_201_with_state_new_and_zero_counts",
            "imports.an_import_is_taken_as_the_vendors_own_connector_sends_it",
            "imports.an_import_without_a_file_is_400",
        ),
    ),
    Statement(
        "`POST /imports/recipients`",
        "`listId` creates and subscribes; the columns in any order; `trackingPermission` is a column",
        (
            "imports.an_import_creates_and_subscribes",
            "imports.the_columns_may_come_in_any_order_and_quotes_are_doubled",
            "imports.the_permission_column_grants",
        ),
    ),
    Statement(
        "`POST /imports/recipients`",
        "who left stays so without `resubscribe`; `truncate` takes current subscribers off",
        (
            "imports.who_left_stays_unsubscribed_and_the_row_fails",
            "imports.resubscribe_brings_back_who_left_with_the_permission_denied",
            "imports.truncate_takes_subscribers_off_and_leaves_who_left",
            "imports.who_was_removed_is_imported_again_and_who_left_is_not",
        ),
    ),
    Statement(
        "`GET /imports/recipients/{id}`",
        "`NEW`, `PROCESSING`, then an end; `SUCCESS` does not mean that no row failed",
        (
            "imports.an_import_only_ever_moves_forward",
            "imports.a_bad_row_fails_alone_and_the_import_still_succeeds",
            "imports.a_file_without_the_column_email_fails_as_a_whole",
        ),
    ),
    Statement(
        "`GET …/files`, `…/errors`",
        "states of their own; the codes",
        (
            "imports.the_file_of_an_import_has_a_state_of_its_own",
            "imports.an_unknown_column_is_a_warning_and_the_row_succeeds",
            "simulator_faults.rows_can_be_made_to_fail_with_any_code",
        ),
    ),
    Statement(
        "`GET /mailings[/{id}]`",
        "the filters, the fields, embedded statistics",
        (
            "mailings.a_collection_pages_in_ascending_id_and_ends_in_an_upcoming_link",
            "mailings.every_filter_that_is_known_is_taken",
            "mailings.a_mailing_has_the_fields_that_are_known",
            "mailings.a_mailing_embeds_its_statistics_when_asked",
        ),
    ),
    Statement(
        "`GET /bounces`",
        "the filters, old names too; embeds recipients",
        (
            "mailings.every_filter_that_is_known_is_taken",
            "mailings.a_reaction_names_its_sending_and_embeds_its_recipient",
        ),
    ),
    Statement(
        "`GET /target-groups[/{id}]`",
        "by list; one alone",
        ("mailings.a_target_group_is_created_read_by_list_replaced_and_deleted",),
    ),
)


def page() -> str:
    """The page for people, in Markdown."""
    rows = [
        f"| {each.about} | {each.says} | {'<br>'.join(test.replace('_', ' ') for test in each.tests)} |"
        for each in STATEMENTS
    ]
    head = ["# What is known of the API, and what shows it", "", _WORDS, "", "| about | statement | tests |"]
    return "\n".join([*head, "|---|---|---|", *rows, ""])


_WORDS = (
    "Generated by `python -m tests.contract.coverage`. Every statement that is well founded (seen in the vendor's own"
    " code or a recorded answer, or in two independent clients) and the tests in `tests/contract/` that show it, as"
    " *module.test*. Tests of the modules `simulator …` run against the simulator alone, since only there can the case"
    " be brought about."
)


if __name__ == "__main__":
    sys.stdout.write(page())
