"""The same losses with nb, jupyter_server and jupyter_enterprise_gateway: what a client gets of what a kernel said.

Each server runs as installed, with its defaults, on loopback; the client is tornado's WebSocket client, the kernel is
ipykernel. Prints a table and asserts nothing. Run by `cargo xtask losses`.
"""

import argparse
import asyncio
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from pathlib import Path

from tornado.httpclient import HTTPRequest
from tornado.websocket import websocket_connect

TOKEN = secrets.token_hex(16)
LINES = 2000
BURST = 20_000
DEADLINE = 60


def free_port():
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return held.getsockname()[1]


class Server:
    """A server as a process, which can be killed and started again at the same port."""

    def __init__(self, name, argv, folder, environment):
        self.name, self.argv, self.folder = name, argv, folder
        self.port = free_port()
        self.environment = environment
        self.process = None

    def start(self):
        argv = [part.replace("{port}", str(self.port)) for part in self.argv]
        log = open(self.folder / "log", "ab")
        self.process = subprocess.Popen(
            argv, cwd=self.folder, env=self.environment, stdout=log, stderr=log, start_new_session=True
        )
        begun = time.monotonic()
        while time.monotonic() - begun < DEADLINE:
            try:
                self.rest("GET", "/api/kernelspecs")
                return time.monotonic() - begun
            except OSError:
                if self.process.poll() is not None:
                    raise RuntimeError((self.folder / "log").read_text()[-300:])
                time.sleep(0.02)
        raise TimeoutError(self.name)

    def rest(self, method, path, body=None):
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"token {TOKEN}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=DEADLINE) as answer:
            content = answer.read()
            return json.loads(content) if content else None

    def end(self, how):
        if self.process is not None:
            self.process.send_signal(how)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


class Client:
    """A client session over one WebSocket after the other."""

    def __init__(self, server, kernel):
        self.server, self.kernel = server, kernel
        self.session = uuid.uuid4().hex
        self.line = None
        # What a page shows below each cell, and the cells whose next output takes the place of that.
        self.shown, self.cleared = {}, set()

    async def connect(self):
        url = (
            f"ws://127.0.0.1:{self.server.port}/api/kernels/{self.kernel}/channels"
            f"?session_id={self.session}&token={TOKEN}"
        )
        request = HTTPRequest(url, headers={"Authorization": f"token {TOKEN}"}, request_timeout=DEADLINE)
        self.line = await asyncio.wait_for(websocket_connect(request, max_message_size=2**30), DEADLINE)

    def cut(self):
        """The network is gone: no goodbye."""
        self.line.protocol.stream.close()

    async def submit(self, code):
        msg_id = uuid.uuid4().hex
        header = {
            "msg_id": msg_id, "msg_type": "execute_request", "session": self.session, "username": "",
            "date": "2026-01-01T00:00:00Z", "version": "5.4",
        }
        content = {
            "code": code, "silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": False,
            "stop_on_error": True,
        }
        message = {
            "channel": "shell", "header": header, "parent_header": {}, "metadata": {}, "content": content, "buffers": [],
        }
        await self.line.write_message(json.dumps(message))
        return msg_id

    async def hear(self, msg_id, within=DEADLINE, until=None):
        """What is shown of a cell at its end, or once a text is; and whether its reply came."""
        replied, idle = False, False
        end = time.monotonic() + within
        while not (replied and idle) and time.monotonic() < end:
            try:
                raw = await asyncio.wait_for(self.line.read_message(), max(0.05, end - time.monotonic()))
            except (asyncio.TimeoutError, OSError):
                break
            if raw is None:
                break
            message = json.loads(raw)
            if message["parent_header"].get("msg_id") != msg_id:
                continue
            kind, content = message["header"]["msg_type"], message["content"]
            if kind == "clear_output":
                self.cleared.add(msg_id)
            if kind == "stream" and content["name"] == "stdout":
                before = "" if msg_id in self.cleared else self.shown.get(msg_id, "")
                self.cleared.discard(msg_id)
                self.shown[msg_id] = before + content["text"]
            replied |= kind == "execute_reply"
            idle |= kind == "status" and content["execution_state"] == "idle"
            if until is not None and until in self.shown.get(msg_id, ""):
                break
        return self.shown.get(msg_id, ""), replied


def numbers(text):
    return [int(line) for line in text.split() if line.isdigit()]


def slowly(lines=LINES):
    return f"import time\nfor i in range({lines}):\n    print(i, flush=True)\n    time.sleep(0.001)"


def compared(got, count):
    lost = count - len(set(got))
    return f"{lost} of {count}" + (f", {len(got) - len(set(got))} twice" if len(got) > len(set(got)) else "")


async def away(server, same_session):
    kernel = server.rest("POST", "/api/kernels", {"name": "python3"})["id"]
    client = Client(server, kernel)
    await client.connect()
    cell = await client.submit(slowly())
    await client.hear(cell, until="\n100\n")
    client.cut()
    await asyncio.sleep(1)
    if not same_session:
        client.session = uuid.uuid4().hex
    await client.connect()
    shown, replied = await client.hear(cell, within=15)
    server.rest("DELETE", f"/api/kernels/{kernel}")
    return compared(numbers(shown), LINES) + ("" if replied else ", no reply")


