"""One tree of errors; the class says the wire code, the HTTP status and whether a retry can help.

BridgeError
├── BadRequest ─ BadQuery, CursorExpired
├── NotFound ─ UnknownDataset, UnknownSource
├── MethodNotAllowed, Misdirected, BodyTooLarge, UnsupportedEncoding, HeaderTooLarge, RequestTimedOut
├── AnswerTooLarge
├── SourceError ─ UpstreamTimeout, UpstreamUnavailable, UpstreamRefused, NeedsAuth, DataMissing,
│                 UpstreamTooLarge, UpstreamInvalid, AddressRefused, SchemaMismatch, BreakerOpen, PluginFailed
├── StoreError ─ StoreHeld, StoreNewer, StoreBroken
├── NotReady
└── SettingsError
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import ClassVar


class Retry(StrEnum):
    """Whether asking again can give another answer."""

    NEVER = "never"
    LATER = "later"
    NOW = "now"


class BridgeError(Exception):
    """Anything bridge says no with: what is wrong, and in `remedy` what a person can do about it."""

    remedy: str

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500
    retry: ClassVar[Retry] = Retry.NEVER

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    @property
    def sentence(self) -> str:
        """What is wrong and, in brackets, what helps."""
        return f"{self.message} ({self.remedy})" if self.remedy else self.message

    def body(self, request_id: str) -> dict[str, str]:
        """The one error shape; `message` and `error` are both there because each Grafana plug-in reads another."""
        return {
            "message": self.sentence,
            "error": self.message,
            "code": self.code,
            "request_id": request_id,
            "remedy": self.remedy,
        }


class BadRequest(BridgeError):
    """The request cannot be understood as it was sent."""

    code, status = "bad_request", 400


class BadQuery(BadRequest):
    """The request is well formed, but asks for something the dataset does not have or allow."""

    code = "bad_query"


class CursorExpired(BadRequest):
    """The snapshot that a page cursor points into is gone."""

    code, retry = "cursor_expired", Retry.NOW


class NotFound(BridgeError):
    """Nothing stands at this path."""

    code, status = "not_found", 404


class UnknownDataset(NotFound):
    """No dataset has this name; `hint` looks for near misses, which takes a while and is done when it is shown."""

    code = "unknown_dataset"

    def __init__(self, message: str, *, remedy: str = "", hint: Callable[[], str] | None = None) -> None:
        super().__init__(message, remedy=remedy)
        self._hint = hint

    @property
    def remedy(self) -> str:
        """What a person can do about it."""
        if self._hint is not None:
            self._remedy, self._hint = self._hint(), None
        return self._remedy

    @remedy.setter
    def remedy(self, text: str) -> None:
        """Another remedy, in place of the near misses."""
        self._remedy, self._hint = text, None


class UnknownSource(NotFound):
    """No source has this name."""

    code = "unknown_source"


class MethodNotAllowed(BridgeError):
    """The path exists, but not for this method."""

    code, status = "method_not_allowed", 405

    def __init__(self, message: str, *, allowed: tuple[str, ...], remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.allowed = allowed


class Misdirected(BridgeError):
    """The Host header names a host this service does not answer for."""

    code, status = "misdirected", 421


class BodyTooLarge(BridgeError):
    """The request body is over the limit."""

    code, status = "body_too_large", 413


class UnsupportedEncoding(BridgeError):
    """The request body comes in a form that is not read here."""

    code, status = "unsupported_encoding", 415


class HeaderTooLarge(BridgeError):
    """The request line or a header is over the limit."""

    code, status = "header_too_large", 431


class RequestTimedOut(BridgeError):
    """The client did not send its request in time."""

    code, status, retry = "request_timed_out", 408, Retry.NOW


class AnswerTooLarge(BridgeError):
    """The answer would pass a limit on rows, series or bytes."""

    code, status = "answer_too_large", 422


class NotReady(BridgeError):
    """The service is starting, reloading or going down."""

    code, status, retry = "not_ready", 503, Retry.NOW


class SourceError(BridgeError):
    """A source could not give its data."""

    code, status, retry = "source_error", 502, Retry.LATER


class UpstreamTimeout(SourceError):
    """The far server did not answer within its deadline."""

    code, status = "upstream_timeout", 504


class UpstreamUnavailable(SourceError):
    """The far server could not be reached, or broke off."""

    code = "upstream_unavailable"


class UpstreamRefused(SourceError):
    """The far server answered with an error status."""

    code = "upstream_refused"

    def __init__(
        self, message: str, *, far_status: int, retry_after_s: float | None = None, remedy: str = ""
    ) -> None:
        super().__init__(message, remedy=remedy)
        self.far_status = far_status
        self.retry_after_s = retry_after_s


class NeedsAuth(SourceError):
    """The far server refused bridge's own credential."""

    code, retry = "needs_auth", Retry.NEVER


class DataMissing(SourceError):
    """The place a dataset is configured to read from is not there."""

    code, retry = "data_missing", Retry.NEVER


class UpstreamTooLarge(SourceError):
    """The far server's answer is over the limit."""

    code, retry = "upstream_too_large", Retry.NEVER


class UpstreamInvalid(SourceError):
    """The far server's answer is not what its source was configured to read."""

    code, retry = "upstream_invalid", Retry.NEVER


class AddressRefused(SourceError):
    """The far address is one bridge must not connect to."""

    code, retry = "address_refused", Retry.NEVER


class SchemaMismatch(SourceError):
    """The far data no longer has the columns its dataset publishes."""

    code, retry = "schema_mismatch", Retry.NEVER
    # What the checks found, where one of them refused it: `Finding` values, which this module does not know.
    findings: tuple[object, ...] = ()


class StepMisfit(SchemaMismatch):
    """A dataset's configured steps do not fit its columns; `loc` is the place below `steps`, `text` what is wrong."""

    def __init__(self, dataset: str, text: str, loc: tuple[str | int, ...]) -> None:
        index, *rest = loc
        place = f"steps[{index}]" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in rest)
        super().__init__(f"`{dataset}`: {place}: {text}", remedy="correct the dataset's `steps`")
        self.dataset, self.text, self.loc = dataset, text, loc


class HeldBack(SchemaMismatch):
    """A quality check keeps the data from its consumers."""

    code = "held_back"


class SchemaChanged(SchemaMismatch):
    """The dataset publishes other columns than its history was recorded with, and nobody has said what that means."""

    code = "schema_changed"


class BreakerOpen(SourceError):
    """The source failed too often; it is left alone for a while."""

    code, status = "breaker_open", 503


class PluginFailed(SourceError):
    """A source plug-in could not be loaded, or raised an error that is none of these."""

    code, retry = "plugin_failed", Retry.NEVER


class StoreError(BridgeError):
    """What bridge keeps in its own folder could not be read or written."""

    code, status, retry = "store_failed", 503, Retry.LATER


class StoreHeld(StoreError):
    """Another process works on the folder; `pid` is its number, None where it is not known."""

    code = "store_held"

    def __init__(self, message: str, *, pid: int | None = None, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.pid = pid


class StoreNewer(StoreError):
    """What is kept there was written by a newer version of bridge; it is left as it is."""

    code, retry = "store_newer", Retry.NEVER


class StoreBroken(StoreError):
    """What is kept there cannot be read any more; it is left as it is."""

    code, retry = "store_broken", Retry.NEVER


class SettingsError(BridgeError):
    """The settings are wrong; one line per problem, each with file, place and remedy."""

    code = "settings"

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems
