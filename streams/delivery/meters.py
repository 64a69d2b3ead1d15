"""What Prometheus is shown of one client's delivery: the circuit, the request budget, failures."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from connectors.inxmail.pace import Pace
from streams.delivery.gate import Circuit, Gate


class Meters(Collector):
    """Read when they are asked for; nothing is counted twice."""

    def __init__(self, client: str, gate: Gate, pace: Pace) -> None:
        self._client = client
        self._gate = gate
        self._pace = pace

    def collect(self) -> Iterable[Metric]:
        """The present figures, all labelled with the client."""
        figures = self._pace.figures()
        circuit = _gauge("circuit", "1 for the state in which Inxmail is asked now.", "state")
        for state in Circuit:
            circuit.add_metric([self._client, state], float(state is self._gate.circuit))
        waiting = _gauge("requests_waiting", "Requests that wait for their turn.", "urgency")
        sent = _counter("requests", "Requests sent.", "urgency")
        for urgency, count in figures.waiting.items():
            waiting.add_metric([self._client, urgency.name.lower()], count)
            sent.add_metric([self._client, urgency.name.lower()], figures.sent[urgency])
        failures = _counter("failures", "Requests that were not done, or perhaps.", "error")
        for error, count in self._gate.failures.items():
            failures.add_metric([self._client, error], count)
        yield from (circuit, waiting, sent, failures)
        for name, what, value in (
            ("requests_left", "Requests left in the window for normal deliveries.", figures.left),
            ("window_seconds_left", "Seconds until the next window.", figures.seconds_left),
            ("requests_in_flight", "Requests under way.", figures.in_flight),
        ):
            gauge = _gauge(name, what)
            gauge.add_metric([self._client], value)
            yield gauge
        too_many = _counter("too_many", "Answers 429.")
        too_many.add_metric([self._client], figures.too_many)
        yield too_many


@contextmanager
def shown(meters: Meters, registry: CollectorRegistry = REGISTRY) -> Iterator[None]:
    """Show them as long as this lasts."""
    registry.register(meters)
    try:
        yield
    finally:
        registry.unregister(meters)


def _gauge(name: str, what: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"verteiler_inxmail_{name}", what, labels=("client", *labels))


def _counter(name: str, what: str, *labels: str) -> CounterMetricFamily:
    return CounterMetricFamily(f"verteiler_inxmail_{name}", what, labels=("client", *labels))
