import json
import random
from pathlib import Path

import pytest
from pydantic import SecretStr

from connectors.embedded.home import Home
from connectors.embedded.stack import Endpoints
from schemas.errors import Misconfigured
from streams.settings import settings_from
from streams.stack import Plan, Stack, arranged

SERVICES = Endpoints(
    postgres_host="127.0.0.1",
    postgres_port=5432,
    superuser="root",
    superuser_password="superuser's",
    kafka="127.0.0.1:9092",
    registry="http://127.0.0.1:8081",
    connect="http://127.0.0.1:8083",
)


def stack_in(folder: Path, *, plan: Plan | None = None, **environment: str) -> Stack:
    home = Home(folder)
    home.prepare()
    return arranged(home, plan or Plan(), SERVICES, environment, random.Random(1), taken=())


def test_a_client_worker_knows_its_own_credentials_and_no_others(tmp_path: Path) -> None:
    stack = stack_in(tmp_path)
    (worker,) = [spec for spec in stack.workers() if spec.name == "client-a"]
    (other,) = [account for account in stack.accounts if account.client == "b"]

    assert list(json.loads(worker.env["VERTEILER_INXMAIL"])) == ["a"]
    assert other.password not in repr(worker.env)
    assert "VERTEILER_DATABASE__CRM_ADMIN_DSN" not in worker.env


def test_decide_knows_no_credentials_of_inxmail_and_nothing_of_the_crm(tmp_path: Path) -> None:
    for spec in stack_in(tmp_path).workers():
        if spec.name.startswith("decide"):
            assert not [name for name in spec.env if name.startswith("VERTEILER_INXMAIL")]
            assert "VERTEILER_DATABASE__CRM_DSN" not in spec.env


def test_the_credentials_that_are_shown_are_not_the_workers(tmp_path: Path) -> None:
    stack = stack_in(tmp_path)
    shown = stack.endpoints({})["inxmail"]["a"]
    used = stack.accounts[0].for_worker()

    assert shown["base_url"] == used["base_url"]
    assert (shown["user"], shown["password"]) != (used["user"], used["password"])


def test_secrets_and_ports_stay_those_of_the_home(tmp_path: Path) -> None:
    first, second = stack_in(tmp_path), stack_in(tmp_path)

    assert first.environment() == second.environment()
    assert first.telemetry == second.telemetry


def test_no_two_processes_share_a_port_and_none_takes_a_services(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.prepare()
    services = range(20_000, 30_000, 2)  # every second one that there is
    stack = arranged(home, Plan(), SERVICES, {}, random.Random(1), taken=services)
    ports = [*stack.telemetry.values(), *(account.port for account in stack.accounts)]

    assert len(set(ports)) == len(ports)
    assert not set(ports) & set(services)


def test_settings_of_the_environment_reach_the_processes(tmp_path: Path) -> None:
    stack = stack_in(
        tmp_path, VERTEILER_DECIDE__SWEEP_AFTER_SECONDS="5", VERTEILER_INXMAIL__A__POLL_SECONDS="1", OTHER="x"
    )
    workers = {spec.name: spec.env for spec in stack.workers()}

    assert workers["decide-changes-0"]["VERTEILER_DECIDE__SWEEP_AFTER_SECONDS"] == "5"
    assert workers["client-a"]["VERTEILER_INXMAIL__A__POLL_SECONDS"] == "1"
    assert "VERTEILER_INXMAIL__A__POLL_SECONDS" not in workers["client-b"]
    assert not [env for env in workers.values() if "OTHER" in env]


def test_what_only_up_can_know_may_not_be_set(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"VERTEILER_CAPTURE__CONNECT_URL, VERTEILER_KAFKA__BOOTSTRAP"):
        stack_in(tmp_path, VERTEILER_KAFKA__BOOTSTRAP="x:1", VERTEILER_CAPTURE__CONNECT_URL="http://x")


def test_commands_read_the_settings_that_up_wrote(tmp_path: Path) -> None:
    stack = stack_in(tmp_path, VERTEILER_KAFKA__PARTITIONS="2")
    stack.write_settings()
    settings = settings_from(tmp_path / "settings.env")

    assert settings.kafka.partitions == 2
    assert settings.kafka.bootstrap == SERVICES.kafka
    assert "superuser's" in settings.database.crm_admin_dsn.get_secret_value()
    assert settings.inxmail["b"].password == SecretStr(stack.accounts[1].password)
    assert (tmp_path / "settings.env").stat().st_mode & 0o077 == 0


def test_every_decide_worker_has_a_slot_of_its_own(tmp_path: Path) -> None:
    stack = stack_in(tmp_path, plan=Plan(clients=("a",), decide_workers=2))
    slots = {spec.name: spec.env["VERTEILER_INSTANCE"] for spec in stack.workers() if spec.name.startswith("decide")}

    assert slots == {
        "decide-objections-0": "0",
        "decide-objections-1": "1",
        "decide-changes-0": "0",
        "decide-changes-1": "1",
    }
