"""What the embedded stack is made of: every artefact with its size and SHA-256, as `parts.lock` names it.

Reading the lock is pure. `python -m connectors.embedded.parts --lock` makes it anew: it resolves the roots below,
downloads everything and writes down what it got.
"""

import argparse
import hashlib
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from importlib.resources import files
from pathlib import Path

import platformdirs

from schemas.errors import Misconfigured


class Role(StrEnum):
    """Where an artefact belongs."""

    KAFKA = "kafka"  # a jar on the class path of broker and Connect
    DEBEZIUM = "debezium"  # archive: a Connect plug-in
    CONVERTER = "converter"  # archive: a Connect plug-in
    REGISTRY = "registry"  # archive: an application


KAFKA_VERSION = "4.3.1"
ROOTS: dict[Role, tuple[str, ...]] = {
    Role.KAFKA: (
        f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}",
        f"org.apache.kafka:connect-runtime:{KAFKA_VERSION}",
        f"org.apache.kafka:connect-json:{KAFKA_VERSION}",
        f"org.apache.kafka:kafka-tools:{KAFKA_VERSION}",
    ),
    Role.DEBEZIUM: ("io.debezium:debezium-connector-postgres:3.7.0.Final:plugin:tar.gz",),
    Role.CONVERTER: ("io.apicurio:apicurio-registry-distro-connect-converter:2.5.11.Final::tar.gz",),
    Role.REGISTRY: ("io.apicurio:apicurio-registry-app:3.3.3:all:tar.gz",),
}

# slf4j-api is 1.7 here, so not the -slf4j2- one. Added without its own closure: as one more root its parent's
# managed versions would pull kafka-clients back to 3.9.
LOG_BINDING = "log4j-slf4j-impl"


@dataclass(frozen=True, slots=True, order=True)
class Part:
    """One artefact: `group:artifact:version:classifier:extension`, its size in bytes and SHA-256 in hex."""

    role: Role
    coordinate: str
    size: int
    sha256: str

    @property
    def file_name(self) -> str:
        _, artifact, version, classifier, extension = self.coordinate.split(":")
        return f"{artifact}-{version}{'-' if classifier else ''}{classifier}.{extension}"

    @property
    def cached_as(self) -> Path:
        """Path inside the cache. The hash in it lets two versions of the project share one cache."""
        return Path(self.role) / f"{self.sha256[:16]}-{self.file_name}"

    @property
    def unpacked_as(self) -> Path:
        return Path(self.role) / f"{self.sha256[:16]}-unpacked"


def parse_lock(text: str) -> tuple[Part, ...]:
    """Read a lock file. Shape: one artefact a line, `role coordinate size sha256`, `#` starts a comment.

    Raises: Misconfigured, naming the first line that is none of this.
    """
    parts = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        try:
            role, coordinate, size, sha256 = words
            part = Part(Role(role), coordinate, int(size), sha256)
            if len(sha256) != 64 or coordinate.count(":") != 4:
                raise ValueError(coordinate)
        except ValueError as error:
            raise Misconfigured(f"line {number} of the parts lock is not `role coordinate size sha256`") from error
        parts.append(part)
    return tuple(parts)


def render_lock(parts: Iterable[Part]) -> str:
    """The text that `parse_lock` reads."""
    head = "# Every artefact of the embedded stack. Made by: python -m connectors.embedded.parts --lock\n"
    return head + "".join(f"{p.role} {p.coordinate} {p.size} {p.sha256}\n" for p in sorted(parts))


def locked_parts() -> tuple[Part, ...]:
    """The artefacts of this version of the project."""
    return parse_lock(files("connectors.embedded").joinpath("parts.lock").read_text())


def default_cache() -> Path:
    """The user's own cache folder for this project."""
    return Path(platformdirs.user_cache_dir("verteiler")) / "parts"


def resolve(cache: Path) -> tuple[Part, ...]:
    """Resolve `ROOTS`, download what they need into `cache`, and describe it."""
    from jgo.maven import MavenContext

    maven = MavenContext(repo_cache=cache)
    roots = [maven.create_dependency(root) for root in ROOTS[Role.KAFKA]]
    inputs, transitive = maven.resolver.resolve(roots)
    wanted = [(Role.KAFKA, dependency.artifact) for dependency in (*inputs, *transitive)]
    log4j = next(artifact for _, artifact in wanted if artifact.artifactId == "log4j-core")
    wanted.append((Role.KAFKA, maven.project(log4j.groupId, LOG_BINDING).at_version(log4j.version).artifact()))
    for role in (Role.DEBEZIUM, Role.CONVERTER, Role.REGISTRY):
        for root in ROOTS[role]:
            group, artifact, version, classifier, extension = root.split(":")
            component = maven.project(group, artifact).at_version(version)
            wanted.append((role, component.artifact(classifier, extension)))
    parts = set()
    for role, artifact in wanted:
        content = artifact.resolve().read_bytes()
        coordinate = ":".join(
            (artifact.groupId, artifact.artifactId, artifact.version, artifact.classifier, artifact.packaging)
        )
        parts.add(Part(role, coordinate, len(content), hashlib.sha256(content).hexdigest()))
    return tuple(sorted(parts))


def main(arguments: list[str] | None = None) -> int:
    """Write `parts.lock` beside this module."""
    parser = argparse.ArgumentParser(prog="python -m connectors.embedded.parts", description=main.__doc__)
    parser.add_argument("--lock", action="store_true", required=True, help="resolve, download and write the lock")
    parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as cache:
        parts = resolve(Path(cache))
    Path(__file__).with_name("parts.lock").write_text(render_lock(parts))
    sys.stdout.write(f"{len(parts)} artefacts, {sum(part.size for part in parts) / 1e6:.0f} MB\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
