"""What the service may be told."""

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv6Address

from ..errors import InputError
from ..settings import Kind, flag, number, setting, spoken, string, strings, whole
from ..settings import Settings as Record

PAUSE = number(most=1000)
MILLISECONDS = Kind("expected 0 to 1000", lambda value: PAUSE.takes(value) and value >= 0, float, {"type": "number"})


@dataclass(frozen=True, kw_only=True)
class Settings(Record):
    """Limits of the service, and who may use it; each is an option of `npdistil serve`."""

    # As many as the engine takes at a time: more would only make others wait.
    max_batch_tokens: int = setting(1024, whole(), "tokens that are run together.")
    max_queue_tokens: int = setting(131_072, whole(), "tokens that may wait; above, the answer is 429 at once.")
    max_request_tokens: int = setting(65_536, whole(8), "tokens of one request.")
    max_request_texts: int = setting(1024, whole(), "texts of one request.")
    max_body_bytes: int = setting(1_000_000, whole(), "bytes of one request.")
    max_connections: int = setting(1024, whole(), "connections; above, the one that has rested longest is closed.")
    gather_ms: float = setting(0.0, MILLISECONDS, "milliseconds to wait for company before a batch that is not full.")
    timeout: float = setting(30.0, number(0, 86_400), "seconds for a body to arrive, and again for its answer.")
    served_model_name: str | None = setting(
        None, string(), "what clients are told that the model is called; by default its directory.", None
    )
    access_log: bool = setting(
        False, flag(), "write a line of JSON to standard output for every request, without texts."
    )
    trace: bool = setting(
        False,
        flag(),
        "send a span of OpenTelemetry for every request, as OTEL_* tell, by OTLP unless they name another.",
    )
    allow_origin: Sequence[str] = setting((), strings(), "pages of these origins may use it (CORS).")
    allow_host: Sequence[str] = setting((), strings(), "host names that requests may be for; by default any.")
    token: str | None = setting(None, string(), "what clients have to send as Authorization: Bearer.", None)

    def __post_init__(self) -> None:
        """Refuse limits that let nothing through, and a token that nobody can give."""
        super().__post_init__()
        if self.token is not None and not re.fullmatch(r"[!-~]+", self.token):
            raise InputError("the token is empty, or has blanks or other characters than ASCII")
        for each in self.allow_origin:
            if each != "*" and not re.fullmatch(r"[a-z][a-z0-9+.-]*://[^/\s]+/?", each, re.IGNORECASE):
                raise InputError(
                    f"{spoken('allow_origin', '')} is {each!r:.80}; expected * or an origin such as https://example.org"
                )
        for each in self.allow_host:
            if not re.fullmatch(r"[^\s/:@*\[\]]+", each) and not _is_ipv6(each):
                expected = "a name or an address, without scheme, port and brackets"
                raise InputError(f"{spoken('allow_host', '')} is {each!r:.80}; expected {expected}")
        if self.max_queue_tokens < self.max_request_tokens:
            raise InputError(
                f"{spoken('max_queue_tokens', '')} is {self.max_queue_tokens}; expected at least "
                f"{spoken('max_request_tokens')}, {self.max_request_tokens}, or a request of that size could never be "
                "taken"
            )


def _is_ipv6(given: str) -> bool:
    with suppress(ValueError):
        return bool(IPv6Address(given).version)
    return False
