"""Writes the files the recorded names are mapped onto: values that can be worked out by hand.

Row `i` lies `i` steps of five minutes after 06:00 on 22 November 2026, the day of the recording; each metric adds its
own base, each place its own offset, so a wrong row, place or metric shows as a wrong number.
"""

from __future__ import annotations

import csv
from datetime import UTC, datetime, timedelta
from pathlib import Path

FOLDER = Path(__file__).parent / "data"
START = datetime(2026, 11, 22, 6, 0, tzinfo=UTC)
ROWS = 84
STEP = timedelta(minutes=5)
PLACES = (("Prague", "CZ", 0), ("Brno", "CZ", 1000), ("Stockholm", "SE", 2000))
METRICS = {"cpu": 0.5, "cpu_a": 10.5, "cpu_b": 20.5, "requests_prod": 30.5, "requests_stage": 40.5}
HOSTS = (("a", "prod", 100), ("b", "prod", 200), ("x", "stage", 300))


def times() -> list[str]:
    """The instants of all rows."""
    return [(START + index * STEP).strftime("%Y-%m-%dT%H:%M:%SZ") for index in range(ROWS)]


def write(name: str, header: list[str], rows: list[list[object]]) -> None:
    """One CSV file."""
    with (FOLDER / f"{name}.csv").open("w", newline="") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(header)
        out.writerows(rows)


def main() -> None:
    """All files."""
    for name, base in METRICS.items():
        rows = [[t, c, n, i + base + o] for i, t in enumerate(times()) for c, n, o in PLACES]
        write(name, ["time", "City", "Country", "value"], rows)
    write(
        "mem",
        ["time", "host", "value"],
        [[t, h, i + o] for i, t in enumerate(times()) for h, o in (("web1", 1), ("web2", 2))],
    )
    rows = [[t, h, r, i + o, 2 * (i + o)] for i, t in enumerate(times()) for h, r, o in HOSTS]
    write("requests", ["time", "host", "region", "count", "bytes"], rows)
    write("services", ["name", "of"], [["auth", "a"], ["billing", "b"], ["gateway", "g"]])
    write(
        "points",
        ["time", "series", "value"],
        [[t, s, i + o] for i, t in enumerate(times()) for s, o in (("one", 1), ("two", 2))],
    )
    write("items", ["id", "name", "price"], [["i1", "bolt", 1.5], ["i2", "nut", 0.25], ["i3", "pin", 3]])


if __name__ == "__main__":
    main()
