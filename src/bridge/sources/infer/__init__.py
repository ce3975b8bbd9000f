"""What an API, a file or a database table looks like as settings: guesses, each with its reason."""

from bridge.sources.infer.look import Target, look
from bridge.sources.infer.stanza import DatasetGuess, SourceGuess

__all__ = ["DatasetGuess", "SourceGuess", "Target", "look"]
