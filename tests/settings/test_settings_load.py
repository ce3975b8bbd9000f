"""What a settings file gives, and what is told when it gives nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from bridge.errors import SettingsError
from bridge.model.schema import Column, ColumnType, Kind, Param, Role
from bridge.settings import NOT_SERVED, Settings, load_settings

ANNOTATED = Path(__file__).with_name("annotated.yaml")
UNSERVED = "is understood but not served by this version of bridge; remove it"


def dataset(text: str) -> str:
    return f"sources:\n- name: s\n  kind: k\n  datasets:\n  - name: d\n    {text}"


def test_all_problems_are_told_at_once_in_the_order_of_the_file(problems):
    text = "sources:\n- name: A\n  kind: k\nsurver: 1\nserver:\n  port: x\n  host: 0.0.0.0\njobs: [{}]\njobs: []\n"
    told = problems(text, {"BRIDGE_SERVER__PROT": "1"})
    assert [line.split(" ")[0] for line in told] == [
        "bridge.yaml:2:3:",
        "bridge.yaml:4:1:",
        "bridge.yaml:6:3:",
        "bridge.yaml:7:3:",
        "bridge.yaml:8:1:",
        "bridge.yaml:9:1:",
        "BRIDGE_SERVER__PROT:",
    ]


def test_a_secret_is_never_part_of_a_message_or_of_what_is_printed(problems, load, folder):
    (folder / "token").write_text("hunter2\n")
    for text in (
        "grafana: {token: [hunter2]}",
        "grafana: {token: a, token_file: token}",
        "grafana: hunter2",
        "grafana: [hunter2]",
        "server: {public_url: 'x://hunter2'}",
        "upstreams: [{name: a, kind: loki, url: 'http://a', auth: hunter2}]",
    ):
        assert "hunter2" not in str(problems(text))
    assert "4711" not in str(problems("grafana: {token: 4711}"))
    loaded = load('sources: [{name: a, kind: k, options: {password: "hunter2"}}]')
    assert "hunter2" not in repr(loaded._layers)


def test_the_documented_settings_have_the_right_shape(problems):
    told = problems(ANNOTATED.read_text())
    assert [line.split(": ")[1:] for line in told] == [
        [section, UNSERVED] for section in ("upstreams", "access", "embeds")
    ]


def test_the_documented_settings_without_what_is_not_served_are_read_as_documented(load, folder):
    text = ANNOTATED.read_text()
    before, rest = text.split("upstreams:")
    settings = load(before + rest[rest.index("services:") :]).settings
    assert settings.data_dir == folder / "data"
    assert settings.server.public_url == "http://127.0.0.1:8000"
    (source,) = settings.sources
    assert (source.name, source.kind, source.options["auth"]) == ("digits", "rest", {"kind": "none"})
    (runs,) = source.datasets
    assert (runs.name, runs.refresh_s, runs.stale_after_s, runs.retries) == ("runs", 5.0, 60.0, 2)
    assert runs.model_columns() == (
        Column("time", ColumnType.TIME, role=Role.TIME, select="started_at"),
        Column("accuracy", ColumnType.NUMBER, unit="percentunit", role=Role.MEASURE),
        Column("model", ColumnType.STRING, role=Role.DIMENSION),
    )


def test_what_is_documented_as_not_served_says_so_for_every_path():
    assert {path.split(".")[0].removesuffix("[]") for path in NOT_SERVED} <= set(Settings.model_fields)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# nothing\n",
        "---\n",
        "---\n...\n",
        "null",
        "server:\nsources:\naccess:\nembeds:\nlimits:\n",
        "upstreams: []\ngrafana: {url: 'http://127.0.0.1:3000/', token_file: null, org_id: 1}\nembeds: {keys: []}",
        "server: {workers: 1, allowed_hosts: null, tls: {cert_file: null, key_file: null}}\ndata_dir: ./data",
    ],
)
def test_empty_values_and_defaults_written_out_are_the_defaults(load, folder, text):
    assert load(text).settings == load_settings(None, env={}).settings


def test_without_a_file_the_defaults_hold_in_the_present_folder(folder):
    loaded = load_settings(None, env={})
    assert (loaded.path, loaded.base_dir) == (None, folder)
    assert loaded.settings.limits.answer_bytes == 64 * 1024 * 1024
    assert loaded.problem(("server", "port"), "is taken") == "settings: server.port: is taken"


def test_paths_begin_at_the_folder_of_the_settings_file(folder, monkeypatch):
    etc = folder / "etc"
    etc.mkdir()
    for name in ("cert.pem", "key.pem"):
        (etc / name).write_text("x")
    (etc / "bridge.yaml").write_text("data_dir: store\nserver: {tls: {cert_file: cert.pem, key_file: ./key.pem}}")
    loaded = load_settings(Path("etc/bridge.yaml"), env={})
    assert loaded.base_dir == etc
    assert loaded.settings.data_dir == etc / "store"
    assert loaded.settings.server.tls.cert_file == etc / "cert.pem"
    assert loaded.settings.server.public_url == "https://127.0.0.1:8000"
    monkeypatch.setenv("HOME", str(folder))
    (etc / "bridge.yaml").write_text("data_dir: ~/store")
    assert load_settings(etc / "bridge.yaml", env={}).settings.data_dir == folder / "store"


def test_a_value_can_stand_in_a_file_of_its_own(load, folder):
    (folder / "port").write_text("8123\n")
    assert load("server: {port_file: port}").settings.server.port == 8123


def test_a_value_in_a_file_of_its_own_is_judged_as_any_other(problems, folder):
    (folder / "port").write_text("many\n")
    assert problems("server: {port_file: port}") == [
        "bridge.yaml:1:10: server.port: must be a whole number, not 'many'"
    ]


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8000"),
        ("127.8.8.8", "http://127.8.8.8:8000"),
        ("::1", "http://[::1]:8000"),
        ("localhost", "http://localhost:8000"),
    ],
)
def test_loopback_addresses_are_served_and_make_the_public_url(load, host, url):
    assert load(f'server: {{host: "{host}"}}').settings.server.public_url == url


def test_a_public_url_keeps_its_sub_path_and_loses_the_last_slash(load):
    url = load("server: {public_url: 'https://portal.example/bridge/'}").settings.server.public_url
    assert url == "https://portal.example/bridge"


def test_allowed_hosts_are_names_or_addresses_with_or_without_port(load):
    text = "server: {allowed_hosts: [Grafana.Example, 'a:8000', 10.0.0.1, '::1', '[::1]:8000', a_b]}"
    assert load(text).settings.server.allowed_hosts == (
        "grafana.example",
        "a:8000",
        "10.0.0.1",
        "[::1]",
        "[::1]:8000",
        "a_b",
    )


def test_trusted_proxies_are_addresses_and_networks(load):
    text = "server: {trusted_proxies: [10.0.0.1, 10.0.0.0/8, 'fd00::/8']}"
    assert load(text).settings.server.trusted_proxies == ("10.0.0.1", "10.0.0.0/8", "fd00::/8")


@pytest.mark.parametrize(
    ("text", "fresh_s"),
    [
        ("refresh_s: 7", 7),
        ("refresh_s: 0", 0),
        ("volatility: static", 3600),
        ("volatility: slow", 60),
        ("volatility: live", 5),
        ("description: x", 12),
    ],
)
def test_an_answer_is_fresh_by_seconds_then_by_volatility_then_by_plug_in(load, text, fresh_s):
    assert load(dataset(text)).settings.sources[0].datasets[0].fresh_s(12) == fresh_s


@pytest.mark.parametrize(
    ("columns", "roles"),
    [
        ("{name: t, type: time}, {name: v, type: number}", [Role.TIME, None]),
        ("{name: t, type: time}, {name: u, type: time}", [None, None]),
        ("{name: t, type: time, role: dimension}, {name: v, type: string}", [Role.DIMENSION, None]),
        ("{name: t, type: time, role: time}, {name: u, type: time}", [Role.TIME, None]),
    ],
)
def test_only_the_single_time_column_gets_its_role_by_itself(load, columns, roles):
    (dataset_settings,) = load(dataset(f"columns: [{columns}]")).settings.sources[0].datasets
    assert [column.role for column in dataset_settings.model_columns()] == roles


def test_columns_and_parameters_arrive_with_all_that_was_said_of_them(load):
    text = dataset(
        "columns: [{name: n, type: number, unit: short, description: all, kind: counter, select: a.b}]\n"
        "    params: [{name: model, description: which, default: svm, options: [svm, knn], multi: true}]"
    )
    (dataset_settings,) = load(text).settings.sources[0].datasets
    assert dataset_settings.model_columns() == (
        Column("n", ColumnType.NUMBER, unit="short", description="all", kind=Kind.COUNTER, select="a.b"),
    )
    assert dataset_settings.model_params() == (
        Param("model", description="which", default="svm", options=("svm", "knn"), multi=True),
    )


def test_settings_cannot_be_changed_after_they_were_read(load):
    settings = load("").settings
    with pytest.raises(ValidationError, match="frozen"):
        settings.server.port = 1


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("- a\n", "bridge.yaml:1:1: settings are a mapping of sections, this file holds a list"),
        ("server", "bridge.yaml:1:1: settings are a mapping of sections, this file holds a plain value"),
        ("!x {}", 'bridge.yaml:1:1: the tag "!x" is not read here'),
        ("server:\n\tport: 1", "bridge.yaml:2:1: a tab cannot indent YAML"),
        (b"server: {host: \xff}", "bridge.yaml:1:16: the file is not UTF-8 text"),
        ("x" * 2_000_000, "bridge.yaml:1:1: the file is larger than 1048576 bytes"),
        ("a: 1\n---\nb: 2", "bridge.yaml:2:1: a second document begins here"),
        ("a: &a [*a]", "bridge.yaml:1:4: it is nested more than 64 levels deep"),
    ],
)
def test_a_file_that_is_no_settings_file_is_told_with_its_place(problems, text, line):
    (told,) = problems(text)
    assert told.startswith(line)
    assert told.endswith(")")


def test_a_file_that_is_not_there_is_said_by_name(folder):
    with pytest.raises(SettingsError) as caught:
        load_settings(Path("none.yaml"), env={})
    assert caught.value.problems == ["none.yaml: there is no such file (name another with --config)"]


def test_a_folder_instead_of_a_file_is_said_by_name(folder):
    with pytest.raises(SettingsError) as caught:
        load_settings(folder, env={})
    assert caught.value.problems == [f"{folder}: cannot be read: Is a directory"]
