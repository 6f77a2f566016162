"""What an environment of numpy, pandas and ipykernel takes with nb beside plain uv, from uv's warm cache.

In each round one by `uv venv` and `uv pip install --offline` of what a notebook's lock says, and others, each with its first
import of numpy and pandas. First the rounds in which the other is one by `nb env sync` of a notebook, until a kernel can start
in it; nb is ended there, as whoever writes much leaves a disk on which even links take longer. Then those of what writes much: by
uv compiled, by uv as copies, by nb until all files are its own, and one of another notebook with that lock when nb has a spare.
Prints medians, ratios to plain uv of the same round, and their spread; asserts nothing. Run by `cargo xtask bench environments`.
"""

import argparse
import json
import os
import secrets
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

ROUNDS = 5

# For what happens once, as fetching what is not in the cache, and for what happens at the lowest priority.
DEADLINE = 600

TOKEN = secrets.token_hex(16)

NOTEBOOK = {
    "cells": [{
        "cell_type": "code", "id": "a", "execution_count": None, "metadata": {}, "outputs": [],
        "source": '# /// script\n# dependencies = ["numpy", "pandas"]\n# ///\nimport numpy, pandas',
    }],
    "metadata": {}, "nbformat": 4, "nbformat_minor": 5,
}

PLAIN = "uv"
WRITING = {
    "uv, compiled": ["--compile-bytecode"],
    "uv, copies": ["--link-mode", "copy"],
}
# A kernel can start, and no file is shared with uv's cache any more.
NEW, WHOLE, SECOND = "nb, new", "nb, new, all copied", "nb, second"

# What is to be at most so many times what plain uv takes, or so many milliseconds.
GOALS = {NEW: "1.3x", SECOND: "100 ms"}


def run(arguments, environment):
    begun = time.monotonic()
    done = subprocess.run(
        arguments, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=DEADLINE
    )
    if done.returncode != 0:
        sys.exit(f"{arguments}: {done.stderr}")
    return done.stdout, time.monotonic() - begun


def remove(environment):
    """Out of the way; the time that it takes is nobody's."""
    shutil.rmtree(environment, ignore_errors=True)


def quiet():
    """Waits until what was written before is on the disk: the next one does not wait for it."""
    os.sync()


class Nb:
    """nb with data of its own."""

    def __init__(self, program, folder, tools):
        self.program, self.folder = program, folder
        self.data = folder / "data"
        self.data.mkdir(parents=True, mode=0o700)
        if tools.exists():
            (self.data / "tools").symlink_to(tools)
        self.environment = {
            **os.environ, "NB_DATA_DIR": str(self.data), "NB_STATE_DIR": str(folder / "state"), "NB_TOKEN": TOKEN,
        }

    def env(self, *arguments):
        return run([self.program, "env", *arguments], self.environment)

    def sync(self, notebook):
        """The environment's Python, and how long it took until nb was done."""
        said, done = self.env("sync", str(notebook), "--json")
        return json.loads(said)["python"], done

    def usable(self, notebook):
        """The environment's Python, and how long it took until a kernel can start in it."""
        records = lambda: set((self.data / "venvs").glob("*/nb-venv.json"))
        before, begun = records(), time.monotonic()
        process = subprocess.Popen(
            [self.program, "env", "sync", str(notebook)], env=self.environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )
        while not (made := records() - before):
            if process.poll() is not None:
                sys.exit(f"nb env sync: {process.stderr.read()}")
            time.sleep(0.002)
        took = time.monotonic() - begun
        process.kill()
        process.communicate()
        return str(made.pop().parent / "env/bin/python"), took


class Gateway:
    """Kernels of notebooks, whose supervisors make spares."""

    def __init__(self, nb):
        self.nb = nb
        with socket.socket() as held:
            held.bind(("127.0.0.1", 0))
            self.port = held.getsockname()[1]
        arguments = ["serve", "--port", str(self.port), "--root", nb.folder]
        # Short enough for sockets.
        self.runtime = tempfile.TemporaryDirectory()
        self.log = open(nb.folder / "log", "wb")
        self.process = subprocess.Popen(
            [nb.program, *map(str, arguments), "--runtime-dir", self.runtime.name], env=nb.environment, stdout=self.log, stderr=self.log
        )
        self.kernels = []
        self.wait(lambda: self.rest("GET", "/api/kernels") is not None, "a gateway")

    def rest(self, method, path, body=None):
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", method=method, headers={"Authorization": f"token {TOKEN}"},
            data=None if body is None else json.dumps(body).encode(),
        )
        try:
            with urllib.request.urlopen(request, timeout=DEADLINE) as answer:
                return json.loads(answer.read() or b"{}")
        except urllib.error.HTTPError as refused:
            sys.exit(f"{method} {path}: {refused.read().decode()}")
        except OSError:
            return None

    def wait(self, is_there, what):
        begun = time.monotonic()
        while not is_there():
            if time.monotonic() - begun > DEADLINE or self.process.poll() is not None:
                sys.exit(f"{what} does not come: {Path(self.log.name).read_text()[-2000:]}")
            time.sleep(0.05)

    def start(self, notebook):
        body = {"path": notebook.name, "name": notebook.name, "type": "notebook", "kernel": {"name": "pip"}}
        self.kernels.append(self.rest("POST", "/api/sessions", body)["kernel"]["id"])

    def spares(self):
        """Waits until there is one of the lock and one of what is new, and nobody works on another."""
        whole = lambda: len(list((self.nb.data / "spares").glob("*/nb-spare"))) == 2
        self.wait(whole, "a spare environment")

    def end(self):
        for kernel in self.kernels:
            self.rest("DELETE", f"/api/kernels/{kernel}")
        self.process.terminate()
        self.process.wait(DEADLINE)
        self.runtime.cleanup()


