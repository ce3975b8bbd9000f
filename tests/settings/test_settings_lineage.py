"""Where lineage events go: one place, with all it needs, or a sentence that says what is wrong."""

from __future__ import annotations

import pytest

from bridge.settings.lineage import EventsSettings


def test_without_a_word_no_events_are_made(load):
    events = load("").settings.lineage.events
    assert events == EventsSettings()
    assert (events.file, events.url, events.namespace, events.every_s) == (None, None, "bridge", 60)


def test_a_file_is_placed_beside_the_settings_and_need_not_be_there(load, folder):
    events = load(
        "lineage: {events: {file: data/lineage.ndjson, namespace: lab, every_s: 5}}"
    ).settings.lineage.events
    assert (events.file, events.namespace, events.every_s) == (folder / "data" / "lineage.ndjson", "lab", 5)


def test_an_endpoint_may_have_a_token_that_is_shown_to_nobody(load, folder):
    (folder / "token").write_text("hunter2\n")
    text = "lineage: {events: {url: 'http://127.0.0.1:5000/api/v1/lineage', token_file: token}}"
    events = load(text).settings.lineage.events
    assert events.url == "http://127.0.0.1:5000/api/v1/lineage"
    assert events.token is not None
    assert events.token.get_secret_value() == "hunter2"
    assert "hunter2" not in repr(events)


@pytest.mark.parametrize(
    ("events", "line"),
    [
        (
            "{file: a, url: 'http://127.0.0.1'}",
            "url: stands beside `file` (events go to one of the two; take the other out)",
        ),
        ("{file: a, token: b}", "token: is for an endpoint, and there is no `url` (add it, or take this out)"),
        ("{token: b}", "token: is for an endpoint, and there is no `url` (add it, or take this out)"),
        ("{url: 'ftp://a'}", "url: is no absolute http or https URL (write it as https://host:port/path)"),
        ("{file: a, every_s: -1}", "every_s: "),
        ("{file: a, namespace: ''}", "namespace: "),
        ("{path: a}", "path: is no known key"),
    ],
)
def test_what_cannot_work_is_said_with_its_place(problems, events, line):
    (told,) = problems(f"lineage: {{events: {events}}}")
    assert told.startswith("bridge.yaml:1:")
    assert f"lineage.events.{line}" in told


@pytest.mark.parametrize("address", ["169.254.169.254", "224.0.0.1"])
def test_an_address_that_bridge_never_calls_is_told_at_the_start(problems, address):
    (told,) = problems(f"lineage: {{events: {{url: 'http://{address}/api', allow_private: true}}}}")
    assert f"lineage.events.url: the URL `http://{address}/api` cannot be used: " in told
