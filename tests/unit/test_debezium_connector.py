"""The connector's configuration, and what Connect's answers mean."""

import re

import pytest
from pydantic import SecretStr

from connectors.debezium.connect import Part, Status, TaskState, failure_of, reason_of
from connectors.debezium.connector import connector_config, differing, shown, slot_of
from connectors.debezium.settings import CaptureSettings
from connectors.debezium.watchdog import pause_seconds
from connectors.smartwe.schema import CAPTURED_TABLES, PUBLICATION, UNCAPTURED_COLUMNS
from schemas.errors import Misconfigured, PipelineError, Refused, Unavailable

PASSWORD = "do-not-print"
SETTINGS = CaptureSettings(connector="smart-we", topic_prefix="smart.we", database_password=SecretStr(PASSWORD))
CONFIG = connector_config(
    SETTINGS,
    tables=CAPTURED_TABLES,
    excluded_columns=UNCAPTURED_COLUMNS,
    publication=PUBLICATION,
    epoch=3,
    record_bytes=8_388_608,
)


def test_every_captured_table_and_no_other_is_included() -> None:
    patterns = [re.compile(pattern) for pattern in CONFIG["table.include.list"].split(",")]

    assert all(any(p.fullmatch(f"crm.{table}") for p in patterns) for table in CAPTURED_TABLES)
    assert not any(p.fullmatch(other) for p in patterns for other in ("crm.pipeline_identity", "crmxaddress"))


def test_neither_credentials_nor_addresses_of_a_client_leave_the_database() -> None:
    patterns = CONFIG["column.exclude.list"].split(",")

    for column in ("crm.baf_client.base_url", "crm.baf_client.credential_ref"):
        assert any(re.fullmatch(pattern, column) for pattern in patterns)


def test_only_rows_have_their_gguid_as_key() -> None:
    pattern = CONFIG["predicates.isRow.pattern"]

    assert re.fullmatch(pattern, "smart.we.crm.address")
    for other in ("__debezium-heartbeat.smart.we", "smart.we.cdc.dbz_signal", "smartxwe.crm.address"):
        assert not re.fullmatch(pattern, other)


def test_each_record_says_to_which_history_its_position_belongs() -> None:
    assert (CONFIG["transforms.epoch.header"], CONFIG["transforms.epoch.value.literal"]) == ("epoch", "3")


def test_a_slot_is_named_after_its_connector() -> None:
    assert slot_of("smart-we") == CONFIG["slot.name"] == "smart_we"


def test_the_password_is_in_the_configuration_and_never_shown() -> None:
    assert CONFIG["database.password"] == PASSWORD
    assert PASSWORD not in str(shown(CONFIG))
    assert PASSWORD not in str(differing(CONFIG, {}))


def test_a_configuration_as_connect_gives_it_back_is_the_same() -> None:
    assert differing(CONFIG, {**CONFIG, "name": "smart-we"}) == []


def test_each_setting_that_differs_is_named() -> None:
    present = {**CONFIG, "poll.interval.ms": "500", "added.by.hand": "x"}
    del present["slot.name"]

    assert differing(CONFIG, present) == ["added.by.hand", "poll.interval.ms", "slot.name"]


@pytest.mark.parametrize(
    ("status", "kind"),
    [(200, None), (201, None), (204, None), (400, Misconfigured), (405, Refused), (409, Unavailable),
     (500, Unavailable), (503, Unavailable)],
)  # fmt: skip
def test_each_status_of_connect_has_a_meaning(status: int, kind: type[PipelineError] | None) -> None:
    assert isinstance(failure_of(status), kind or type(None))


TRACE = """org.apache.kafka.connect.errors.ConnectException: An exception occurred in the change event producer.
\tat io.debezium.pipeline.ErrorHandler.setProducerThrowable(ErrorHandler.java:67)
Caused by: io.debezium.DebeziumException: Creation of replication slot failed
\tat io.debezium.connector.postgresql.PostgresConnectorTask.start(PostgresConnectorTask.java:292)
Caused by: org.postgresql.util.PSQLException: FATAL: row (ann@example.com, "bob@example.com") is bad
\t... 7 more
"""


def test_a_reason_is_the_innermost_cause_and_tells_no_address() -> None:
    reason = reason_of(TRACE)

    assert reason.startswith("org.postgresql.util.PSQLException: FATAL: row (…,")
    assert "example.com" not in reason


def test_a_reason_is_found_in_an_error_body() -> None:
    assert reason_of('{"error_code": 400, "message": "Connector configuration is invalid\\nand so on"}') == (
        "Connector configuration is invalid and so on"
    )


RUNNING, FAILED = Part(TaskState.RUNNING), Part(TaskState.FAILED, "why")


@pytest.mark.parametrize(
    ("status", "running", "failure"),
    [
        pytest.param(Status(RUNNING, (RUNNING,)), True, None, id="all runs"),
        pytest.param(Status(RUNNING, ()), False, None, id="no task yet"),
        pytest.param(Status(RUNNING, (FAILED,)), False, "why", id="the task failed"),
        pytest.param(Status(FAILED, (RUNNING,)), False, "why", id="the connector failed"),
        pytest.param(Status(RUNNING, (Part(TaskState.UNASSIGNED),)), False, None, id="no worker has it"),
    ],
)
def test_capture_runs_only_when_the_connector_and_its_task_run(
    status: Status, running: bool, failure: str | None
) -> None:
    assert (status.running, status.failure) == (running, failure)


def test_restarts_back_off_up_to_ten_seconds() -> None:
    assert [pause_seconds(attempt) for attempt in (1, 2, 3, 6, 50)] == [2.0, 4.0, 8.0, 10.0, 10.0]
