"""What a pex changes in a running Python: its path and its modules. Python 3.8 and its standard library are enough.

Nothing is changed before all is decided, and a change that fails is taken back. Leaves nothing in the user's namespace; what
was is kept on the shell, or on `sys` where there is none.
"""

import importlib
import importlib.machinery
import json
import os
import site
import sys
import sysconfig

# What the kernel itself runs on. Its objects are in use, so it stays as it is whatever a pex has.
OF_KERNEL = frozenset(
    "IPython comm debugpy ipykernel ipykernel_launcher jedi jupyter_client jupyter_core matplotlib_inline nest_asyncio"
    " nest_asyncio2 parso prompt_toolkit psutil pydevd pygments stack_data tornado traitlets zmq".split()
)

NATIVE = tuple(importlib.machinery.EXTENSION_SUFFIXES)

STANDARD = tuple(
    os.path.realpath(path) + os.sep
    for path in {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")}
    if path
)


def holder():
    """Where state is kept."""
    try:
        return sys.modules["IPython"].get_ipython() or sys
    except (KeyError, AttributeError):
        return sys


def start():
    """The path and the modules as the kernel started; as they are now where nobody noted them."""
    if not hasattr(holder(), "_nb_start"):
        holder()._nb_start = (list(sys.path), dict(sys.modules))
    return holder()._nb_start


def state():
    return getattr(holder(), "_nb_pex", None)


def file_of(module):
    """Its file; nothing for what is built in, for namespaces, and for what only looks like a module."""
    try:
        file = module.__file__
    except Exception:
        return None
    return file if isinstance(file, str) else None


def folders_of(module):
    try:
        return [str(path) for path in module.__path__]
    except Exception:
        return []


def lies_in(file, folder):
    return file.startswith(os.path.join(folder, ""))


def is_native(module):
    return (file_of(module) or "").endswith(NATIVE)


def is_standard(module):
    file = file_of(module)
    if file is None:
        return not folders_of(module)
    real = os.path.realpath(file)
    packages = (os.sep + "site-packages" + os.sep, os.sep + "dist-packages" + os.sep)
    return real.startswith(STANDARD) and not any(part in real for part in packages)


def family(name):
    """The module of this name and all below it that are loaded."""
    below = name + "."
    return {
        known: module
        for known, module in list(sys.modules.items())
        if module is not None and (known == name or known.startswith(below))
    }


def is_same_file(one, other):
    try:
        if os.path.samefile(one, other):
            return True
        if os.path.getsize(one) != os.path.getsize(other):
            return False
        with open(one, "rb") as first, open(other, "rb") as second:
            while True:
                part = first.read(1 << 20)
                if part != second.read(1 << 20):
                    return False
                if not part:
                    return True
    except OSError:
        return False


def sizes(folder):
    """The files below a folder, without Python's caches."""
    found = {}
    for root, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name != "__pycache__"]
        for name in files:
            path = os.path.join(root, name)
            found[os.path.relpath(path, folder)] = os.path.getsize(path)
    return found


def is_same(loaded, here):
    """Whether what is loaded is what stands here: then nothing has to be swapped."""
    file = file_of(loaded)
    if file is None:
        return False
    if not os.path.isdir(here):
        return is_same_file(file, here)
    there = os.path.dirname(file)
    if there == here:
        return True
    try:
        if any(
            os.path.getsize(os.path.join(there, name)) != size
            for name, size in sizes(here).items()
        ):
            return False
    except OSError:
        return False
    for module in family(loaded.__name__).values():
        file = file_of(module)
        if file and lies_in(file, there):
            if not is_same_file(file, os.path.join(here, os.path.relpath(file, there))):
                return False
    return True


def is_old_namespace(init):
    """Whether a package's __init__.py only joins its parts, as namespaces did before Python 3.3."""
    try:
        with open(init, "rb") as file:
            text = file.read(4096)
    except OSError:
        return False
    return b"extend_path" in text or b"declare_namespace" in text


def modules_in(folder):
    """What Python could import from a folder: name -> path."""
    found = {}
    for name in sorted(os.listdir(folder)):
        path = os.path.join(folder, name)
        stem = name.split(".")[0]
        if os.path.isdir(path):
            if name.isidentifier() and name != "__pycache__":
                found[name] = path
        elif stem.isidentifier() and stem != "__init__" and name.endswith((".py",) + NATIVE):
            found.setdefault(stem, path)
    return found


class Plan:
    """What loading a mount would change."""

    def __init__(self, mount):
        self.mount = mount
        self.purge = {}
        self.swapped = []
        self.refused = []
        self.kept = []
        # Modules whose __path__ gets a folder of the mount.
        self.extend = []
        # What is loaded and would not change.
        self.same = set()
        for name, path in modules_in(mount).items():
            self.look(name, path)

    def look(self, name, path):
        module = sys.modules.get(name)
        if module is None or is_standard(module):
            return
        init = os.path.join(path, "__init__.py")
        is_package = os.path.isdir(path)
        if is_package and file_of(module) is None:
            # A namespace finds its parts by itself, but for one that hides it.
            if os.path.exists(init):
                self.purge[name] = module
                if not is_old_namespace(init):
                    self.swap(name, path)
                    return
            self.look_below(name, path)
        elif is_package and not os.path.exists(init):
            if folders_of(module) and is_old_namespace(file_of(module)):
                self.extend.append((name, path))
                self.look_below(name, path)
        elif is_package and folders_of(module) and is_old_namespace(init):
            if path not in folders_of(module):
                self.extend.append((name, path))
            self.look_below(name, path)
        else:
            self.swap(name, path)

    def look_below(self, name, path):
        for child, below in modules_in(path).items():
            self.look(name + "." + child, below)

    def swap(self, name, path):
        module = sys.modules[name]
        loaded = family(name)
        if is_same(module, path):
            self.same.update(loaded)
        elif name.split(".")[0] in OF_KERNEL:
            self.kept.append(name)
            self.same.update(loaded)
        elif any(map(is_native, loaded.values())):
            self.refused.append([name, file_of(module) or ", ".join(folders_of(module))])
        else:
            self.swapped.append(name)
            self.purge.update(loaded)


