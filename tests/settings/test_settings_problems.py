"""Each mistake in a settings file, and the line a person reads of it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bridge.errors import SettingsError
from bridge.settings import Settings, describe_settings, load_settings

UNSERVED = "is understood but not served by this version of bridge; remove it"
BEYOND = (
    "listens beyond this machine, which needs credentials (`access`), and this version of bridge does not serve them "
    "(use 127.0.0.1)"
)
TOP = "server, data_dir, limits, sources, lineage, upstreams, grafana, access, embeds, services, jobs"

SHAPE = {
    "unknown section": ("servr: {}", "bridge.yaml:1:1: servr: is no known key (did you mean `server`?)"),
    "unknown word": ("zzz: 1", f"bridge.yaml:1:1: zzz: is no known key (known here: {TOP})"),
    "unknown key": (
        "server:\n  prot: 1",
        "bridge.yaml:2:3: server.prot: is no known key (did you mean `port`?)",
    ),
    "a key with odd characters": (
        'server:\n  "a\\nb: c": 1',
        'bridge.yaml:2:3: server."a\\nb: c": is no known key (known here: host, port, workers, tls, public_url, '
        "trusted_proxies, allowed_hosts)",
    ),
    "section is a list": ("server: []", "bridge.yaml:1:1: server: must be a mapping, not a list"),
    "section is a number": ("limits: 5", "bridge.yaml:1:1: limits: must be a mapping, not a number"),
    "list is a mapping": ("sources: {}", "bridge.yaml:1:1: sources: must be a list, not a mapping"),
    "list is a text": ("sources: digits", "bridge.yaml:1:1: sources: must be a list, not text"),
    "item is a text": ("sources: [digits]", "bridge.yaml:1:11: sources[0]: must be a mapping, not text"),
    "text is a number": (
        "sources:\n- {name: a, kind: 7}",
        "bridge.yaml:2:13: sources[0].kind: must be text, not a number (put it in quotes)",
    ),
    "text is a boolean": (
        "sources:\n- {name: a, kind: true}",
        "bridge.yaml:2:13: sources[0].kind: must be text, not true (put it in quotes)",
    ),
    "text is a list": ("server: {host: [a]}", "bridge.yaml:1:10: server.host: must be text, not a list"),
    "number is a text": (
        "server:\n  port: http",
        "bridge.yaml:2:3: server.port: must be a whole number, not 'http'",
    ),
    "number is too long to show": (
        f"server: {{port: {'x' * 90}}}",
        f"bridge.yaml:1:10: server.port: must be a whole number, not '{'x' * 39}…",
    ),
    "number is a boolean": ("server: {port: true}", "bridge.yaml:1:10: server.port: must be a number, not true"),
    "number is broken": (
        "server: {port: 80.5}",
        "bridge.yaml:1:10: server.port: must be a whole number, not 80.5",
    ),
    "port too high": ("server: {port: 65536}", "bridge.yaml:1:10: server.port: must be at most 65535, not 65536"),
    "port too low": ("server: {port: -1}", "bridge.yaml:1:10: server.port: must be at least 0, not -1"),
    "limit of nothing": ("limits: {rows: 0}", "bridge.yaml:1:10: limits.rows: must be more than 0, not 0"),
    "seconds are a word": (
        "limits: {deadline_s: soon}",
        "bridge.yaml:1:10: limits.deadline_s: must be a number, not 'soon'",
    ),
    "seconds are a boolean": (
        "limits: {deadline_s: false}",
        "bridge.yaml:1:10: limits.deadline_s: must be a number, not false",
    ),
    "endless seconds": (
        "limits: {deadline_s: .inf}",
        "bridge.yaml:1:10: limits.deadline_s: must be a finite number, not inf",
    ),
    "seconds that are no number": (
        "limits: {deadline_s: .nan}",
        "bridge.yaml:1:10: limits.deadline_s: must be a finite number, not nan",
    ),
    "more seconds than a number can hold": (
        f"limits: {{deadline_s: {'9' * 400}}}",
        f"bridge.yaml:1:10: limits.deadline_s: must be a number, not {'9' * 40}…",
    ),
    "no seconds at all": (
        "limits: {deadline_s: 0}",
        "bridge.yaml:1:10: limits.deadline_s: must be more than 0, not 0",
    ),
    "endless number of digits": (
        f"server: {{port: {'9' * 5000}}}",
        "bridge.yaml:1:16: server.port: the number has too many digits (write a shorter one)",
    ),
    "text over all bounds": (
        f"sources: [{{name: a, kind: {'k' * 65_537}}}]",
        "bridge.yaml:1:21: sources[0].kind: must be at most 65536 characters long",
    ),
}

SERVER = {
    "all addresses": ("server: {host: 0.0.0.0}", f"bridge.yaml:1:10: server.host: '0.0.0.0' {BEYOND}"),
    "all IPv6 addresses": ('server: {host: "::"}', f"bridge.yaml:1:10: server.host: '::' {BEYOND}"),
    "a name": ("server: {host: example.org}", f"bridge.yaml:1:10: server.host: 'example.org' {BEYOND}"),
    "no host": ('server: {host: ""}', f"bridge.yaml:1:10: server.host: '' {BEYOND}"),
    "workers": ("server:\n  workers: 2", f"bridge.yaml:2:3: server.workers: {UNSERVED}"),
    "hidden workers": (
        "server:\n  workers_file: two.txt",
        f"bridge.yaml:2:3: server.workers_file: {UNSERVED}",
    ),
    "relative public URL": (
        "server: {public_url: /sub}",
        "bridge.yaml:1:10: server.public_url: is no absolute http or https URL (write it as https://host:port/path)",
    ),
    "public URL of another scheme": (
        "server: {public_url: 'ftp://a'}",
        "bridge.yaml:1:10: server.public_url: is no absolute http or https URL (write it as https://host:port/path)",
    ),
    "public URL with a space": (
        "server: {public_url: 'http://a/ b'}",
        "bridge.yaml:1:10: server.public_url: is no absolute http or https URL (write it as https://host:port/path)",
    ),
    "public URL with a bad port": (
        "server: {public_url: 'http://a:99999'}",
        "bridge.yaml:1:10: server.public_url: is no URL: Port out of range 0-65535 "
        "(write it as https://host:port/path)",
    ),
    "public URL with a query": (
        "server: {public_url: 'http://a/?x'}",
        "bridge.yaml:1:10: server.public_url: has a query or a fragment (end it after the path)",
    ),
    "public URL with a fragment": (
        "server: {public_url: 'http://a/#'}",
        "bridge.yaml:1:10: server.public_url: has a query or a fragment (end it after the path)",
    ),
    "public URL with a password": (
        "server: {public_url: 'http://u:hunter2@a/'}",
        "bridge.yaml:1:10: server.public_url: holds a user name or password "
        "(URLs are shown and logged; take them out)",
    ),
    "allowed host with a scheme": (
        "server: {allowed_hosts: [a, 'http://b']}",
        "bridge.yaml:1:29: server.allowed_hosts[1]: 'http://b' is no host or host:port "
        "(write only the name, as in `grafana.example:8000`)",
    ),
    "any allowed host": (
        "server: {allowed_hosts: ['*']}",
        "bridge.yaml:1:26: server.allowed_hosts[0]: '*' is no host or host:port "
        "(write only the name, as in `grafana.example:8000`)",
    ),
    "allowed host with port 0": (
        "server: {allowed_hosts: ['a:0']}",
        "bridge.yaml:1:26: server.allowed_hosts[0]: 'a:0' is no host or host:port "
        "(write only the name, as in `grafana.example:8000`)",
    ),
    "allowed host in broken brackets": (
        "server: {allowed_hosts: ['[::1::]']}",
        "bridge.yaml:1:26: server.allowed_hosts[0]: '[::1::]' is no host or host:port "
        "(write only the name, as in `grafana.example:8000`)",
    ),
    "no allowed host": (
        "server: {allowed_hosts: []}",
        "bridge.yaml:1:10: server.allowed_hosts: names no host, so nothing would be answered (name at least one)",
    ),
    "proxy by name": (
        "server: {trusted_proxies: [nginx]}",
        "bridge.yaml:1:28: server.trusted_proxies[0]: 'nginx' is no address or network "
        "(write it as 10.0.0.5 or 10.0.0.0/24)",
    ),
    "everyone a proxy": (
        "server: {trusted_proxies: [0.0.0.0/0]}",
        "bridge.yaml:1:28: server.trusted_proxies[0]: '0.0.0.0/0' trusts every address (name the proxies)",
    ),
    "certificate without key": (
        "server:\n  tls: {cert_file: two.txt}",
        "bridge.yaml:2:3: server.tls.key_file: is missing beside cert_file (give both files, or neither)",
    ),
    "key without certificate": (
        "server:\n  tls: {key_file: two.txt}",
        "bridge.yaml:2:3: server.tls.cert_file: is missing beside key_file (give both files, or neither)",
    ),
    "certificate that is not there": (
        "server:\n  tls: {cert_file: none.pem, key_file: two.txt}",
        "bridge.yaml:2:9: server.tls.cert_file: there is no file DIR/none.pem "
        "(a relative path begins at the settings file's folder)",
    ),
    "certificate that is a folder": (
        "server:\n  tls: {cert_file: ., key_file: two.txt}",
        "bridge.yaml:2:9: server.tls.cert_file: there is no file DIR "
        "(a relative path begins at the settings file's folder)",
    ),
    "file name that cannot be": (
        'server:\n  tls: {cert_file: "a\\0\\nb", key_file: two.txt}',
        "bridge.yaml:2:9: server.tls.cert_file: there is no file DIR/a\\x00\\nb "
        "(a relative path begins at the settings file's folder)",
    ),
}


def dataset(text: str) -> str:
    return f"sources:\n- name: s\n  kind: k\n  datasets:\n  - name: d\n    {text}"


IN = "sources[0].datasets[0]"
SOURCES = {
    "unknown key of a source": (
        "sources:\n- {name: a, kind: k, dataset: []}",
        "bridge.yaml:2:22: sources[0].dataset: is no known key (did you mean `datasets`?)",
    ),
    "no kind": ("sources:\n- name: a", "bridge.yaml:2:3: sources[0].kind: is missing (add it)"),
    "empty name": ("sources:\n- kind: k\n  name:", "bridge.yaml:3:3: sources[0].name: is missing (add it)"),
    "empty kind": ('sources:\n- {name: a, kind: ""}', "bridge.yaml:2:13: sources[0].kind: must not be empty"),
    "a system's name": (
        "sources:\n- {name: _a, kind: k}",
        "bridge.yaml:2:4: sources[0].name: '_a' begins with `_`, as only bridge's own sources do "
        "(choose another name)",
    ),
    "a capital name": (
        "sources:\n- {name: Ab, kind: k}",
        "bridge.yaml:2:4: sources[0].name: 'Ab' is no name (write it as [a-z][a-z0-9_]*)",
    ),
    "a name with a line break": (
        'sources:\n- {name: "a\\n", kind: k}',
        "bridge.yaml:2:4: sources[0].name: 'a\\n' is no name (write it as [a-z][a-z0-9_]*)",
    ),
    "two sources of a name": (
        "sources:\n- {name: a, kind: k}\n- {name: a, kind: k}",
        "bridge.yaml:3:4: sources[1].name: `a` stands twice in sources (rename one)",
    ),
    "two datasets of a name": (
        "sources:\n- name: a\n  kind: k\n  datasets: [{name: d}, {name: d}]",
        "bridge.yaml:4:26: sources[0].datasets[1].name: `d` stands twice in datasets (rename one)",
    ),
    "two columns of a name": (
        dataset("columns: [{name: a, type: string}, {name: a, type: number}]"),
        f"bridge.yaml:6:41: {IN}.columns[1].name: `a` stands twice in columns (rename one)",
    ),
    "a column name with a dash": (
        dataset("columns: [{name: a-b, type: string}]"),
        f"bridge.yaml:6:16: {IN}.columns[0].name: 'a-b' is no column name (write it as [A-Za-z_][A-Za-z0-9_]*)",
    ),
    "a column type that is none": (
        dataset("columns: [{name: a, type: float}]"),
        f"bridge.yaml:6:25: {IN}.columns[0].type: must be 'time', 'number', 'string', 'boolean' or 'json', "
        "not 'float'",
    ),
    "a column type that is a number": (
        dataset("columns: [{name: a, type: 5}]"),
        f"bridge.yaml:6:25: {IN}.columns[0].type: must be 'time', 'number', 'string', 'boolean' or 'json', "
        "not a number",
    ),
    "time that is a number": (
        dataset("columns: [{name: a, type: number, role: time}]"),
        f"bridge.yaml:6:39: {IN}.columns[0].role: time needs a column of type time, this one is number",
    ),
    "a measure that is a text": (
        dataset("columns: [{name: a, type: string, role: measure}]"),
        f"bridge.yaml:6:39: {IN}.columns[0].role: measure needs a column of type number, this one is string",
    ),
    "two times": (
        dataset("columns: [{name: a, type: time, role: time}, {name: b, type: time, role: time}]"),
        f"bridge.yaml:6:72: {IN}.columns[1].role: time is already the role of `a`",
    ),
    "two parameters of a name": (
        dataset("params: [{name: a}, {name: a}]"),
        f"bridge.yaml:6:26: {IN}.params[1].name: `a` stands twice in params (rename one)",
    ),
    "a parameter that is a column": (
        dataset("columns: [{name: a, type: string}]\n    params: [{name: a}]"),
        f"bridge.yaml:7:15: {IN}.params[0].name: `a` is a column as well "
        "(requests could not tell them apart; rename one)",
    ),
    "a default that is no option": (
        dataset("params: [{name: a, default: x, options: [y]}]"),
        f"bridge.yaml:6:24: {IN}.params[0].default: 'x' is not among the options (add it there, or change it)",
    ),
    "too many retries": (
        dataset("retries: 11"),
        f"bridge.yaml:6:5: {IN}.retries: must be at most 10, not 11",
    ),
    "negative refresh": (
        dataset("refresh_s: -1"),
        f"bridge.yaml:6:5: {IN}.refresh_s: must be at least 0, not -1",
    ),
    "a volatility that is none": (
        dataset("volatility: fast"),
        f"bridge.yaml:6:5: {IN}.volatility: must be 'static', 'slow' or 'live', not 'fast'",
    ),
    "options that are a list": (
        dataset("options: [a]"),
        f"bridge.yaml:6:5: {IN}.options: must be a mapping, not a list",
    ),
    "a step of no kind": (
        dataset("steps: [{rnam: {a: b}}]"),
        f"bridge.yaml:6:14: {IN}.steps[0].rnam: is no known key (did you mean `rename`?)",
    ),
    "a step of two kinds": (
        dataset("steps: [{drop: [a], keep: [b]}]"),
        f"bridge.yaml:6:13: {IN}.steps[0]: a step has exactly one key, this one has keep, drop; steps run in the "
        "order of the list",
    ),
    "a step without a list": (
        dataset("steps: [{drop: a}]"),
        f"bridge.yaml:6:14: {IN}.steps[0].drop: must be a list, not text",
    ),
    "a step that says nothing": (
        dataset("steps: [{rename: {}}]"),
        f"bridge.yaml:6:14: {IN}.steps[0].rename: must not be empty",
    ),
    "no aggregation": (
        dataset("steps: [{aggregate: {values: {best: maximum of x}}}]"),
        f"bridge.yaml:6:35: {IN}.steps[0].aggregate.values.best: 'maximum of x' is no aggregation; write for example "
        "`max(accuracy)` or `count()`",
    ),
    "an aggregation without a column": (
        dataset("steps: [{aggregate: {values: {best: max()}}}]"),
        f"bridge.yaml:6:35: {IN}.steps[0].aggregate.values.best: `max` needs a column: write `max(column)`",
    ),
    "a join without keys": (
        dataset("steps: [{join: {with: a.b, on: []}}]"),
        f"bridge.yaml:6:14: {IN}.steps[0].join: a join needs `on`, the columns that must be equal",
    ),
    "a distance without nearness": (
        dataset("steps: [{join: {with: a.b, on: [x], within_s: 5}}]"),
        f"bridge.yaml:6:14: {IN}.steps[0].join: `within_s` goes with `how: nearest`",
    ),
    "a dataset without its source": (
        dataset("steps: [{union: [runs]}]"),
        f"bridge.yaml:6:14: {IN}.steps[0].union.with[0]: 'runs' is no dataset; write `source.dataset`",
    ),
    "a union with nothing": (
        dataset("steps: [{union: []}]"),
        f"bridge.yaml:6:14: {IN}.steps[0].union: a union needs other datasets; list them under `with`",
    ),
    "a format that says nothing": (
        dataset("steps: [{format: {a: {}}}]"),
        f"bridge.yaml:6:23: {IN}.steps[0].format.a: say `unit`, `decimals` or `duration`",
    ),
    "a format with two units": (
        dataset("steps: [{format: {a: {unit: s, duration: words}}}]"),
        f"bridge.yaml:6:23: {IN}.steps[0].format.a: `duration` sets the unit itself; keep one of the two",
    ),
    "a limit of nothing": (
        dataset("steps: [{limit: 0}]"),
        f"bridge.yaml:6:14: {IN}.steps[0].limit.rows: must be at least 1, not 0",
    ),
    "an aggregation that is none": (
        dataset("steps: [{resample: {every_s: 60, how: avg}}]"),
        f"bridge.yaml:6:38: {IN}.steps[0].resample.how: must be 'count', 'count_distinct', 'sum', 'mean', 'median', "
        "'min', 'max', 'first', 'last', 'std', 'p50', 'p75', 'p90', 'p95' or 'p99', not 'avg'",
    ),
    "polling without pause": (
        dataset("poll: {every_s: 0}"),
        f"bridge.yaml:6:12: {IN}.poll.every_s: must be at least 1, not 0",
    ),
    "a check with two keys": (
        dataset("checks: [{rows: 1, gaps: 60}]"),
        f"bridge.yaml:6:14: {IN}.checks[0]: a check has exactly one key beside `level` and `name`, this one has "
        "gaps, rows",
    ),
    "an unknown check": (
        dataset("checks: [{uniqe: a}]"),
        f"bridge.yaml:6:15: {IN}.checks[0].uniqe: is no known key (did you mean `unique`?)",
    ),
    "an unknown key of a check": (
        dataset("checks: [{range: {column: a, minimum: 1}}]"),
        f"bridge.yaml:6:34: {IN}.checks[0].range.minimum: is no known key (did you mean `min`?)",
    ),
    "an unknown level": (
        dataset("checks: [{rows: 1, level: error}]"),
        f"bridge.yaml:6:24: {IN}.checks[0].level: must be 'info', 'warn' or 'block', not 'error'",
    ),
    "a share that is none": (
        dataset("checks: [{complete: {max_null_ratio: 5}}]"),
        f"bridge.yaml:6:26: {IN}.checks[0].complete.max_null_ratio: must be at most 1, not 5",
    ),
    "a range without an edge": (
        dataset("checks: [{range: {column: a}}]"),
        f"bridge.yaml:6:15: {IN}.checks[0].range: say `min`, `max` or both",
    ),
    "a name of two checks": (
        dataset("checks: [{rows: 1, name: size}, {rows: 2}, {rows: 3}, {rows: 4, name: size}]"),
        f"bridge.yaml:6:69: {IN}.checks[3].name: `size` stands twice in checks (rename one)",
    ),
}

LATER = {
    "upstreams": (
        'upstreams: [{name: p, kind: loki, url: "http://a"}]',
        f"bridge.yaml:1:1: upstreams: {UNSERVED}",
    ),
    "grafana": ("grafana: {org_id: 2}", f"bridge.yaml:1:1: grafana: {UNSERVED}"),
    "access": ("access: {}", f"bridge.yaml:1:1: access: {UNSERVED}"),
    "embeds": ("embeds: {keys: [{kid: k}]}", f"bridge.yaml:1:1: embeds: {UNSERVED}"),
    "services": ("services: [{name: a}]", f"bridge.yaml:1:1: services: {UNSERVED}"),
    "jobs": ("jobs: [{name: a}]", f"bridge.yaml:1:1: jobs: {UNSERVED}"),
    "a token file that is not there": (
        "grafana:\n  token_file: none",
        "bridge.yaml:2:3: grafana.token_file: there is no file DIR/none (make it, or set `token`)",
    ),
    "a token file that is a folder": (
        "grafana:\n  token_file: .",
        "bridge.yaml:2:3: grafana.token_file: cannot read 'DIR': [Errno 21] Is a directory: 'DIR'",
    ),
    "a token file of an impossible name": (
        f"grafana:\n  token_file: {'a' * 5000}",
        f"bridge.yaml:2:3: grafana.token_file: there is no file DIR/{'a' * 5000} (make it, or set `token`)",
    ),
    "a token beside its file": (
        "grafana: {token: a, token_file: two.txt}",
        "bridge.yaml:1:21: grafana.token_file: stands beside `token` (keep one of the two)",
    ),
    "an upstream's auth": (
        'upstreams: [{name: p, kind: loki, url: "http://a", auth: {mode: x}}]',
        "bridge.yaml:1:59: upstreams[0].auth.mode: must be 'none', 'basic', 'bearer', 'mtls', 'forward' or 'cookie', "
        "not 'x'",
    ),
    "a policy for nobody": (
        "access: {policies: [{match: {}}]}",
        "bridge.yaml:1:22: access.policies[0].match: matches nobody (give key, user, group, issuer or `any: true`)",
    ),
    "unknown key of a role": (
        "access:\n  roles: {a: {scope: []}}",
        "bridge.yaml:2:15: access.roles.a.scope: is no known key (did you mean `scopes`?)",
    ),
    "a flag that is a word": (
        "access: {keys: {store: yes}}",
        "bridge.yaml:1:17: access.keys.store: must be true or false, not 'yes'",
    ),
    "a history of no length": (
        dataset("history: {keep: long}"),
        f"bridge.yaml:6:15: {IN}.history.keep: 'long' does not match ^[0-9]{{1,9}}(s|m|h|d|w|y)$",
    ),
}


@pytest.mark.parametrize(
    ("text", "line"),
    [pytest.param(*case, id=name) for table in (SHAPE, SERVER, SOURCES, LATER) for name, case in table.items()],
)
def test_each_mistake_is_told_with_its_place_and_what_to_do(problems, folder, text, line):
    (folder / "two.txt").write_text("2")
    told = problems(text)
    assert line in told
    assert all(other == line or UNSERVED in other for other in told)


@pytest.mark.parametrize("word", ["columns", "series", "filter", "agg", "from", "to", "limit", "cursor", "fresh"])
def test_a_parameter_cannot_take_a_word_of_every_request(problems, word):
    assert problems(dataset(f"params: [{{name: {word}}}]")) == [
        f"bridge.yaml:6:15: {IN}.params[0].name: `{word}` is a word of every request (choose another name)"
    ]


WORDS = sorted({doc.path.rpartition(".")[2].removesuffix("[]") for doc in describe_settings()})
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(WORDS)
TREES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(WORDS) | st.text(max_size=3), inner, max_size=4)
        | st.fixed_dictionaries({"name": inner, "kind": inner, "datasets": inner, "columns": inner})
    ),
    max_leaves=20,
)


@given(st.dictionaries(st.sampled_from(list(Settings.model_fields)), TREES, min_size=1))
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
def test_whatever_stands_in_the_file_the_answer_is_settings_or_lines_with_places(folder, tree):
    (folder / "bridge.yaml").write_text(json.dumps(tree).replace("Infinity", ".inf").replace("NaN", ".nan"))
    told = []
    try:
        load_settings(Path("bridge.yaml"), env={})
    except SettingsError as error:
        told = error.problems or [""]
    assert all(re.match(r"bridge\.yaml:\d+:\d+: \S.*\Z", line) for line in told)
