"""Looking at far servers and files as the command does, without the trial."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from aiohttp import web
from tests.servers.far import Far, Seen, far, js, text
from tests.servers.rest_rig import tools

from bridge.sources.infer import DatasetGuess, SourceGuess, Target, look

Answers = Mapping[str, Any]


@dataclass
class Looked:
    """What was guessed, and what was said on the way."""

    source: SourceGuess
    said: list[str] = field(default_factory=list)

    @property
    def only(self) -> DatasetGuess:
        """The one dataset."""
        (dataset,) = self.source.datasets
        return dataset

    def column(self, name: str, table: str | None = None) -> dict[str, Any]:
        """A column as it stands in the settings."""
        found = {d.name: d for d in self.source.datasets}
        dataset = found[table] if table else self.only
        return next(column for column in dataset.settings()["columns"] if column["name"] == name)

    @property
    def written(self) -> dict[str, Any]:
        """The YAML, read by another reader."""
        return yaml.safe_load(self.source.yaml())["sources"][0]


async def looked(what: str, base_dir: Path | None = None, **options: Any) -> Looked:
    """What is guessed of a URL, a file or a database."""
    said: list[str] = []
    folder = base_dir or Path.cwd()
    async with tools() as given:
        source = await look(Target(what, folder, **options), given, said.append)
    return Looked(source, said)


@asynccontextmanager
async def api(answers: Answers) -> AsyncIterator[Far]:
    """A server that answers these paths, and 404 to all others: values as JSON, responses as they are."""

    def answer(seen: Seen) -> Any:
        found = answers.get(seen.path)
        if found is None:
            return js({"error": "not found"}, status=404)
        value = found(seen) if callable(found) else found
        if isinstance(value, web.Response):
            # A response can be sent once only.
            return web.Response(body=value.body, status=value.status, headers=value.headers)
        return js(value)

    async with far(answer) as server:
        yield server


def runs(count: int = 12) -> list[dict[str, Any]]:
    """Rows as a training service gives them."""
    return [
        {
            "id": f"r{number:06d}",
            "started_at": f"2026-01-01T00:{number:02d}:00Z",
            "ended_at": f"2026-01-01T00:{number:02d}:30Z",
            "model": ("svm", "mlp")[number % 2],
            "accuracy": number / 20,
            "duration_s": 30.5,
            "seed": number,
            "steps_total": number * 10,
        }
        for number in range(count)
    ]


__all__ = ["Looked", "api", "js", "looked", "runs", "text"]
