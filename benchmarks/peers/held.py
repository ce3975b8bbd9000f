"""The points both peers hold."""

from __future__ import annotations

import numpy as np
import pandas as pd


def frame(path: str) -> pd.DataFrame:
    """`time` (UTC) and `value`, from numpy's own format: how fast a file is read is not compared here."""
    with np.load(path) as stored:
        time = pd.to_datetime(stored["time_ms"], unit="ms", utc=True)
        return pd.DataFrame({"time": time, "value": stored["value"]})
