"""nb's companion for jupyter_server: makes a server in gateway mode carry everything that nb sends.

Loaded as a server extension it puts its connection class in the place of the stock one, in gateway mode only.
Owns that choice and the version; what a connection does is `connection`'s.
"""

from __future__ import annotations

__version__ = "0.1.0"


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "nb_jupyter"}]


def _load_jupyter_server_extension(serverapp) -> None:
    """Called by jupyter_server once its handlers are there; they look the class up for each connection."""
    from jupyter_server.gateway.connections import GatewayWebSocketConnection

    from .connection import NbWebSocketConnection

    if not serverapp.gateway_config.gateway_enabled:
        serverapp.log.debug("nb_jupyter: this server has no gateway, so there is nothing to do")
        return
    current = serverapp.kernel_websocket_connection_class
    if current is NbWebSocketConnection:
        return
    if current is not GatewayWebSocketConnection:
        serverapp.log.warning("nb_jupyter: %s was asked for and stays", current.__name__)
        return
    serverapp.kernel_websocket_connection_class = NbWebSocketConnection
    serverapp.web_app.settings["kernel_websocket_connection_class"] = NbWebSocketConnection
    serverapp.log.info("nb_jupyter %s carries the kernels' messages", __version__)
