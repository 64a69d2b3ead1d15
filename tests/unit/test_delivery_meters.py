"""What Prometheus is shown of one client's delivery."""

from prometheus_client import CollectorRegistry

from connectors.inxmail.pace import Pace, Urgency
from schemas.errors import Misconfigured, Unavailable
from streams.delivery.gate import Gate
from streams.delivery.meters import Meters, shown


async def test_circuit_budget_and_failures_are_shown_while_the_client_is_led() -> None:
    registry, gate, pace = CollectorRegistry(), Gate(), Pace(600, 4, 60)
    pace.refused(Unavailable("429", retry_after_seconds=0))
    gate.failed(Misconfigured("401"))

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"verteiler_inxmail_{name}", {"client": "a", **labels})

    with shown(Meters("a", gate, pace), registry):
        assert (value("circuit", state="paused"), value("circuit", state="closed")) == (1, 0)
        assert value("failures_total", error="Misconfigured") == 1
        assert value("too_many_total") == 1
        assert value("requests_total", urgency="normal") == 0
        async with pace.turn(Urgency.NORMAL):
            assert value("requests_in_flight") == 1
        assert value("requests_total", urgency="normal") == 1
    assert value("too_many_total") is None
