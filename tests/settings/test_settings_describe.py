"""The table of settings that the documentation is made from."""

from __future__ import annotations

from bridge.settings import SettingDoc, describe_settings


def test_every_setting_is_described_in_a_sentence():
    docs = describe_settings()
    assert [doc.path for doc in docs if not doc.description.endswith(".")] == []
    assert len({doc.path for doc in docs}) == len(docs)


def test_settings_are_listed_with_type_and_default():
    docs = {doc.path: (doc.type, doc.default) for doc in describe_settings()}
    assert docs["server"] == ("mapping", "")
    assert docs["server.port"] == ("whole number", "8000")
    assert docs["server.public_url"] == ("text", "made of other settings")
    assert docs["server.allowed_hosts"] == ("list of text", '["127.0.0.1", "localhost"]')
    assert docs["data_dir"] == ("path", '"data"')
    assert docs["limits.deadline_s"] == ("number", "25")
    assert docs["sources"] == ("list of mapping", "[]")
    assert docs["sources[].name"] == ("text", "required")
    assert docs["sources[].options"] == ("mapping of anything", "{}")
    assert docs["sources[].datasets[].columns[].role"] == ("time | dimension | measure", "null")
    assert docs["sources[].datasets[].history"] == ("mapping", "null")
    assert docs["grafana.token"] == ("secret text", "null")
    assert docs["access.roles.NAME.scopes"] == ("list of text", "[]")
    assert docs["access.keys.store"] == ("true or false", "true")


def test_a_setting_says_what_it_is_for():
    assert describe_settings()[1] == SettingDoc(
        "server.host", "text", '"127.0.0.1"', "Address to listen on; any other than loopback needs credentials."
    )
