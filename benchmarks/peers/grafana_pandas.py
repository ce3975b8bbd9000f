"""grafana-pandas-datasource as its documentation starts it, over a frame that stays in memory.

Runs in a virtual environment of its own: `python grafana_pandas.py POINTS.npz`.
"""

from __future__ import annotations

import sys
from typing import Any

import pandas as pd
from grafana_pandas_datasource import create_app
from grafana_pandas_datasource.registry import data_generators
from grafana_pandas_datasource.service import pandas_component
from held import frame

FRAME = frame(sys.argv[1]).set_index("time")


def points(_: str, ts_range: dict[str, Any]) -> pd.DataFrame:
    """The rows of the asked range, which the package leaves to whoever registers a reader."""
    return FRAME.loc[ts_range["$gt"] : ts_range["$lte"]]


if __name__ == "__main__":
    data_generators.add_metric_reader("points", points)
    app = create_app()
    app.register_blueprint(pandas_component, url_prefix="/")
    # Flask's own server, as documented; without the documented debugger, which would only add work.
    app.run(host="127.0.0.1", port=0)
