"""The notebook suite: 30 notebooks, each run by nbclient with a kernel of its own, directly and through nb.

`suite.py ROOT` takes the ways from the environment: `IT_DIRECT` and `IT_LAUNCH` name kernelspecs, of which the
second is nb's; the HTTP way is jupyter_server's client as its variables say. Prints each difference as notebook, cell and outputs.

The notebooks are in notebooks.py, as text: `#%% name` begins one, `#%` a cell.
"""

import asyncio
import copy
import faulthandler
import itertools
import json
import os
import re
import sys
import threading
import time
from pathlib import Path

import nbformat
from jupyter_client.manager import AsyncKernelManager
from jupyter_server.gateway.managers import GatewayKernelManager
from nbclient import NotebookClient

LIMIT = 60

# Then it tells what it is at, and fails: before whoever runs this gives up.
ALL_LIMIT = 270

# What runs, as way and name: its notebook, and since when.
RUNNING = {}

# So many kernels at once.
TOGETHER = 4

# What differs from one run to the next, wherever it is run.
VARYING = [
    (re.compile(r"0x[0-9a-f]{6,}"), "0xADDRESS"),
    (re.compile(r"\b[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}\b"), "UUID"),
    (re.compile(r"\b[0-9a-f]{32}\b"), "UUID"),
    (re.compile(r"(?<=books/)(direct|launch|http)(?=/)"), "WAY"),
    (re.compile(r"\bT_[0-9a-f]{5}(?=[_ \"])"), "STYLE"),
    (re.compile(r"<dc:date>[^<]*"), "<dc:date>"),
    (re.compile(r"ipykernel_\d+"), "ipykernel_PID"),
    (re.compile(r"(?<=ipykernel_PID[/\\])\d+"), "CELL"),
    (re.compile(r"(?m)^(CPU times:|Wall time:) .*$"), r"\1 TIME"),
    (re.compile(r"\b\d+(\.\d+)? ?[mnuμµ]?s ± .*"), "TIME"),
    (re.compile(r"\d+(\.\d+)?it/s|\?it/s|\d\d:\d\d<\d\d:\d\d|\d\d:\d\d<\?"), "RATE"),
    # As wide as the rate beside it leaves room for.
    (re.compile(r"(?<=%\|)[█▏▎▍▌▋▊▉# ]+(?=\|)"), "BAR"),
]


class Http(GatewayKernelManager):
    """Asks for the kernelspec that it was made for, which the stock class forgets."""

    async def start_kernel(self, **more):
        await super().start_kernel(**{"kernel_name": self.kernel_name, **more})


class Local(AsyncKernelManager):
    """Over Unix sockets: the ports that jupyter_client chooses for TCP may be taken before the kernel has bound them."""

    number = itertools.count()

    def __init__(self, **more):
        super().__init__(transport="ipc", ip=f"{sys.argv[1]}/s{next(self.number)}", **more)


WAYS = {
    "direct": {"kernel_name": os.environ["IT_DIRECT"], "kernel_manager_class": Local},
    "launch": {"kernel_name": os.environ["IT_LAUNCH"], "kernel_manager_class": Local},
    "http": {"kernel_name": os.environ["IT_DIRECT"], "kernel_manager_class": Http},
}


def notebooks():
    source = Path(__file__).with_name("notebooks.py").read_text()
    for block in re.split(r"(?m)^#%% ", source)[1:]:
        name, cells = block.split("\n", 1)
        cells = [part.strip("\n") for part in re.split(r"(?m)^#%\n", cells)]
        cells = [nbformat.v4.new_code_cell(cell) for cell in cells if cell.strip()]
        yield name.strip(), nbformat.v4.new_notebook(cells=cells)


def normal(value):
    if isinstance(value, dict):
        return {normal(key): normal(item) for key, item in value.items()}
    if isinstance(value, list):
        return [normal(item) for item in value]
    if isinstance(value, str):
        for pattern, instead in VARYING:
            value = pattern.sub(instead, value)
    return value


