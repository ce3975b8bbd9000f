"""What a person is told about the options of a plug-in."""

from __future__ import annotations

import pytest
from pydantic import Field, SecretStr, ValidationError, field_validator

from bridge.sources.base import Options


class StrangeOptions(Options):
    even: int = Field(2, multiple_of=2)
    when: str | None = None
    path: dict[str, str] | None = None
    flags: tuple[bool, ...] = ()
    secret: SecretStr | None = None

    @field_validator("when")
    @classmethod
    def _no_time(cls, value: str) -> str:
        raise ValueError("Time is not told here")


def test_whatever_a_plug_in_objects_to_becomes_a_line(load, folder):
    loaded = load("sources: [{name: a, kind: k, options: {flags: [null]}}]")
    options = {"even": 3, "when": "now", "path": b"", "flags": [None], "secret": 12345, "odd": 1}
    with pytest.raises(ValidationError) as caught:
        StrangeOptions.model_validate(options)
    place = "bridge.yaml:1:30: sources[0].options"
    assert loaded.problems(caught.value, ("sources", 0, "options"), StrangeOptions) == [
        f"{place}.even: input should be a multiple of 2",
        f"{place}.when: Time is not told here",
        f"{place}.path: must be a mapping, not a bytes",
        "bridge.yaml:1:48: sources[0].options.flags[0]: must be true or false, not empty",
        f"{place}.secret: must be text, not a number (put it in quotes)",
        f"{place}.odd: is no known key (known here: even, when, path, flags, secret)",
    ]
    with pytest.raises(ValidationError) as caught:
        StrangeOptions.model_validate({"secret_file": str(folder / "none")})
    (line,) = loaded.problems(caught.value, ("sources", 0, "options"), StrangeOptions)
    assert line.startswith(f"{place}.secret_file: cannot read '{folder}/none'")


def test_options_that_are_not_in_the_file_are_told_at_their_source(load):
    loaded = load("sources:\n- name: a\n  kind: k\n")
    with pytest.raises(ValidationError) as caught:
        PluginOptions.model_validate({})
    assert loaded.problems(caught.value, ("sources", 0, "options"), PluginOptions) == [
        "bridge.yaml:2:3: sources[0].options.url: is missing (add it)"
    ]


class BasicAuth(Options):
    username: str
    password: SecretStr


class BearerAuth(Options):
    token: SecretStr


class PluginOptions(Options):
    url: str
    auth: BasicAuth | BearerAuth | None = None
    pages: int = Field(1, multiple_of=1)


PLUGIN = """
sources:
- name: a
  kind: k
  options:
    ulr: x
    pages: many
    auth:
      usrname: me
      password: hunter2
- name: b
  kind: k
  options: {url: x, auth: {token_file: none}}
"""


def test_a_plug_ins_options_are_told_with_their_places_too(load):
    loaded = load(PLUGIN)
    with pytest.raises(ValidationError) as caught:
        PluginOptions.model_validate(loaded.settings.sources[0].options)
    told = loaded.problems(caught.value, ("sources", 0, "options"), PluginOptions)
    assert told == [
        "bridge.yaml:5:3: sources[0].options.url: is missing (add it)",
        "bridge.yaml:8:5: sources[0].options.auth.username: is missing (add it)",
        "bridge.yaml:9:7: sources[0].options.auth.usrname: is no known key (did you mean `username`?)",
        "bridge.yaml:8:5: sources[0].options.auth.token: is missing (add it)",
        "bridge.yaml:9:7: sources[0].options.auth.usrname: is no known key (did you mean `username`?)",
        "bridge.yaml:10:7: sources[0].options.auth.password: is no known key (did you mean `password`?)",
        "bridge.yaml:7:5: sources[0].options.pages: must be a whole number, not 'many'",
        "bridge.yaml:6:5: sources[0].options.ulr: is no known key (did you mean `url`?)",
    ]
