"""Tells one address, by HTTP, that an alarm began or ended: plain JSON, and nothing is asked back."""

from __future__ import annotations

import json
import logging
import math
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from http.client import HTTPException
from typing import Any
from urllib.parse import urlsplit

from luthier.errors import SettingError

log = logging.getLogger(__name__)

TIMEOUT = 5.0
"""Seconds that one try may take."""
TRIES = 4
PAUSE = 1.0
"""Seconds before the second try, doubled before each further one."""


def check(url: str) -> str:
    """The URL of a webhook, as it is.

    Raises:
        SettingError: It is not one of http or https.
    """
    try:
        parts = urlsplit(url)
        # A port that is none raises when it is asked for.
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid or any(ord(mark) <= 32 for mark in url):
        # It may hold a secret, so that it is not said again.
        raise SettingError(
            "The webhook is no URL that can be told of alarms.", "It starts with http:// or https://."
        )
    return url


def shown(url: str) -> str:
    """A URL without what may be secret in it: its scheme and host alone."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}"


def send(url: str, value: Mapping[str, Any], *, sleep: Callable[[float], None] = time.sleep) -> bool:
    """Posts a JSON object, again where the other side fails; whether it was taken (status 2xx).

    Nothing is followed elsewhere: a redirect is a failure. What fails is logged, by the host alone.

    Args:
        url: As `check` gives it.
        value: JSON values; what is not finite becomes null.
        sleep: Waits so many seconds.
    """
    body = json.dumps(finite(value), ensure_ascii=False, allow_nan=False).encode()
    headers = {"Content-Type": "application/json", "User-Agent": "luthier"}
    request = urllib.request.Request(check(url), data=body, headers=headers, method="POST")
    said = ""
    for attempt in range(TRIES):
        if attempt:
            sleep(PAUSE * 2 ** (attempt - 1))
        try:
            with _OPENER.open(request, timeout=TIMEOUT) as response:
                if 200 <= response.status < 300:
                    return True
                said = f"status {response.status}"
        except urllib.error.HTTPError as error:
            said = f"status {error.code}"
            error.close()
            if error.code < 500 and error.code not in (408, 429):
                break
        except (OSError, HTTPException, ValueError) as error:
            said = type(error).__name__
    log.warning("the webhook at %s was not told: %s", shown(url), said)
    return False


def finite(value: Any) -> Any:
    """JSON values in which null stands for what is not finite."""
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


class _Stays(urllib.request.HTTPRedirectHandler):
    """Follows no redirect."""

    def redirect_request(self, *arguments: Any, **more: Any) -> None:
        """Makes none, so that the redirect becomes an error."""


_OPENER = urllib.request.build_opener(_Stays)
