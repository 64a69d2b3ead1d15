"""Pure decisions of the supervisor: order, pauses, identities, what a log says."""

import os
from pathlib import Path

import psutil
import pytest

from connectors.embedded.logs import last_error, rotate, since
from connectors.embedded.process import (
    Identity,
    ProcessSpec,
    back_off_seconds,
    ending,
    environment,
    in_order,
    same_start,
    stopping_order,
)
from schemas.errors import Misconfigured


async def _at_once() -> bool:
    return True


def _spec(name: str, *after: str, **env: str) -> ProcessSpec:
    return ProcessSpec(name=name, argv=("true",), ready=_at_once, after=after, env=env)


@pytest.mark.parametrize(("failures", "seconds"), [(0, 1), (1, 1), (2, 2), (3, 4), (5, 16), (6, 30), (1000, 30)])
def test_pauses_double_up_to_half_a_minute(failures: int, seconds: float) -> None:
    assert back_off_seconds(failures) == seconds


def test_nobody_starts_before_what_it_needs() -> None:
    specs = [_spec("worker", "registry", "postgres"), _spec("registry", "kafka"), _spec("kafka"), _spec("postgres")]

    order = [spec.name for spec in in_order(specs)]

    assert all(order.index(name) < order.index(spec.name) for spec in specs for name in spec.after)


def test_what_runs_already_may_be_waited_for() -> None:
    assert [spec.name for spec in in_order([_spec("worker", "kafka")], known=["kafka"])] == ["worker"]


@pytest.mark.parametrize(
    "specs",
    [
        pytest.param([_spec("a", "b"), _spec("b", "a")], id="a circle"),
        pytest.param([_spec("a", "nobody")], id="an unknown name"),
        pytest.param([_spec("a"), _spec("a")], id="the same name twice"),
    ],
)
def test_an_order_that_cannot_be_is_refused(specs: list[ProcessSpec]) -> None:
    with pytest.raises(Misconfigured):
        in_order(specs)


def test_nobody_is_stopped_before_what_needs_it() -> None:
    specs = [_spec("postgres"), _spec("kafka"), _spec("registry", "kafka"), _spec("worker", "registry", "postgres")]

    groups = [{spec.name for spec in group} for group in stopping_order(specs)]

    assert groups == [{"worker"}, {"registry", "postgres"}, {"kafka"}]


def test_a_process_inherits_three_variables_and_no_secret() -> None:
    inherited = {"PATH": "/bin", "HOME": "/root", "LANG": "C", "TOKEN": "x", "VERTEILER_HMAC_KEYS": "y"}

    assert environment(_spec("a", OWN="1"), inherited) == {"PATH": "/bin", "HOME": "/root", "LANG": "C", "OWN": "1"}


def test_a_pid_alone_is_not_an_identity() -> None:
    own = Identity.of("self", os.getpid())
    assert own is not None

    assert own.process() == psutil.Process()
    assert Identity("self", own.pid, own.started_at - 1).process() is None


def test_start_times_are_equal_within_a_tick_of_the_kernel() -> None:
    assert same_start(1000.01, 1000.02)
    assert not same_start(1000.0, 1000.5)


@pytest.mark.parametrize(("code", "words"), [(3, "exit code 3"), (-9, "signal SIGKILL"), (None, "still running")])
def test_an_end_is_told_in_words(code: int | None, words: str) -> None:
    assert ending(code) == words


@pytest.mark.parametrize(
    ("log", "line"),
    [
        pytest.param("starting\nready\n", "ready", id="nothing looks like an error"),
        pytest.param(
            '2026-11-24 13:16:22.520 UTC [27945] PANIC:  could not read file "global/pg_control"\nshutting down\n',
            'PANIC:  could not read file "global/pg_control"',
            id="PostgreSQL",
        ),
        pytest.param(
            "java.lang.RuntimeException: outer\n\tat a.B.c(Unknown Source)\nCaused by: java.net.BindException: in use\n"
            "\tat d.E.f(Unknown Source)\n\t... 9 more\n",
            "Caused by: java.net.BindException: in use",
            id="Java",
        ),
        pytest.param(
            'Traceback (most recent call last):\n  File "x.py", line 1, in <module>\nValueError: no\n',
            "ValueError: no",
            id="Python",
        ),
        pytest.param("", "", id="silence"),
    ],
)
def test_the_line_that_says_why_is_found(log: str, line: str) -> None:
    assert last_error(log) == line


def test_only_what_was_written_since_is_read(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("old\nnew\n")

    assert since(path, 4) == "new\n"
    assert since(path, 400) == ""
    assert since(tmp_path / "missing", 0) == ""


def test_a_long_log_becomes_the_older_generation_while_its_writer_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "kafka.log"
    with path.open("ab") as writer:
        writer.write(b"x" * 100)
        writer.flush()

        rotate(path, max_bytes=50)
        writer.write(b"y")

    assert path.read_bytes() == b"y"
    assert path.with_name("kafka.log.1").read_bytes() == b"x" * 100
