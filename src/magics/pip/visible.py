"""Lets this process see what was installed, and prints which of the packages that were replaced it has imported.

Run with `told`, JSON: `added` is where what was added is, `old` the paths of the modules of each package that was replaced.
"""

import importlib
import json
import os
import site
import sys

told = json.loads(told)  # noqa: F821
added = told["added"]
if added and added["packages"] not in sys.path:
    before = list(sys.path)
    site.addsitedir(added["packages"])
    new = [folder for folder in sys.path if folder not in before]
    sys.path[:] = before
    packages = [n for n, folder in enumerate(sys.path) if folder.endswith("site-packages")]
    at = packages[0] if packages else len(sys.path)
    sys.path[at:at] = new
    # The kernel's own from here on: %clean_path leaves it.
    first = getattr(getattr(sys.modules.get("IPython"), "get_ipython", list)(), "_nb_start", ([],))[0]
    packages = [n for n, folder in enumerate(first) if folder.endswith("site-packages")]
    at = packages[0] if packages else len(first)
    first[at:at] = new
    # What is started from here has it too.
    programs = os.path.dirname(added["python"])
    os.environ["PATH"] = os.pathsep.join([programs, os.environ.get("PATH", "")])
    os.environ["VIRTUAL_ENV"] = os.path.dirname(programs)
    sys.executable = added["python"]
importlib.invalidate_caches()
files = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
files = [file for file in files if isinstance(file, str)]


def is_imported(modules):
    inside = tuple(os.path.join(module, "") for module in modules)
    return any(file in modules or file.startswith(inside) for file in files)


print(json.dumps({"imported": sorted(name for name, modules in told["old"].items() if is_imported(modules))}))
