"""What is wrong with one dataset at present, and the failures of its source in words of bridge."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bridge.errors import AnswerTooLarge, BadRequest, BreakerOpen, BridgeError, PluginFailed
from bridge.model.query import Query
from bridge.sources.stale import state_of

log = logging.getLogger("bridge.sources")


@dataclass(frozen=True, slots=True)
class Failure:
    """What is told of the last failure; the error itself would keep alive all its traceback refers to."""

    message: str
    remedy: str


class Trouble:
    """The state of one dataset: unknown, ok, or called after its last failure."""

    def __init__(self, dataset: str) -> None:
        self._dataset = dataset
        self.state = "unknown"
        self.last: Failure | None = None

    def told(self, error: Exception, query: Query) -> BridgeError:
        """The failure in bridge's words; the dataset's state follows it unless the question was at fault."""
        if isinstance(error, BreakerOpen):
            cause = self.last
            if cause is None:
                return error
            return BreakerOpen(f"{error.message} (last error: {cause.message})", remedy=cause.remedy)
        if isinstance(error, BadRequest) or (isinstance(error, AnswerTooLarge) and query.key != query.whole().key):
            return error
        return self.failed(error if isinstance(error, BridgeError) else self.blame(error))

    def failed(self, error: BridgeError) -> BridgeError:
        """The same error; from now on the dataset is called after it."""
        if self.last is None:
            log.warning(
                "dataset failed", extra={"dataset": self._dataset, "code": error.code, "error": error.message}
            )
        self.last, self.state = Failure(error.message, error.remedy), state_of(error)
        return error

    def recovered(self) -> None:
        """From now on nothing is wrong with it."""
        if self.last is not None:
            log.info("dataset answers again", extra={"dataset": self._dataset})
        self.last, self.state = None, "ok"

    @contextmanager
    def of_plugin(self) -> Iterator[None]:
        """Around a plug-in's code: what it raises comes out as an error of bridge's."""
        try:
            yield
        except BridgeError:
            raise
        except Exception as error:
            raise self.blame(error) from error

    def blame(self, error: Exception) -> PluginFailed:
        """What is told of an error that a plug-in should not have raised; the log has the rest."""
        log.error("source plug-in failed", exc_info=error, extra={"dataset": self._dataset})
        text = f"`{self._dataset}`: its plug-in failed with {type(error).__name__}"
        return PluginFailed(text, remedy="the service's log has the traceback")