def unmount(path, same):
    """The path without what an earlier load has added, and what was loaded from there."""
    before = state()
    if not before:
        return path, {}
    added = before["added"]
    gone = {}
    for name, module in list(sys.modules.items()):
        file = file_of(module)
        if name not in same and file and any(lies_in(file, folder) for folder in added):
            gone[name] = module
    return [entry for entry in path if entry not in added], gone


def restore(path, modules, paths):
    """Brings all of this back as it was."""
    sys.path[:] = path
    for name in [name for name in sys.modules if name not in modules]:
        del sys.modules[name]
    sys.modules.update(modules)
    for module, folders in paths:
        module.__path__[:] = folders
    importlib.invalidate_caches()


def take_back(before):
    """Takes the folders of a mount out of the packages that they were added to."""
    for name, path in before["extended"]:
        module = sys.modules.get(name)
        if module is not None and path in folders_of(module):
            module.__path__.remove(path)


def tops(names):
    """The first parts of names, each once."""
    return sorted({name.split(".")[0] for name in names})


def load(title, mount):
    start()
    mount = os.path.abspath(mount)
    plan = Plan(mount)
    if plan.refused:
        return {"refused": plan.refused}
    path, modules = list(sys.path), dict(sys.modules)
    before = state()
    extended = plan.extend + [(n, p) for n, p in (before or {}).get("extended", ())]
    joined = {id(modules[name]): modules[name] for name, _ in extended if modules.get(name)}
    paths = [
        (module, list(module.__path__))
        for module in joined.values()
        if isinstance(getattr(module, "__path__", None), list)
    ]
    try:
        rest, gone = unmount(path, plan.same)
        gone.update(plan.purge)
        if before:
            take_back(before)
        for name in gone:
            sys.modules.pop(name, None)
        sys.path[:] = rest
        importlib.invalidate_caches()
        # Also does what the .pth files of distributions say.
        site.addsitedir(mount)
        added = [entry for entry in sys.path if entry not in rest]
        if mount not in added:
            raise ImportError("the folder %s cannot be added to the path" % mount)
        sys.path[:] = added + rest
        for name, folder in plan.extend:
            module = sys.modules.get(name)
            if module is not None and isinstance(module.__path__, list):
                module.__path__.insert(0, folder)
        importlib.invalidate_caches()
    except BaseException as problem:
        restore(path, modules, paths)
        if isinstance(problem, (Exception, KeyboardInterrupt)):
            raise
        # What a .pth file does must not end the kernel.
        raise ImportError("%s: %s" % (type(problem).__name__, problem)) from None
    holder()._nb_pex = {
        "title": title,
        "mount": mount,
        "added": added,
        "extended": plan.extend,
    }
    stale = [name for name in gone if name not in plan.purge]
    return {
        "swapped": plan.swapped,
        "kept": plan.kept,
        "removed": tops(stale),
        "native": tops(name for name in stale if is_native(gone[name])),
    }


def clean(mounts_folder):
    first_path, first_modules = start()
    before = state()
    removed = [entry for entry in sys.path if entry not in first_path]
    added = [entry for entry in first_path if entry not in sys.path]
    # Modules kept by a later load may come from the folder of an earlier one.
    mounts = [folder for folder in removed if isinstance(folder, str) and os.path.isabs(folder)]
    entries = [e for e in first_path if isinstance(e, str) and os.path.isabs(e)] + mounts
    gone = {}
    for name, module in list(sys.modules.items()):
        file = file_of(module)
        if file is None or module is first_modules.get(name):
            continue
        roots = [entry for entry in entries if lies_in(file, entry)]
        if roots and max(roots, key=len) in mounts or lies_in(file, mounts_folder):
            gone[name] = module
    if before:
        take_back(before)
    for name in gone:
        del sys.modules[name]
    back = [name for name in first_modules if name not in sys.modules]
    for name in back:
        sys.modules[name] = first_modules[name]
    sys.path[:] = first_path
    holder()._nb_pex = None
    importlib.invalidate_caches()
    return {
        "path": [str(entry) for entry in removed],
        "added": [str(entry) for entry in added],
        "modules": tops(gone),
        "count": len(gone),
        "back": tops(back),
        "native": tops(name for name in gone if is_native(gone[name])),
    }


def status():
    now = state()
    return {"loaded": now and {"title": now["title"], "mount": now["mount"]}}


def here():
    return {
        "about": about(),
        "folder": os.getcwd(),
        "python": sys.executable,
        "repository": getattr(holder(), "_nb_pants", None),
    }


def set_repository(folder):
    holder()._nb_pants = folder


def run(request):
    function, arguments = json.loads(request)
    print("\n" + json.dumps(globals()[function](*arguments)))
