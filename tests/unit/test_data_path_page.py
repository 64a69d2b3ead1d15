"""docs/data-path.md names every topic of the catalogue as it is."""

import re
from pathlib import Path

import pytest

from connectors.kafka.catalogue import Cleanup, Topic, catalogue
from connectors.kafka.settings import KafkaSettings

PAGE = (Path(__file__).parents[2] / "docs" / "data-path.md").read_text("utf-8")
ROWS = {
    cells[0].strip("` "): [cell.strip() for cell in cells[1:]]
    for line in PAGE.splitlines()
    if line.startswith("| `") and len(cells := line.strip("|").split("|")) == 6
}
TOPICS = {
    re.sub(r"\bCLIENT\b", "<client>", topic.name).replace("some_table", "<table>"): topic
    for topic in catalogue(["CLIENT"], ["some_table"], KafkaSettings())
}


def test_the_page_and_the_catalogue_name_the_same_topics() -> None:
    assert ROWS.keys() == TOPICS.keys()


@pytest.mark.parametrize("name", TOPICS)
def test_a_topic_is_described_as_it_is(name: str) -> None:
    topic: Topic = TOPICS[name]
    key, value, cleanup, personal, _ = ROWS[name]

    assert key == topic.key_meaning
    assert topic.contract is None or f"`{topic.contract}`" in value
    days = topic.retention_seconds // 86_400
    assert cleanup == ("compact" if topic.cleanup is Cleanup.COMPACT else f"delete, {days} d")
    assert bool(personal) is topic.personal_data
