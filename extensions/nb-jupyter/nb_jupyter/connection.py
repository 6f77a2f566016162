"""One browser's connection to a kernel behind a gateway, in the place of jupyter_server's own.

Messages go as they came wherever both sides speak the same framing, buffers included. nb is told that something
has arrived only when the browser says so: nb's ping is passed on behind the messages that it followed, and the
browser's pong becomes `{"nb":{"ack":N}}`. When the gateway goes away it is called again, under the same session,
for as long as the browser stays; what the browser sends meanwhile waits here.

With a gateway that is not nb, messages are carried and nothing is acknowledged. Must not know what is in a message.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque

from jupyter_server.gateway.connections import GatewayWebSocketConnection
from jupyter_server.gateway.gateway_client import GatewayClient
from jupyter_server.utils import url_path_join
from tornado.escape import url_escape
from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.iostream import StreamClosedError
from tornado.websocket import WebSocketClosedError
from traitlets import Unicode

from . import line
from .framing import V1, FramingError, to_legacy, to_v1
from .upstream import Upstream

# Between two calls of a gateway that is away.
RETRY_FIRST_S = 0.25
RETRY_MAX_S = 5.0

# A connection that held for so long was no failure.
STABLE_S = 1.0

# What a browser may say while the gateway is away; beyond it the browser is told to come back later.
WAITING_BYTES_MAX = 256 * 1024 * 1024

# A large message that so many connections in a row broke on is not sent again: the gateway refuses it.
TRIES_MAX = 3
LARGE_BYTES = 1024 * 1024

# Close codes: the kernel is gone, this connection was replaced by a newer one, something is wrong here.
GONE, REPLACED, BROKEN = 1000, 4000, 1011


class NbWebSocketConnection(GatewayWebSocketConnection):
    """A `ServerApp.kernel_websocket_connection_class` for servers in gateway mode."""

    # The stock class forces the legacy framing; None offers what the browser can.
    kernel_ws_protocol = Unicode(None, allow_none=True, config=True)

    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        self._upstream: Upstream | None = None
        self._task: asyncio.Task | None = None
        self._browser_speaks_v1 = False
        self._waiting: deque[str | bytes] = deque()
        self._waiting_bytes = 0
        self._tries = 0
        self._wake = asyncio.Event()
        self._told: str | None = None

    # --- called by jupyter_server ---

    async def connect(self) -> None:
        """The browser is there; returns at once."""
        handler = self.websocket_handler
        self._browser_speaks_v1 = handler.selected_subprotocol == V1
        # Else a reply waits for the browser's delayed acknowledgement of the output before it.
        handler.set_nodelay(True)
        try:
            # tornado has no public way to do so for one connection.
            handler.ws_connection.params.max_message_size = WAITING_BYTES_MAX
        except AttributeError as error:
            self.log.warning("nb_jupyter: browsers are held to tornado's limit: %s", error)
        stock_on_pong = handler.on_pong

        def on_pong(data: bytes) -> None:
            stock_on_pong(data)
            self._browser_has(data)

        handler.on_pong = on_pong
        line.begun(self.kernel_id, self.session_id)
        self._task = asyncio.ensure_future(self._run())

    def disconnect(self) -> None:
        """The browser is gone."""
        self.disconnected = True
        if self._task is not None:
            self._task.cancel()
            line.ended(self.kernel_id, self.session_id)
            self._task = None
        if self._upstream is not None:
            self._upstream.abandon()

    def handle_incoming_message(self, incoming_msg: str | bytes) -> None:
        """The browser says something."""
        if self.disconnected:
            return
        if self._waiting_bytes + len(incoming_msg) > WAITING_BYTES_MAX:
            self.log.error("nb_jupyter: too much waits for the gateway of kernel %s", self.kernel_id)
            self._close_browser(BROKEN, "too much waits for the gateway")
            return
        self._waiting.append(incoming_msg)
        self._waiting_bytes += len(incoming_msg)
        self._wake.set()

    # --- the gateway ---

    async def _run(self) -> None:
        try:
            code, reason = await self._stay_connected()
        except Exception:
            self.log.exception("nb_jupyter: a fault in the connection to kernel %s", self.kernel_id)
            code, reason = BROKEN, "a fault in nb_jupyter"
        self._close_browser(code, reason)

    async def _stay_connected(self) -> tuple[int, str]:
        """Until the kernel is gone, or this connection no longer wanted; gives the close code for the browser."""
        failures = 0
        while True:
            since = time.monotonic()
            try:
                upstream = self._call()
                # Shielded: cancelled, it would connect later and be closed by nobody.
                await asyncio.shield(upstream.connect_future)
            except HTTPClientError as error:
                if error.code in (404, 410):
                    self.log.info("nb_jupyter: the gateway has no kernel %s", self.kernel_id)
                    return GONE, "the kernel is gone"
                why = f"answers {error.code} {error.message}"
            except Exception as error:
                why = f"cannot be reached: {error!r}"
            else:
                is_nb = upstream.is_nb
                self._tell(f"connected, {'' if is_nb else 'not '}to nb, as session {self.session_id}")
                await self._serve(upstream)
                code, reason = upstream.close_code, upstream.close_reason or ""
                if is_nb and code in (GONE, REPLACED):
                    self.log.info("nb_jupyter: kernel %s: %s %s", self.kernel_id, code, reason)
                    return code, reason
                why = f"ended the connection ({code} {reason})"
                if time.monotonic() - since > STABLE_S:
                    failures = 0
            self._tell(f"the gateway {why}; it is called again until it answers", is_bad=True)
            delay = min(RETRY_FIRST_S * 2**failures, RETRY_MAX_S)
            failures = min(failures + 1, 10)
            await asyncio.sleep(delay * random.uniform(0.5, 1))  # noqa: S311

    def _call(self) -> Upstream:
        client = GatewayClient.instance()
        url = url_path_join(
            client.ws_url or "", client.kernels_endpoint, url_escape(self.kernel_id), "channels"
        )
        if self.session_id:
            url += f"?session_id={url_escape(self.session_id)}"
        upstream = Upstream(
            HTTPRequest(url, **client.load_connection_args()),
            lambda message: self._from_gateway(upstream, message),
            lambda data: self._pinged(upstream, data),
        )
        self._upstream = upstream
        return upstream

    async def _serve(self, upstream: Upstream) -> None:
        sender = asyncio.ensure_future(self._send(upstream))
        try:
            await upstream.closed()
        finally:
            upstream.abandon()
            self._wake.set()
        # It ends by itself: cancelled, it could not tell whether its message had gone.
        await sender

    async def _send(self, upstream: Upstream) -> None:
        """Sends what waits, in order; what has not gone is left to the next connection."""
        while upstream.protocol is not None:
            if not self._waiting:
                self._wake.clear()
                await self._wake.wait()
                continue
            message = self._waiting[0]
            try:
                payload = self._translated(message, self._browser_speaks_v1, upstream.speaks_v1)
                await upstream.write_message(payload, binary=isinstance(payload, bytes))
            except FramingError as error:
                self.log.warning("nb_jupyter: ignored what a browser sent: %s", error)
            except (WebSocketClosedError, StreamClosedError):
                self._tries += 1
                if len(message) < LARGE_BYTES or self._tries < TRIES_MAX:
                    return
                self.log.error(
                    "nb_jupyter: left out a message of %s bytes that the gateway does not take", len(message)
                )
            self._waiting.popleft()
            self._waiting_bytes -= len(message)
            self._tries = 0

    async def _from_gateway(self, upstream: Upstream, message: str | bytes) -> None:
        """Returns when the browser's socket has taken it. Never fails: that would end the reading."""
        try:
            payload = self._translated(message, upstream.speaks_v1, self._browser_speaks_v1)
            await self.websocket_handler.write_message(payload, binary=isinstance(payload, bytes))
        except FramingError as error:
            self.log.warning("nb_jupyter: left out what the gateway sent: %s", error)
        except (WebSocketClosedError, StreamClosedError):
            # Not acknowledged, so it is sent again when the browser is back.
            self.log.debug("nb_jupyter: the browser left before a message")

    def _translated(self, message: str | bytes, from_v1: bool, into_v1: bool) -> str | bytes:
        if from_v1 and isinstance(message, str):
            raise FramingError("text in the v1 framing")
        if from_v1 == into_v1:
            return message
        return to_v1(message) if into_v1 else to_legacy(message)

    # --- who has what ---

    def _pinged(self, upstream: Upstream, data: bytes) -> None:
        """nb asks for an acknowledgement; everything before it has been written to the browser."""
        if upstream.is_nb and data.isdigit():
            upstream.asked = data
            try:
                self.websocket_handler.ping(data)
            except (WebSocketClosedError, StreamClosedError):
                self.log.debug("nb_jupyter: the browser left before a ping")

    def _browser_has(self, data: bytes) -> None:
        """The browser's pong; those of jupyter_server's own pings carry no number.

        It may answer what an earlier connection asked: of this one that would say what nobody knows.
        """
        upstream = self._upstream
        if not data.isdigit() or upstream is None or not upstream.is_nb or data != upstream.asked:
            return
        try:
            sent = upstream.write_message('{"nb":{"ack":%d}}' % int(data))
        except (WebSocketClosedError, StreamClosedError):
            return
        # Lost, it means that something comes twice.
        sent.add_done_callback(lambda future: future.cancelled() or future.exception())

    # --- what people see ---

    def _tell(self, what: str, is_bad: bool = False) -> None:
        """A line in the log, once until there is another."""
        if what != self._told:
            log = self.log.warning if is_bad else self.log.info
            log("nb_jupyter: kernel %s: %s", self.kernel_id, what)
        self._told = what

    def _close_browser(self, code: int, reason: str) -> None:
        if not self.disconnected:
            # A close frame has room for 123 bytes of reason.
            self.websocket_handler.close(code, reason[:40])
