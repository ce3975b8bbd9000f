"""Settings from the environment and the command line."""

from __future__ import annotations

import pytest

from bridge.settings import load_settings

FILE = """
server: {port: 8001, host: localhost}
grafana: {token_file: null}
sources:
- name: a
  kind: k
  options: {Url: "http://a", retries: 1}
"""


def test_the_command_line_wins_over_the_environment_and_that_over_the_file(load):
    env = {"BRIDGE_SERVER__PORT": "8002"}
    assert load(FILE).settings.server.port == 8001
    assert load(FILE, env).settings.server.port == 8002
    assert load(FILE, env, {"server.port": 8003, "server.host": None}).settings.server.port == 8003
    assert load(FILE, env, {"server.port": 8003}).settings.server.host == "localhost"
    assert load(FILE, env, {"server.port": 8003}).settings.server.public_url == "http://localhost:8003"


def test_variables_alone_can_make_a_source(folder):
    env = {
        "BRIDGE_SOURCES__0__NAME": "digits",
        "BRIDGE_SOURCES__0__KIND": "rest",
        "BRIDGE_SOURCES__0__OPTIONS__AUTH__KIND": "none",
        "BRIDGE_SOURCES__0__OPTIONS__PAGES__0": "1",
        "BRIDGE_SOURCES__0__DATASETS": "[{name: runs, columns: [{name: t, type: time}]}]",
        "BRIDGE_DATA_DIR": "/var/lib/bridge",
    }
    settings = load_settings(None, env=env).settings
    (source,) = settings.sources
    assert (source.name, source.kind, source.options) == ("digits", "rest", {"auth": {"kind": "none"}, "pages": [1]})
    assert source.datasets[0].columns[0].name == "t"
    assert str(settings.data_dir) == "/var/lib/bridge"


def test_items_are_added_in_the_order_of_their_numbers(folder):
    env = {f"BRIDGE_SERVER__ALLOWED_HOSTS__{index}": f"h{index}" for index in range(12)}
    hosts = load_settings(None, env=env).settings.server.allowed_hosts
    assert hosts == tuple(f"h{index}" for index in range(12))


def test_a_variable_changes_one_key_of_the_file_whatever_its_capitals(load):
    env = {"BRIDGE_SOURCES__0__OPTIONS__URL": "http://b"}
    assert load(FILE, env).settings.sources[0].options == {"Url": "http://b", "retries": 1}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12", 12),
        ("true", True),
        ("yes", "yes"),
        ("1:30", "1:30"),
        ("1.5", 1.5),
        ("", None),
        ('"12"', "12"),
        ("'12'", "12"),
        ("a: b #c", "a: b #c"),
        ("*x", "*x"),
        ("@x", "@x"),
        (" x ", " x "),
        ("[1, a]", [1, "a"]),
        ("{a: {b: 1}}", {"a": {"b": 1}}),
    ],
)
def test_a_variable_holds_a_yaml_scalar_or_a_value_in_brackets(folder, text, value):
    env = {"BRIDGE_SOURCES": "[{name: a, kind: k}]", "BRIDGE_SOURCES__0__OPTIONS__X": text}
    assert load_settings(None, env=env).settings.sources[0].options["x"] == value


def test_a_value_and_its_file_replace_each_other(load, folder):
    (folder / "one").write_text("9001")
    (folder / "two").write_text("9002")
    from_file = {"BRIDGE_SERVER__PORT_FILE": "two"}
    assert load("server: {port_file: one}", {"BRIDGE_SERVER__PORT": "9000"}).settings.server.port == 9000
    assert load("server: {port: 9000}", from_file).settings.server.port == 9002
    assert load("server: {port_file: one}", from_file).settings.server.port == 9002


@pytest.mark.parametrize(
    "name",
    [
        "BRIDGE_HOME",
        "BRIDGE_PORT",
        "BRIDGE_SERVER_PORT",
        "BRIDGE_FOO__BAR",
        "BRIDGE__SERVER",
        "SERVER__PORT",
        "BRIDGE_",
    ],
)
def test_variables_of_others_are_left_alone(folder, name):
    assert load_settings(None, env={name: "tcp://10.0.0.1:80"}).settings == load_settings(None, env={}).settings


