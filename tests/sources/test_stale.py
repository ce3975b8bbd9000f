"""Which answers stand in for a failed one, of those a dataset gave last."""

from __future__ import annotations

from dataclasses import replace

from bridge.errors import NeedsAuth, UpstreamTimeout
from bridge.model.query import Query
from bridge.sources.stale import MAX_STEPS, Trail, state_of
from support import span, where

Q = Query("lab.runs", span=span(0, 10))


def test_answers_over_overlapping_spans_are_found_the_best_first() -> None:
    trail = Trail()
    for key, start_s, end_s, fetched_s in (("a", -5, 1, 1), ("b", 0, 9, 2), ("c", 1, 10, 3), ("d", 10, 20, 4)):
        trail.remember(replace(Q, span=span(start_s, end_s)), key, fetched_s)
    assert trail.overlapping(Q) == [("c", span(1, 10)), ("b", span(0, 9)), ("a", span(-5, 1))]


def test_only_the_same_question_counts_whatever_its_step() -> None:
    trail = Trail()
    trail.remember(replace(Q, step_ms=1_000), "a", 1)
    trail.remember(replace(Q, filters=where("model=svm")), "b", 1)
    trail.remember(replace(Q, span=None), "c", 1)
    assert [key for key, _ in trail.overlapping(replace(Q, step_ms=5))] == ["a"]
    assert trail.overlapping(replace(Q, span=None)) == []


def test_the_answers_used_longest_ago_are_forgotten_first() -> None:
    trail = Trail()
    for number in range(MAX_STEPS):
        trail.remember(Q, str(number), number)
    trail.remember(Q, "0", 100)
    trail.remember(Q, "new", 101)
    kept = {key for key, _ in trail.overlapping(Q)}
    assert len(kept) == MAX_STEPS
    assert "0" in kept
    assert "1" not in kept


def test_ages_are_those_of_the_last_fetches() -> None:
    trail = Trail()
    trail.remember(Q, "a", 90)
    trail.remember(Q, "a", 97)
    trail.remember(Q, "b", 95)
    assert sorted(trail.ages_s(100)) == [3, 5]
    trail.clear()
    assert list(trail.ages_s(100)) == []


def test_refused_credentials_are_told_apart_from_other_failures() -> None:
    assert state_of(NeedsAuth("401")) == "needs_auth"
    assert state_of(UpstreamTimeout("slow")) == "down"
