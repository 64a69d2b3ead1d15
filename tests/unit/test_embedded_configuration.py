"""What the four services are told."""

import random
import socket
from pathlib import Path

import pytest

from connectors.embedded.account import Account, unprivileged
from connectors.embedded.connect import Connect
from connectors.embedded.home import Home, refuse_damaged
from connectors.embedded.kafka import Kafka, refuse_unreadable_metadata, render_properties
from connectors.embedded.ports import choose, is_free
from connectors.embedded.postgres import SETTINGS, Postgres
from connectors.embedded.registry import Registry
from connectors.embedded.stack import check_space, refuse_names
from schemas.errors import Misconfigured, Unavailable

HERE = Path("/home/of/a stack")


def _kafka() -> Kafka:
    return Kafka(
        data=HERE / "kafka",
        config=HERE / "server.properties",
        temp=HERE / "tmp",
        logging=HERE / "log4j2.properties",
        class_path=(Path("/cache/one.jar"), Path("/cache/two.jar")),
        port=20001,
        controller_port=20002,
        heap_mb=256,
    )


def _registry() -> Registry:
    return Registry(
        application=Path("/cache/registry"),
        temp=HERE,
        port=20003,
        management_port=20004,
        heap_mb=192,
        bootstrap="127.0.0.1:20001",
    )


def _connect() -> Connect:
    return Connect(
        config=HERE / "connect.properties",
        temp=HERE,
        logging=HERE / "log4j2.properties",
        class_path=(Path("/cache/one.jar"),),
        plugins=(Path("/cache/debezium"), Path("/cache/converter")),
        port=20005,
        heap_mb=256,
        bootstrap="127.0.0.1:20001",
    )


def test_every_service_listens_on_loopback_only() -> None:
    kafka, registry, connect = _kafka().properties(), _registry().properties(), _connect().properties()

    addresses = [
        SETTINGS["listen_addresses"],
        *(listener.split("://")[1].split(":")[0] for listener in kafka["listeners"].split(",")),
        *(listener.split("://")[1].split(":")[0] for listener in kafka["advertised.listeners"].split(",")),
        registry["quarkus.http.host"],
        registry["quarkus.management.host"],
        connect["listeners"].removeprefix("http://").split(":")[0],
    ]
    assert set(addresses) == {"127.0.0.1"}
    assert SETTINGS["unix_socket_directories"] == ""


def test_postgresql_keeps_its_promises_and_decodes_logically() -> None:
    assert SETTINGS["wal_level"] == "logical"
    assert not {"fsync", "full_page_writes", "synchronous_commit"} & SETTINGS.keys()


def test_postgresql_s_log_quotes_no_statement() -> None:
    assert SETTINGS["log_min_error_statement"] == "panic"
    assert SETTINGS["log_error_verbosity"] == "terse"


def test_the_registry_keeps_its_schemas_beside_the_records() -> None:
    properties = _registry().properties()

    assert properties["apicurio.storage.kind"] == "kafkasql"
    assert properties["apicurio.kafkasql.bootstrap.servers"] == "127.0.0.1:20001"


def test_registry_and_connect_wait_for_kafka() -> None:
    assert _registry().spec().after == _connect().spec().after == ("kafka",)


def test_a_command_line_holds_no_password() -> None:
    postgres = Postgres(data=HERE, port=20000, password="geheim").spec()

    assert not any("geheim" in word for word in postgres.argv)


def test_heap_and_class_path_stand_on_the_command_line() -> None:
    argv = _kafka().spec().argv

    assert "-Xmx256m" in argv
    assert argv[argv.index("-cp") + 1] == "/cache/one.jar:/cache/two.jar"


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("/home/müller", "/home/m\\u00fcller"),
        ("C:\\temp", "C:\\\\temp"),
        (" leading", "\\ leading"),
        ("two\nlines", "two\\u000alines"),
        ("𝄞", "\\ud834\\udd1e"),
    ],
)
def test_a_java_properties_file_is_ascii(value: str, written: str) -> None:
    assert render_properties({"name": value}) == f"name={written}\n"


def test_a_folder_that_would_break_a_class_path_is_refused() -> None:
    refuse_names(Path("/home/müller/my stack"))
    with pytest.raises(Misconfigured, match=r"contains ':'.*contains ','"):
        refuse_names(Path("/a:b"), Path("/c,d"))


