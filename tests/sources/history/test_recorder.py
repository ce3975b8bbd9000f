"""Samples are taken at a pace of their own, whatever becomes of the sources and of each other."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest
from past_rig import KEEP_S, Beats, Kept, keeping, kept_dataset, told

from bridge.errors import StoreError, UpstreamUnavailable
from bridge.model.query import Query
from bridge.model.schema import Column, ColumnType, Role
from bridge.sources.history.recorder import Recorder
from bridge.sources.registry import Keeping
from support import ManualClock, frame_of, span

DOWN = UpstreamUnavailable("GET http://far: cannot connect", remedy="check that the server runs")
STATE = (
    Column("service", ColumnType.STRING, role=Role.DIMENSION),
    Column("load", ColumnType.NUMBER, role=Role.MEASURE),
)
FAST = Keeping(KEEP_S, 10.0)


def samples(rig: Kept, outcome: str = "ok", name: str = "lab.runs") -> float:
    """How many samples ended so."""
    return rig.counted("bridge_history_samples_total", dataset=name, outcome=outcome)


def moving(rig: Kept) -> None:
    """From now on the source's rows are those of the last ten seconds."""

    async def collect(query: Query) -> object:
        now_s = rig.clock.passed_s
        return frame_of([(now_s - age, now_s - age, "svm") for age in range(9, -1, -1)])

    rig.source().always = collect


async def test_each_dataset_is_sampled_at_its_own_pace(tmp_path: Path) -> None:
    fast, slow = kept_dataset("fast", FAST), kept_dataset("slow", Keeping(KEEP_S, 60.0))
    async with keeping(tmp_path, fast, slow, kept_dataset("never", None)) as rig:
        beats = Beats(rig)
        async with beats.recording(datasets=2):
            await beats.advance(60)
            assert [samples(rig, name=f"lab.{name}") for name in ("fast", "slow", "never")] == [7, 2, 0]


async def test_first_samples_are_spread_over_the_interval(tmp_path: Path) -> None:
    async with keeping(tmp_path, kept_dataset(keeping=FAST)) as rig:
        beats = Beats(rig)
        async with beats.recording(jitter=lambda: 0.5):
            await beats.advance(4.9)
            assert samples(rig) == 0
            await beats.advance(0.2)
            assert samples(rig) == 1


async def test_what_came_between_two_samples_is_recorded_once(tmp_path: Path) -> None:
    async with keeping(tmp_path, kept_dataset(keeping=FAST), passed_s=100) as rig:
        moving(rig)
        beats = Beats(rig)
        async with beats.recording():
            await beats.advance(30)
        assert rig.counted("bridge_history_rows_total", dataset="lab.runs") == 40
        assert rig.history().status().rows == 40


async def test_only_the_last_stretch_is_asked_for_where_a_window_is_given(tmp_path: Path) -> None:
    async with keeping(tmp_path, kept_dataset(keeping=Keeping(KEEP_S, 10.0, 300.0)), passed_s=1_000) as rig:
        rig.source().pushes = frozenset({"span"})
        beats = Beats(rig)
        async with beats.recording():
            await beats.advance(0)
        assert rig.source().asked[0].span == span(700, 1_000)


async def test_what_a_hang_made_it_miss_is_not_made_up_for(tmp_path: Path) -> None:
    async with keeping(tmp_path, kept_dataset(keeping=FAST), passed_s=100) as rig:

        async def hanging(query: Query) -> object:
            rig.clock.advance(25 if len(rig.source().asked) == 2 else 0)
            asked.append(rig.clock.passed_s)
            return frame_of()

        asked: list[float] = []
        rig.source().always = hanging
        beats = Beats(rig)
        async with beats.recording():
            await beats.advance(60)
        # The second began at 110 and ended at 135; from then on it is sampled at the beat it had.
        assert asked == [100, 135, 140, 150, 160]


async def test_a_stale_answer_is_not_recorded_as_if_it_were_said_again(tmp_path: Path) -> None:
    async with keeping(tmp_path, kept_dataset(columns=STATE, keeping=Keeping(1_000, 10.0))) as rig:
        rig.source().data = frame_of([("a", 1.0)], STATE)
        beats = Beats(rig)
        async with beats.recording():
            await beats.advance(0)
            rig.source().always = DOWN
            await beats.advance(500)
        assert samples(rig, "upstream_unavailable") + samples(rig, "breaker_open") == 50
        assert rig.history().view.seq == 0
        last_at = rig.history().view.last_at
        assert last_at is not None
        assert last_at.timestamp() == rig.clock.now().timestamp() - 500


async def test_an_answer_that_did_not_change_records_nothing(tmp_path: Path) -> None:
    async with keeping(tmp_path, kept_dataset(keeping=FAST)) as rig:
        beats = Beats(rig)
        async with beats.recording():
            await beats.advance(50)
        assert samples(rig) == 6
        assert (rig.history().view.seq, rig.history().status().rows) == (0, 3)


