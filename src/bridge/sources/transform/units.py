"""Units that can be converted into each other, by Grafana's ids."""

from __future__ import annotations

import difflib
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Unit:
    """`base = value * factor + offset`, in the base unit of its family."""

    family: str
    factor: float
    offset: float = 0.0


def _family(name: str, **factors: float) -> dict[str, Unit]:
    return {unit: Unit(name, factor) for unit, factor in factors.items()}


def _scaled(name: str, base: float, ids: str, ratio: float) -> dict[str, Unit]:
    """A unit and its multiples, each `ratio` times the one before."""
    return {unit: Unit(name, base * ratio**power) for power, unit in enumerate(ids.split())}


# Source: the ids of Grafana's packages/grafana-data/src/valueFormats/categories.ts.
UNITS: dict[str, Unit] = {
    **_family("time", ns=1e-9, ms=1e-3, s=1.0, m=60.0, h=3_600.0, d=86_400.0),
    # The sign of Grafana's id is the micro sign; the Greek letter looks the same and is what some keyboards give.
    **dict.fromkeys(("\u00b5s", "\u03bcs"), Unit("time", 1e-6)),
    **_family("time", dtdurations=1.0, dtdurationms=1e-3, dthms=1.0, clocks=1.0, clockms=1e-3),
    **_scaled("data", 1.0, "bytes kbytes mbytes gbytes tbytes pbytes", 1024.0),
    **_scaled("data", 1.0, "decbytes deckbytes decmbytes decgbytes dectbytes decpbytes", 1000.0),
    **_family("data", bits=0.125, decbits=0.125),
    **_scaled("data rate", 1.0, "binBps KiBs MiBs GiBs TiBs PiBs", 1024.0),
    **_scaled("data rate", 1.0, "Bps KBs MBs GBs TBs PBs", 1000.0),
    **_scaled("data rate", 0.125, "bps Kbits Mbits Gbits Tbits Pbits", 1000.0),
    **_family("share", percentunit=1.0, percent=0.01),
    **_family("temperature", kelvin=1.0),
    "celsius": Unit("temperature", 1.0, 273.15),
    "fahrenheit": Unit("temperature", 5 / 9, 459.67 * 5 / 9),
    **_family("length", lengthmm=1e-3, lengthcm=1e-2, lengthm=1.0, lengthkm=1e3),
    **_family("length", lengthin=0.0254, lengthft=0.3048, lengthmi=1609.344),
    **_family("mass", massmg=1e-6, massg=1e-3, masslb=0.45359237, masskg=1.0, masst=1e3),
    **_family("power", mwatt=1e-3, watt=1.0, kwatt=1e3, megwatt=1e6, gwatt=1e9),
    **_family("energy", joule=1.0, watth=3_600.0, kwatth=3.6e6, megwatth=3.6e9),
    **_family("frequency", hertz=1.0, rothz=1.0, rotrpm=1 / 60),
    **_family(
        "pressure", pressurembar=100.0, pressurehpa=100.0, pressurekpa=1e3, pressurebar=1e5, pressurepsi=6894.757
    ),
    **_family("angle", degree=1.0, radian=57.29577951308232),
    **_family("voltage", mvolt=1e-3, volt=1.0, kvolt=1e3),
    **_family("current", mamp=1e-3, amp=1.0, kamp=1e3),
    **_family("velocity", velocityms=1.0, velocitykmh=1 / 3.6, velocitymph=0.44704, velocityknot=1852 / 3600),
}


def factors(from_: str, to: str) -> tuple[float, float]:
    """`(a, b)` of `converted = value * a + b`.

    Errors: ValueError with a sentence when one of the units is not known, or they measure different things.
    """
    source, target = _known(from_), _known(to)
    if source.family != target.family:
        raise ValueError(f"`{from_}` is a unit of {source.family}, `{to}` one of {target.family}")
    return _plain(source.factor / target.factor), _plain((source.offset - target.offset) / target.factor)


def _plain(number: float) -> float:
    """Without the last digits, in which the quotient of two factors is not exact: 1.8, not 1.7999999999999998."""
    return float(f"{number:.14g}")


def _known(name: str) -> Unit:
    if unit := UNITS.get(name):
        return unit
    near = difflib.get_close_matches(name, UNITS, n=3, cutoff=0.6)
    hint = f"did you mean {', '.join(near)}?" if near else f"known are {', '.join(UNITS)}"
    raise ValueError(f"`{name[:40]}` is no unit that can be converted ({hint})")