WRONG = {
    "unknown key": (
        {"BRIDGE_SERVER__PROT": "1"},
        "BRIDGE_SERVER__PROT: server.prot: is no known key (did you mean `port`?)",
    ),
    "unknown section": (
        {"BRIDGE_SERVR__PORT": "1"},
        "BRIDGE_SERVR__PORT: is no setting (did you mean BRIDGE_SERVER__PORT?)",
    ),
    "wrong value": (
        {"BRIDGE_SERVER__PORT": "many"},
        "BRIDGE_SERVER__PORT: server.port: must be a whole number, not 'many'",
    ),
    "wrong value deep in brackets": (
        {"BRIDGE_SERVER": "{tls: {cert: x}}"},
        "BRIDGE_SERVER: server.tls.cert: is no known key (did you mean `cert_file`?)",
    ),
    "what is missing beside it": (
        {"BRIDGE_SOURCES__1__NAME": "b"},
        "BRIDGE_SOURCES__1__NAME: sources[1].kind: is missing (add it)",
    ),
    "a section as text": ({"BRIDGE_SERVER": "x"}, "BRIDGE_SERVER: server: must be a mapping, not text"),
    "below a text": (
        {"BRIDGE_SERVER__HOST__NAME": "x"},
        "BRIDGE_SERVER__HOST__NAME: there is nothing below a plain value, so no `name`",
    ),
    "an item too far": (
        {"BRIDGE_SOURCES__2__NAME": "x"},
        "BRIDGE_SOURCES__2__NAME: `2` is no item of a list of 1 (count from 0; 1 adds one)",
    ),
    "an item without number": (
        {"BRIDGE_SOURCES__A__NAME": "x"},
        "BRIDGE_SOURCES__A__NAME: `a` is no item of a list of 1 (count from 0; 1 adds one)",
    ),
    "no UTF-8": ({"BRIDGE_SERVER__HOST": "\udcff"}, "BRIDGE_SERVER__HOST: is not UTF-8 text"),
    "an open bracket": (
        {"BRIDGE_SERVER__HOST": "[hunter2"},
        "BRIDGE_SERVER__HOST: cannot be read as YAML (put quotes around a text that begins with [)",
    ),
    "more after the quotes": (
        {"BRIDGE_SERVER__HOST": "'hunter2': x"},
        "BRIDGE_SERVER__HOST: cannot be read as YAML, it goes on after the closing mark "
        "(put quotes around a text that begins with ')",
    ),
    "a key twice": (
        {"BRIDGE_SERVER__TLS": "{a: 1, a: 2}"},
        "BRIDGE_SERVER__TLS: stands twice in one mapping, first in line 1, column 2 (remove one)",
    ),
    "too many digits": (
        {"BRIDGE_SERVER__PORT": "1" * 5000},
        "BRIDGE_SERVER__PORT: the number has too many digits (write a shorter one)",
    ),
    "not served": (
        {"BRIDGE_SERVER__WORKERS": "2"},
        "BRIDGE_SERVER__WORKERS: server.workers: is understood but not served by this version of bridge; remove it",
    ),
    "a file that is not there": (
        {"BRIDGE_SERVER__PORT_FILE": "none"},
        "BRIDGE_SERVER__PORT_FILE: server.port_file: there is no file DIR/none (make it, or set `port`)",
    ),
}


@pytest.mark.parametrize(("env", "line"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_variable_is_told_by_its_name(problems, env, line):
    assert problems(FILE, env) == [line]


def test_a_wrong_option_of_the_command_line_is_told_as_such(problems):
    assert problems(FILE, None, {"server.port": 70000}) == [
        "command line: server.port: must be at most 65535, not 70000"
    ]
    assert (
        problems("server: x", None, {"server.port": 1})
        == [
            "command line: server.port: there is nothing below a plain value, so no `port`",
            "bridge.yaml:1:1: server: must be a mapping, not text",
        ][::-1]
    )


def test_a_place_is_that_of_the_last_word_said(load):
    loaded = load(FILE, {"BRIDGE_SOURCES__0__OPTIONS": "{url: x}"}, {"server.port": 1})
    assert loaded.where(("server", "port")) == "command line"
    assert loaded.where(("server", "host")) == "bridge.yaml:2:22"
    assert loaded.where(("server", "workers")) == "bridge.yaml:2:1"
    assert loaded.where(("sources", 0, "options", "url")) == "BRIDGE_SOURCES__0__OPTIONS"
    assert loaded.where(("sources", 0, "options", "Url")) == "BRIDGE_SOURCES__0__OPTIONS"
    assert loaded.where(("grafana", "token")) == "bridge.yaml:3:11"
    assert loaded.where(("jobs", 3)) == "bridge.yaml:1:1"
    assert loaded.problem(("sources", 0, "options"), "is wrong") == (
        "BRIDGE_SOURCES__0__OPTIONS: sources[0].options: is wrong"
    )