@pytest.mark.parametrize("refresh_s", [0, 25])
async def test_with_a_time_of_sampling_every_sample_is_a_row_of_its_own(tmp_path: Path, refresh_s: float) -> None:
    """Also where the answer is a kept one, which is older than the sample."""
    held = Keeping(KEEP_S, 10.0, time="at")
    async with keeping(tmp_path, kept_dataset(columns=STATE, keeping=held, refresh_s=refresh_s)) as rig:
        rig.source().data = frame_of([("a", 1.0)], STATE)
        beats = Beats(rig)
        async with beats.recording():
            await beats.advance(40)
        assert len(rig.source().asked) == (2 if refresh_s else 5)
        found = await rig.desk.rows(Query("lab.runs", span=span(-1, 41)))
        seconds = [row[0].timestamp() - rig.clock.now().timestamp() + 40 for row in told(found)]
        assert seconds == [0, 10, 20, 30, 40]


async def test_a_sample_without_rows_is_no_row(tmp_path: Path) -> None:
    async with keeping(tmp_path, kept_dataset(columns=STATE, keeping=Keeping(KEEP_S, 10.0, time="at"))) as rig:
        rig.source().data = frame_of([], STATE)
        beats = Beats(rig)
        async with beats.recording():
            await beats.advance(20)
        assert (samples(rig), rig.history().status().rows) == (3, 0)


async def test_a_dataset_that_fails_stops_no_other(tmp_path: Path) -> None:
    async with keeping(tmp_path, kept_dataset("bad", FAST), kept_dataset("good", FAST)) as rig:

        async def collect(query: Query) -> object:
            if query.dataset == "lab.bad":
                raise faults[[each.dataset for each in rig.source().asked].count("lab.bad") - 1]
            return frame_of()

        faults = [DOWN, RuntimeError("no such thing"), MemoryError()]
        rig.source().always = collect
        beats = Beats(rig)
        async with beats.recording(datasets=2):
            await beats.advance(20)
            assert samples(rig, name="lab.good") == 3
            assert samples(rig, "upstream_unavailable", "lab.bad") == 1
            assert samples(rig, "plugin_failed", "lab.bad") == 2
            rig.source().always = None
            await beats.advance(10)
            assert samples(rig, name="lab.bad") == 1


async def test_a_fault_inside_bridge_is_counted_and_the_next_sample_is_taken(tmp_path: Path) -> None:
    class Broken(ManualClock):
        def now(self) -> datetime:
            if not 9 < rig.clock.passed_s < 11:
                return rig.clock.now()
            raise RuntimeError("no such thing")

        def monotonic_s(self) -> float:
            return rig.clock.monotonic_s()

    async with keeping(tmp_path, kept_dataset(keeping=FAST)) as rig:
        beats = Beats(rig)
        async with beats.recording(clock=Broken()):
            await beats.advance(20)
        assert (samples(rig), samples(rig, "internal")) == (2, 1)


async def test_samples_are_moved_on_while_the_source_is_down(tmp_path: Path) -> None:
    async with keeping(tmp_path, kept_dataset(keeping=FAST)) as rig:
        beats = Beats(rig)
        async with beats.recording():
            await beats.advance(0)
            assert rig.history().status().pending_rows == 3
            rig.source().always = DOWN
            await rig.desk.invalidate("*")
            await beats.advance(70)
        assert samples(rig) == 1
        assert (rig.history().status().pending_rows, rig.history().status().files) == (0, 1)


async def test_upkeep_that_fails_is_said_and_ends_nothing(tmp_path: Path) -> None:
    async with keeping(tmp_path, kept_dataset(keeping=FAST)) as rig:
        beats = Beats(rig)
        async with beats.recording():
            await beats.advance(50)
            # In the place of the table's folder.
            (tmp_path / "history" / "lab.runs" / "g1").write_text("")
            await beats.advance(20)
            assert (samples(rig), samples(rig, "store_failed")) == (7, 1)
            assert rig.history().status().pending_rows == 3
            error = rig.keeper().status().history_error
            assert error is not None
            assert "lab.runs" in error


async def test_a_history_that_is_closed_is_said_with_each_sample(tmp_path: Path) -> None:
    async with keeping(tmp_path, kept_dataset(keeping=FAST)) as rig:
        rig.history().closed = StoreError("written by a newer version")
        beats = Beats(rig)
        async with beats.recording():
            await beats.advance(20)
        assert samples(rig, "store_failed") == 3


async def test_while_one_house_follows_another_only_one_of_them_samples(tmp_path: Path) -> None:
    """And where the new one ends again, as when a part of it cannot start, the old one goes on."""
    async with keeping(tmp_path, kept_dataset(columns=STATE, keeping=Keeping(KEEP_S, 10.0, time="at"))) as rig:
        rig.source().data = frame_of([("a", 1.0)], STATE)
        beats = Beats(rig)
        async with beats.recording():
            await beats.advance(5)
            async with beats.recording():
                await beats.advance(20)
                # At 0 by the first, at 5, 15 and 25 by the second, whose beat that is.
                assert (samples(rig), rig.history().status().rows) == (4, 4)
            assert rig.history().sampler is None
            await beats.advance(20)
            assert (samples(rig), rig.history().status().rows) == (6, 6)
        assert rig.history().sampler is None


async def test_without_histories_there_is_nothing_to_do(tmp_path: Path) -> None:
    async with keeping(tmp_path, kept_dataset(keeping=None)) as rig:
        await Recorder(rig.desk, rig.clock, rig.meters, jitter=lambda: 0.0).run()
