"""What must not be shown, and so is not taken from a command line."""

from __future__ import annotations

import re

from bridge.errors import BadRequest

SECRET_NAME = re.compile(r"auth|cookie|(?:^|[_-])key|apikey|pass|secret|session|token|signature|(?:^|[_-])sig$", re.I)
_PASSWORD = re.compile(r"^[a-z][a-z0-9+.-]*://[^/?#]*@", re.I)


def refuse_userinfo(url: str) -> None:
    """Nothing, when the URL holds no user and no password.

    Errors: BadRequest, without the URL.
    """
    if _PASSWORD.match(url):
        raise BadRequest(
            "the URL holds a user name or a password, which would be shown and logged",
            remedy="take it out: give a token with --token-file, or write `auth` into the settings by hand",
        )
