"""`nb/kernels/{id}/line?session_id=`, a WebSocket: whether this server still has a page's connection to a kernel.

A page whose packets vanished for a while is not told that its connection was ended, and has no way to ask over it.
Its requests wait in connections that hang like that one, of which a browser has six for a server; a WebSocket is a
connection of its own. Owns the connections that there are; must not know what goes over them.
"""

from __future__ import annotations

from collections import Counter

from jupyter_core.utils import ensure_async
from jupyter_server.base.handlers import JupyterHandler
from jupyter_server.base.websocket import WebSocketMixin
from tornado import web
from tornado.websocket import WebSocketHandler

PATH = r"nb/kernels/(?P<kernel_id>\w+-\w+-\w+-\w+-\w+)/line"

# A page that comes back may be here twice for a while.
_connections: Counter[tuple[str, str]] = Counter()


def begun(kernel_id: str, session_id: str) -> None:
    """A page has connected."""
    _connections[kernel_id, session_id] += 1


def ended(kernel_id: str, session_id: str) -> None:
    """Its connection is gone."""
    _connections[kernel_id, session_id] -= 1
    if _connections[kernel_id, session_id] <= 0:
        del _connections[kernel_id, session_id]


class LineHandler(WebSocketMixin, WebSocketHandler, JupyterHandler):
    """For those who may use the kernels of this server: `yes` or `no`."""

    auth_resource = "kernels"

    def set_default_headers(self) -> None:
        """Those of pages make no sense here."""

    async def get(self, kernel_id: str) -> None:
        user = self.current_user
        if user is None or not await ensure_async(
            self.authorizer.is_authorized(self, user, "execute", "kernels")
        ):
            raise web.HTTPError(403)
        await super().get(kernel_id)

    def open(self, kernel_id: str) -> None:
        session_id = self.get_query_argument("session_id")
        self.write_message("yes" if (kernel_id, session_id) in _connections else "no")
        self.close()

    def on_message(self, message: str | bytes) -> None:
        """Nothing more is asked."""
