"""Whose a cell is, by IPython's own word: what its transformer sees, and what a kernel does that has no nb.

`typed_cells.py sees` reads a list of cells and prints, for each, the magics that IPython calls there, as it would run them.
`typed_cells.py runs FOLDER` runs cells in FOLDER/work in a kernel of its own, where `magics` give what nb's gave, and prints all that is said of each.
Both read JSON from stdin and print JSON.
"""

import ast
import json
import os
import sys

# Longer than any cell takes.
LIMIT = 60

# Magics whose line or body is code of IPython's again.
NESTED = ("time", "capture")

# In the kernel: magics that do what nb's said, and tell who called them. They leave no name behind.
STAND_INS = '''
import json, sys
from IPython import get_ipython

class Failed(Exception):
    def _render_traceback_(self):
        return self.rendered

def install(names, said):
    shell = get_ipython()
    shell.typed_calls = []
    said = {json.dumps(call): what for call, what in said}

    def stand_in(name, expands):
        def magic(line, cell=None):
            call = [name, line, cell]
            shell.typed_calls.append([shell.kernel.get_parent("shell")["content"]["code"], *call])
            what = said.get(json.dumps(call))
            if what is None:
                raise LookupError("nb was not called so: %r" % call)
            for item in what:
                if "stream" in item:
                    getattr(sys, item["stream"]["name"]).write(item["stream"]["text"])
            last = what[-1]
            if last["status"] != "ok":
                failed = type(last["ename"], (Failed,), {})(last["evalue"])
                failed.rendered = ["\\x1b[31m%s\\x1b[39m: %s" % (last["ename"], last["evalue"])]
                raise failed
            ((kind, value),) = (last.get("result") or {"nothing": None}).items()
            if kind == "nothing" and last.get("display"):
                shell.display_pub.publish(data=last["display"], metadata={})
            return value

        magic._ipython_magic_no_var_expand = not expands
        shell.register_magic_function(magic, "line_cell", name)

    for name, expands in names:
        stand_in(name, expands)
'''


def sees(source):
    """The calls in a cell as (magic, line, body of a `%%` cell); nothing of what is no Python."""
    from IPython.core.inputtransformer2 import TransformerManager

    try:
        tree = ast.parse(TransformerManager().transform_cell(source))
    except SyntaxError:
        return None
    calls = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        if node.func.attr not in ("run_line_magic", "run_cell_magic"):
            continue
        name, *rest = [argument.value for argument in node.args]
        calls.append([name, rest[0], rest[1] if len(rest) > 1 else None])
        if name in NESTED:
            for code in rest if name == "time" else rest[1:]:
                calls += sees(code) or []
    return calls


def runs(folder, cells, names, said):
    from jupyter_client.manager import KernelManager

    manager = KernelManager(transport="ipc", ip=os.path.join(folder, "s"))
    manager.start_kernel(cwd=os.path.join(folder, "work"), stderr=sys.stderr)
    try:
        client = manager.blocking_client()
        client.start_channels()
        client.wait_for_ready(timeout=LIMIT)
        install = "(lambda g: (exec(%r, g), g['install'](%r, %r))[1])({})" % (STAND_INS, names, said)
        client.execute(install, silent=True, store_history=False, reply=True, timeout=LIMIT)
        return [heard(client, cell) for cell in cells]
    finally:
        manager.shutdown_kernel(now=True)


def heard(client, code):
    """All that is said of a cell, as type and content, the reply last."""
    request = client.execute(code, allow_stdin=False, stop_on_error=False)
    said = []
    while True:
        message = client.get_iopub_msg(timeout=LIMIT)
        if message["parent_header"].get("msg_id") != request:
            continue
        said.append([message["msg_type"], message["content"]])
        if message["content"].get("execution_state") == "idle":
            break
    while True:
        reply = client.get_shell_msg(timeout=LIMIT)
        if reply["parent_header"].get("msg_id") == request:
            return said + [[reply["msg_type"], reply["content"]]]


asked = json.load(sys.stdin)
if sys.argv[1] == "sees":
    print(json.dumps([sees(cell) for cell in asked]))
else:
    print(json.dumps(runs(sys.argv[2], asked["cells"], asked["names"], asked["said"]), default=str))
