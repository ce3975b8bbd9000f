"""Under which names undeclared metrics, parameters and tags are published."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from bridge.errors import AnswerTooLarge
from bridge.model.frame import Notice
from bridge.model.schema import Column, ColumnType, Role
from bridge.sources.base import MAX_COLUMNS
from bridge.sources.table import shown_names

FAMILIES: Mapping[str, str] = {"metrics": "metric", "params": "param", "tags": "tag"}
# What may stand in a filter without quotes, less the dot, which is a path to Grafana's plug-ins.
_OTHER = re.compile(r"[^A-Za-z0-9_]")


def published(family: str, key: str) -> str:
    """The column's name: `metrics` and `val/loss` give `metric_val_loss`, one `_` for each other character."""
    return f"{FAMILIES[family]}_{_OTHER.sub('_', key)}"


class Names:
    """The columns of a dataset that declares none: they come as they are met, and stay."""

    def __init__(self, dataset: str, fixed: tuple[Column, ...]) -> None:
        self._dataset = dataset
        self._columns: dict[str, Column] = {column.name: column for column in fixed}
        # Keys whose name was already that of another key: their far name and the other's.
        self._hidden: dict[str, str] = {}
        # Whether any answer has been looked at.
        self.settled = False

    @property
    def columns(self) -> tuple[Column, ...]:
        """All columns so far, in the order in which they came."""
        return tuple(self._columns.values())

    def check(self, keys: Mapping[str, Collection[str]]) -> None:
        """Refuses keys that would be too many, before more of them are fetched.

        Errors: AnswerTooLarge when there are more columns than a dataset may have.
        """
        if len(self._columns) + len(self._new(keys)) > MAX_COLUMNS:
            counts = ", ".join(f"{len(found)} {family}" for family, found in keys.items())
            raise AnswerTooLarge(
                f"`{self._dataset}` would have more than {MAX_COLUMNS} columns: so far there are {counts}",
                remedy="declare the `columns` you need, each with its `select`, such as `metrics.accuracy`",
            )

    def learn(self, keys: Mapping[str, Collection[str]]) -> None:
        """Takes up what is new among the keys of each family.

        Errors: AnswerTooLarge when there are more columns than a dataset may have.
        """
        self.check(keys)
        for family, key in self._new(keys):
            self._add(family, key)
        self.settled = True

    def _new(self, keys: Mapping[str, Collection[str]]) -> list[tuple[str, str]]:
        known = {column.select for column in self._columns.values()} | self._hidden.keys()
        return [(family, key) for family in keys for key in sorted(keys[family]) if f"{family}.{key}" not in known]

    def _add(self, family: str, key: str) -> None:
        name, far = published(family, key), f"{family}.{key}"
        if name in self._columns:
            self._hidden[far] = self._columns[name].select or name
        elif family == "metrics":
            self._columns[name] = Column(name, ColumnType.NUMBER, role=Role.MEASURE, select=far)
        else:
            self._columns[name] = Column(name, ColumnType.STRING, select=far)

    def notices(self) -> tuple[Notice, ...]:
        """A warning when keys had to be left out because others have their name."""
        if not self._hidden:
            return ()
        far, other = next(iter(self._hidden.items()))
        text = (
            f"left out because their names are taken: {shown_names(self._hidden)}; `{far[:80]}` would be called as "
            f"`{other[:80]}` is: declare `columns` with `select` to have both"
        )
        return (Notice("warning", text),)
