"""Bring the artefacts of `parts.lock` into the cache: resumed, verified, unpacked, safe beside another process."""

import errno
import hashlib
import shutil
import tarfile
import threading
import zipfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import requests
import truststore
from filelock import FileLock, Timeout
from jgo.maven import MavenContext
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential

from connectors.embedded.parts import Part, Role
from schemas.errors import Misconfigured, Unavailable

_CHUNK_BYTES = 1 << 16
_PARALLEL_DOWNLOADS = 6
_ATTEMPTS = 4
_CONNECT_AND_READ_SECONDS = (10.0, 30.0)
_OTHER_PROCESS_SECONDS = 900.0
_INVENTORY = "inventory.sha256"
# A plug-in path is a folder of folders, and the converter's archive has none. Connect has its own JSON converter, and a
# second one in a plug-in hides it. And a manifest of services, which the archive lacks, spares Connect the search
# through every class of every jar.
_CONVERTER_FOLDER = "apicurio-registry-converter"
_HARMFUL = "connect-json-*.jar"
_MANIFEST_JAR = "services.jar"
_MANIFEST = (
    "META-INF/services/org.apache.kafka.connect.storage.Converter",
    "io.apicurio.registry.utils.converter.AvroConverter\n",
)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a fetch is, in bytes of what has to be downloaded. `doing` is short and for people."""

    done_bytes: int
    total_bytes: int
    doing: str


Report = Callable[[Progress], None]
Open = Callable[[Part, int], "requests.Response"]


@dataclass(frozen=True, slots=True)
class Fetched:
    """Where the parts lie."""

    class_path: tuple[Path, ...]
    plugins: tuple[Path, ...]
    registry: Path


def fetched(parts: Sequence[Part], cache: Path) -> Fetched:
    """Where `fetch` puts the parts, whether they are there or not."""

    def unpacked(role: Role) -> Path:
        return next(cache / part.unpacked_as for part in parts if part.role is role)

    return Fetched(
        class_path=tuple(cache / part.cached_as for part in parts if part.role is Role.KAFKA),
        plugins=(unpacked(Role.DEBEZIUM), unpacked(Role.CONVERTER)),
        registry=unpacked(Role.REGISTRY),
    )


def fetch(
    parts: Sequence[Part], cache: Path, report: Report, open_remote: Open, *, pause_seconds: float = 0.5
) -> Fetched:
    """Make every part present, verified and unpacked in `cache`.

    Blocks: seconds when all is there, minutes when not. Two processes may call it at once; one waits. A download that
    fails is tried again after `pause_seconds`, doubling.
    Raises: Unavailable, when the downloads cannot be had now (what was already loaded stays and is resumed);
        Misconfigured, when the cache cannot be written.
    """
    try:
        if all(_present(part, cache) for part in parts):
            return fetched(parts, cache)
        cache.mkdir(parents=True, exist_ok=True)
        lock = FileLock(cache / "fetch.lock", timeout=_OTHER_PROCESS_SECONDS)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            report(Progress(0, 1, "waiting for another process that downloads"))
            lock.acquire()
        try:
            _fetch(parts, cache, report, open_remote, pause_seconds)
        finally:
            lock.release()
    except Timeout as error:
        raise Unavailable(
            f"another process has been downloading into {cache} for {_OTHER_PROCESS_SECONDS / 60:.0f} minutes; "
            "nothing was lost; end it or name another cache folder"
        ) from error
    except OSError as error:
        raise _translated(error, cache) from error
    return fetched(parts, cache)


def _fetch(parts: Sequence[Part], cache: Path, report: Report, open_remote: Open, pause_seconds: float) -> None:
    missing = [p for p in parts if not _present(p, cache) and not _intact(cache / p.cached_as, p)]
    meter = _Meter(sum(part.size for part in missing), report)
    attempts = Retrying(
        stop=stop_after_attempt(_ATTEMPTS),
        wait=wait_exponential(multiplier=pause_seconds, max=8),
        retry=retry_if_exception_type((_Broken, requests.RequestException)),
        reraise=True,
    )

    def download(part: Part) -> None:
        _download(attempts.copy(), part, cache / part.cached_as, meter, open_remote)

    with ThreadPoolExecutor(_PARALLEL_DOWNLOADS, thread_name_prefix="fetch") as pool:
        tasks = [pool.submit(download, part) for part in missing]
        try:
            for task in tasks:
                task.result()
        finally:
            meter.stop()  # whoever still downloads ends at the next chunk, also when we were interrupted
            pool.shutdown(cancel_futures=True)
    for part in parts:
        if part.role is not Role.KAFKA and not _present(part, cache):
            meter.say(f"unpacking {part.file_name}")
            _unpack(cache / part.cached_as, part, cache / part.unpacked_as)


class _Meter:
    """Adds up where several threads are, and passes it on."""

    def __init__(self, total_bytes: int, report: Report) -> None:
        self._lock = threading.Lock()
        self._done_bytes: dict[Part, int] = {}
        self._total_bytes = total_bytes
        self._report = report
        self._stopped = False

    def stop(self) -> None:
        self._stopped = True

    def at(self, part: Part, done_bytes: int) -> None:
        with self._lock:
            if self._stopped:
                raise _Stopped
            self._done_bytes[part] = done_bytes
            self._report(Progress(sum(self._done_bytes.values()), self._total_bytes, part.file_name))

    def say(self, doing: str) -> None:
        with self._lock:
            self._report(Progress(sum(self._done_bytes.values()), self._total_bytes, doing))


def from_repository(base: str | None = None) -> Open:
    """Open a part at a Maven repository, from a byte offset; without an address, at the resolver's own default."""
    truststore.inject_into_ssl()  # the machine's own certificate store, as its package clients use
    maven = MavenContext()
    address = base.rstrip("/") if base else next(iter(maven.remote_repos.values()))

    def open_remote(part: Part, offset: int) -> requests.Response:
        group, artifact, version, classifier, extension = part.coordinate.split(":")
        remote = maven.project(group, artifact).at_version(version).artifact(classifier, extension)
        url = "/".join((address, remote.component.path_prefix.as_posix(), remote.filename))
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        return requests.get(url, headers=headers, stream=True, timeout=_CONNECT_AND_READ_SECONDS)

    return open_remote


