"""What changes in the environment that this process runs in, whoever changes it: a cell, a shell, another notebook.

Part of the helper, and of its kind: see the head of nb_helper.py.
"""


class Changes:
    """The changes that other processes write down in files; env/changes.rs tells how."""

    def __init__(self, files):
        # What a notebook has added comes before what its user has added for all.
        self.own = os.path.dirname(os.fsdecode(files[0])) if len(files) > 1 else None
        self.seen = {}
        for file in files:
            changes = read_changes(file)
            self.seen[file] = (stamp(file), changes[-1]["number"] if changes else 0)

    def look(self):
        """Lets this process see what is new, and says what it has imported of what is gone."""
        stale = []
        for file, (before, last) in list(self.seen.items()):
            now = stamp(file)
            if now == before:
                continue
            for change in read_changes(file):
                if change["number"] > last:
                    last = change["number"]
                    see(change.get("added"), self.own if os.path.dirname(os.fsdecode(file)) != self.own else None)
                    stale += imported(change["replaced"])
            self.seen[file] = (now, last)
        if stale:
            print(
                "Imported already, and in this kernel until it is restarted: %s. `%%nb restart` restarts it."
                % ", ".join(stale),
                flush=True,
            )


def stamp(file):
    try:
        return os.stat(file).st_mtime_ns
    except OSError:
        return None


def read_changes(file):
    try:
        with open(file) as changes:
            return json.load(changes)["changes"]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def see(added, over=None):
    """Takes what was added in, below what is in the folder `over`."""
    import importlib

    if added:
        import site

        # Path files in it may be new, also where it is known.
        before = list(sys.path)
        site.addsitedir(added["packages"])
        new = [folder for folder in sys.path if folder not in before]
        above = [folder for folder in before if over and folder.startswith(os.path.join(over, ""))]
        sys.path[:] = in_front(new, before, above)
        # The kernel's own from here on: %clean_path leaves it.
        start = getattr(sys.modules["IPython"].get_ipython(), "_nb_start", None)
        if start:
            start[0][:] = in_front(new, start[0], above)
        if not above:
            # What is started from here has it too.
            programs = os.path.dirname(added["python"])
            path = os.environ.get("PATH", "")
            if programs not in path.split(os.pathsep):
                os.environ["PATH"] = os.pathsep.join([programs, path])
            os.environ["VIRTUAL_ENV"] = os.path.dirname(programs)
            sys.executable = added["python"]
    importlib.invalidate_caches()


def in_front(new, path, above):
    """The path with new folders before all folders of packages but those above."""
    packages = [n for n, folder in enumerate(path) if folder.endswith("site-packages") and folder not in above]
    at = packages[0] if packages else len(path)
    return path[:at] + new + path[at:]


def imported(replaced):
    """What of this has been imported, with its old version and its new one."""
    files = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
    files = [file for file in files if isinstance(file, str)]
    found = []
    for one in replaced.values():
        modules = one["modules"]
        inside = tuple(os.path.join(module, "") for module in modules)
        if any(file in modules or file.startswith(inside) for file in files):
            found.append("%s (now %s)" % (one["old"], one["new"] or "gone"))
    return found


BLOCK = "# /// script"


class Blocks:
    """A cell with a block of inline script metadata (PEP 723) in its head has its packages installed first.

    The call is put in front of what IPython has parsed: the text of the cell stays as it was typed, in `In` and tracebacks.
    """

    def __init__(self):
        self.block = None

    def look(self, lines):
        """IPython is about to parse this."""
        self.block = block_of(lines) if any(line.startswith(BLOCK) for line in lines) else None
        return lines

    def visit(self, tree):
        import ast
        import base64

        block, self.block = self.block, None
        if block is None:
            return tree
        number, text = block
        line = "script " + ("several" if text is None else base64.b64encode(text.encode()).decode())
        call = ast.parse("get_ipython().run_line_magic('nb', %r)" % line).body[0]
        for node in ast.walk(call):
            if hasattr(node, "lineno"):
                node.lineno = node.end_lineno = number
        is_future = lambda node: isinstance(node, ast.ImportFrom) and node.module == "__future__"
        at = next((n for n, node in enumerate(tree.body) if not is_future(node)), len(tree.body))
        tree.body.insert(at, call)
        return tree


def follow_blocks(shell):
    blocks = Blocks()

    def nb_script(lines):
        return blocks.look(lines)

    post, asts = shell.input_transformers_post, shell.ast_transformers
    post[:] = [one for one in post if getattr(one, "__name__", "") != "nb_script"] + [nb_script]
    asts[:] = [one for one in asts if type(one).__name__ != "Blocks"] + [blocks]


def block_of(lines):
    """The number of the line with which the block of a cell begins, and its text; no text when there are several.

    As PEP 723 has it, but for that only comments stand before the block.
    """
    import re

    cell = "".join(lines).replace("\r\n", "\n")
    expression = r"(?m)^# /// (?P<type>[a-zA-Z0-9-]+)$\s(?P<content>(^#(| .*)$\s)+)^# ///$"
    blocks = [one for one in re.finditer(expression, cell) if one.group("type") == "script"]
    before = cell[: blocks[0].start()] if blocks else ""
    if not blocks or any(line.strip() and not line.startswith("#") for line in before.split("\n")):
        return None
    content = blocks[0].group("content").splitlines(keepends=True)
    text = "".join(one[2:] if one.startswith("# ") else one[1:] for one in content)
    return before.count("\n") + 1, text if len(blocks) == 1 else None
