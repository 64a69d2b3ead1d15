"""The lock of the embedded stack's parts."""

import pytest

from connectors.embedded.parts import KAFKA_VERSION, ROOTS, Part, Role, locked_parts, parse_lock, render_lock
from schemas.errors import Misconfigured

SHA = "a" * 64


def test_a_lock_reads_back_as_it_was_written() -> None:
    parts = (
        Part(Role.DEBEZIUM, "g.one:thing:1.0:plugin:tar.gz", 7, SHA),
        Part(Role.KAFKA, "g.two:other:2.0::jar", 8, SHA),
    )

    assert parse_lock(render_lock(reversed(parts))) == parts


@pytest.mark.parametrize(
    "line",
    [
        pytest.param("kafka g:a:1::jar 12", id="without its hash"),
        pytest.param(f"kafka g:a:1::jar many {SHA}", id="with a size that is no number"),
        pytest.param(f"elsewhere g:a:1::jar 12 {SHA}", id="for a role that does not exist"),
        pytest.param(f"kafka g:a:1 12 {SHA}", id="whose coordinate lacks classifier and extension"),
        pytest.param("kafka g:a:1::jar 12 abc", id="whose hash is too short"),
    ],
)
def test_a_line_that_cannot_be_trusted_is_named(line: str) -> None:
    with pytest.raises(Misconfigured, match="line 2 "):
        parse_lock(f"# a comment\n{line}\n")


@pytest.mark.parametrize(
    ("coordinate", "name"),
    [
        ("g:a:1.0::jar", "a-1.0.jar"),
        ("g:a:1.0:plugin:tar.gz", "a-1.0-plugin.tar.gz"),
    ],
)
def test_a_file_is_named_as_the_repository_names_it(coordinate: str, name: str) -> None:
    assert Part(Role.KAFKA, coordinate, 1, SHA).file_name == name


def test_the_committed_lock_holds_every_root() -> None:
    locked = {":".join(part.coordinate.split(":")[:3]) for part in locked_parts()}

    assert {":".join(root.split(":")[:3]) for roots in ROOTS.values() for root in roots} <= locked


def test_the_class_path_has_each_library_once_and_one_version_of_kafka() -> None:
    jars = [part.coordinate.split(":") for part in locked_parts() if part.role is Role.KAFKA]

    assert len({(group, artifact) for group, artifact, *_ in jars}) == len(jars)
    assert {version for group, _, version, *_ in jars if group == "org.apache.kafka"} == {KAFKA_VERSION}


def test_everything_to_download_stays_below_its_share_of_half_a_gigabyte() -> None:
    assert sum(part.size for part in locked_parts()) < 300_000_000