def test_a_disk_with_no_room_is_refused_before_anything_starts(tmp_path: Path) -> None:
    check_space(tmp_path, need_bytes=1)
    with pytest.raises(Unavailable, match=r"is full: .* nothing was started"):
        check_space(tmp_path, need_bytes=10**18)


def test_a_port_that_was_used_before_is_used_again_and_a_taken_one_is_not() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        chosen = choose({"a": None, "b": None}, {"a": port, "b": 29_999}, random.Random(1))

    assert chosen["a"] != port
    assert chosen["b"] == 29_999 or not is_free(29_999)


def test_free_ports_lie_below_those_of_outgoing_connections_and_differ() -> None:
    chosen = choose(dict.fromkeys("abcdefgh"), {}, random.Random(1))

    assert len(set(chosen.values())) == 8
    assert all(20_000 <= port < 30_000 for port in chosen.values())


def test_a_named_port_that_is_taken_is_refused_and_its_owner_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        with pytest.raises(Misconfigured, match=rf"port {port} is already in use by process \d+; stop that"):
            choose({"kafka": port}, {}, random.Random(1))


def test_an_ordinary_user_runs_postgresql_as_itself() -> None:
    assert unprivileged(user_id=1000, works=lambda _: False) == Account()


def test_root_becomes_somebody_else_in_a_user_namespace() -> None:
    account = unprivileged(user_id=0, works=lambda command: command[0] == "unshare")

    assert account.prefix[:2] == ("unshare", "--user")
    assert "--map-user=0" not in account.prefix
    assert account.owner is None


def test_where_namespaces_are_forbidden_root_becomes_a_dedicated_user() -> None:
    account = unprivileged(user_id=0, works=lambda command: command[0] == "setpriv")

    assert account.owner is not None
    assert account.owner[0] != 0


def test_where_nothing_works_root_is_told_what_to_do() -> None:
    with pytest.raises(Misconfigured, match="start as an ordinary user"):
        unprivileged(user_id=0, works=lambda _: False)


def test_a_data_folder_without_its_central_file_is_left_alone(tmp_path: Path) -> None:
    refuse_damaged(tmp_path / "absent", missing="PG_VERSION")
    refuse_damaged(tmp_path, missing="PG_VERSION")
    (tmp_path / "base").mkdir()

    with pytest.raises(Unavailable, match="is damaged: PG_VERSION is missing; nothing was changed"):
        refuse_damaged(tmp_path, missing="PG_VERSION")


@pytest.mark.parametrize(
    ("head", "intact"),
    [
        pytest.param(bytes(16) + b"\x02" + bytes(50), True, id="a batch"),
        pytest.param(b"", True, id="empty"),
        pytest.param(b"noise" * 20, False, id="noise"),
        pytest.param(bytes(9), False, id="too short"),
    ],
)
def test_kafka_does_not_start_over_a_log_of_metadata_that_is_none(tmp_path: Path, head: bytes, intact: bool) -> None:
    folder = tmp_path / "__cluster_metadata-0"
    folder.mkdir()
    (folder / "00000000000000000000.log").write_bytes(head)

    if intact:
        refuse_unreadable_metadata(tmp_path)
    else:
        with pytest.raises(Unavailable, match="is no log; nothing was changed"):
            refuse_unreadable_metadata(tmp_path)


def test_a_secret_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.prepare()

    first = home.secret("postgres")

    assert home.secret("postgres") == first
    assert home.secret("other") != first
    assert (home.config / "postgres.secret").stat().st_mode & 0o777 == 0o600
    assert home.root.stat().st_mode & 0o777 == 0o700


def test_endpoints_are_written_whole_and_for_their_owner_alone(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.prepare()

    home.write_endpoints({"kafka": "127.0.0.1:1"})

    assert home.read_endpoints() == {"kafka": "127.0.0.1:1"}
    assert home.endpoints.stat().st_mode & 0o777 == 0o600


def test_erasing_spares_what_was_in_the_folder_before(tmp_path: Path) -> None:
    shared, own = Home(tmp_path / "shared"), Home(tmp_path / "own")
    shared.root.mkdir()
    (shared.root / "thesis.txt").write_text("years of work")
    for home in (shared, own):
        home.prepare()
        home.write_endpoints({})
        home.erase()

    assert [path.name for path in shared.root.iterdir()] == ["thesis.txt"]
    assert not own.root.exists()
