"""A dataset's URL answers every client in the format it asks for, whole, typed and with what must be said of it."""

from __future__ import annotations

import base64
import csv
import gzip
import io
import json
from typing import Any

import polars as pl
import pytest

from servers.far import far, js
from servers.house import FILES, START, SYSTEM, YAML, House, Reply, Start, go_query, ms, runs

RUNS = "/api/v1/datasets/lab.runs"
FORMATS = ("rows", "page", "frame", "csv", "ndjson", "arrow")


async def rows(bridge: House, params: Any = None, name: str = "lab.runs") -> list[dict[str, Any]]:
    reply = await bridge.get(f"/api/v1/datasets/{name}", params)
    assert reply.status == 200, reply.text
    found: list[dict[str, Any]] = reply.json
    return found


def said(reply: Reply) -> list[str]:
    return [notice["text"] for notice in json.loads(reply.headers.get("X-Bridge-Notices", "[]"))]


async def test_rows_are_a_bare_array_in_time_order(bridge: House) -> None:
    reply = await bridge.get(RUNS)
    assert reply.headers["Content-Type"] == "application/json"
    assert reply.json == runs()


async def test_a_page_has_rows_and_an_empty_cursor_at_its_end(bridge: House) -> None:
    reply = await bridge.get(RUNS, {"format": "page"})
    assert reply.json == {"rows": runs(), "next_cursor": "", "stale": False, "notices": []}


async def test_frames_have_the_ref_id_and_shape_asked_for(bridge: House) -> None:
    found = (await bridge.get(RUNS, {"format": "frame", "refId": "Q"})).json
    assert len(found) == 12
    assert {frame["schema"]["refId"] for frame in found} == {"Q"}
    assert found[0]["schema"]["meta"]["type"] == "timeseries-multi"
    [table] = (await bridge.get(RUNS, {"format": "frame", "shape": "table", "limit": 2})).json
    assert table["schema"]["refId"] == "A"
    assert [len(values) for values in table["data"]["values"]] == [2] * 6


async def test_csv_has_a_header_crlf_and_iso_times(bridge: House) -> None:
    reply = await bridge.get(RUNS, {"format": "csv", "limit": "1"})
    assert reply.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert reply.text == ("time,model,size,accuracy,loss,note\r\n2026-01-31T10:00:00.000Z,svm,10.0,0.5,1.0,run 0\r\n")


async def test_ndjson_is_one_row_a_line(bridge: House) -> None:
    reply = await bridge.get(RUNS, {"format": "ndjson"})
    assert reply.headers["Content-Type"] == "application/x-ndjson"
    assert [json.loads(line) for line in reply.text.splitlines()] == runs()


async def test_arrow_is_read_back_by_polars_with_its_types(bridge: House) -> None:
    reply = await bridge.get(RUNS, {"format": "arrow"})
    assert reply.headers["Content-Type"] == "application/vnd.apache.arrow.stream"
    found = pl.read_ipc_stream(io.BytesIO(reply.body))
    assert found.schema["time"] == pl.Datetime("us", "UTC")
    assert found["time"].dt.epoch("ms").to_list() == [row["time"] for row in runs()]
    assert found.drop("time").to_dicts() == [{k: v for k, v in row.items() if k != "time"} for row in runs()]


