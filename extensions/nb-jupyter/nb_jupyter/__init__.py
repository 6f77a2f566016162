"""nb's companion for jupyter_server: makes a server in gateway mode carry everything that nb sends.

Loaded as a server extension it puts its connection class in the place of the stock one, and lets pages ask for what
cells have said, in gateway mode only. Owns that choice and the version; what a connection does is `connection`'s.
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
    from .kernels import take_back

    take_back(serverapp)
    _serve_journals(serverapp.web_app)
    current = serverapp.kernel_websocket_connection_class
    if current is NbWebSocketConnection:
        _serve_lines(serverapp.web_app)
        return
    if current is not GatewayWebSocketConnection:
        serverapp.log.warning("nb_jupyter: %s was asked for and stays", current.__name__)
        return
    serverapp.kernel_websocket_connection_class = NbWebSocketConnection
    serverapp.web_app.settings["kernel_websocket_connection_class"] = NbWebSocketConnection
    _serve_lines(serverapp.web_app)
    serverapp.log.info("nb_jupyter %s carries the kernels' messages", __version__)


def _serve_journals(web_app) -> None:
    from .journal import PATH, JournalHandler

    _serve(web_app, PATH, JournalHandler)
    # The plugin in the page does nothing without it.
    web_app.settings.setdefault("page_config_data", {})["nbJupyter"] = __version__


def _serve_lines(web_app) -> None:
    """Of connections of this package only: of others it knows nothing."""
    from .line import PATH, LineHandler

    _serve(web_app, PATH, LineHandler)


def _serve(web_app, path: str, handler: type) -> None:
    from jupyter_server.utils import url_path_join

    web_app.add_handlers(".*$", [(url_path_join(web_app.settings["base_url"], path), handler)])


def _jupyter_labextension_paths() -> list[dict[str, str]]:
    return [{"src": "labextension", "dest": "nb-jupyter-outputs"}]
