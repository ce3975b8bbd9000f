"""A check of values against those of another dataset."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from bridge.model.frame import Frame
from bridge.model.schema import Column, ColumnType, Schema
from bridge.sources.quality.bound import (
    WORDS,
    CheckError,
    Loc,
    Made,
    NotMade,
    Probe,
    Scene,
    Verdict,
    must_have,
)
from bridge.sources.quality.options import Reference
from bridge.sources.quality.words import MAX_EXAMPLES, allowed, cell, cut, percent, place, plain, quoted, share

_TEXTS = (ColumnType.STRING, ColumnType.JSON)
# No published column can be named so, as names from outside are printable.
_KEY, _THEIRS, _ROW, _MET = "\x00key", "\x00theirs", "\x00row", "\x00met"
# The last digits of two floats say nothing of how far apart they are.
_NOISE_RATIO = 1e-12


def reference(given: Reference, schema: Schema, known: Mapping[str, Schema]) -> Made:
    """Values that agree with those of another dataset, whose columns may not be known yet."""
    other = known.get(given.dataset)
    pairs = [*(("on", *pair) for pair in given.on.items()), *(("compare", *pair) for pair in given.compare.items())]
    for key, mine, theirs in pairs:
        column = must_have(schema, mine, key, mine)
        if other is not None:
            _must_fit(column, theirs, given.dataset, other, (key, mine))
        if key == "compare" and column.type is not ColumnType.NUMBER and (given.tolerance or given.tolerance_ratio):
            word = "tolerance" if given.tolerance else "tolerance_ratio"
            raise CheckError(f"`{mine}` is {WORDS[column.type]}; only numbers may be apart", word)
    reads = frozenset(given.on)
    probes = tuple(_probe(given, mine, theirs, reads | {mine}) for mine, theirs in given.compare.items())
    time = schema.time.name if schema.time is not None else ""
    by_time = other is not None and other.time is not None and given.on.get(time) == other.time.name
    return Made(probes, given.dataset, by_time)


def _must_fit(column: Column, theirs: str, name: str, other: Schema, loc: Loc) -> None:
    try:
        far = must_have(other, theirs)
    except CheckError as error:
        raise CheckError(f"`{name}`: {error}", *loc) from error
    if column.type is not far.type and not (column.type in _TEXTS and far.type in _TEXTS):
        raise CheckError(
            f"`{column.name}` is {WORDS[column.type]}, `{theirs}` of `{name}` is {WORDS[far.type]} "
            "(a `cast` in the steps of one of them helps)",
            *loc,
        )


def _probe(given: Reference, mine: str, theirs: str, reads: frozenset[str]) -> Probe:
    def verdict(scene: Scene, _: tuple[Any, ...]) -> Verdict | None:
        if scene.now is None:
            return None
        met = _met(given, scene)
        value, far = _number(pl.col(mine), met.schema[mine]), pl.col(f"{_THEIRS}{theirs}")
        far = _number(far, met.schema[f"{_THEIRS}{theirs}"])
        differs = (value != far) & ~_near(given, value, far, met.schema[mine])
        missing = pl.col(_MET).is_null() & pl.lit(given.missing == "fail")
        compared = value.is_not_null() & far.is_not_null()
        counts = {"bad": differs, "seen": compared | missing, "alone": missing}
        bad, seen, alone = met.select(expr.sum().alias(name) for name, expr in counts.items()).row(0)
        if seen == 0:
            return Verdict()
        ratio = (bad + alone) / seen
        if ratio <= given.max_differing_ratio:
            return Verdict(ratio)
        text = _differing(given, mine, theirs, scene, met.filter(differs).head(MAX_EXAMPLES), bad, seen)
        if alone:
            rows = met.filter(missing).head(MAX_EXAMPLES).get_column(_ROW).to_list()
            first = ", ".join(_row(given, scene, row) for row in rows)
            text += f"{'; ' if text else f'{quoted(mine)}: '}{share(alone, seen, 'row')} "
            text += f"{'has' if alone == 1 else 'have'} no partner in `{given.dataset}`, first {first}"
        return Verdict(ratio, text + allowed(given.max_differing_ratio), bad + alone)

    return Probe(mine, reads, verdict)


def _differing(
    given: Reference, mine: str, theirs: str, scene: Scene, first: pl.DataFrame, bad: int, seen: int
) -> str:
    if not bad:
        return ""
    apart = [plain(given.tolerance)] if given.tolerance else []
    apart += [percent(given.tolerance_ratio)] if given.tolerance_ratio else []
    told = [
        f"{cell(first, mine, row)} instead of {cell(first, f'{_THEIRS}{theirs}', row)}"
        f"{_row(given, scene, first.get_column(_ROW)[row], ' for ')}"
        for row in range(first.height)
    ]
    by = f" by more than {' and '.join(apart)}" if apart else ""
    differ = "differs" if bad == 1 else "differ"
    where = f"{differ} from {quoted(theirs)} of `{given.dataset}`{by}"
    return f"{quoted(mine)}: {share(bad, seen, 'row')} {where}, first {', '.join(told)}"


def _row(given: Reference, scene: Scene, row: int, before: str = "") -> str:
    keys = list(given.on)
    told = " ".join(f"{cut(name)} {cell(scene.data, name, row)}" for name in keys[:MAX_EXAMPLES])
    return before + told + place(scene, row, *keys) if len(keys) == 1 else before + told


def _number(value: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """A NaN is as empty as a null."""
    return value.fill_nan(None) if dtype.is_float() else value


def _near(given: Reference, value: pl.Expr, far: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    if not dtype.is_numeric() or not (given.tolerance or given.tolerance_ratio):
        return pl.lit(value=False)
    mine, theirs = value.cast(pl.Float64), far.cast(pl.Float64)
    # A share of an infinity would allow everything.
    most = given.tolerance + (given.tolerance_ratio + _NOISE_RATIO) * theirs.abs()
    return theirs.is_finite() & ((mine - theirs).abs() <= most)


def _met(given: Reference, scene: Scene) -> pl.DataFrame:
    """Own rows beside the last row of the same keys there; one join for all columns that are compared."""
    memo = ("met", id(given))
    if memo not in scene.memo:
        scene.memo[memo] = _joined(given, scene)
    table: pl.DataFrame = scene.memo[memo]
    return table


def _joined(given: Reference, scene: Scene) -> pl.DataFrame:
    other = scene.others.get(given.dataset)
    if other is None:
        raise NotMade(f"`{given.dataset}` gave nothing to compare with")
    _still_fits(given, scene, other)
    names = [f"{_KEY}{index}" for index in range(len(given.on))]
    mine = [name for name in given.compare if name in scene.dtypes]
    left = scene.data.select(
        *_keys(list(given.on), names, scene.dtypes, other.data.schema, list(given.on.values())), *mine
    ).with_row_index(_ROW)
    far = [pl.col(name).alias(f"{_THEIRS}{name}") for name in dict.fromkeys(given.compare[name] for name in mine)]
    right = other.data.select(
        *_keys(list(given.on.values()), names, other.data.schema, scene.dtypes, list(given.on)),
        *far,
        pl.lit(value=True).alias(_MET),
    )
    right = right.unique(names, keep="last", maintain_order=True)
    return left.join(right, on=names, how="left", maintain_order="left")


def _still_fits(given: Reference, scene: Scene, other: Frame) -> None:
    own = scene.frame.schema
    for mine, theirs in (*given.on.items(), *given.compare.items()):
        column = own.get(mine)
        if column is None:
            continue
        try:
            _must_fit(column, theirs, given.dataset, other.schema, ())
        except CheckError as error:
            raise NotMade(str(error)) from error


def _keys(
    keys: list[str],
    names: list[str],
    dtypes: Mapping[str, pl.DataType],
    far: Mapping[str, pl.DataType],
    far_keys: list[str],
) -> list[pl.Expr]:
    """The keys under common names and types: as whole numbers where both are, as a float has not all digits."""
    out = []
    for key, name, theirs in zip(keys, names, far_keys, strict=True):
        value = _number(pl.col(key), dtypes[key])
        if dtypes[key].is_numeric():
            whole = dtypes[key].is_integer() and far[theirs].is_integer()
            value = value.cast(pl.Int128 if whole else pl.Float64)
        out.append(value.alias(name))
    return out