def outputs(cell):
    """Streams joined where nothing else is between them: where they are cut, and which of stdout and stderr
    comes first, is chance, with every kernel."""
    joined, streams = [], {}
    for output in copy.deepcopy(cell.outputs):
        if output.output_type != "stream":
            streams = {}
            joined.append(output)
        elif output.name in streams:
            streams[output.name].text += output.text
        else:
            streams[output.name] = output
            joined.append(output)
            joined[-len(streams) :] = sorted(streams.values(), key=lambda stream: stream.name)
    return [normal(json.loads(json.dumps(output))) for output in joined]


async def run(way, name, notebook, turns, folder):
    notebook = copy.deepcopy(notebook)
    folder = folder / way / name
    folder.mkdir(parents=True)
    resources = {"metadata": {"path": str(folder)}}
    async with turns:
        RUNNING[way, name] = (notebook, time.monotonic())
        client = NotebookClient(
            notebook, timeout=LIMIT, resources=resources, allow_errors=True, raise_on_iopub_timeout=True,
            **WAYS[way],
        )
        await client.async_execute()
        del RUNNING[way, name]
    shown = [(cell.source, cell.execution_count, outputs(cell)) for cell in notebook.cells]
    # The state of widgets, whose ids are chance: in the order of their making.
    widgets = notebook.metadata.get("widgets", {}).values()
    states = [[re.sub("IPY_MODEL_\\w+", "IPY_MODEL", json.dumps(normal(state))) for state in of["state"].values()]
              for of in widgets]
    return shown, states


def differences(name, expected, way, got):
    for n, (one, other) in enumerate(zip(expected[0], got[0], strict=True)):
        if one != other:
            yield f"{name}, cell {n}, {way}:\n{one[0]}\n--- direct\n{one[1:]!r:.3000}\n--- {way}\n{other[1:]!r:.3000}"
    if expected[1] != got[1]:
        yield f"{name}, widgets, {way}:\n--- direct\n{expected[1]!r:.3000}\n--- {way}\n{got[1]!r:.3000}"


async def main(folder):
    books = dict(notebooks())
    assert len(books) >= 30, len(books)
    folder.mkdir()
    turns = asyncio.Semaphore(TOGETHER)
    began = time.monotonic()
    done = {}
    for way in WAYS:
        # One way after the other: the client of the HTTP one keeps this thread busy while it waits.
        runs = (run(way, name, book, turns, folder) for name, book in books.items())
        done[way] = await asyncio.gather(*runs, return_exceptions=True)
    told, empty = [], []
    for at, name in enumerate(books):
        by_way = {way: done[way][at] for way in WAYS}
        broken = {way: got for way, got in by_way.items() if isinstance(got, BaseException)}
        told += [f"{name}, {way}: {error!r}" for way, error in broken.items()]
        if not broken:
            expected = by_way.pop("direct")
            empty += [name] if not any(shown for *_, shown in expected[0]) else []
            told += [line for way, got in by_way.items() for line in differences(name, expected, way, got)]
    print("\n\n".join(told))
    print(f"{len(books)} notebooks, {len(told)} differences, {time.monotonic() - began:.0f} s")
    assert not empty, f"these show nothing: {empty}"
    return len(told)


def tell_and_fail():
    for (way, name), (notebook, since) in list(RUNNING.items()):
        done = [cell.execution_count for cell in notebook.cells]
        print(f"{name}, {way}: {time.monotonic() - since:.0f} s, cells {done}", file=sys.stderr)
    faulthandler.dump_traceback(all_threads=True)
    os._exit(3)


if __name__ == "__main__":
    watch = threading.Timer(ALL_LIMIT, tell_and_fail)
    watch.daemon = True
    watch.start()
    sys.exit(min(asyncio.run(main(Path(sys.argv[1]))), 1))
