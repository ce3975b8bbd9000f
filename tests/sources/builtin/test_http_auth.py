import asyncio
import base64
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest
from aiohttp import web
from pydantic import ValidationError

from bridge.errors import NeedsAuth, UpstreamRefused
from bridge.model.query import Query
from bridge.sources.builtin.http.auth import authority
from bridge.sources.builtin.http.options import OAuth2Auth
from bridge.sources.builtin.rest.options import RestOptions
from servers.far import Seen, far, js, text
from servers.rest_rig import HandClock, rest, tools

ROWS = [{"name": "a", "value": 1}]
Q = Query("far.runs")
SECRET = "hunter2-Secret"


def ok(seen: Seen) -> web.Response:
    return js(ROWS)


@pytest.mark.parametrize(
    ("auth", "header", "value"),
    [
        (
            {"kind": "basic", "username": "ann", "password": "p:w ä"},
            "Authorization",
            "Basic " + base64.b64encode("ann:p:w ä".encode()).decode(),
        ),
        ({"kind": "bearer", "token": SECRET}, "Authorization", f"Bearer {SECRET}"),
        ({"kind": "api_key", "name": "X-Api-Key", "value": SECRET}, "X-Api-Key", SECRET),
        ({"kind": "api_key", "name": "X-Api-Key", "value": SECRET, "in": "header"}, "X-Api-Key", SECRET),
        ({"kind": "none"}, "Authorization", None),
    ],
)
async def test_each_kind_of_credential_arrives_where_its_standard_puts_it(
    auth: dict[str, Any], header: str, value: str | None
) -> None:
    async with far(ok) as there, rest(there.url, auth=auth) as source:
        await source.collect(Q)
    assert there.last.headers.get(header) == value


async def test_a_key_in_the_query_goes_with_every_page_and_is_never_shown() -> None:
    def serve(seen: Seen) -> web.Response:
        start = dict(seen.params).get("from", "0")
        links = {"0": "</runs?from=1>; rel=next", "1": "</runs?from=2&key=mine>; rel=next"}
        return js(ROWS, Link=links.get(start, ""))

    auth = {"kind": "api_key", "name": "key", "value": SECRET, "in": "query"}
    dataset = {"paging": {"kind": "link"}, "params": {"a": "1"}}
    async with far(serve) as there, rest(there.url, dataset, auth=auth) as source:
        frame = await source.collect(Q)
    assert there.asked("key") == [SECRET, SECRET, "mine"]
    assert frame.meta.executed == "GET /runs?a=1"
    assert SECRET not in repr(frame.meta) + repr(source.options)


async def test_a_far_error_that_echoes_the_key_does_not_show_it() -> None:
    def serve(seen: Seen) -> web.Response:
        return text(f"no such thing: {dict(seen.params)}", "text/plain", status=404)

    auth = {"kind": "api_key", "name": "key", "value": SECRET, "in": "query"}
    async with far(serve) as there, rest(there.url, auth=auth) as source:
        with pytest.raises(UpstreamRefused, match="no such thing") as error:
            await source.collect(Q)
    assert SECRET not in error.value.message


async def test_a_secret_may_stand_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(f"{SECRET}\n")
    auth = {"kind": "bearer", "token_file": str(tmp_path / "token")}
    async with far(ok) as there, rest(there.url, auth=auth) as source:
        await source.collect(Q)
    assert there.last.headers["Authorization"] == f"Bearer {SECRET}"


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_credential_is_needs_auth_with_the_remedy(status: int) -> None:
    auth = {"kind": "bearer", "token": SECRET}
    async with far(lambda seen: js({"detail": "no"}, status=status)) as there, rest(there.url, auth=auth) as source:
        with pytest.raises(NeedsAuth) as error:
            await source.collect(Q)
        ping = await source.ping()
    assert error.value.message == f'GET {there.url}/runs: the server answered {status}: {{"detail": "no"}}'
    assert error.value.remedy == "check the credential under the source's `auth`, and what it may read"
    assert not ping.ok
    assert f"answered {status}" in ping.text
    assert len(there.seen) == 2


