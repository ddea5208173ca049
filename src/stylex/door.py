"""The door of a small server: who may come in, with how much, and what every answer carries.

Plain ASGI: the application sees no request that is refused.
"""

import json
import secrets
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qs, urlsplit

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
JSON_BYTES, IMAGE_BYTES = 64_000, 16_000_000
HEADERS = {
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}


class Refused(Exception):
    """A request that is answered with a status and one line."""

    def __init__(self, status: int, says: str):
        super().__init__(says)
        self.status, self.says = status, says


class Door:
    """Lets in whom it should and passes them on.

    Args:
        app: the application behind.
        hosts: names under which it may be asked for; None lets every name in (give a token then).
        token: where given, needed once in the address as `?token=`, afterwards kept in a cookie.
    """

    def __init__(self, app: App, *, hosts: Collection[str] | None = LOOPBACK, token: str = ""):
        assert token or hosts is not None, "an open door needs a token"
        self.app, self.hosts, self.token = app, hosts, token
        # of its own: browsers do not tell the servers of one machine apart by their ports
        self.cookie = f"stylex-{sha256(token.encode()).hexdigest()[:12]}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one connection."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        answer = Answer(send)
        try:
            if scope["type"] != "http":
                raise Refused(400, "only HTTP is spoken here")
            headers = _headers(scope)
            self._check(scope, headers)
            if self.token and not self._knows(headers):
                await self._welcome(scope, answer)
                return
            await self.app(scope, await _bounded(scope, headers, receive), answer)
        except Refused as refused:
            if scope["type"] == "http" and not answer.begun:
                await answer.says(refused.status, refused.says)

    def _check(self, scope: Scope, headers: dict[str, str]) -> None:
        """Refuse a foreign name (DNS rebinding) and whatever another site sends."""
        asked = headers.get("host", "")
        name = _host(asked)
        if not name or (self.hosts is not None and name not in self.hosts):
            raise Refused(403, "this server is not known by that name; use the address it printed")
        origin = headers.get("origin")
        if origin is not None and _netloc(origin) != asked.lower():
            raise Refused(403, "another site may not ask this server")
        page = scope["method"] == "GET" and not scope["path"].startswith("/api/")
        if not page and headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            raise Refused(403, "another site may not ask this server")

    def _knows(self, headers: dict[str, str]) -> bool:
        # one by one: others of the same host may be whatever they like
        pairs = (one.strip().partition("=") for one in headers.get("cookie", "").split(";"))
        return any(name == self.cookie and self._right(value) for name, _, value in pairs)

    def _right(self, token: str) -> bool:
        return secrets.compare_digest(token.encode(), self.token.encode())

    async def _welcome(self, scope: Scope, answer: "Answer") -> None:
        """Take the token out of the address into a cookie that no script and no other site sees."""
        query = parse_qs(scope["query_string"].decode("latin-1"), errors="replace")
        if scope["method"] != "GET" or not self._right(query.get("token", [""])[0]):
            raise Refused(401, "a token is needed: open the address that `stylex view` printed")
        # Lax: Strict is not sent after a link in a letter, and /api/ refuses other sites itself
        cookie = f"{self.cookie}={self.token}; HttpOnly; SameSite=Lax; Path=/"
        await answer.says(303, "welcome", {"location": "/", "set-cookie": cookie})


class Answer:
    """Sends an answer with the headers that every answer carries.

    Args:
        send: of the server.
    """

    def __init__(self, send: Send):
        self.send, self.begun = send, False

    async def __call__(self, message: Message) -> None:
        """Pass a message of the application on."""
        if message["type"] == "http.response.start":
            self.begun = True
            own = {name.lower() for name, _ in message["headers"]}
            more = [(k.encode(), v.encode()) for k, v in HEADERS.items() if k.encode() not in own]
            message = {**message, "headers": [*message["headers"], *more]}
        await self.send(message)

    async def says(self, status: int, says: str, headers: dict[str, str] | None = None) -> None:
        """Answer with one line as JSON."""
        body = json.dumps({"says": says}).encode()
        named = {"content-type": "application/json", "content-length": str(len(body))}
        pairs = [(k.encode(), v.encode()) for k, v in (named | (headers or {})).items()]
        await self({"type": "http.response.start", "status": status, "headers": pairs})
        await self({"type": "http.response.body", "body": body})


def _headers(scope: Scope) -> dict[str, str]:
    """Headers by lower-case name; of one that stands twice, the ones that matter are refused."""
    named: dict[str, str] = {}
    for name, value in scope["headers"]:
        key = name.decode("latin-1").lower()
        if key in named and key in ("host", "origin", "content-length"):
            raise Refused(400, f"the header {key} stands twice")
        named[key] = value.decode("latin-1")
    return named


def _host(asked: str) -> str:
    """The name in a Host header without its port; empty where it is none."""
    try:
        return urlsplit(f"//{asked}").hostname or ""
    except ValueError:
        return ""


def _netloc(origin: str) -> str:
    """The name and port of an Origin header; empty where it is none."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


async def _bounded(scope: Scope, headers: dict[str, str], receive: Receive) -> Receive:
    """Read the body before the application is asked, and no more than its path may take."""
    most = IMAGE_BYTES if scope["path"] == "/api/images" else JSON_BYTES
    says = f"too large: at most {most:,} bytes are taken here"
    length = headers.get("content-length", "0")
    if not length.isascii() or not length.isdigit() or len(length) > 18 or int(length) > most:
        raise Refused(413, says)
    body, more = bytearray(), True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise Refused(400, "the request was not finished")
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > most:
            raise Refused(413, says)
    whole = [{"type": "http.request", "body": bytes(body), "more_body": False}]

    async def again() -> Message:
        return whole.pop() if whole else await receive()

    return again
