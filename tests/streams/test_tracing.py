"""Traces: the header of the producer decides, the share decides for the others, and the spans reach a collector over HTTP."""

import http.server
import subprocess
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from typing_extensions import override

from streams.tracing import Tracing, open_tracing
from tests.records import record

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED = f"00-{TRACE}-{PARENT}-01".encode()
UNSAMPLED = f"00-{TRACE}-{PARENT}-00".encode()


class Collector:
    """An OTLP receiver, and the spans that have arrived."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.resources: list[dict[str, str]] = []
        self.url = ""

    def add(self, body: bytes) -> None:
        request: Any = ExportTraceServiceRequest()
        request.ParseFromString(body)
        for of_resource in request.resource_spans:
            self.resources.append({one.key: one.value.string_value for one in of_resource.resource.attributes})
            for scope in of_resource.scope_spans:
                self.spans += scope.spans


@contextmanager
def collecting() -> Generator[Collector]:
    """A collector on 127.0.0.1, while the block runs."""
    collector = Collector()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            collector.add(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        @override
        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    collector.url = f"http://127.0.0.1:{server.server_port}/v1/traces"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def opened(url: str, share: float, *, begins: bool = True) -> Tracing:
    tracing = open_tracing(url, share, worker="embed", name="embed-web1", version="1.2.3", begins=begins)
    assert tracing is not None
    return tracing


def test_a_span_continues_the_producers_trace_and_hands_it_on() -> None:
    with collecting() as collector:
        tracing = opened(collector.url, share=0)
        span = tracing.begin(record("user-interactions", 3, 17, headers=[("traceparent", SAMPLED)]), "embed")
        assert span is not None
        assert span.trace_id == TRACE
        [(name, value)] = span.headers
        span.end("of-ada", "http_status")
        tracing.close()
    [sent] = collector.spans
    assert (name, value.decode()) == ("traceparent", f"00-{TRACE}-{sent.span_id.hex()}-01")
    assert (sent.trace_id.hex(), sent.parent_span_id.hex()) == (TRACE, PARENT)
    attributes = {one.key: one.value.string_value or one.value.int_value for one in sent.attributes}
    assert attributes == {
        "messaging.system": "kafka",
        "messaging.operation.type": "process",
        "messaging.destination.name": "user-interactions",
        "messaging.destination.partition.id": "3",
        "messaging.kafka.offset": 17,
        "tastestream.event_id": "of-ada",
    }
    assert sent.status.message == "http_status"
    [resource] = collector.resources
    expected = {"service.name": "tastestream-embed", "service.instance.id": "embed-web1", "service.version": "1.2.3"}
    assert expected.items() <= resource.items()


@pytest.mark.parametrize(
    ("header", "share", "begins", "traced"),
    [
        (None, 1.0, True, True),
        (None, 0.0, True, False),
        (None, 1.0, False, False),
        (SAMPLED, 0.0, False, True),
        (UNSAMPLED, 1.0, True, False),
        (b"00-no-trace", 1.0, True, True),
        (b"\xff" * 55, 0.0, True, False),
    ],
    ids=[
        "the share takes it",
        "the share leaves it",
        "the second worker begins no trace",
        "the header says yes",
        "the header says no",
        "a header that is none, and the share takes it",
        "a header that is none, and the share leaves it",
    ],
)
def test_the_header_decides_and_the_share_where_there_is_none(
    header: bytes | None, share: float, begins: bool, traced: bool
) -> None:
    with collecting() as collector:
        tracing = opened(collector.url, share, begins=begins)
        headers = [] if header is None else [("traceparent", header)]
        span = tracing.begin(record(headers=headers), "embed")
        if span is not None:
            span.end()
        tracing.close()
    assert (span is not None) is traced
    assert len(collector.spans) == traced


def test_a_collector_that_is_away_costs_spans_and_little_time() -> None:
    with collecting() as collector:
        url = collector.url
    tracing = opened(url, 1.0)
    span = tracing.begin(record(), "embed")
    assert span is not None
    span.end()
    closing = threading.Thread(target=tracing.close)
    closing.start()
    closing.join(30)
    assert not closing.is_alive()


def test_without_an_endpoint_nothing_of_opentelemetry_is_imported() -> None:
    assert open_tracing("", 1.0, worker="embed", name="x", version="1", begins=True) is None
    script = "import sys, streams.runner; sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", script], check=False, timeout=120).returncode == 0