@pytest.mark.parametrize(
    ("params", "count"),
    [
        ({"from": ms(START), "to": ms(START) + 1_200_000}, 2),
        ({"from": ms(START) // 1000, "to": ms(START) // 1000 + 1200}, 2),
        ({"from": "2026-01-31T10:00:00Z", "to": "2026-01-31T10:20:00+00:00"}, 2),
        ({"from": "2026-01-31T11:00:00+01:00", "to": "2026-01-31T10:20:00"}, 2),
        ({"to": "2026-01-31T10:20:00Z"}, 2),
        ({"from": "2026-01-31T11:40:00Z"}, 2),
        ({"from": "", "to": " "}, 12),
        ({"filter": "model=svm"}, 4),
        ({"filter": "model!=svm"}, 8),
        ({"filter": "model=~s.*"}, 4),
        ({"filter": "model!~s.*"}, 8),
        ({"filter": "accuracy>0.8"}, 1),
        ({"filter": "accuracy>=0.8"}, 2),
        ({"filter": "accuracy<0.53"}, 1),
        ({"filter": "accuracy<=0.53"}, 2),
        ([("filter", "model=svm"), ("filter", "size=10")], 2),
        ({"filter": ""}, 12),
        ({"model": "svm"}, 4),
        ({"model": "{svm,mlp}"}, 8),
        ([("model", "svm"), ("model", "mlp")], 8),
        ({"model": "svm,mlp", "size": "10,20"}, 8),
        ({"model": "$__all"}, 12),
        ({"note": "run 3"}, 1),
        ({"limit": 5}, 5),
        ({"limit": "1e9"}, 12),
        ({"fresh": "1"}, 12),
        ({"fresh": "0", "on_error": "frame", "shape": "table"}, 12),
    ],
)
async def test_parameters_choose_the_rows(bridge: House, params: Any, count: int) -> None:
    assert len(await rows(bridge, params)) == count


async def test_columns_are_kept_with_the_time(bridge: House) -> None:
    assert (await rows(bridge, {"columns": "accuracy,note", "limit": 1})) == [
        {"time": ms(START), "accuracy": 0.5, "note": "run 0"}
    ]
    assert list((await rows(bridge, [("columns", "loss"), ("columns", "accuracy")]))[0]) == [
        "time",
        "loss",
        "accuracy",
    ]


@pytest.mark.parametrize(
    ("params", "count"),
    [
        ({"max_points": 3, "series": "none", "columns": "accuracy", "agg": "max"}, 3),
        ({"step": "40m", "series": "none", "from": ms(START), "to": ms(START) + 7_200_000, "agg": "max"}, 3),
        ({"step": "2400000", "series": "none", "from": ms(START), "to": ms(START) + 7_200_000, "agg": "max"}, 3),
        ({"step": "1h", "series": "none", "from": ms(START), "agg": "mean"}, 2),
        ({"step": "1w", "series": "none", "from": ms(START), "agg": "mean"}, 1),
        # Without a start the step says nothing about the number of points.
        ({"step": "1h"}, 12),
        ({"max_points": "inf", "series": "none"}, 12),
        ({"max_points": 1000000000, "series": "none"}, 12),
    ],
)
async def test_points_are_thinned_to_what_was_asked(bridge: House, params: Any, count: int) -> None:
    assert len(await rows(bridge, params)) == count


async def test_joining_by_mean_gives_means(bridge: House) -> None:
    asked = {"step": "1h", "series": "none", "columns": "accuracy", "agg": "mean", "from": ms(START)}
    found = await rows(bridge, {**asked, "to": ms(START) + 7_200_000})
    assert [round(row["accuracy"], 9) for row in found] == [0.575, 0.755]


async def test_series_choose_what_stays_apart(bridge: House) -> None:
    found = await rows(bridge, {"series": "model", "max_points": 2, "columns": "accuracy", "agg": "max"})
    assert {row["model"] for row in found} == {"svm", "mlp", "knn"}
    assert all(list(row) == ["time", "model", "accuracy"] for row in found)


async def test_points_left_out_are_said_in_a_header(bridge: House) -> None:
    reply = await bridge.get(RUNS, {"max_points": 3, "series": "none", "columns": "accuracy"})
    assert "points were left out" in said(reply)[0]


@pytest.mark.parametrize(
    ("params", "text", "remedy"),
    [
        ({"modle": "svm"}, "no parameter or column `modle`", "did you mean `model`?"),
        ({"start": "1"}, "`start`", "did you mean `from`?"),
        ({"maxDataPoints": "1"}, "`maxDataPoints`", "did you mean `max_points`?"),
        ({"qqqq": "1"}, "`qqqq`", "/api/v1/datasets/lab.runs/schema"),
        ({"time": "1"}, "`time`", ""),
        ([("format", "csv"), ("format", "rows")], "`format` is given 2 times", "once"),
        ([("limit", "1"), ("limit", "2")], "`limit` is given 2 times", ""),
        ({"format": "xml"}, "`format` cannot be 'xml'", "rows, page, frame, csv, ndjson, arrow"),
        ({"shape": "pie"}, "`shape` cannot be 'pie'", "timeseries"),
        ({"agg": "median"}, "`agg` cannot be 'median'", "mean"),
        ({"fresh": "yes"}, "`fresh` cannot be 'yes'", "1"),
        ({"on_error": "row"}, "`on_error` cannot be 'row'", "frame"),
        ({"step": "soon"}, "`step` cannot be 'soon'", "30s"),
        ({"step": "0s"}, "`step` cannot be '0s'", ""),
        ({"step": "9" * 400}, "`step` cannot be", ""),
        ({"max_points": "0"}, "`max_points` must be at least 1", ""),
        ({"max_points": "-3"}, "`max_points` must be at least 1", ""),
        ({"max_points": "nan"}, "`max_points` must be at least 1", ""),
        ({"limit": "0.5"}, "`limit` must be at least 1", ""),
        ({"limit": "many"}, "`limit` is a number", ""),
        ({"from": "tomorrow"}, "`from` is not a time", "ISO 8601"),
        ({"from": "2", "to": "1"}, "empty or reversed", ""),
        ({"to": "1e999"}, "`to`", ""),
        ({"filter": "model"}, "cannot read the filter", "column<op>value"),
        ({"filter": "nope=1"}, "`nope`", "the columns are"),
        ({"filter": "accuracy>x"}, "`accuracy` is a number", ""),
        ({"filter": "model=~("}, "does not compile", ""),
        ({"columns": "nope"}, "`nope`", "its columns are"),
        ({"series": "nope", "max_points": "5"}, "`nope`", ""),
        ({"cursor": "x"}, "`cursor` goes with `format=page`", ""),
        ([("filter", "model=x")] * 101, "101 filters", ""),
        ({"model": "{" + ",".join(map(str, range(1001))) + "}"}, "more than 1000 values", ""),
    ],
)
async def test_a_parameter_that_is_wrong_is_named(bridge: House, params: Any, text: str, remedy: str) -> None:
    reply = await bridge.get(RUNS, params)
    assert reply.status == 400, reply.text
    assert text in reply.json["error"]
    assert remedy in reply.json["remedy"]


@pytest.mark.parametrize("key", ["step", "max_points", "from", "to", "limit", "agg", "refId", "shape", "fresh"])
@pytest.mark.parametrize("macro", ["$__interval_ms", "${__timeFrom}", "${__from:date:iso}"])
async def test_a_macro_grafana_left_unfilled_says_nothing_and_is_noted(bridge: House, key: str, macro: str) -> None:
    reply = await bridge.get(RUNS, {key: macro})
    assert reply.json == runs()
    assert f"`{key}` holds the macro {macro}" in said(reply)[0]
    [frame, *_] = (await bridge.get(RUNS, {key: macro, "format": "frame"})).json
    assert "holds the macro" in frame["schema"]["meta"]["notices"][0]["text"]


async def test_notices_are_ascii_json_of_a_size_every_client_reads(bridge: House) -> None:
    for odd in ("é\u2026\U0001f600", "\x7f\x01\r\nX-Evil: 1", "\U0001f600" * 40):
        reply = await bridge.get(RUNS, [("from", "$__" + odd), ("to", "$__" + odd), ("step", "$__" + odd)])
        assert reply.status == 200, reply.text
        assert "X-Evil" not in reply.headers
        header = reply.headers["X-Bridge-Notices"]
        assert header.isascii()
        assert header.isprintable()
        assert len(header) <= 4_000
        assert ("$__" + odd).strip()[:40] in said(reply)[0]


async def test_notices_that_do_not_fit_are_left_out(bridge: House) -> None:
    odd = "$__" + "\U0001f600" * 60
    keys = ("from", "to", "step", "limit", "agg", "refId", "shape", "fresh")
    reply = await bridge.get(RUNS, [(key, odd) for key in keys])
    assert 1 < len(said(reply)) < len(keys)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(
    ("name", "params", "code"),
    [
        ("lab.nope", {}, "unknown_dataset"),
        ("lab.runs", {"filter": 'model=~"é, ('}, "bad_query"),
        ("lab.runs", {"max_points": "0"}, "bad_query"),
        ("lab.runs", {"nope": "1"}, "bad_query"),
        ("lab.missing", {}, "data_missing"),
    ],
)
async def test_on_error_frame_gives_every_error_as_data(
    bridge: House, form: str, name: str, params: dict[str, str], code: str
) -> None:
    asked = {**params, "format": form, "on_error": "frame", "refId": "Q"}
    reply = await bridge.get(f"/api/v1/datasets/{name}", asked)
    assert reply.status == 200
    assert reply.headers["Cache-Control"] == "no-store"
    if form == "frame":
        [frame] = reply.json
        assert frame["schema"]["refId"] == "Q"
        assert frame["schema"]["meta"]["custom"]["error"] == code
        assert frame["schema"]["meta"]["notices"][0]["severity"] == "error"
        return
    row = error_row(reply, form)
    assert row["code"] == code
    assert row["error"]
    assert row["request_id"] == reply.headers["X-Request-Id"]
    assert set(row) == {"error", "code", "remedy", "request_id"}


def error_row(reply: Reply, form: str) -> dict[str, Any]:
    if form == "csv":
        found = list(csv.DictReader(io.StringIO(reply.text)))
    elif form == "ndjson":
        found = [json.loads(line) for line in reply.text.splitlines()]
    elif form == "arrow":
        found = pl.read_ipc_stream(io.BytesIO(reply.body)).to_dicts()
    elif form == "page":
        assert reply.json["next_cursor"] == ""
        found = reply.json["rows"]
    else:
        found = reply.json
    [row] = found
    return row


async def test_on_error_frame_knows_no_format_that_is_wrong(bridge: House) -> None:
    reply = await bridge.get(RUNS, {"format": "xml", "on_error": "frame"})
    assert reply.status == 200
    assert "xml" in reply.json[0]["error"]


async def test_without_on_error_the_status_says_it(bridge: House) -> None:
    assert (await bridge.get("/api/v1/datasets/lab.nope")).status == 404
    assert (await bridge.get("/api/v1/datasets/lab.missing")).status == 502


async def test_an_empty_result_is_typed(bridge: House) -> None:
    assert await rows(bridge, name="lab.empty") == []
    assert await rows(bridge, {"model": "nobody"}) == []
    page = (await bridge.get(RUNS, {"model": "nobody", "format": "page"})).json
    assert page == {"rows": [], "next_cursor": "", "stale": False, "notices": []}
    text = (await bridge.get(RUNS, {"model": "nobody", "format": "csv"})).text
    assert text == "time,model,size,accuracy,loss,note\r\n"
    arrow = (await bridge.get("/api/v1/datasets/lab.empty", {"format": "arrow"})).body
    assert pl.read_ipc_stream(io.BytesIO(arrow)).schema["accuracy"] == pl.Float64
    [frame] = (await bridge.get("/api/v1/datasets/lab.empty", {"format": "frame"})).json
    assert [field["type"] for field in frame["schema"]["fields"]] == ["time", "number"]


async def test_a_post_takes_the_parameters_as_json_or_form(bridge: House) -> None:
    body = {
        "model": ["svm", "mlp"],
        "size": 10,
        "limit": 3,
        "from": ms(START),
        "filter": ["accuracy>0.5"],
        "to": None,
    }
    wanted = [row for row in runs() if row["model"] != "knn" and row["size"] == 10 and row["accuracy"] > 0.5][:3]
    for content_type in ("application/json", "text/plain"):
        reply = await bridge.post(RUNS, body, headers={"Content-Type": content_type})
        assert reply.json == wanted
    form = go_query([("model", "svm"), ("model", "mlp"), ("size", "10"), ("limit", "3"), ("filter", "accuracy>0.5")])
    reply = await bridge.post(
        RUNS, form.encode(), headers={"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}
    )
    assert reply.json == wanted
    assert (await bridge.post(f"{RUNS}?limit=2", {"model": "svm"})).json == [
        r for r in runs() if r["model"] == "svm"
    ][:2]
    assert len((await bridge.post(RUNS)).json) == 12


@pytest.mark.parametrize(
    ("body", "content_type", "status", "text"),
    [
        (b"--x\r\n", "multipart/form-data; boundary=x", 415, "multipart"),
        (b"hello 1795347206419", "text/plain", 400, "not valid JSON"),
        (b"[1]", "application/json", 400, "must be a JSON object"),
        (b'{"filter": {"a": 1}}', "application/json", 400, "`filter` must be a value"),
        (b'{"filter": [["a"]]}', "application/json", 400, "`filter` must be a value"),
        (b'{"query": "{ items { id } }", "variables": {"x": 1}}', "application/json", 400, "`variables`"),
        (b"model=%ff", "application/x-www-form-urlencoded", 400, "the form is not UTF-8"),
        (b"model=\xff", "application/x-www-form-urlencoded", 400, "the form is not UTF-8"),
        (b"a=1&" * 2001, "application/x-www-form-urlencoded", 400, "more than 2000 parameters"),
        (b'{"model": [' + b"1," * 2001 + b"1]}", "application/json", 400, "more than 2000 parameters"),
    ],
)
async def test_a_post_that_cannot_be_read_says_why(
    bridge: House, body: bytes, content_type: str, status: int, text: str
) -> None:
    reply = await bridge.post(RUNS, body, headers={"Content-Type": content_type})
    assert reply.status == status
    assert text in reply.json["error"]


async def test_a_client_that_has_the_answer_is_told_so(bridge: House) -> None:
    first = await bridge.get(RUNS)
    tag = first.headers["ETag"]
    for sent in (tag, f'"other", {tag}', "*"):
        again = await bridge.get(RUNS, headers={"If-None-Match": sent})
        assert (again.status, again.body) == (304, b"")
        assert again.headers["ETag"] == tag
        assert again.headers["Cache-Control"] == first.headers["Cache-Control"]
    assert (await bridge.get(RUNS, headers={"If-None-Match": tag[:-2] + '"'})).status == 200
    assert (await bridge.post(RUNS, headers={"If-None-Match": tag})).status == 200
    assert (await bridge.get(RUNS, method="HEAD", headers={"If-None-Match": tag})).status == 304
    write(bridge, "runs.csv", FILES["runs.csv"].replace("run 0", "run x"))
    bridge.clock.passed_s += 6
    assert (await bridge.get(RUNS, headers={"If-None-Match": tag})).status == 200


def write(bridge: House, name: str, text: str) -> None:
    """Puts another file in place, as a whole."""
    new = bridge.folder / (name + ".new")
    new.write_text(text, encoding="utf-8")
    new.replace(bridge.folder / name)


async def test_answers_may_be_kept_as_long_as_they_are_fresh(bridge: House) -> None:
    first = await bridge.get(RUNS)
    assert first.headers["Cache-Control"] == "private, max-age=5"
    bridge.clock.passed_s += 2.5
    assert (await bridge.get(RUNS)).headers["Cache-Control"] == "private, max-age=2"
    bridge.clock.passed_s += 2.6
    assert (await bridge.get(RUNS)).headers["Cache-Control"] == "private, max-age=5"


async def test_fresh_asks_the_source_before_the_answer_is_old(bridge: House) -> None:
    assert await rows(bridge) == runs()
    write(bridge, "runs.csv", FILES["runs.csv"].replace("run 0", "run x"))
    bridge.clock.passed_s += 2
    assert (await rows(bridge))[0]["note"] == "run 0"
    assert (await rows(bridge, {"fresh": "1"}))[0]["note"] == "run x"


@pytest.mark.parametrize(
    ("accept", "packed"),
    [
        ("gzip", True),
        ("GZIP, br", True),
        ("br, gzip;q=0.5", True),
        ("*", True),
        ("*;q=0, gzip", True),
        ("gzip;q=0", False),
        ("gzip; q=0.000, *", False),
        ("gzip;q=0,identity", False),
        ("br", False),
        ("identity", False),
        ("", False),
    ],
)
async def test_gzip_is_for_those_who_take_it(bridge: House, accept: str, packed: bool) -> None:
    reply = await bridge.get(RUNS, {"format": "frame"}, headers={"Accept-Encoding": accept})
    assert reply.headers["Vary"] == "Accept-Encoding"
    assert reply.headers.get("Content-Encoding") == ("gzip" if packed else None)
    body = gzip.decompress(reply.body) if packed else reply.body
    assert len(json.loads(body)) == 12


async def test_a_large_answer_is_packed_all_the_same(start: Start) -> None:
    bridge = await start(files=many(30_000))
    reply = await bridge.get(RUNS, {"format": "csv"}, headers={"Accept-Encoding": "gzip"})
    assert gzip.decompress(reply.body).count(b"\n") == 30_001
    small = await bridge.get(RUNS, {"limit": 1}, headers={"Accept-Encoding": "gzip"})
    assert "Content-Encoding" not in small.headers


def many(count: int) -> dict[str, str]:
    """So many runs, a second apart, two of them at each instant."""
    first = "time,model,size,accuracy,loss,note"
    lines = (
        f"{ms(START) + index // 2 * 1000},m{index % 7},{index % 3},0.5,{index},n{index}" for index in range(count)
    )
    return {**FILES, "runs.csv": "\n".join([first, *lines]) + "\n"}


async def pages(bridge: House, params: dict[str, Any]) -> list[list[dict[str, Any]]]:
    """Every page, as a client that follows cursors gets them."""
    found, cursor = [], ""
    while True:
        sent = {"format": "page", **params, **({"cursor": cursor} if cursor else {})}
        reply = await bridge.get(RUNS, sent)
        assert reply.status == 200, reply.text
        found.append(reply.json["rows"])
        cursor = reply.json["next_cursor"]
        assert isinstance(cursor, str)
        if not cursor:
            return found
        # The source has new data, and the cache's answer is old.
        write(bridge, "runs.csv", "time,model,size,accuracy,loss,note\n1,x,1,1,1,x\n")
        bridge.clock.passed_s += 6


@pytest.mark.parametrize(("limit", "sizes"), [(5, [5, 5, 2]), (6, [6, 6]), (12, [12]), (13, [12]), (1, [1] * 12)])
async def test_pages_hold_every_row_once_and_in_order_whatever_the_source_does(
    bridge: House, limit: int, sizes: list[int]
) -> None:
    found = await pages(bridge, {"limit": limit})
    assert [len(page) for page in found] == sizes
    assert [row for page in found for row in page] == runs()
    assert {tuple(row) for page in found for row in page} == {tuple(runs()[0])}


async def test_pages_keep_filters_columns_and_notices(bridge: House) -> None:
    found = await pages(bridge, {"limit": 3, "model": "svm", "columns": "accuracy"})
    assert [row["accuracy"] for page in found for row in page] == [0.5, 0.59, 0.68, 0.77]
    assert all(list(row) == ["time", "accuracy"] for page in found for row in page)


async def test_a_page_without_a_limit_has_a_thousand_rows_and_never_more_than_the_cap(start: Start) -> None:
    bridge = await start(files=many(60_000))
    first = (await bridge.get(RUNS, {"format": "page"})).json
    assert len(first["rows"]) == 1000
    second = (await bridge.get(RUNS, {"format": "page", "limit": 59_000, "cursor": first["next_cursor"]})).json
    assert [row["loss"] for row in second["rows"]] == [float(number) for number in range(1000, 51_000)]
    third = (await bridge.get(RUNS, {"format": "page", "limit": 59_000, "cursor": second["next_cursor"]})).json
    assert len(third["rows"]) == 9_000
    assert third["next_cursor"] == ""


async def cursor(bridge: House) -> str:
    found: str = (await bridge.get(RUNS, {"format": "page", "limit": 5})).json["next_cursor"]
    return found


async def test_an_expired_cursor_says_how_to_go_on(bridge: House) -> None:
    old = await cursor(bridge)
    bridge.clock.passed_s += 121
    reply = await bridge.get(RUNS, {"format": "page", "cursor": old})
    assert reply.status == 400
    assert reply.json["code"] == "cursor_expired"
    assert "start again without `cursor`" in reply.json["remedy"]


async def test_a_cursor_goes_with_the_cache(bridge: House) -> None:
    old = await cursor(bridge)
    await bridge.get("/api/v1/cache", {"pattern": "*"}, method="DELETE")
    assert (await bridge.get(RUNS, {"format": "page", "cursor": old})).json["code"] == "cursor_expired"


async def test_a_forged_or_foreign_cursor_is_refused(bridge: House) -> None:
    good = await cursor(bridge)
    offset, _, key = base64.urlsafe_b64decode(good + "=" * (-len(good) % 4)).decode().partition(".")
    assert offset == "5"

    def made(text: str) -> str:
        return base64.urlsafe_b64encode(text.encode()).decode()

    bad = ["x", "....", "é", "=", "A" * 5000, "none", made("5"), made(f"-1.{key}"), made(f"0.{key}")]
    bad += [made(f"12.{key}"), made(f"9999.{key}"), made(f"٣.{key}"), made(f"{'9' * 13}.{key}"), made("\x00")]
    for text in bad:
        reply = await bridge.get(RUNS, {"format": "page", "cursor": text})
        assert reply.status == 400, text
        assert reply.json["code"] == "bad_query", text
    gone = await bridge.get(RUNS, {"format": "page", "cursor": made("5.lab.runs|x")})
    assert gone.json["code"] == "cursor_expired"
    other = await bridge.get("/api/v1/datasets/lab.events", {"format": "page", "cursor": good})
    assert other.status == 400
    assert other.json["code"] == "bad_query"


async def test_pages_are_refused_where_nothing_can_be_kept(start: Start) -> None:
    bridge = await start("limits: {cache_bytes: 0}\n" + YAML)
    assert len((await bridge.get(RUNS, {"format": "page", "limit": 12})).json["rows"]) == 12
    reply = await bridge.get(RUNS, {"format": "page", "limit": 5})
    assert reply.status == 422
    assert "limits.cache_bytes" in reply.json["remedy"]


async def test_an_answer_over_the_limit_on_bytes_is_refused(start: Start) -> None:
    bridge = await start("limits: {answer_bytes: 300}\n" + YAML)
    for form in FORMATS:
        reply = await bridge.get(RUNS, {"format": form})
        assert reply.status == 422, form
        # Before it is written, as its size can be told beforehand.
        assert "about" in reply.json["error"]
        assert "bytes, more than the 300 allowed" in reply.json["error"]
        assert "columns" in reply.json["remedy"]
    assert (await bridge.get(RUNS, {"limit": 2})).status == 200
    # Twice as much is allowed as an estimate, but not to be sent.
    reply = await bridge.get(RUNS, {"limit": 8, "columns": "note"})
    assert reply.status == 422
    assert "about" not in reply.json["error"]
    reply = await bridge.post("/json/query", {"targets": [{"target": "lab.runs"}]})
    assert reply.status == 422


@pytest.mark.parametrize("name", ["runs", "empty", "guessed", "events", "lines", "nodes", "edges", "choices"])
async def test_the_schema_tells_what_the_rows_have(bridge: House, name: str) -> None:
    found = (await bridge.get(f"/api/v1/datasets/lab.{name}/schema")).json
    first = await rows(bridge, name=f"lab.{name}")
    assert found["name"] == f"lab.{name}"
    assert found["fingerprint"]
    assert found["version"] == 1
    if first:
        assert [column["name"] for column in found["columns"]] == list(first[0])


async def test_the_schema_has_units_roles_and_parameters(bridge: House) -> None:
    found = (await bridge.get(f"{RUNS}/schema")).json
    assert found["description"] == "Training runs."
    assert found["refresh_s"] == 5
    accuracy = found["columns"][3]
    assert accuracy == {
        "name": "accuracy",
        "type": "number",
        "unit": "percentunit",
        "role": "measure",
        "kind": "gauge",
        "description": "",
    }
    found = (await bridge.get("/api/v1/datasets/by_model/schema")).json
    assert found["name"] == "lab.by_model"
    assert found["params"][0] == {
        "name": "model_file",
        "description": "whose runs",
        "default": None,
        "options": [],
        "required": True,
        "multi": False,
    }
    assert [field["name"] for field in found["payloads"]][:2] == ["model_file", "mode"]


async def test_the_list_of_datasets_says_how_each_is_doing(bridge: House) -> None:
    await rows(bridge)
    await bridge.get("/api/v1/datasets/lab.missing")
    found = {item["name"]: item for item in (await bridge.get("/api/v1/datasets")).json["datasets"]}
    assert [name for name, item in found.items() if item["system"]] == SYSTEM
    assert len(found) == 10 + len(SYSTEM)
    assert found["lab.runs"]["state"] == "ok"
    assert found["lab.runs"]["rows"] == 12
    assert found["lab.runs"]["href"] == RUNS
    assert found["lab.events"]["state"] == "unknown"
    assert found["lab.guessed"]["columns"] is None
    assert found["lab.missing"]["state"] == "down"
    assert "none.csv" in found["lab.missing"]["error"]


@pytest.mark.parametrize("rest", ["", "/schema", "/infinity"])
async def test_an_unknown_dataset_is_404_everywhere(bridge: House, rest: str) -> None:
    reply = await bridge.get(f"/api/v1/datasets/lab.runz{rest}")
    assert reply.status == 404
    assert "lab.runs" in reply.json["remedy"]


async def test_one_that_fails_in_a_batch_leaves_the_others(bridge: House) -> None:
    queries = [
        {"dataset": "lab.runs", "ref_id": "A", "params": {"model": "svm", "shape": "table", "limit": 3}},
        {"dataset": "lab.nope", "ref_id": "B"},
        {"dataset": "lab.runs", "params": {"nope": 1}},
        {"dataset": "lab.missing", "ref_id": "D"},
        {"dataset": "lab.guessed", "params": {"from": "$__x"}},
        {"dataset": "lab.runs", "ref_id": "F", "params": {"format": "csv"}},
        {"dataset": "lab.runs", "ref_id": "G", "params": {"filter": {"a": 1}}},
    ]
    reply = await bridge.post("/api/v1/batch", {"queries": queries})
    assert reply.status == 200, reply.text
    found = reply.json["results"]
    assert {key: item["status"] for key, item in found.items()} == {
        "A": 200,
        "B": 404,
        "Q2": 400,
        "D": 502,
        "Q4": 200,
        "F": 400,
        "G": 400,
    }
    [frame] = found["A"]["frames"]
    assert frame["schema"]["refId"] == "A"
    assert frame["data"]["values"][1] == ["svm"] * 3
    assert found["B"]["code"] == "unknown_dataset"
    assert found["B"]["frames"] == []
    assert found["B"]["request_id"] == reply.headers["X-Request-Id"]
    assert "`format` has no meaning in a batch" in found["F"]["error"]
    assert "holds the macro" in found["Q4"]["frames"][0]["schema"]["meta"]["notices"][0]["text"]


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({}, "`queries`"),
        ({"queries": []}, "`queries`"),
        ({"queries": [{"dataset": "a"}] * 51}, "`queries`"),
        ({"queries": [{"dataset": 5}]}, "`queries.0.dataset`"),
        ({"queries": [{"dataset": "a", "odd": 1}]}, "`queries.0.odd`"),
        ({"queries": [{"dataset": "a", "ref_id": "Q1"}, {"dataset": "b"}]}, "same `ref_id`"),
        ([], "the body"),
    ],
)
async def test_a_batch_that_is_none_is_refused_with_the_place(bridge: House, body: Any, text: str) -> None:
    reply = await bridge.post("/api/v1/batch", body)
    assert reply.status == 400
    assert text in reply.json["error"]


async def test_the_rows_of_a_batch_are_bounded_together(start: Start) -> None:
    bridge = await start("limits: {rows: 20}\n" + YAML)
    one = {"dataset": "lab.runs", "params": {"shape": "table"}}
    assert (await bridge.post("/api/v1/batch", {"queries": [one]})).status == 200
    reply = await bridge.post("/api/v1/batch", {"queries": [one, one]})
    assert reply.status == 422
    limited = {"dataset": "lab.runs", "params": {"shape": "table", "limit": 8}}
    assert (await bridge.post("/api/v1/batch", {"queries": [limited, limited]})).status == 200


async def test_forgetting_makes_the_next_question_go_to_the_source(start: Start) -> None:
    async with far(lambda seen: js([{"host": "a", "n": len(seen.path)}])) as server:
        text = f"""
sources:
  - name: far
    kind: rest
    options: {{url: "{server.url}", allow_private: true}}
    datasets:
      - {{name: one, options: {{path: /one}}, refresh_s: 60, columns: [{{name: host, type: string}}]}}
      - {{name: two, options: {{path: /two}}, refresh_s: 60, columns: [{{name: host, type: string}}]}}
"""
        bridge = await start(text)
        for name in ("one", "two", "one"):
            assert await rows(bridge, name=f"far.{name}") == [{"host": "a"}]
        assert [seen.path for seen in server.seen] == ["/one", "/two"]
        reply = await bridge.get("/api/v1/cache", {"pattern": "far.o*"}, method="DELETE")
        assert reply.json == {"pattern": "far.o*", "removed": 1}
        for name in ("one", "two"):
            await rows(bridge, name=f"far.{name}")
        assert [seen.path for seen in server.seen] == ["/one", "/two", "/one"]
        assert (await bridge.get("/api/v1/cache", {"pattern": "nope"}, method="DELETE")).json["removed"] == 0


@pytest.mark.parametrize(
    "query", ["", "?pattern=", "?pattern=" + "x" * 201, "?pattern=a&pattern=b", "?pattern=a&x=1"]
)
async def test_what_to_forget_must_be_said(bridge: House, query: str) -> None:
    reply = await bridge.get(f"/api/v1/cache{query}", method="DELETE")
    assert reply.status == 400
    assert "`pattern`" in reply.json["error"]


async def test_a_glob_made_to_be_slow_is_answered(bridge: House) -> None:
    reply = await bridge.get("/api/v1/cache", {"pattern": "*a" * 99}, method="DELETE")
    assert reply.json["removed"] == 0
