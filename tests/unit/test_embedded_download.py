"""Fetching parts from a repository that answers over HTTP, and misbehaves on demand."""

import hashlib
import io
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from connectors.embedded.download import Progress, fetch, from_repository
from connectors.embedded.parts import Part, Role
from schemas.errors import Misconfigured, Unavailable


@dataclass
class Repository:
    """Serves files by name. `cut` sends only so many bytes of a file, once; `status` answers that and nothing else."""

    files: dict[str, bytes] = field(default_factory=dict)
    cut: dict[str, int] = field(default_factory=dict)
    status: int | None = None
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    address: str = ""

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        name = request.path.rsplit("/", 1)[1]
        wanted = request.headers.get("Range")
        self.asked.append((name, wanted))
        if self.status is not None:
            request.send_error(self.status)
            return
        offset = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted else 0
        content = self.files[name][offset:]
        request.send_response(206 if wanted else 200)
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        request.wfile.write(content[: self.cut.pop(name, len(content))])


@pytest.fixture
def repository() -> Iterator[Repository]:
    served = Repository()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.answer(self)

        def log_message(self, format: str, *words: object) -> None:  # noqa: A002 the library's name
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield served
    server.shutdown()
    thread.join()
    server.server_close()


def _archive(**files: bytes) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as tar:
        for name, data in files.items():
            entry = tarfile.TarInfo(name.replace("__", "-") + ".jar")
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return content.getvalue()


@pytest.fixture
def parts(repository: Repository) -> tuple[Part, ...]:
    contents = {
        (Role.KAFKA, "g:broker:1::jar"): b"jar" * 100_000,
        (Role.DEBEZIUM, "g:capture:1:plugin:tar.gz"): _archive(capture=b"capture"),
        (Role.CONVERTER, "g:converter:1::tar.gz"): _archive(converter=b"converter", connect__json__4=b"harmful"),
        (Role.REGISTRY, "g:registry:1:all:tar.gz"): _archive(registry=b"registry"),
    }
    made = []
    for (role, coordinate), content in contents.items():
        part = Part(role, coordinate, len(content), hashlib.sha256(content).hexdigest())
        repository.files[part.file_name] = content
        made.append(part)
    return tuple(made)


def _quiet(_: Progress) -> None:
    pass


def test_everything_is_downloaded_once_and_unpacked(
    repository: Repository, parts: tuple[Part, ...], tmp_path: Path
) -> None:
    opened = from_repository(repository.address)

    first = fetch(parts, tmp_path, _quiet, opened)
    again = fetch(parts, tmp_path, _quiet, opened)

    assert first == again
    assert len(repository.asked) == len(parts)
    assert first.class_path[0].read_bytes() == b"jar" * 100_000
    assert (first.registry / "registry.jar").read_bytes() == b"registry"


def test_the_converter_lies_in_a_folder_of_its_own_with_a_manifest_and_without_a_second_json_converter(
    repository: Repository, parts: tuple[Part, ...], tmp_path: Path
) -> None:
    _, converter = fetch(parts, tmp_path, _quiet, from_repository(repository.address), pause_seconds=0).plugins

    assert sorted(path.name for path in converter.glob("*/*")) == ["converter.jar", "services.jar"]


def test_a_download_that_broke_off_is_resumed_where_it_ended(
    repository: Repository, parts: tuple[Part, ...], tmp_path: Path
) -> None:
    repository.cut["broker-1.jar"] = 200_000

    fetch(parts, tmp_path, _quiet, from_repository(repository.address), pause_seconds=0)

    whole_chunks = 200_000 // 65_536 * 65_536
    assert [wanted for name, wanted in repository.asked if name == "broker-1.jar"] == [None, f"bytes={whole_chunks}-"]


def test_progress_ends_at_the_whole_size_although_one_download_broke_off(
    repository: Repository, parts: tuple[Part, ...], tmp_path: Path
) -> None:
    seen: list[Progress] = []
    repository.cut["broker-1.jar"] = 200_000

    fetch(parts, tmp_path, seen.append, from_repository(repository.address), pause_seconds=0)

    total = sum(part.size for part in parts)
    assert (seen[-1].done_bytes, seen[-1].total_bytes) == (total, total)
    assert [progress.done_bytes for progress in seen] == sorted(progress.done_bytes for progress in seen)


def test_a_file_that_is_not_the_locked_one_is_refused_in_one_sentence_and_not_kept(
    repository: Repository, parts: tuple[Part, ...], tmp_path: Path
) -> None:
    repository.files["broker-1.jar"] = b"bad" * 100_000

    with pytest.raises(Unavailable, match=r"broker-1\.jar is broken: its SHA-256 is not the one"):
        fetch(parts, tmp_path, _quiet, from_repository(repository.address), pause_seconds=0)

    assert not list((tmp_path / "kafka").iterdir())


@pytest.mark.parametrize("damage", ["a jar", "an unpacked file"])
def test_what_was_damaged_in_the_cache_is_fetched_again(
    repository: Repository, parts: tuple[Part, ...], tmp_path: Path, damage: str
) -> None:
    opened = from_repository(repository.address)
    found = fetch(parts, tmp_path, _quiet, opened)
    victim = found.class_path[0] if damage == "a jar" else found.registry / "registry.jar"
    whole = victim.read_bytes()
    victim.write_bytes(whole[:-1] + b"?")

    fetch(parts, tmp_path, _quiet, opened)

    assert victim.read_bytes() == whole


def test_a_repository_that_refuses_is_told_from_one_that_cannot_be_reached(
    repository: Repository, parts: tuple[Part, ...], tmp_path: Path
) -> None:
    repository.status = 404

    with pytest.raises(Unavailable, match="the repository answered 404"):
        fetch(parts, tmp_path, _quiet, from_repository(repository.address), pause_seconds=0)
    with pytest.raises(Unavailable, match="cannot be reached"):
        fetch(parts, tmp_path, _quiet, from_repository("http://127.0.0.1:1"), pause_seconds=0)


def test_a_cache_that_cannot_be_written_is_a_matter_of_configuration(
    repository: Repository, parts: tuple[Part, ...], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(Misconfigured, match="cannot be used"):
        fetch(parts, tmp_path / "file" / "cache", _quiet, from_repository(repository.address), pause_seconds=0)


def test_two_that_fetch_at_once_share_the_work(repository: Repository, parts: tuple[Part, ...], tmp_path: Path) -> None:
    opened = from_repository(repository.address)
    threads = [threading.Thread(target=fetch, args=(parts, tmp_path, _quiet, opened)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert len(repository.asked) == len(parts)


def test_whoever_watches_can_stop_it(repository: Repository, parts: tuple[Part, ...], tmp_path: Path) -> None:
    def stop(_: Progress) -> None:
        raise Unavailable("stopped")

    with pytest.raises(Unavailable, match="stopped"):
        fetch(parts, tmp_path, stop, from_repository(repository.address), pause_seconds=0)