class _Stopped(Exception):
    """Nobody waits for this download any more."""


class _Broken(Exception):
    """A download that ended early or brought something else; another attempt may do better."""


def _download(attempts: Retrying, part: Part, target: Path, meter: _Meter, open_remote: Open) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(target.name + ".partial")
    try:
        attempts(_attempt, part, partial, meter, open_remote)
    except _Broken as error:
        raise Unavailable(
            f"the download of {part.file_name} is broken: {error}; nothing unverified is used; "
            "run the same command again to resume"
        ) from error
    partial.replace(target)


def _attempt(part: Part, partial: Path, meter: _Meter, open_remote: Open) -> None:
    offset = partial.stat().st_size if partial.exists() else 0
    if offset > part.size:
        partial.unlink()
        offset = 0
    if offset < part.size:
        with open_remote(part, offset) as response:
            if response.status_code not in (200, 206):
                raise _Broken(f"the repository answered {response.status_code}")
            resumed = response.status_code == 206
            done = offset if resumed else 0
            with partial.open("ab" if resumed else "wb") as file:
                for chunk in response.iter_content(_CHUNK_BYTES):
                    file.write(chunk)
                    done += len(chunk)
                    meter.at(part, done)
    size = partial.stat().st_size
    if size < part.size:
        raise _Broken(f"{size} of {part.size} bytes arrived")
    if not _intact(partial, part):
        partial.unlink()
        raise _Broken("its SHA-256 is not the one in parts.lock")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _intact(path: Path, part: Part) -> bool:
    return path.is_file() and path.stat().st_size == part.size and _sha256(path) == part.sha256


def _present(part: Part, cache: Path) -> bool:
    """Whether what is *run* is intact: the jar itself, or for an archive every file that came out of it."""
    if part.role is Role.KAFKA:
        return _intact(cache / part.cached_as, part)
    folder = cache / part.unpacked_as
    inventory = folder / _INVENTORY
    if not inventory.is_file():
        return False
    lines = (line.split(" ", 1) for line in inventory.read_text().splitlines())
    return all((folder / name).is_file() and _sha256(folder / name) == sha256 for sha256, name in lines)


def _unpack(archive: Path, part: Part, folder: Path) -> None:
    """Unpack beside the target and rename, so that a folder is either whole or absent."""
    fresh = folder.with_name(folder.name + ".fresh")
    shutil.rmtree(fresh, ignore_errors=True)
    inner = fresh / _CONVERTER_FOLDER if part.role is Role.CONVERTER else fresh
    with tarfile.open(archive) as tar:
        # Not an argument: Python 3.11.2, which Debian has, does not know it. The archive is the locked one either way.
        tar.extraction_filter = getattr(tarfile, "data_filter", lambda member, path: member)
        tar.extractall(inner)
    if part.role is Role.CONVERTER:
        for path in list(inner.glob(_HARMFUL)):
            path.unlink()
        with zipfile.ZipFile(inner / _MANIFEST_JAR, "w") as jar:
            jar.writestr(*_MANIFEST)
    names = sorted(path.relative_to(fresh).as_posix() for path in fresh.rglob("*") if path.is_file())
    (fresh / _INVENTORY).write_text("".join(f"{_sha256(fresh / name)} {name}\n" for name in names))
    shutil.rmtree(folder, ignore_errors=True)
    fresh.rename(folder)
    archive.unlink()


def _translated(error: OSError, cache: Path) -> Misconfigured | Unavailable:
    if isinstance(error, requests.RequestException):
        return Unavailable(
            f"the artefact repository cannot be reached ({type(error).__name__}); what was loaded is kept; "
            "check the network and run the same command again to resume"
        )
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Unavailable(
            f"the disk that holds {cache} is full; what was loaded is kept; free 600 MB or name another cache folder"
        )
    return Misconfigured(f"the cache folder {cache} cannot be used ({error.strerror}); name another one")
