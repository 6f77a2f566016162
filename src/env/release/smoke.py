"""Whether a release works: `-c THIS NAME...` imports the module of each distribution that is named, then a kernel of
it runs a few cells. Ends with 1 and a line for each thing that does not work."""

import importlib
import importlib.metadata
import os
import re
import sys
import tempfile

LIMIT = 60


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def imports(names):
    modules = {}
    for module, owners in importlib.metadata.packages_distributions().items():
        if module.isidentifier() and not module.startswith("_"):
            for owner in owners:
                modules.setdefault(normal(owner), []).append(module)
    for name in names:
        if name not in modules:
            yield f"{name} has no module"
        owned = modules.get(name, [])
        # Beside the one of its name there may be bridges to what is not there.
        for module in [module for module in owned if normal(module) == name] or owned:
            print("imports", module, flush=True)
            try:
                importlib.import_module(module)
            except BaseException as error:
                yield f"{module} cannot be imported: {type(error).__name__}: {error}"


def cells():
    from jupyter_client.manager import start_new_kernel

    print("runs a notebook", flush=True)
    manager, client = start_new_kernel(kernel_name="python3", startup_timeout=LIMIT)
    try:
        for source, expected in [("print(6 * 7)", "ok"), ("1 / 0", "error"), ("import sys; sys.version", "ok")]:
            reply = client.execute_interactive(source, output_hook=lambda _: None, timeout=LIMIT)
            if reply["content"]["status"] != expected:
                yield f"the cell {source!r} ended with {reply['content']['status']}"
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def main(names):
    with tempfile.TemporaryDirectory() as folder:
        for variable in ["IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "MPLCONFIGDIR"]:
            os.environ[variable] = folder
        failed = list(imports(names))
        if "ipykernel" in names and not failed:
            failed += cells()
    for line in failed:
        print(line, file=sys.stderr)
    return 1 if failed else 0


sys.exit(main([normal(name) for name in sys.argv[1:]]))
