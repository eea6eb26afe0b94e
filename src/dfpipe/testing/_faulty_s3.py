"""A reverse proxy before an S3 server that does to requests what networks and servers do on bad days.

Requests go on unchanged, with the address that the client has signed, so the server's own checks of signatures and
conditions hold. Both sides are real sockets.

The proxy runs in a thread of the client's process, so it cannot answer a client that keeps Python's lock while it
waits. deltalake does so in ``table.alter``, which times out here, and not where it opens, reads, writes or commits.
"""

import asyncio
import io
import random
import socket
import struct
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from types import TracebackType
from typing import Literal, Self

from aiohttp import ClientSession, ClientTimeout, TCPConnector, web
from multidict import CIMultiDict
from yarl import URL

from dfpipe.settings import S3Settings

__all__ = ["Fault", "FaultyS3", "Rule", "Seen"]

Fault = Literal[
    "slow_down",
    "internal_error",
    "hang",
    "reset",
    "half_request",
    "half_response",
    "lost_answer",
    "conflict",
    "expired_token",
    "clock_skew",
    "full",
    "quota",
]
"""What can happen to a request.

``slow_down`` to ``internal_error`` and ``conflict`` to ``quota`` are answers of
the server; ``hang`` is no answer; ``reset`` ends the connection at once, ``half_request`` in the middle of what the
client sends, ``half_response`` in the middle of what it gets. With ``lost_answer`` the server does what was asked, and
the client is told that it failed.
"""

ANSWERS: dict[Fault, tuple[int, str]] = {
    "slow_down": (503, "SlowDown"),
    "internal_error": (500, "InternalError"),
    "lost_answer": (500, "InternalError"),
    "conflict": (409, "ConditionalRequestConflict"),
    "expired_token": (403, "ExpiredToken"),
    "clock_skew": (403, "RequestTimeTooSkewed"),
    "full": (507, "InsufficientStorage"),
    "quota": (403, "QuotaExceeded"),
}

# These speak of one connection; and the server is asked what the client asks, in whatever steps that came.
NOT_FORWARDED = frozenset({"connection", "keep-alive", "transfer-encoding", "trailer", "upgrade", "expect"})

AUTOMATIC = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
"""Headers that aiohttp would add of its own."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Which requests meet which fault."""

    fault: Fault
    """What happens."""
    method: str = "*"
    """HTTP method, or a pattern of it."""
    path: str = "*"
    """Pattern of the path with its query, such as ``/bucket/tables/*.parquet``."""
    skip: int = 0
    """Fitting requests that pass unharmed before the first."""
    every: int = 1
    """Of the fitting requests, the first of so many."""
    probability: float = 1.0
    """Chance of those to meet it, 0 to 1."""
    times: int | None = None
    """Most requests that meet it; None is no bound."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A request that came by."""

    method: str
    """HTTP method."""
    path: str
    """Path with its query."""
    fault: Fault | None
    """What happened to it."""


class FaultyS3:
    """The proxy: a context in which it runs.

    Parameters
    ----------
    server
        Settings that reach the real server.
    rules
        What happens from the start; the first rule that hits decides.
    seed
        Of the chances.
    """

    def __init__(self, server: S3Settings, rules: Sequence[Rule] = (), *, seed: int = 0) -> None:
        self._server = server
        self._chance = random.Random(seed)  # noqa: S311  # no secret
        self._lock = threading.Lock()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="faulty-s3")
        self.inject(*rules)

    @property
    def settings(self) -> S3Settings:
        """Settings that reach the server through the proxy."""
        return self._server.model_copy(update={"endpoint_url": self._url})

    @property
    def seen(self) -> list[Seen]:
        """The requests since the start or the last `inject`, in the order in which they came."""
        with self._lock:
            return list(self._seen)

    def inject(self, *rules: Rule) -> None:
        """From now on let these happen, and nothing else."""
        with self._lock:
            self._counted = [_Counted(rule) for rule in rules]
            self._seen: list[Seen] = []

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _start(self) -> None:
        # Bytes go on as they are, and an answer that takes long is the server's affair.
        self._client = ClientSession(
            auto_decompress=False, connector=TCPConnector(limit=0), timeout=ClientTimeout(total=None)
        )
        application = web.Application(client_max_size=0)
        application.router.add_route("*", "/{path:.*}", self._handle)
        # A client that hangs up ends what is done for it.
        self._runner = web.AppRunner(application, access_log=None, handler_cancellation=True, shutdown_timeout=1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        host, port = self._runner.addresses[0]
        self._url = f"http://{host}:{port}"

    async def _stop(self) -> None:
        await self._runner.cleanup()
        await self._client.close()

    def _choose(self, method: str, path: str) -> Fault | None:
        with self._lock:
            # Each rule counts what fits it, whether or not an earlier one has decided.
            hits = [counted.rule.fault for counted in self._counted if counted.hits(method, path, self._chance)]
            fault = hits[0] if hits else None
            self._seen.append(Seen(method, path, fault))
            return fault

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        fault = self._choose(request.method, request.raw_path)
        if fault == "hang":
            # What is sent is taken first: no client's clock counts how long that takes.
            await request.read()
            await asyncio.Event().wait()
        if fault == "reset":
            return _hang_up(request)
        if fault == "half_request":
            if request.content_length:
                await request.content.readexactly(request.content_length // 2)
            return _hang_up(request)
        body = await request.read()
        if fault in ANSWERS and fault != "lost_answer":
            return _refuse(fault)
        headers = CIMultiDict(
            (name, text) for name, text in request.headers.items() if name.lower() not in NOT_FORWARDED
        )
        target = URL(f"{self._server.endpoint_url}{request.raw_path}", encoded=True)
        async with self._client.request(
            request.method,
            target,
            headers=headers,
            data=io.BytesIO(body) if body else None,
            allow_redirects=False,
            skip_auto_headers=AUTOMATIC,
        ) as answer:
            content = await answer.read()
            if fault == "lost_answer":
                return _refuse(fault)
            response = web.StreamResponse(status=answer.status, reason=answer.reason)
            for name, text in answer.headers.items():
                if name.lower() not in NOT_FORWARDED:
                    response.headers.add(name, text)
        await response.prepare(request)
        if fault == "half_response":
            await response.write(content[: len(content) // 2])
            return _hang_up(request)
        if content:
            await response.write(content)
        await response.write_eof()
        return response


class _Counted:
    """A rule and what it has met."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self._fitting = 0
        self._met = 0

    def hits(self, method: str, path: str, chance: random.Random) -> bool:
        rule = self.rule
        if not (fnmatchcase(method, rule.method) and fnmatchcase(path, rule.path)):
            return False
        position = self._fitting - rule.skip
        self._fitting += 1
        if position < 0 or position % rule.every or (rule.times is not None and self._met >= rule.times):
            return False
        if chance.random() >= rule.probability:
            return False
        self._met += 1
        return True


def _refuse(fault: Fault) -> web.Response:
    status, code = ANSWERS[fault]
    text = f"<?xml version='1.0' encoding='UTF-8'?><Error><Code>{code}</Code><Message>injected</Message></Error>"
    return web.Response(status=status, text=text, content_type="application/xml")


def _hang_up(request: web.Request) -> web.Response:
    if request.transport is not None:
        # Without lingering the other side gets a reset, and not a polite end.
        connection = request.transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        request.transport.abort()
    # Goes nowhere.
    return web.Response()