def first_import(python):
    return run([python, "-c", "import numpy, pandas"], os.environ)[1]


class Bench:
    """Makes environments, and says how many seconds each took until it was there, and its first import."""

    def __init__(self, uv, requirements, locked, folder, first, second):
        self.uv, self.requirements, self.locked, self.folder = uv, requirements, locked, folder
        self.first, self.second = first, second

    def plain(self, more=()):
        environment = self.folder / "plain"
        remove(environment)
        python = str(environment / "bin/python")
        quiet()
        venv = run([self.uv, "venv", "--quiet", "--no-project", "--python", ">=3.10,<3.15", str(environment)], os.environ)
        install = ["--quiet", "--offline", "--no-deps", *more, "--python", python, "-r", str(self.requirements)]
        made = venv[1] + run([self.uv, "pip", "install", *install], os.environ)[1]
        imported = first_import(python)
        remove(environment)
        return made, imported

    def notebook(self, nb, number):
        notebook = nb.folder / f"{number}.ipynb"
        notebook.write_text(self.locked)
        quiet()
        return notebook

    def new(self, number):
        notebook = self.notebook(self.first, number)
        python, made = self.first.usable(notebook)
        imported = first_import(python)
        self.first.env("remove", str(notebook))
        return made, imported

    def whole(self, number):
        notebook = self.notebook(self.first, number)
        _, made = self.first.sync(notebook)
        self.first.env("remove", str(notebook))
        return made, None

    def again(self, number, gateway):
        notebook = self.notebook(self.second, number)
        python, made = self.second.sync(notebook)
        imported = first_import(python)
        gateway.start(notebook)
        gateway.spares()
        return made, imported

    def linking(self, number):
        return {PLAIN: self.plain(), NEW: self.new(f"new-{number}")}

    def writing(self, number, gateway):
        round = {PLAIN: self.plain()}
        round |= {way: self.plain(more) for way, more in WRITING.items()}
        return round | {WHOLE: self.whole(f"whole-{number}"), SECOND: self.again(number, gateway)}


def table(title, rounds, which, goals):
    print(f"{title:<34}{'median, ms':>12}{'ratio':>8}   spread of the ratio")
    for column in rounds[0]:
        if rounds[0][column][which] is None:
            continue
        ratios = sorted(one[column][which] / one[PLAIN][which] for one in rounds)
        milliseconds = statistics.median(one[column][which] for one in rounds) * 1000
        line = f"{column:<34}{milliseconds:>12.0f}{statistics.median(ratios):>7.2f}x"
        line += f"   {ratios[0]:.2f} to {ratios[-1]:.2f}"
        print(line + (f"   goal {goals[column]}" if column in goals else ""))
    print()


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--nb", required=True)
    arguments.add_argument("--folder", required=True, help="where environments are made: on the disk of uv's cache")
    arguments.add_argument("--tools", default="", help="where nb's own uv is, if it is not to be fetched")
    asked = arguments.parse_args()
    Path(asked.folder).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
        folder = Path(folder).resolve()
        program = str(Path(asked.nb).resolve())
        tools = Path(asked.tools).resolve() if asked.tools else folder / "none"
        first, second = Nb(program, folder / "new", tools), Nb(program, folder / "second", tools)
        notebook = folder / "new" / "lock.ipynb"
        notebook.write_text(json.dumps(NOTEBOOK))
        first.env("lock", str(notebook))
        locked = notebook.read_text()
        exported, _ = first.env("export", str(notebook), "--format", "requirements", "--kernel")
        requirements = folder / "requirements.txt"
        requirements.write_text(exported)
        own = first.data / "tools/uv/bin/uv"
        uv = shutil.which("uv") or str(own)
        # What the cache does not have is fetched now.
        first.sync(notebook)
        first.env("remove", str(notebook))
        bench = Bench(uv, requirements, locked, folder, first, second)
        linking = [bench.linking(number) for number in range(ROUNDS)]
        gateway = Gateway(second)
        try:
            notebook = folder / "second" / "lock.ipynb"
            notebook.write_text(locked)
            gateway.start(notebook)
            gateway.spares()
            writing = [bench.writing(number, gateway) for number in range(ROUNDS)]
        finally:
            gateway.end()
    print(f"numpy, pandas and ipykernel: {ROUNDS} rounds, ratios to plain uv in the same round.\n")
    for rounds in (linking, writing):
        table("an environment", rounds, 0, GOALS)
        table("the first import", rounds, 1, {})


if __name__ == "__main__":
    main()
