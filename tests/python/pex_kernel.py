"""What src/magics/pex/kernel.py does in this very Python: python pex_kernel.py ABOUT.py KERNEL.py MOUNT MOUNT; silent when it is
right. Both mounts have a package `corp`, the second one has `space` too."""

import contextlib
import io
import json
import os
import sys
import tempfile

code = "\n".join(open(path).read() for path in sys.argv[1:3])
first, second = sys.argv[3:]


def run(function, *arguments):
    scope = {"__name__": "nb_pex"}
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "<nb pex>", "exec"), scope)
        scope["run"](json.dumps([function, arguments]))
    return json.loads(printed.getvalue().splitlines()[-1])


here = run("here")
assert here["about"]["version"].startswith("%d.%d." % sys.version_info[:2]), here
assert here["folder"] == os.getcwd()

folder = tempfile.TemporaryDirectory()
mine = folder.name
os.makedirs(os.path.join(mine, "space"))
for name in ("corp.py", "space/mine.py"):
    with open(os.path.join(mine, name), "w") as file:
        file.write("HERE = 'mine'\n")
path = list(sys.path)
assert run("status") == {"loaded": None}
run("clean", "/no/mounts")
sys.path.append(mine)
import corp, space.mine

assert corp.HERE == space.mine.HERE == "mine"
one = run("load", "one.pex", first)
assert one["swapped"] == ["corp"] and one["removed"] == [], one
import corp

assert corp.HERE == "first" and sys.path[0] == first, sys.path
again = run("load", "one.pex", first)
assert again["swapped"] == [] and sys.modules["corp"] is corp, again
two = run("load", "two.pex", second)
assert two["swapped"] == ["corp"], two
assert sys.path[0] == second and first not in sys.path, sys.path
import corp, space.theirs

assert (corp.HERE, space.theirs.HERE, space.mine.HERE) == ("second", "second", "mine")
assert run("status") == {"loaded": {"title": "two.pex", "mount": second}}
cleaned = run("clean", "/no/mounts")
assert cleaned["path"] == [second, mine], cleaned
assert cleaned["modules"] == ["corp", "space"] and cleaned["count"] == 3, cleaned
assert sys.path == path and "corp" not in sys.modules and "space.theirs" not in sys.modules
try:
    import corp
except ImportError:
    pass
else:
    raise AssertionError("corp is still there: %s" % corp)
