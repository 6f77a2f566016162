"""`GET nb/kernels/{id}/journal`: what a kernel has said and nb still holds, for the plugin in the page.

The gateway's answer as it comes, asked with the server's own credentials. Must not know what is in it.
"""

from __future__ import annotations

from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import APIHandler
from jupyter_server.gateway.gateway_client import GatewayClient
from jupyter_server.utils import url_path_join
from tornado import web
from tornado.escape import url_escape
from tornado.httpclient import AsyncHTTPClient, HTTPError

PATH = r"nb/kernels/(?P<kernel_id>\w+-\w+-\w+-\w+-\w+)/journal"

# What may be asked of a journal.
PARAMETERS = ("msg_id", "after", "limit")

# One output may be large; tornado's default of 100 MB refuses it.
PAGE_BYTES_MAX = 512 * 1024 * 1024


class JournalHandler(APIHandler):
    """For those who may see the kernels of this server."""

    auth_resource = "kernels"

    @web.authenticated
    @authorized
    async def get(self, kernel_id: str) -> None:
        gateway = GatewayClient.instance()
        url = url_path_join(gateway.url or "", gateway.kernels_endpoint, url_escape(kernel_id), "journal")
        asked = ((name, self.get_query_argument(name, None)) for name in PARAMETERS)
        query = "&".join(f"{name}={url_escape(value)}" for name, value in asked if value is not None)
        http = AsyncHTTPClient(force_instance=True, max_buffer_size=PAGE_BYTES_MAX)
        try:
            answer = await http.fetch(f"{url}?{query}", raise_error=False, **gateway.load_connection_args())
        except (HTTPError, OSError) as error:
            raise web.HTTPError(503, f"the gateway cannot be asked: {error}") from error
        finally:
            http.close()
        # 599 is tornado's own word for no answer.
        self.set_status(503 if answer.code == 599 else answer.code)
        self.set_header("Content-Type", "application/json")
        self.finish(answer.body or b"{}")
