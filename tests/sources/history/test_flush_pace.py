"""How often samples move from the segment into the table."""

from __future__ import annotations

from pathlib import Path

import pytest
from past_rig import KEEP_S, keeping, kept_dataset

from bridge.model.query import Query
from bridge.sources.registry import Keeping
from support import frame_of


@pytest.mark.parametrize(("given", "flush_s"), [({}, 60.0), ({"flush_s": 5.0}, 5.0)], ids=["unset", "5 s"])
async def test_samples_move_on_once_in_flush_s_a_minute_when_unset(
    tmp_path: Path, given: dict[str, float], flush_s: float
) -> None:
    """Counted from the start, and then from the last move."""
    async with keeping(tmp_path, kept_dataset(keeping=Keeping(KEEP_S, 1.0, **given))) as rig:
        history, files = rig.history(), []
        for number, pause_s in enumerate((flush_s - 0.5, 0.5, flush_s - 0.5, 0.5)):
            rig.source().data = frame_of([(number, 0.1, "svm")])
            rig.clock.advance(pause_s)
            await history.record(await rig.desk.fetched(Query("lab.runs")))
            await history.tend()
            files.append(len(history.view.files))
    assert files == [0, 1, 1, 2]