@pytest.mark.parametrize(
    ("auth", "part"),
    [
        ({"kind": "bearer"}, "auth.bearer.token"),
        ({"kind": "magic"}, "does not match any of the expected tags"),
        ({"kind": "bearer", "token": ""}, "the secret is empty"),
        ({"kind": "bearer", "token": "a\r\nX: 1 hunter2"}, "characters that cannot stand in a header"),
        ({"kind": "api_key", "name": "a b", "value": "x"}, "auth.api_key.name"),
        ({"kind": "basic", "username": "a:b", "password": "hunter2"}, "auth.basic.username"),
        ({"kind": "bearer", "token": "x", "extra": "hunter2"}, "auth.bearer.extra"),
    ],
)
def test_a_wrong_credential_is_refused_in_the_settings_without_being_shown(auth: dict[str, Any], part: str) -> None:
    with pytest.raises(ValidationError) as error:
        RestOptions.model_validate({"url": "http://a", "auth": auth})
    assert part in str(error.value)
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize(
    ("headers", "part"),
    [
        ({"Authorization": "x"}, "credentials go under `auth`"),
        ({"Host": "x"}, "cannot be set here"),
        ({"a b": "x"}, "is no header name"),
        ({"X-A": "a\r\nb"}, "control characters"),
    ],
)
def test_static_headers_cannot_replace_credentials_or_break_the_request(headers: dict[str, str], part: str) -> None:
    with pytest.raises(ValidationError, match="headers") as error:
        RestOptions.model_validate({"url": "http://a", "headers": headers})
    assert part in str(error.value)


class Provider:
    """An API whose tokens can be revoked, and the token endpoint beside it."""

    def __init__(self, **answer: Any) -> None:
        self.answer = answer
        self.issued = 0
        self.valid: set[str] = set()
        self.forms: list[dict[str, str]] = []

    async def __call__(self, seen: Seen) -> web.Response:
        if seen.path == "/oauth/token":
            # Long enough for all who wait to be waiting.
            await asyncio.sleep(0)
            self.issued += 1
            self.forms.append(dict(parse_qsl(seen.body.decode())))
            token = f"token{self.issued}"
            self.valid.add(f"Bearer {token}")
            return js({"access_token": token, "token_type": "Bearer", **self.answer})
        if seen.headers.get("Authorization") not in self.valid:
            return js({}, status=401)
        return js(ROWS)


def oauth(url: str, **more: Any) -> dict[str, Any]:
    return {
        "kind": "oauth2",
        "token_url": f"{url}/oauth/token?tenant=7",
        "client_id": "me@x",
        "client_secret": SECRET,
        **more,
    }


async def test_one_token_serves_all_who_wait_until_shortly_before_it_expires() -> None:
    provider, clock = Provider(expires_in="100"), HandClock()
    async with far(provider) as there, rest(there.url, auth=oauth(there.url), clock=clock) as source:
        await asyncio.gather(*(source.collect(Q) for _ in range(5)))
        assert provider.issued == 1
        clock.seconds += 69
        await source.collect(Q)
        assert provider.issued == 1
        clock.seconds += 1
        await source.collect(Q)
        assert provider.issued == 2


@pytest.mark.parametrize("given", [{}, {"expires_in": None}, {"expires_in": "soon"}, {"expires_in": 1e999}])
async def test_a_token_without_a_usable_life_is_kept_for_five_minutes(given: dict[str, Any]) -> None:
    provider, clock = Provider(**given), HandClock()
    async with far(provider) as there, rest(there.url, auth=oauth(there.url), clock=clock) as source:
        await source.collect(Q)
        clock.seconds += 269
        await source.collect(Q)
        assert provider.issued == 1
        clock.seconds += 1
        await source.collect(Q)
        assert provider.issued == 2


