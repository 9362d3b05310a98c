"""Spans of OpenTelemetry: one for each request, with what it took of it."""

import importlib.util
import os
from collections.abc import Mapping
from importlib.metadata import entry_points
from time import time_ns
from typing import Any

from .. import __version__
from ..errors import InputError, MissingExtraError
from .batching import Spent

EXPORTERS = "opentelemetry_traces_exporter"  # where packages name theirs


class Tracing:
    """Says of each request how long it took, to the provider that the process has, or to one made as OTEL_* tell.

    Raises:
        MissingExtraError: OpenTelemetry is not installed.
        InputError: OTEL_TRACES_EXPORTER names an exporter that is not installed.
    """

    def __init__(self) -> None:
        if not importlib.util.find_spec("opentelemetry") or not importlib.util.find_spec("opentelemetry.sdk"):
            raise MissingExtraError("opentelemetry-sdk", "trace")
        from opentelemetry import trace
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):  # nobody has set one
            trace.set_tracer_provider(_provider())
        self.trace, self.parent = trace, TraceContextTextMapPropagator()
        self.tracer = trace.get_tracer("npdistil", __version__)

    def tell(
        self, method: str, route: str | None, headers: Mapping[bytes, bytes], status: int, seconds: float, spent: Spent
    ) -> None:
        """The span of a request that is answered now; `traceparent` among its headers is what it is a part of."""
        known = {name: headers.get(name.encode(), b"").decode("latin-1") for name in ("traceparent", "tracestate")}
        now = time_ns()
        span = self.tracer.start_span(
            f"{method} {route}" if route else method,
            self.parent.extract(known),
            self.trace.SpanKind.SERVER,
            {
                "http.request.method": method,
                "http.response.status_code": status,
                "npdistil.tokens": spent.tokens,
                "npdistil.tokenization_ms": 1000 * spent.tokenization,
                "npdistil.queue_ms": 1000 * spent.queue,
                "npdistil.inference_ms": 1000 * spent.inference,
                **({"http.route": route} if route else {}),
            },
            start_time=now - int(1e9 * seconds),
        )
        if status >= 500:
            span.set_status(self.trace.StatusCode.ERROR)
        span.end(now)


def _provider() -> Any:
    """One that sends what it is told, by the exporter of OTEL_TRACES_EXPORTER."""
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    name = os.environ.get("OTEL_TRACES_EXPORTER", "otlp_proto_http")
    found = [*entry_points(group=EXPORTERS, name=name)]
    if not found:
        known = ", ".join(sorted({each.name for each in entry_points(group=EXPORTERS)}))
        raise InputError(f"OTEL_TRACES_EXPORTER is {name!r:.80}, which is not installed; there are {known}")
    named = os.environ.get("OTEL_SERVICE_NAME", "npdistil")
    provider = TracerProvider(resource=Resource.create({SERVICE_NAME: named}))
    provider.add_span_processor(BatchSpanProcessor(found[0].load()()))
    return provider
