"""The end of a drill: what is there, through bridge and on the disk, against all that was told and said."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

import polars as pl
from drill_bridge import WATCHED, Answer, Watched
from drill_far import Far
from drill_judge import (
    SEQ,
    Disk,
    Row,
    Verdict,
    counted,
    keyed,
    last_snapshot,
    newest,
    on_disk,
    packed,
    physical,
    plain_rows,
    resolved,
    unpacked,
)
from drill_ledger import Ledger


def judged(
    history: Path, ledger: Ledger, final: Mapping[str, Answer], far: Far, known: Mapping[str, Collection[Row]]
) -> Verdict:
    """What is wrong of all datasets together."""
    verdict = Verdict()
    for watched in WATCHED:
        if watched.name not in final:
            if ledger.versions[watched.name]:
                verdict.other.append(f"{watched.name} has nothing in the end")
                verdict.told.append(verdict.other[-1])
            continue
        answer, disk = final[watched.name], on_disk(history / watched.name)
        ledger.on_disk[watched.name] = disk.recorded
        verdict.add(through_bridge(watched, answer, ledger, far, known))
        verdict.add(physical(f"{watched.name} on disk", disk, watched.stored))
        verdict.add(same(watched, answer, disk))
        promised = ledger.told_rows(watched.name)
        if disk.recorded < promised:
            verdict.lost += promised - disk.recorded
            verdict.told.append(
                f"{watched.name}: {promised} rows were counted as recorded, {disk.recorded} are there"
            )
    return verdict


def through_bridge(
    watched: Watched, answer: Answer, ledger: Ledger, far: Far, known: Mapping[str, Collection[Row]]
) -> Verdict:
    """The last answer of bridge against what it told before and what the far side said."""
    name = watched.name
    if name == "drill.lines":
        verdict = counted(name, ledger.lines[name], answer.rows, far.lines)
        verdict.add(counted(f"{name}, what was said last", far.recent_lines(), answer.rows, far.lines))
        return verdict
    if watched.snapshot:
        return _snapshot(watched, answer, far)
    found = answer.split(watched.key)
    if name in known:
        return keyed(name, ledger.rows[name], found, known[name])
    if name == "drill.load":
        return _sampled(name, ledger, found, far)
    said = {key: [(value,) for value in values] for key, values in far.said.items()}
    verdict = keyed(name, ledger.rows[name], found, said)
    least_ms = 0 if name == "drill.series" else far.recent_ms
    now = {key: (value,) for key, value in far.newest.items() if key[0] >= least_ms}
    verdict.add(newest(name, found, now))
    return verdict


def _snapshot(watched: Watched, answer: Answer, far: Far) -> Verdict:
    verdict = Verdict()
    if watched.name == "drill.state" and frozenset(answer.rows) not in far.states:
        verdict.foreign = verdict.say(f"{watched.name}: a state that never was", answer.rows)
    return verdict


def _sampled(name: str, ledger: Ledger, found: list[tuple[Row, Row]], far: Far) -> Verdict:
    """Samples of what has no time: whole states that there were."""
    verdict = keyed(name, ledger.rows[name], found, {key for key, _ in found})
    states: dict[object, set[Row]] = {}
    for (at, service), (count,) in found:
        states.setdefault(at, set()).add((service, count))
    verdict.foreign += verdict.say(
        f"{name}: samples of no state that there was",
        [at for at, rows in states.items() if frozenset(rows) not in far.states],
    )
    return verdict


def same(watched: Watched, answer: Answer, disk: Disk) -> Verdict:
    """Whether bridge says what stands on the disk, no more and no less."""
    # It went on recording after it answered.
    disk = replace(disk, rows=disk.rows.filter(pl.col(SEQ) <= answer.version))
    if watched.snapshot:
        stored = last_snapshot(disk, answer.columns)
    else:
        # Rows that share a key, as lines do, replace nothing.
        single = bool(watched.stored)
        stored = resolved(disk, answer.columns, watched.stored if single else ())
    verdict = Verdict()
    there, said = unpacked(packed(plain_rows(stored))), unpacked(packed(answer.rows))
    verdict.lost = verdict.say(
        f"{watched.name}: rows on the disk that bridge does not say", list((there - said).elements())
    )
    verdict.foreign = verdict.say(
        f"{watched.name}: rows bridge says that are not on the disk", list((said - there).elements())
    )
    return verdict
