"""The supervisor, with real processes: what happens when anything is killed, held, asked to stop, or does not start."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from connectors.embedded.detach import detach
from connectors.embedded.home import Home
from connectors.embedded.process import lives
from connectors.embedded.supervisor import down
from schemas.errors import Misconfigured, Unavailable

UP = Path(__file__).with_name("embedded_up.py")
STEADY = "import os, pathlib, time; pathlib.Path(os.environ['NAME'] + '.ready').touch(); time.sleep(600)"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + STEADY


def eventually(met: Callable[[], bool], what: str, *, within_seconds: float = 30.0) -> None:
    deadline = time.monotonic() + within_seconds
    while not met():
        assert time.monotonic() < deadline, f"not in {within_seconds:.0f} s: {what}"
        time.sleep(0.05)


@dataclass
class Place:
    """One home, and whatever was started in it."""

    home: Home
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def command(self, *processes: dict[str, object]) -> list[str]:
        return [sys.executable, str(UP), str(self.home.root), *(json.dumps(one) for one in processes)]

    def up(self, *processes: dict[str, object], **environment: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(self.command(*processes), stderr=subprocess.PIPE, env=os.environ | environment)
        self.started.append(process)
        return process

    def refused(self, *processes: dict[str, object]) -> tuple[int, str]:
        """Exit code and words of an `up` that ends by itself."""
        process = self.up(*processes)
        _, words = process.communicate(timeout=60)
        return process.returncode, words.decode()

    def pids(self) -> dict[str, int]:
        return {identity.name: identity.pid for identity in self.home.read_pids()}

    def runs(self, *names: str) -> bool:
        return (self.home.root / "endpoints.json").exists() and {*names, "up"} == self.pids().keys()

    def events(self) -> list[str]:
        return (self.home.root / "events").read_text().splitlines()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(Home(tmp_path / "home"))
    yield place
    down(place.home)
    for process in place.started:
        if process.stderr is not None:
            process.stderr.close()
        process.wait(30)


def _gone(pid: int) -> bool:
    try:
        return not lives(psutil.Process(pid))
    except psutil.NoSuchProcess:
        return True


def test_a_killed_process_is_started_again(place: Place) -> None:
    place.up({"name": "one", "code": STEADY}, {"name": "two", "code": STEADY})
    eventually(lambda: place.runs("one", "two"), "both run")
    before = place.pids()

    os.kill(before["one"], signal.SIGKILL)

    eventually(lambda: place.pids().get("one", before["one"]) != before["one"], "the killed one runs again")
    assert place.pids()["two"] == before["two"]


@pytest.mark.parametrize("path", [os.environ["PATH"], "/nowhere"], ids=["with the kernel's help", "without"])
def test_a_killed_supervisor_leaves_nothing_that_the_next_one_does_not_end(place: Place, path: str) -> None:
    up = place.up({"name": "one", "code": STEADY}, PATH=path)
    eventually(lambda: place.runs("one"), "it runs")
    before = place.pids()

    up.kill()
    up.wait(10)
    place.up({"name": "one", "code": STEADY})

    eventually(lambda: place.pids().get("up", before["up"]) != before["up"] and place.runs("one"), "the next one runs")
    assert _gone(before["one"])
    assert place.pids()["one"] != before["one"]


def test_down_ends_what_a_killed_supervisor_left(place: Place) -> None:
    up = place.up({"name": "one", "code": STEADY}, PATH="/nowhere")
    eventually(lambda: place.runs("one"), "it runs")
    orphan = place.pids()["one"]
    up.kill()
    up.wait(10)

    ended = down(place.home)

    assert ended == ("one",)
    assert _gone(orphan)
    assert not place.home.pids.exists()


def test_a_pid_that_now_belongs_to_another_is_left_alone(place: Place) -> None:
    place.home.prepare()
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as bystander:
        place.home.pids.write_text(json.dumps([{"name": "kafka", "pid": bystander.pid, "started_at": 1.0}]))

        assert down(place.home) == ()
        assert bystander.poll() is None
        bystander.kill()


def test_a_home_in_use_is_refused_and_its_owner_named(place: Place) -> None:
    place.up({"name": "one", "code": STEADY})
    eventually(lambda: place.runs("one"), "it runs")
    pid = place.pids()["up"]

    code, words = place.refused({"name": "one", "code": STEADY})

    assert (code, words.count("\n")) == (2, 1)
    assert f"in use by a running `up` (process {pid})" in words
    assert place.runs("one")


def test_a_process_that_dies_at_start_is_quoted(place: Place) -> None:
    code, words = place.refused({"name": "one", "code": "raise SystemExit('FATAL: no room at the inn')"})

    assert (code, words.count("\n")) == (1, 1)
    assert words.startswith("one did not start (exit code 1): FATAL: no room at the inn; what it stored is kept;")


def test_a_process_that_does_not_become_ready_in_time_is_ended(place: Place) -> None:
    dawdling = "import time; print('still thinking', flush=True); time.sleep(600)"

    code, words = place.refused({"name": "one", "code": dawdling, "ready_seconds": 1})

    assert code == 1
    assert words.startswith("one did not start (not ready after 1 s): still thinking;")


def test_when_one_does_not_start_the_others_are_stopped(place: Place) -> None:
    code, _ = place.refused({"name": "good", "code": STEADY}, {"name": "bad", "code": "raise SystemExit(3)"})

    assert code == 1
    assert "good stopped" in place.events()
    assert not place.home.pids.exists()


def test_what_comes_after_another_starts_later_and_stops_earlier(place: Place) -> None:
    up = place.up({"name": "second", "code": STEADY, "after": ["first"]}, {"name": "first", "code": STEADY})
    eventually(lambda: place.runs("first", "second"), "both run")

    up.terminate()

    assert up.wait(30) == 0
    events = place.events()
    assert events.index("first ready") < events.index("second starting")
    assert events.index("second stopped") < events.index("first stopped")
    assert not place.home.endpoints.exists()


def test_a_process_that_ignores_the_request_to_stop_is_forced(place: Place) -> None:
    up = place.up({"name": "one", "code": STUBBORN})
    eventually(lambda: place.runs("one"), "it runs")
    pid = place.pids()["one"]

    up.terminate()

    assert up.wait(30) == 0
    assert _gone(pid)


def test_a_held_process_stays_stopped_until_it_is_released(place: Place) -> None:
    place.up({"name": "one", "code": STEADY}, {"name": "two", "code": STEADY})
    eventually(lambda: place.runs("one", "two"), "both run")
    hold = place.home.held / "one"

    hold.touch()
    eventually(lambda: place.events()[-1] == "one held", "it is held")
    assert "one" not in place.pids()
    hold.unlink()

    eventually(lambda: place.events()[-1] == "one ready", "it runs again")


def test_a_process_gets_three_variables_and_its_own(place: Place) -> None:
    tell = "import json, os; print(json.dumps(sorted(os.environ)), flush=True); " + STEADY
    place.up({"name": "one", "code": tell}, SECRET="x", LANG="C.UTF-8")
    eventually(lambda: place.runs("one"), "it runs")

    names = set(json.loads(place.home.log_of("one").read_text().splitlines()[0]))

    assert names - {"LC_CTYPE"} <= {"HOME", "LANG", "NAME", "PATH"}  # Python itself may add LC_CTYPE
    assert "NAME" in names


def test_detach_returns_when_all_is_ready_and_leaves_it_running(place: Place) -> None:
    detach(place.command({"name": "one", "code": STEADY}), place.home, seconds=30)

    assert place.runs("one")
    assert os.getsid(place.pids()["up"]) != os.getsid(0)


@pytest.mark.parametrize(
    ("process", "kind", "words"),
    [
        pytest.param({"name": "one", "code": "raise SystemExit('ERROR: no')"}, Unavailable, "ERROR: no", id="bad luck"),
        pytest.param(
            {"name": "one", "code": STEADY, "after": ["none"]}, Misconfigured, "wait for ever", id="wrong use"
        ),
    ],
)
def test_detach_fails_with_the_words_of_what_it_started(
    place: Place, process: dict[str, object], kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words):
        detach(place.command(process), place.home, seconds=30)


def test_detach_says_so_when_what_it_started_ends_without_a_word(place: Place) -> None:
    with pytest.raises(Unavailable, match=r"ended at once \(exit code 4\)"):
        detach([sys.executable, "-c", "raise SystemExit(4)"], place.home, seconds=30)