async def burst(server):
    kernel = server.rest("POST", "/api/kernels", {"name": "python3"})["id"]
    client = Client(server, kernel)
    await client.connect()
    cell = await client.submit(f"for i in range({BURST}): print(i, flush=True)")
    text, _ = await client.hear(cell)
    server.rest("DELETE", f"/api/kernels/{kernel}")
    return compared(numbers(text), BURST)


async def restart(server, how):
    kernel = server.rest("POST", "/api/kernels", {"name": "python3"})["id"]
    client = Client(server, kernel)
    await client.connect()
    await client.hear(await client.submit("x = 41"))
    cell = await client.submit(slowly())
    await client.hear(cell, until="\n100\n")
    server.end(how)
    server.start()
    try:
        server.rest("GET", f"/api/kernels/{kernel}")
    except urllib.error.HTTPError:
        return "the kernel is gone"
    shown, replied = await client.hear(cell, within=10)
    if not replied:
        try:
            await client.connect()
            shown, replied = await client.hear(cell, within=10)
            kept, _ = await client.hear(await client.submit("print(x + 1)"), within=10)
        except Exception:
            return "the kernel is listed and cannot be reached"
    else:
        kept, _ = await client.hear(await client.submit("print(x + 1)"), within=10)
    lost = compared(numbers(shown), LINES)
    server.rest("DELETE", f"/api/kernels/{kernel}")
    return f"{lost}; variables {'kept' if '42' in kept else 'lost'}" + ("" if replied else ", no reply")


async def death(server):
    kernel = server.rest("POST", "/api/kernels", {"name": "python3"})["id"]
    client = Client(server, kernel)
    await client.connect()
    cell = await client.submit("import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(600)")
    text, _ = await client.hear(cell, until="\n")
    begun = time.monotonic()
    os.kill(int(text), signal.SIGKILL)
    _, replied = await client.hear(cell, within=20)
    told = f"{time.monotonic() - begun:.2f} s" if replied else "never"
    server.rest("DELETE", f"/api/kernels/{kernel}")
    return told


CASES = [
    ("lines lost: away for a second, same session", lambda server: away(server, True)),
    ("lines lost: away for a second, page loaded anew", lambda server: away(server, False)),
    ("lines lost: 20,000 printed at once", burst),
    ("server killed and started again, a cell running", lambda server: restart(server, signal.SIGKILL)),
    ("server told to end and started again", lambda server: restart(server, signal.SIGTERM)),
    ("kernel killed: its cell is answered after", death),
]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--nb", required=True)
    parser.add_argument("--jupyter-server", required=True)
    parser.add_argument("--jeg")
    parser.add_argument("--only", help="one of the servers")
    parser.add_argument("--python", required=True, help="of the kernels")
    arguments = parser.parse_args()
    servers = {
        "nb": [os.path.abspath(arguments.nb), "serve", "--port", "{port}"],
        "jupyter_server": [
            os.path.abspath(arguments.jupyter_server), "--port={port}", "--ServerApp.port_retries=0", "--no-browser",
            "--allow-root",
        ],
    }
    if arguments.jeg:
        servers["JEG"] = [
            os.path.abspath(arguments.jeg), "--ip=127.0.0.1", "--port={port}", "--EnterpriseGatewayApp.port_retries=0",
        ]
    table = {name: {} for name, _ in CASES}
    servers = {name: argv for name, argv in servers.items() if arguments.only in (None, name)}
    for name, argv in servers.items():
        for case, play in CASES:
            with tempfile.TemporaryDirectory(prefix="l-", ignore_cleanup_errors=True) as folder:
                folder = Path(folder)
                spec = folder / "jupyter/kernels/python3"
                spec.mkdir(parents=True)
                command = [arguments.python, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
                (spec / "kernel.json").write_text(
                    json.dumps({"argv": command, "display_name": "Python 3", "language": "python"})
                )
                environment = {
                    "PATH": os.environ["PATH"], "HOME": str(folder), "JUPYTER_PATH": str(folder / "jupyter"),
                    "NB_TOKEN": TOKEN, "JUPYTER_TOKEN": TOKEN, "EG_AUTH_TOKEN": TOKEN, "EG_UNAUTHORIZED_USERS": "nobody",
                    "NB_RUNTIME_DIR": str(folder / "run"), "JUPYTER_RUNTIME_DIR": str(folder / "jrun"),
                }
                server = Server(name, argv, folder, environment)
                try:
                    server.start()
                    table[case][name] = asyncio.run(play(server))
                except Exception as error:
                    table[case][name] = f"failed: {error!r}"[:80]
                finally:
                    try:
                        for model in server.rest("GET", "/api/kernels"):
                            server.rest("DELETE", f"/api/kernels/{model['id']}")
                    except Exception:
                        pass
                    server.end(signal.SIGTERM)
                    # What the peers leave of their kernels when they are killed.
                    subprocess.run(["pkill", "-KILL", "-f", str(folder)], check=False)
            print(f"{name}: {case}: {table[case][name]}", file=sys.stderr, flush=True)
    print("| | " + " | ".join(servers) + " |")
    print("|---|" + "---|" * len(servers))
    for case, row in table.items():
        print(f"| {case} | " + " | ".join(row.get(name, "") for name in servers) + " |")


if __name__ == "__main__":
    main()