async def test_a_revoked_token_is_fetched_anew_once_and_only_once() -> None:
    provider = Provider()
    async with far(provider) as there, rest(there.url, auth=oauth(there.url)) as source:
        await source.collect(Q)
        provider.valid.clear()
        await asyncio.gather(*(source.collect(Q) for _ in range(3)))
        assert provider.issued == 2


async def test_an_api_that_refuses_even_a_new_token_needs_auth() -> None:
    provider = Provider()

    async def serve(seen: Seen) -> web.Response:
        return await provider(seen) if seen.path == "/oauth/token" else js({}, status=401)

    async with far(serve) as there, rest(there.url, auth=oauth(there.url)) as source:
        with pytest.raises(NeedsAuth, match="/runs: the server answered 401"):
            await source.collect(Q)
    assert provider.issued == 2
    assert [seen.path for seen in there.seen].count("/runs") == 2


async def test_the_token_request_says_who_asks_for_what_in_either_style() -> None:
    provider = Provider()
    async with far(provider) as there:
        async with rest(there.url, auth=oauth(there.url, scope="a b", audience="api")) as source:
            await source.collect(Q)
        first = there.seen[0]
        async with rest(there.url, auth=oauth(there.url, style="basic")) as source:
            await source.collect(Q)
        second = there.seen[2]
    assert provider.forms == [
        {
            "grant_type": "client_credentials",
            "scope": "a b",
            "audience": "api",
            "client_id": "me@x",
            "client_secret": SECRET,
        },
        {"grant_type": "client_credentials"},
    ]
    assert first.params == second.params == [("tenant", "7")]
    assert "Authorization" not in first.headers
    assert second.headers["Authorization"] == "Basic " + base64.b64encode(f"me%40x:{SECRET}".encode()).decode()


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (js({"error": "invalid_client", "hint": SECRET}, status=400), "HTTP 400"),
        (js({}, status=401), "this client is not accepted"),
        (text("<html>"), "the answer is no JSON"),
        (text("[" * 50_000), "the answer is no JSON"),
        (js([]), "the answer holds no usable `access_token`"),
        (js({"access_token": "a b"}), "the answer holds no usable `access_token`"),
        (js({"access_token": "a\r\nX: 1"}), "the answer holds no usable `access_token`"),
    ],
)
async def test_a_token_endpoint_that_gives_no_token_needs_auth(answer: web.Response, reason: str) -> None:
    async with far(lambda seen: answer) as there, rest(there.url, auth=oauth(there.url)) as source:
        with pytest.raises(NeedsAuth) as error:
            await source.collect(Q)
        url = there.url
    assert error.value.message == f"the token endpoint {url}/oauth/token gave no token: {reason}"
    assert "`client_secret`" in error.value.remedy
    assert SECRET not in str(error.value.message) + repr(error.value)


async def test_a_token_endpoint_that_is_busy_is_no_refusal_and_its_echo_is_not_shown() -> None:
    def serve(seen: Seen) -> web.Response:
        return text(f"busy with {seen.body.decode()}", "text/plain", status=503, Retry_After="7")

    async with far(serve) as there, rest(there.url, auth=oauth(there.url)) as source:
        with pytest.raises(UpstreamRefused) as error:
            await source.collect(Q)
    assert (error.value.far_status, error.value.retry_after_s) == (503, 7.0)
    assert "busy with" in error.value.message
    assert SECRET not in error.value.message


async def test_nothing_that_is_printed_of_a_credential_holds_the_secret() -> None:
    options = OAuth2Auth.model_validate(oauth("http://127.0.0.1:1"))
    async with tools() as given:
        held = authority(options, given.upstream, given.clock, allow_private=True)
        assert SECRET not in repr(options) + repr(held) + str(vars(held))
        bearer = RestOptions.model_validate({"url": "http://a", "auth": {"kind": "bearer", "token": SECRET}})
        fixed = authority(bearer.auth, given.upstream, given.clock, allow_private=True)
        assert SECRET not in repr(bearer) + repr(await fixed.current(1.0)) + str(vars(fixed))
