"""What bridge acknowledged: every row and every count that it told anyone, life after life."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from drill_bridge import Answer, Watched
from drill_judge import Row, Verdict, counted, keyed, packed, unpacked


@dataclass(slots=True)
class Ledger:
    """The acknowledged rows of all datasets.

    Shape: `versions` has what each version said, packed; `rows` the newest value of each key, `lines` how often each
           row without a key was there.
    """

    versions: dict[str, dict[int, bytes]] = field(default_factory=lambda: defaultdict(dict))
    rows: dict[str, dict[Row, Row]] = field(default_factory=lambda: defaultdict(dict))
    lines: dict[str, Counter[Row]] = field(default_factory=lambda: defaultdict(Counter))
    verdict: Verdict = field(default_factory=Verdict)
    answers: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    # How many rows stand there in the end.
    on_disk: dict[str, int] = field(default_factory=dict)
    _newest: dict[str, int] = field(default_factory=dict)
    _before: Counter[str] = field(default_factory=Counter)
    _most: Counter[tuple[str, str]] = field(default_factory=Counter)
    _told: set[tuple[str, int]] = field(default_factory=set)
    _now: dict[tuple[str, str], float] = field(default_factory=dict)

    def take(self, watched: Watched, answer: Answer, when: str) -> None:
        """Compares an answer with all that was acknowledged before, and takes it over."""
        name, where = watched.name, f"{when}: {watched.name}"
        self.answers += 1
        newest = self._newest.get(name, -1)
        if answer.version < newest:
            self._wrong(f"{where} went back from version {newest} to {answer.version}")
        self._newest[name] = max(newest, answer.version)
        self.repeated(watched, answer.version, answer, when)
        self.versions[name].setdefault(answer.version, packed(answer.rows))
        if watched.snapshot:
            return
        if watched.key:
            # What values may be there, the far side says in the end.
            found = answer.split(watched.key)
            known = {key for key, _ in found}
            self._missing(
                name, keyed(where, dict.fromkeys(self.rows[name], ()), [(key, ()) for key, _ in found], known)
            )
            self.rows[name].update(found)
        else:
            have = Counter(answer.rows)
            self._missing(name, counted(where, self.lines[name], answer.rows, have))
            self.lines[name] |= have

    def repeated(self, watched: Watched, version: int, answer: Answer, when: str) -> None:
        """What a version said once it says for good."""
        said = self.versions[watched.name].get(version)
        if said is None or said == packed(answer.rows) or (watched.name, version) in self._told:
            return
        self._told.add((watched.name, version))
        before, now = unpacked(said), unpacked(packed(answer.rows))
        gone, came = list((before - now).elements()), list((now - before).elements())
        self._wrong(
            f"{when}: {watched.name} says something else of version {version} than before: without "
            f"{len(gone)} rows ({', '.join(gone[:2])}), with {len(came)} others ({', '.join(came[:2])})"
        )

    def count(self, told: dict[tuple[str, str], float]) -> None:
        """The counters of the process that lives now."""
        self._now = told

    def died(self) -> None:
        """Its counters begin anew with the next process."""
        for (name, outcome), value in self._now.items():
            if outcome:
                self.outcomes[outcome] += int(value)
            else:
                self._before[name] += int(value)
        self._now = {}

    def told_rows(self, name: str) -> int:
        """Rows that the counters acknowledged of a dataset in all lives that ended."""
        return self._before[name]

    @property
    def acknowledged(self) -> int:
        """Distinct rows that some answer had."""
        lines = sum(count.total() for count in self.lines.values())
        return lines + sum(len(rows) for rows in self.rows.values())

    def _missing(self, name: str, found: Verdict) -> None:
        """Counts what is missing or double once, however many answers show it."""
        for kind in ("lost", "doubled"):
            if (count := getattr(found, kind)) > self._most[name, kind]:
                setattr(self.verdict, kind, getattr(self.verdict, kind) + count - self._most[name, kind])
                self._most[name, kind] = count
                self.verdict.told += found.told

    def _wrong(self, text: str) -> None:
        self.verdict.other.append(text)
        self.verdict.told.append(text)
