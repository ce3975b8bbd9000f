"""Units that a name or the values tell; what neither tells stays without."""

from __future__ import annotations

import re

import polars as pl

# What stands behind the last `_` of a name, or is the name. Ids are Grafana's.
_ENDINGS: tuple[tuple[str, str], ...] = (
    (r"nanos|nanoseconds?|ns|nsec", "ns"),
    (r"micros|microseconds?|us|usec", "µs"),
    (r"millis|milliseconds?|ms|msec", "ms"),
    (r"s|sec|secs|seconds", "s"),
    (r"mins|minutes", "m"),
    (r"hours|hrs", "h"),
    (r"days", "d"),
    (r"bytes_per_second|bps_bytes", "Bps"),
    (r"bits_per_second", "bps"),
    (r"requests_per_second|rps", "reqps"),
    (r"bytes", "bytes"),
    (r"bits", "bits"),
    (r"kib", "kbytes"),
    (r"mib", "mbytes"),
    (r"gib", "gbytes"),
    (r"kb|kilobytes?", "deckbytes"),
    (r"mb|megabytes?", "decmbytes"),
    (r"gb|gigabytes?", "decgbytes"),
    (r"percent|pct|percentage", "percent"),
    (r"celsius|degc|temp_c|temperature_c", "celsius"),
    (r"fahrenheit|degf|temp_f|temperature_f", "fahrenheit"),
    (r"kelvin|temp_k|temperature_k", "kelvin"),
    (r"hz|hertz", "hertz"),
    (r"watts?", "watt"),
    (r"kilowatts?|kw", "kwatt"),
    (r"kwh", "kwatth"),
    (r"joules?", "joule"),
    (r"volts?", "volt"),
    (r"amperes?|amps?", "amp"),
    (r"hpa|hectopascals?", "pressurehpa"),
    (r"mbar", "pressurembar"),
    (r"bar", "pressurebar"),
    (r"km|kilomet(?:er|re)s?", "lengthkm"),
    (r"mm|millimet(?:er|re)s?", "lengthmm"),
    (r"met(?:er|re)s?", "lengthm"),
    (r"kg|kilograms?", "masskg"),
    (r"rpm", "rotrpm"),
    (r"count|counts|total", "short"),
)
_NAMED = tuple((re.compile(rf"(?:.*_)?(?:{pattern})"), unit) for pattern, unit in _ENDINGS)
_SHARE = re.compile(
    r"(?:.*_)?(ratio|fraction|share|accuracy|acc|f1|precision|recall|auc|auroc|specificity|sensitivity|iou|dice)"
    r"(?:_(?:macro|micro|weighted|score|mean|avg))?"
)
_TEMPERATURE = re.compile(r"(?:.*_)?(?:temperature|temp)")
_MONEY = re.compile(r"(?:.*_)?(?:price|cost|usd|eur|gbp)")


def unit_of(name: str, values: pl.Series) -> tuple[str | None, str]:
    """The Grafana unit of a measure with this snake-case name, and a remark about what is not sure.

    Shape: `values` are numbers, and may be none.
    """
    if len(name) < 4 and "_" not in name and not _SHARE.fullmatch(name):
        # `us` is a country and `s` anything; behind a `_` they are units.
        return None, ""
    if _SHARE.fullmatch(name):
        return _share(values)
    if name in ("mhz", "ghz") or name.endswith(("_mhz", "_ghz", "_khz")):
        return None, "no unit: Grafana's hertz is not scaled; convert it, or write the text to show behind the value"
    unit = next((unit for pattern, unit in _NAMED if pattern.fullmatch(name)), None)
    if unit is not None:
        return unit, _doubt(unit, values)
    if _TEMPERATURE.fullmatch(name):
        return None, "no unit: fill in celsius, fahrenheit or kelvin if it is a temperature"
    if _MONEY.fullmatch(name):
        return None, "no unit: fill in a currency such as currencyEUR if it is money"
    return None, ""


def _share(values: pl.Series) -> tuple[str | None, str]:
    numbers = values.drop_nulls()
    if numbers.is_empty():
        return "percentunit", "unit by its name only: no value was seen"
    if numbers.is_between(0, 1).all():
        return "percentunit", ""
    if numbers.is_between(0, 100).all():
        return "percent", "unit by its name, values up to 100"
    return None, "no unit: named like a share, but its values are not between 0 and 100"


def _doubt(unit: str, values: pl.Series) -> str:
    numbers = values.drop_nulls()
    if unit == "percent" and len(numbers) >= 3 and numbers.is_between(0, 1).all() and (numbers > 0).any():
        return "not sure: values up to 1 may be shares, then the unit is percentunit"
    return "1 kB read as 1000 bytes; with 1024 the unit is without `dec`" if unit.startswith("dec") else ""
