"""What was found is remembered: since when, how often, and that it is gone."""

from __future__ import annotations

from datetime import timedelta

from bridge.model.finding import Finding, Level
from bridge.sources.quality.judge import Judged
from bridge.sources.quality.ledger import MAX_RECENT, Ledger, check_status, rows
from support import T0, at

KEYS = frozenset({("complete", "a"), ("range", "a"), ("rows", "")})


def found(check: str, column: str | None = None, level: Level = Level.WARN, text: str = "") -> Finding:
    return Finding(check, level, text or f"{check} of {column}", column, 3, 0.5)


def judged(*findings: Finding, made: frozenset[tuple[str, str]] = KEYS, **values: float) -> Judged:
    return Judged(findings, {(check, "a"): value for check, value in values.items()}, made)


def test_a_finding_that_stands_counts_up_and_keeps_its_beginning() -> None:
    ledger = Ledger()
    ledger.note(judged(found("complete", "a", text="1 of 10")), at(0))
    ledger.note(judged(found("complete", "a", text="2 of 10"), found("rows")), at(5))
    first, second = ledger.active
    assert (first.first_seen, first.last_seen, first.times, first.finding.text) == (at(0), at(5), 2, "2 of 10")
    assert (second.first_seen, second.times, second.ended_at) == (at(5), 1, None)
    assert ledger.counts == {Level.INFO: 0, Level.WARN: 2, Level.BLOCK: 0}


def test_a_finding_that_is_gone_is_remembered_and_a_new_one_begins_anew() -> None:
    ledger = Ledger()
    for second, findings in enumerate([(found("rows"),), (), (found("rows"),)]):
        ledger.note(judged(*findings), at(second))
    newest, gone = ledger.recent
    assert (newest.first_seen, newest.times, newest.ended_at) == (at(2), 1, None)
    assert (gone.first_seen, gone.last_seen, gone.ended_at) == (at(0), at(0), at(1))


def test_a_judgement_that_could_not_tell_leaves_the_finding_and_its_number_as_they_were() -> None:
    """A panel that asks for some columns does not make the others well."""
    ledger = Ledger()
    ledger.note(judged(found("complete", "a"), found("range", "a"), complete=0.5, range=0.1), at(0))
    ledger.note(judged(made=frozenset({("range", "a")}), range=0.0), at(5))
    assert [noted.finding.check for noted in ledger.active] == ["complete"]
    assert ledger.values == {("complete", "a"): 0.5, ("range", "a"): 0.0}
    ledger.note(judged(), at(6))
    assert (ledger.active, ledger.values) == ((), {})


def test_what_is_gone_is_kept_up_to_a_bound_and_the_newest_stand_first() -> None:
    ledger = Ledger()
    for number in range(300):
        ledger.note(judged(found("rows", text=str(number))), at(2 * number))
        ledger.note(judged(), at(2 * number + 1))
    assert len(ledger.recent) == len(ledger.remembered()) == MAX_RECENT
    assert [noted.finding.text for noted in ledger.recent[:2]] == ["299", "298"]
    ledger.note(judged(found("complete", "a")), at(1_000))
    assert len(ledger.recent) == MAX_RECENT
    assert ledger.recent[0].finding.check == "complete"


def test_blocks_are_counted_until_a_frame_is_known_to_be_good() -> None:
    ledger = Ledger()
    block = found("complete", "a", Level.BLOCK)
    counts = []
    for one in (judged(block), judged(block), judged(made=frozenset()), judged(block), judged(), judged(block)):
        ledger.note(one, T0)
        counts.append(ledger.blocks_in_a_row)
    assert counts == [1, 2, 2, 3, 0, 1]


def test_a_clock_that_is_set_back_makes_no_finding_end_before_it_began() -> None:
    ledger = Ledger()
    ledger.note(judged(found("rows")), at(100))
    ledger.note(judged(found("rows")), at(50))
    assert ledger.active[0].last_seen == at(100)
    ledger.note(judged(), at(0))
    assert ledger.recent[0].ended_at == at(100)


def test_the_rows_of_a_dataset_are_those_that_stand_and_those_that_are_gone() -> None:
    ledger = Ledger()
    ledger.note(judged(found("rows"), found("complete", "a", Level.BLOCK)), at(0))
    ledger.note(judged(found("complete", "a", Level.BLOCK)), T0 + timedelta(seconds=9))
    first, second = rows("lab.runs", ledger)
    assert first == {
        "time": at(9),
        "dataset": "lab.runs",
        "source": "lab",
        "check": "complete",
        "column": "a",
        "level": "block",
        "text": "complete of a",
        "rows": 3,
        "value": 0.5,
        "first_seen": at(0),
        "times": 2,
        "active": True,
    }
    assert (second["check"], second["column"], second["active"]) == ("rows", None, False)


def test_the_metrics_are_told_what_stands_and_what_was_measured() -> None:
    ledger = Ledger()
    ledger.note(judged(found("complete", "a"), found("complete", "b"), complete=0.5), at(0))
    status = check_status("lab.runs", ledger)
    assert status.dataset == "lab.runs"
    assert status.active == {("complete", "warn"): 2}
    assert status.values == {("complete", "a"): 0.5}
