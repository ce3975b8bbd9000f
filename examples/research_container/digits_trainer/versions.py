"""The versions of the HTTP API: one memory, told in two ways.

`1.0` gives flat items with ISO times. `2.0` lives below `/v2`, gives times in milliseconds, and keeps what was
measured in an object of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from digits_trainer.store import Item, iso

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class Version:
    """How one version of the API names and writes things.

    Shape: `instant` reads the value of `since_param` (ValueError or OverflowError when it is no `since_form`); `run`,
           `point` and `line` write a run, a point of a learning curve and a line of the log.
    """

    api: str
    prefix: str
    rows_key: str
    next_key: str
    cursor_param: str
    since_param: str
    since_form: str
    instant: Callable[[str], datetime]
    run: Callable[[Item], Item]
    point: Callable[[Item], Item]
    line: Callable[[Item], Item]

    def page(self, items: list[Item], following: str | None) -> Item:
        """A page of items and the cursor to the next."""
        return {self.rows_key: items, self.next_key: following}

    def since(self, text: str) -> str:
        """The earliest time asked for as stored times are written, so that they compare as texts."""
        instant = self.instant(text)
        return iso(instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC))


def _as_stored(item: Item) -> Item:
    return item


def epoch_ms(text: str) -> int:
    """A stored time in milliseconds since 1970."""
    return (datetime.fromisoformat(text) - EPOCH) // MILLISECOND


def _from_ms(text: str) -> datetime:
    if not (text.isascii() and text.isdigit() and len(text) <= 15):
        raise ValueError(text)
    return EPOCH + int(text) * MILLISECOND


def _run(item: Item) -> Item:
    return {
        "run_id": item["id"],
        "start_time": epoch_ms(item["started_at"]),
        "end_time": None if item["ended_at"] is None else epoch_ms(item["ended_at"]),
        "duration_s": item["duration_s"],
        "model": item["model"],
        "params": item["params"],
        "seed": item["seed"],
        "metrics": {"accuracy": item["accuracy"], "f1_macro": item["f1_macro"]},
        "train_size": item["train_size"],
        "status": item["status"],
    }


def _point(item: Item) -> Item:
    measured = {name: item[name] for name in ("train_accuracy", "validation_accuracy", "loss")}
    return {
        "run": item["run"],
        "model": item["model"],
        "time": epoch_ms(item["time"]),
        "step": item["epoch"],
        "amount": item["amount"],
        "amount_unit": item["amount_unit"],
        "metrics": measured,
    }


def _line(item: Item) -> Item:
    return {**item, "timestamp": epoch_ms(item["timestamp"])}


V1 = Version(
    api="1.0",
    prefix="",
    rows_key="items",
    next_key="next",
    cursor_param="cursor",
    since_param="since",
    since_form="an ISO 8601 time such as 2026-01-31T12:00:00Z",
    instant=datetime.fromisoformat,
    run=_as_stored,
    point=_as_stored,
    line=_as_stored,
)
V2 = Version(
    api="2.0",
    prefix="/v2",
    rows_key="data",
    next_key="next_cursor",
    cursor_param="after",
    since_param="since_ms",
    since_form="a time in milliseconds since 1970 such as 1769860800000",
    instant=_from_ms,
    run=_run,
    point=_point,
    line=_line,
)
VERSIONS = {version.api: version for version in (V1, V2)}
