"""Traces: a span for some of the flushes, linked to the contexts that its producers sent along.

A producer that is traced adds the field `traceparent` (W3C Trace Context) to its entry. Where
`ENGINE_TRACES` says a share, as 0.01, every hundredth flush is a span, sent by OTLP to where
`OTEL_EXPORTER_OTLP_ENDPOINT` says. Without it nothing of this is imported, no entry looked at.
"""

import contextlib
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final
from uuid import UUID

from engine.errors import ConfigurationError
from engine.worker.flush_report import FlushReport
from engine.worker.worker import Worker

if TYPE_CHECKING:
    from opentelemetry.trace import Link, Tracer, TracerProvider

FIELD: Final = b"traceparent"
LINKS_MAX: Final = 128
"""Of a span: more contexts than that are left out."""
_CONTEXT: Final = re.compile(rb"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")


class FlushTraces:
    """Makes the spans.

    Args:
        provider: Of OpenTelemetry.
        share: Of all flushes, above 0 and at most 1.
    """

    def __init__(self, provider: "TracerProvider", share: float) -> None:
        self._tracer: Tracer = provider.get_tracer("engine")
        self._every = max(1, round(1 / share))

    def follow(self, worker: Worker) -> None:
        """Hear of each flush of a worker from now on."""
        name = str(UUID(bytes=worker.store.worker))
        worker.subscribe(lambda report: self.hear_flush(name, report))

    def hear_flush(self, worker: str, report: FlushReport) -> None:
        """Make a span of a flush, if it is one of those to be traced."""
        if report.sequence % self._every:
            return
        began = report.time * 1000
        sealed = began + round(report.open_seconds * 1e9)
        sent = sealed + round(report.ready_seconds * 1e9)
        span = self._tracer.start_span(
            "engine flush",
            links=list(_links(report)),
            start_time=began,
            attributes={
                "engine.worker": worker,
                "engine.flush": report.number,
                "engine.sequence": report.sequence,
                "engine.kind": report.kind,
                "engine.entries": report.entries,
                "engine.transfers": sum(report.outcomes.values()),
                "engine.created": report.created,
                "engine.conflicts": report.conflicts,
            },
        )
        span.add_event("sealed", timestamp=sealed)
        span.add_event("sent", timestamp=sent)
        span.end(sent + round(report.commit_seconds * 1e9))


def _links(report: FlushReport) -> "Iterator[Link]":
    """To the contexts that came with its entries, each once."""
    from opentelemetry.trace import Link, SpanContext, TraceFlags  # noqa: PLC0415 - an extra

    seen: set[bytes] = set()
    for reply in report.replies:
        fields = reply.arrival.entry.fields
        for name, value in zip(fields[::2], fields[1::2], strict=False):
            found = _CONTEXT.fullmatch(value) if name == FIELD else None
            if found is None or value in seen:
                continue
            seen.add(value)
            trace, span, flags = (int(part, 16) for part in found.groups())
            if trace and span:
                yield Link(SpanContext(trace, span, is_remote=True, trace_flags=TraceFlags(flags)))
        if len(seen) >= LINKS_MAX:
            return


@contextlib.contextmanager
def open_traces(share: float) -> Iterator[FlushTraces]:
    """Send spans by OTLP for the length of a block, in a thread of its own.

    Raises:
        ConfigurationError: OpenTelemetry is not installed.
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415
            OTLPSpanExporter,
        )
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    except ImportError as error:
        raise ConfigurationError(
            "ENGINE_TRACES is set, and OpenTelemetry is not installed: "
            "pip install 'transfer-engine[traces]'"
        ) from error
    # What the environment says of the service comes before ours.
    provider = TracerProvider(
        resource=Resource({"service.name": "engine"}).merge(Resource.create())
    )
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    try:
        yield FlushTraces(provider, share)
    finally:
        provider.shutdown()
