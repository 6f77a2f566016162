"""What it takes to get a table of a gigabyte from another kernel of a notebook, beside a copy of its memory and the conversions.

In each round, in the notebook's own kernel: `%get` from a `%%venv` kernel, and by hand the same without a second kernel: the frame to Arrow,
a copy of that memory, and Arrow to the frame again. Prints medians, ratios of the same round, and their spread; asserts nothing. Run
by `cargo xtask bench frames`.
"""

import argparse
import json
import statistics
import tempfile
from pathlib import Path

from environments import Gateway, Nb, run

ROUNDS = 5

PACKAGES = "numpy pandas pyarrow"

# Of about a gigabyte each.
TABLES = {
    "numbers (16 columns)": "pd.DataFrame(np.random.default_rng(1).random((8_000_000, 16)))",
    "numbers, times and categories": """pd.DataFrame({
        **{f"n{at}": np.arange(12_000_000) + at for at in range(8)},
        "t": pd.date_range("2026-01-01", periods=12_000_000, freq="s", tz="Europe/Oslo"),
        "c": pd.Categorical.from_codes(np.arange(12_000_000) % 50, [f"town {at}" for at in range(50)])})""",
    "texts": """pd.DataFrame({f"s{at}": pd.Series(np.arange(10_000_000).astype(str), dtype="string[pyarrow]") for at in range(6)})""",
    "an Arrow table": "pa.table({f'n{at}': np.random.default_rng(1).random(8_000_000) for at in range(16)})",
}

BY_HAND = """
import time, json
import numpy as np, pandas as pd, pyarrow as pa
def by_hand(value):
    begun = time.monotonic()
    table = pa.Table.from_pandas(value) if isinstance(value, pd.DataFrame) else value
    stream = pa.BufferOutputStream()
    with pa.ipc.new_file(stream, table.schema) as writer:
        writer.write_table(table)
    table = pa.ipc.open_file(pa.BufferReader(stream.getvalue())).read_all()
    back = table.to_pandas() if isinstance(value, pd.DataFrame) else table
    return time.monotonic() - begun
def by_nb():
    begun = time.monotonic()
    get_ipython().run_line_magic("get", "value --from other")
    return time.monotonic() - begun
"""


class Notebook:
    def __init__(self, gateway):
        self.gateway = gateway
        gateway.start(Path("frames.ipynb"))
        (self.kernel,) = gateway.kernels

    def run(self, code):
        environment = {**self.gateway.nb.environment, "NB_GATEWAY_URL": f"http://127.0.0.1:{self.gateway.port}"}
        return run([self.gateway.nb.program, "kernel", "exec", self.kernel, code], environment)[0]


def measure(notebook):
    said = notebook.run("print('\\n' + json.dumps([by_nb(), by_hand(value)]))")
    return json.loads(said.strip().splitlines()[-1])


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--nb", required=True)
    arguments.add_argument("--folder", required=True)
    arguments.add_argument("--tools", default="", help="where nb's own uv is, if it is not to be fetched")
    asked = arguments.parse_args()
    Path(asked.folder).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
        folder = Path(folder).resolve()
        tools = Path(asked.tools).resolve() if asked.tools else folder / "none"
        gateway = Gateway(Nb(str(Path(asked.nb).resolve()), folder, tools))
        try:
            notebook = Notebook(gateway)
            notebook.run(f"%pip install -q {PACKAGES}")
            notebook.run(BY_HAND)
            print(f"A table from one kernel to another: {ROUNDS} rounds, ratios to a copy by hand in the same round.\n")
            print(f"{'':<34}{'MB':>6}{'nb, ms':>9}{'hand, ms':>10}{'ratio':>8}   spread of the ratio")
            imports = "import numpy as np, pandas as pd, pyarrow as pa\n"
            for title, made in TABLES.items():
                notebook.run(f"%%venv other --with {PACKAGES}\n{imports}value = {made}")
                # What happens once, as imports, is nobody's.
                measure(notebook)
                rounds = [measure(notebook) for _ in range(ROUNDS)]
                size = notebook.run("print((pa.Table.from_pandas(value) if isinstance(value, pd.DataFrame) else value).nbytes)")
                ratios = sorted(nb / hand for nb, hand in rounds)
                nb, hand = (statistics.median(one) * 1000 for one in zip(*rounds))
                line = f"{title:<34}{int(size) / 1e6:>6.0f}{nb:>9.0f}{hand:>10.0f}{statistics.median(ratios):>7.2f}x"
                print(f"{line}   {ratios[0]:.2f} to {ratios[-1]:.2f}")
        finally:
            gateway.end()


main()
