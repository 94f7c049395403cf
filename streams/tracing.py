"""Traces of events in OpenTelemetry's form: a span per event in each worker, of one trace from the producer to the recommendation.

A trace begins with the `traceparent` (W3C Trace Context) of the record on the input topic, or else in the embed worker, for a share of
the events. The decision goes with the header through the topics: the profile worker traces what the embed worker traced, and its
recommendation has the header too. Without TRACE_ENDPOINT nothing of OpenTelemetry is imported.

Spans are sent in batches by a thread, over OTLP/HTTP. A collector that is away costs spans and no event.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from streams.exceptions import StartupError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span

TRACEPARENT = "traceparent"
EXPORT_TIMEOUT = 2.0  # seconds for the collector to answer: a worker that stops waits for it

Headers = Sequence[tuple[str, bytes]]


class Record(Protocol):
    """A record of Kafka."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes]]: ...


class EventSpan:
    """The work of one worker on one event."""

    def __init__(self, span: "Span") -> None:
        context = span.get_span_context()
        self._span = span
        self.trace_id = f"{context.trace_id:032x}"
        value = f"00-{self.trace_id}-{context.span_id:016x}-{int(context.trace_flags):02x}"
        self.headers: Headers = [(TRACEPARENT, value.encode())]  # of the record that the event causes

    def end(self, event_id: str = "", problem: str = "") -> None:
        """The work is done.

        Args:
            event_id: of the event; "" if it could not be read.
            problem: the reason of its dead letter; "" if there is none.
        """
        from opentelemetry.trace import StatusCode  # noqa: PLC0415

        if event_id:
            self._span.set_attribute("tastestream.event_id", event_id)
        if problem:
            self._span.set_status(StatusCode.ERROR, problem)
        self._span.end()


class Tracing:
    """Makes the spans of a worker."""

    def __init__(self, provider: "TracerProvider", *, begins: bool) -> None:
        """Make spans with a provider. `begins`: whether an event without a trace may begin one."""
        from opentelemetry.trace import SpanKind  # noqa: PLC0415
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415

        self._provider = provider
        self._begins = begins
        self._kind = SpanKind.CONSUMER
        self._tracer = provider.get_tracer("tastestream")
        self._propagator = TraceContextTextMapPropagator()

    def begin(self, record: Record, name: str) -> EventSpan | None:
        """Begin the span of a record; None if it is not traced. `name`: of the span."""
        given = next((content for key, content in record.headers if key == TRACEPARENT), None)
        if given is None and not self._begins:
            return None
        carrier = {TRACEPARENT: (given or b"").decode("ascii", errors="replace")}
        span = self._tracer.start_span(
            name,
            context=self._propagator.extract(carrier),
            kind=self._kind,
            attributes={
                "messaging.system": "kafka",
                "messaging.operation.type": "process",
                "messaging.destination.name": record.topic,
                "messaging.destination.partition.id": str(record.partition),
                "messaging.kafka.offset": record.offset,
            },
        )
        return EventSpan(span) if span.is_recording() else None

    def close(self) -> None:
        """Send what is left, for as long as `EXPORT_TIMEOUT` at most. Blocks."""
        self._provider.shutdown()


def open_tracing(endpoint: str, share: float, *, worker: str, name: str, version: str, begins: bool) -> Tracing | None:
    """Open the tracing of a worker; None without an endpoint.

    Args:
        endpoint: URL to which spans are sent (OTLP/HTTP, protobuf); "" turns tracing off.
        share: of the events without a `traceparent` that are traced, 0 to 1.
        worker: its kind.
        name: of this worker among those of its kind.
        version: of tastestream.
        begins: whether an event without a trace may begin one.

    Raises:
        StartupError: OpenTelemetry is not installed.
    """
    if not endpoint:
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
        from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased  # noqa: PLC0415
    except ImportError as error:
        raise StartupError(
            f"TRACE_ENDPOINT is {endpoint}, but OpenTelemetry is not installed ({error.name}): pip install 'tastestream[tracing]'"
        ) from error
    resource = Resource.create(
        {"service.name": f"tastestream-{worker}", "service.instance.id": name, "service.version": version}
    )
    provider = TracerProvider(sampler=ParentBased(TraceIdRatioBased(share)), resource=resource, shutdown_on_exit=False)
    exporter = OTLPSpanExporter(endpoint=endpoint, timeout=EXPORT_TIMEOUT)
    provider.add_span_processor(BatchSpanProcessor(exporter, export_timeout_millis=EXPORT_TIMEOUT * 1000))
    return Tracing(provider, begins=begins)
