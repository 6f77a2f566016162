"""What a notebook takes from the command line to the written file, by `nb run`, papermill and `jupyter execute`.

In each round a notebook of one cell and one of fifty, by each of them in turn, in the same kernel with the same packages; then one that
prints much. Whole processes on the wall clock: start, kernel, cells, file. Prints medians, ratios to nb in the same round, and their
spread; asserts nothing but that the outputs are there. Run by `cargo xtask bench jobs`.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROUNDS = 5

DEADLINE = 300

LINES = 20_000

NB, PAPERMILL, JUPYTER = "nb run", "papermill", "jupyter execute"


def cell(number, source):
    return {"cell_type": "code", "id": f"c{number}", "metadata": {}, "execution_count": None, "outputs": [], "source": source}


NOTEBOOKS = {
    "one cell": ["print(6 * 7)"],
    "50 cells": ["print(6 * 7)"] * 50,
    f"{LINES} lines": [f"for n in range({LINES}): print(n)\nprint(6 * 7)"],
}


def run(command, environment, folder):
    begun = time.monotonic()
    done = subprocess.run(
        command, env=environment, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=DEADLINE
    )
    took = time.monotonic() - begun
    if done.returncode != 0:
        sys.exit(f"{command}: {done.stderr}")
    return took


def is_whole(path):
    outputs = json.loads(path.read_text())["cells"][-1]["outputs"]
    return any("42" in "".join(output.get("text", "")) for output in outputs)


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--nb", required=True)
    asked = arguments.parse_args()
    clients = Path(sys.prefix) / "bin"
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        spec = folder / "data/kernels/here"
        spec.mkdir(parents=True)
        (spec / "kernel.json").write_text(json.dumps({
            "argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"], "language": "python", "display_name": "here",
        }))
        environment = {
            **os.environ, "JUPYTER_PATH": str(folder / "data"), "NB_RUNTIME_DIR": str(folder / "run"),
            "NB_STATE_DIR": str(folder / "state"), "NB_DATA_DIR": str(folder / "nb"),
        }
        ways = {
            NB: lambda name: [str(Path(asked.nb).resolve()), "run", name, "out.ipynb"],
            PAPERMILL: lambda name: [str(clients / "papermill"), name, "out.ipynb"],
            JUPYTER: lambda name: [str(clients / "jupyter-execute"), name, "--output", "out.ipynb"],
        }
        print(f"{ROUNDS} rounds, ratios to {NB} in the same round.\n")
        for title, sources in NOTEBOOKS.items():
            notebook = {
                "cells": [cell(number, source) for number, source in enumerate(sources)],
                "metadata": {"kernelspec": {"name": "here", "display_name": "here", "language": "python"}},
                "nbformat": 4, "nbformat_minor": 5,
            }
            (folder / "in.ipynb").write_text(json.dumps(notebook))
            rounds = []
            for _ in range(ROUNDS):
                took = {}
                for way, command in ways.items():
                    (folder / "out.ipynb").unlink(missing_ok=True)
                    took[way] = run(command("in.ipynb"), environment, folder)
                    if not is_whole(folder / "out.ipynb"):
                        sys.exit(f"{way} has lost output of {title}")
                rounds.append(took)
            print(f"{title:<20}{'median, s':>12}{'ratio':>8}   spread of the ratio")
            for way in ways:
                ratios = sorted(one[way] / one[NB] for one in rounds)
                median = statistics.median(one[way] for one in rounds)
                print(f"{way:<20}{median:>12.2f}{statistics.median(ratios):>7.1f}x   {ratios[0]:.1f} to {ratios[-1]:.1f}")
            print()


if __name__ == "__main__":
    main()
