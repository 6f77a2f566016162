"""One WebSocket to a gateway, whose messages and pings are handled in the order in which they came.

tornado's own client queues messages, so that a ping overtakes them. Here the next frame is read only when the
one before has been dealt with: a slow browser slows the gateway down, which keeps what it has not sent.

Must not know what is in a message.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from tornado.httpclient import HTTPRequest, _RequestProxy
from tornado.httputil import HTTPHeaders
from tornado.ioloop import IOLoop
from tornado.websocket import WebSocketClientConnection

from .framing import V1

# nb's answer to it says that it is nb.
ACK_HEADER = "Nb-Ack"
ACK_CLIENT = "client"

# tornado's default of 10 MiB ends the connection on one large output.
MESSAGE_BYTES_MAX = 1024 * 1024 * 1024


class Upstream(WebSocketClientConnection):
    """Connects at once; `connect_future` is done when it has."""

    def __init__(
        self,
        request: HTTPRequest,
        on_message: Callable[[str | bytes], Awaitable[None]],
        on_ping: Callable[[bytes], None],
    ) -> None:
        request.headers = HTTPHeaders(request.headers)
        request.headers[ACK_HEADER] = ACK_CLIENT
        self._take_message = on_message
        self._take_ping = on_ping
        self._unwanted = False
        # nb's ping that is not yet answered, if there was one: it has one at a time.
        self.asked: bytes | None = None
        super().__init__(
            _RequestProxy(request, HTTPRequest._DEFAULTS),
            max_message_size=MESSAGE_BYTES_MAX,
            subprotocols=[V1],
        )
        IOLoop.current().add_future(self.connect_future, self._connected)

    @property
    def is_nb(self) -> bool:
        return self.speaks_v1 and self.headers.get(ACK_HEADER, "").lower() == ACK_CLIENT

    @property
    def speaks_v1(self) -> bool:
        return self.protocol is not None and self.selected_subprotocol == V1

    def abandon(self) -> None:
        """Closes it, now or as soon as it is connected."""
        self._unwanted = True
        self.close()

    async def closed(self) -> None:
        """Waits until it is over; `close_code` says why, if anything."""
        while await self.read_message() is not None:
            pass

    def _connected(self, future) -> None:
        # Taken here, so that nobody complains about an outcome that nobody wanted.
        if future.cancelled() or future.exception() is not None:
            return
        if self._unwanted:
            self.close()
        else:
            self.protocol.set_nodelay(True)

    # --- called by tornado ---

    def on_message(self, message: str | bytes) -> Awaitable[None]:
        return self._take_message(message)

    def on_ping(self, data: bytes) -> None:
        self._take_ping(data)
