"""Refuses requests to the explorer that its own page does not make.

The server listens on the loopback address, but a page of another site can make a browser send
requests there (CSRF), also under a name of its own (DNS rebinding). Gradio's routes that fetch URLs
are refused before any host is looked up.
"""

import json
import re
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from typing import Any
from urllib.parse import urlsplit

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

LOCAL_HOSTS = ("127.0.0.1", "localhost", "::1")
MAX_UPLOAD_MIB = 100
UPLOAD = "/gradio_api/upload"  # the one route whose body is not JSON
URL_ROUTE = re.compile(r"/(proxy=|file[=/]\s*[\w+.-]*:?//)")


class RequestGuard:
    """ASGI middleware that answers a request it refuses with a reason, and passes on all others.

    Args:
        app: the application behind it.
        hosts: names of the server in a request's Host header.
        max_mib: greatest body of a request in MiB.
    """

    def __init__(
        self, app: App, hosts: Collection[str] = LOCAL_HOSTS, max_mib: int = MAX_UPLOAD_MIB
    ):
        self.app, self.hosts, self.max_mib = app, hosts, max_mib

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        if scope["type"] == "websocket":  # the page uses none
            return await send({"type": "websocket.close", "code": 1008})
        refusal = self._check_headers(scope)
        if not refusal and scope["method"] == "POST" and scope["path"] != UPLOAD:
            body = await _read_body(receive)
            refusal = _check_body(body)
            receive = _replay(body, receive)
        if not refusal:
            return await self.app(scope, receive, send)
        status, reason = refusal
        headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": f"explore.py: {reason}".encode()})

    def _check_headers(self, scope: Message) -> tuple[int, str] | None:
        """Status and reason of a refusal; None for a request that may pass."""
        found = [(name.decode("latin1"), v.decode("latin1")) for name, v in scope["headers"]]
        headers = dict(found)
        host = headers.get("host", "").lower()
        if [name for name, _ in found].count("host") != 1 or _hostname(host) not in self.hosts:
            return 403, f"Host {host!r} is not this machine; expected {' or '.join(self.hosts)}"
        if _is_foreign(headers, host) and not _is_opened_in_tab(scope["method"], headers):
            return 403, "this request is from a page of another site"
        if URL_ROUTE.search(scope["path"]):
            return 403, "nothing is fetched from other machines"
        if scope["method"] in ("GET", "HEAD", "OPTIONS"):
            return None
        length = headers.get("content-length", "")
        if not length.isdecimal() or "transfer-encoding" in headers:
            return 411, "a request needs its Content-Length"
        if int(length) > self.max_mib * 2**20:
            size = int(length) / 2**20
            return 413, f"an upload has {size:,.0f} MiB; at most {self.max_mib} MiB are taken"
        return None


def _hostname(host: str) -> str | None:
    """Name in a Host header without its port; None if it is malformed."""
    try:
        parts = urlsplit(f"//{host}")
        return parts.hostname if parts.netloc == host and "@" not in host else None
    except ValueError:  # brackets without an IPv6 address
        return None


def _is_foreign(headers: dict[str, str], host: str) -> bool:
    """Whether a page of another origin made the request, as far as its headers tell."""
    pages = [headers[name] for name in ("origin", "referer") if name in headers]
    try:
        origins = [urlsplit(page).netloc.lower() for page in pages]
    except ValueError:
        return True
    sites = ("cross-site", "same-site")
    return any(origin != host for origin in origins) or headers.get("sec-fetch-site") in sites


def _is_opened_in_tab(method: str, headers: dict[str, str]) -> bool:
    """Whether a link was followed, which shows the linking page nothing."""
    fetch = headers.get("sec-fetch-mode"), headers.get("sec-fetch-dest")
    return method == "GET" and fetch == ("navigate", "document") and "origin" not in headers


async def _read_body(receive: Receive) -> bytes:
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            return body


def _replay(body: bytes, receive: Receive) -> Receive:
    """A ``receive`` that has the body as one message before what follows it."""
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return messages.pop() if messages else await receive()

    return replay


def _check_body(body: bytes) -> tuple[int, str] | None:
    """Refuses an event with a file that Gradio would fetch from a URL."""
    try:
        content = json.loads(body or b"null")
        fetches = _names_url(content)
    except (ValueError, RecursionError):
        return 400, "the body of a request is not JSON"
    return (403, "nothing is fetched from other machines") if fetches else None


def _names_url(content: Any) -> bool:
    if isinstance(content, dict):
        return "://" in str(content.get("path")) or any(map(_names_url, content.values()))
    return isinstance(content, list) and any(map(_names_url, content))
