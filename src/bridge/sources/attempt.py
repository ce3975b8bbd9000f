"""Asks a source for one answer, again where that can help, within one deadline."""

from __future__ import annotations

from dataclasses import dataclass

import stamina

from bridge.errors import Retry, SourceError, UpstreamRefused
from bridge.model.clock import Clock
from bridge.model.frame import Frame
from bridge.model.query import Query
from bridge.sources.base import DataSource
from bridge.sources.leash import Leash


@dataclass(frozen=True, slots=True)
class Patience:
    """How often a source is asked again after a failure, and how long all of it may take.

    Units: the first pause is `wait_s` and up to as much again by chance, each further one twice as long.
    """

    retries: int
    wait_s: float
    deadline_s: float


async def attempt(
    leash: Leash, source: DataSource, query: Query, held_token: str | None, patience: Patience, clock: Clock
) -> tuple[str | None, Frame | None]:
    """The data's fingerprint and its frame; no frame where the fingerprint is still `held_token`.

    Errors: whatever the source raised last; those of the leash.
    """
    until_s = clock.monotonic_s() + patience.deadline_s
    caller = stamina.AsyncRetryingCaller(
        attempts=patience.retries + 1,
        timeout=None,  # the leash holds the deadline, and cuts a pause short as well
        wait_initial=patience.wait_s,
        wait_max=patience.wait_s * 25,
        wait_jitter=patience.wait_s,
    )

    def again(error: Exception) -> bool | float:
        return _retry_in(error, until_s - clock.monotonic_s())

    return await leash.run(lambda: caller(again, _collected, source, query, held_token), patience.deadline_s)


async def _collected(source: DataSource, query: Query, held_token: str | None) -> tuple[str | None, Frame | None]:
    token = await source.fingerprint(query)
    if token is not None and token == held_token:
        return token, None
    return token, await source.collect(query)


def _retry_in(error: Exception, left_s: float) -> bool | float:
    """Whether, or after how many seconds, this failure is worth another try in the time that is left."""
    if not isinstance(error, SourceError) or error.retry is not Retry.LATER:
        return False
    if isinstance(error, UpstreamRefused) and error.retry_after_s:
        # Waiting beyond the deadline would only delay the error.
        return error.retry_after_s if error.retry_after_s < left_s else False
    return True
