"""Kernels that a server which ended has left behind its gateway.

Its notebook sessions name them, where they are kept in a file (`SessionManager.database_filepath`): those that still run are
known to the next server from the start, so pages find theirs again. Must not know what kernels do.
"""

from __future__ import annotations

import asyncio
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from jupyter_server.gateway.gateway_client import gateway_request
from jupyter_server.gateway.managers import GatewayMappingKernelManager
from jupyter_server.utils import url_path_join
from tornado.escape import json_decode, url_escape

# The gateway is there already, as a rule.
WITHIN_S = 20


def take_back(serverapp) -> None:
    """Called before the server answers anybody: a session whose kernel it does not know is forgotten when it is asked for."""
    if not isinstance(serverapp.kernel_manager, GatewayMappingKernelManager):
        return
    ids = _kernels_of(serverapp.session_manager, serverapp.log)
    if not ids:
        return
    taking = asyncio.wait_for(_take(serverapp.kernel_manager, ids), WITHIN_S)
    try:
        # The server's own loop does not run yet, and is not to be disturbed.
        with ThreadPoolExecutor(1) as thread:
            taken = thread.submit(asyncio.run, taking).result()
    except Exception as error:
        serverapp.log.warning("nb_jupyter: the kernels of earlier sessions are not known: %r", error)
        return
    serverapp.log.info("nb_jupyter: %d of %d kernels of earlier sessions still run", taken, len(ids))


def _kernels_of(sessions, log) -> list[str]:
    try:
        rows = sessions.cursor.execute("SELECT DISTINCT kernel_id FROM session").fetchall()
    except sqlite3.DatabaseError as error:
        # Left as it is, no session could be begun any more.
        log.warning("nb_jupyter: earlier sessions cannot be read, and are forgotten: %s", error)
        sessions.close()
        sessions._connection = None
        Path(sessions.database_filepath).unlink(missing_ok=True)
        return []
    return [row["kernel_id"] for row in rows]


async def _take(manager, ids: list[str]) -> int:
    # Asked for one by one, a kernel that the gateway has trouble with would stand in the way of the others.
    response = await gateway_request(manager.kernels_url, method="GET")
    models = [model for model in json_decode(response.body) if model["id"] in ids]
    for model in models:
        kernel = manager.kernel_manager_factory(parent=manager, log=manager.log)
        kernel.kernel_id = model["id"]
        kernel.kernel_url = url_path_join(manager.kernels_url, url_escape(model["id"]))
        await kernel.refresh_model(model)
        manager._kernels[model["id"]] = kernel
    return len(models)
