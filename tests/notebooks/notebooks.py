# The notebooks of suite.py. Not a program: `#%% name` begins a notebook and `#%` a cell.

#%% printing
print("one"); print("two", end="")
#%
import sys
print("err", file=sys.stderr)
#%
for n in range(2000): print(n)
#%
print("tab\tcarriage\rreturn \x1b[31mred\x1b[0m bell\a")

#%% results
6 * 7
#%
None
#%
_ , __
#%
{"a": [1, 2, {"b": (None, True)}], "set": {1}}
#%
x = 1; x;
#%
"a" "b"

#%% errors
1 / 0
#%
def f(n): return f(n - 1) if n else [][1]
f(3)
#%
try:
    try: {}["k"]
    except KeyError as error: raise ValueError("second") from error
except ValueError: raise RuntimeError("third")
#%
raise ExceptionGroup("several", [ValueError("a"), TypeError("b")])
#%
x = = 1
#%
class Own(Exception):
    def __str__(self): return "<b>& ünï"
raise Own
#%
import json; json.loads("{")
#%
raise SystemExit("no end")

#%% notes
e = ValueError("x"); e.add_note("a note\nof two lines"); raise e
#%
assert 1 == 2, {"why": "not"}

#%% shell
!echo $((6*7)); echo oops >&2; exit 3
#%
_exit_code
#%
files = !printf 'a\nb\n'
files, files.n
#%
name = "ünï"
!echo {name} $name $$HOME_NONE
#%
%pwd
import os; os.path.basename(_)

#%% bash
%%bash
for n in 1 2 3; do echo $n; done
echo to stderr >&2
#%
%%bash --out captured
echo kept
#%
captured
#%
%%sh
exit 4
#%
%%script cat
as it is

#%% time
%%time
sum(range(10))
#%
%time 1 + 1
#%
%timeit -n 1 -r 1 pass
#%
%%timeit -n 1 -r 1
pass

#%% magics
%precision 3
#%
3.14159
#%
%alias_magic p print
%xmode Minimal
#%
1 / 0
#%
%xmode Plain
1 / 0
#%
%who
#%
%nosuchmagic
#%
%%nosuchmagic
x
#%
%config InlineBackend.figure_formats

#%% capture
%%capture caught
print("kept"); import sys; print("err", file=sys.stderr); 7
#%
caught.stdout, caught.stderr, caught.outputs
#%
caught.show()
#%
%%writefile note.txt
line
#%
%pycat note.txt
print(open("note.txt").read())

#%% run
%%writefile module.py
print("run", __name__); value = 6 * 7
#%
%run module.py
#%
value
#%
%%writefile trouble.py
def boom():
    raise RuntimeError("from a file")
#%
%run trouble.py
boom()
#%
%load_ext autoreload
%autoreload 2
import module

#%% history
a = 1
#%
In[1], len(In)
#%
%history
#%
a + 1
#%
Out
#%
_i, _ii

#%% rich
from IPython.display import *
display(HTML("<b>b</b>"), Markdown("*m*"), Latex(r"$\frac12$"), SVG("<svg xmlns='http://www.w3.org/2000/svg'/>"))
#%
display(JSON({"a": [1]}), Javascript("1"), Math("x^2"), Image(data=b"\x89PNG\r\n\x1a\n\0", format="png"))
#%
display({"text/plain": "p", "application/x-own+json": {"k": [1, None]}, "text/html": "<i>"}, raw=True, metadata={"m": 1})
#%
class Rich:
    def _repr_html_(self): return "<p>html</p>"
    def _repr_latex_(self): return "$x$"
    def __repr__(self): return "plain"
Rich()
#%
class Broken:
    def _repr_html_(self): raise ValueError("no html")
    def __repr__(self): return "still plain"
Broken()
#%
class Bundle:
    def _repr_mimebundle_(self, include=None, exclude=None): return {"text/x": "x"}, {"text/x": {"y": 1}}
Bundle()

#%% updates
from IPython.display import display, clear_output, update_display
handle = display("first", display_id="one")
#%
handle.update("second"); update_display({"text/plain": "third"}, raw=True, display_id="one")
#%
for n in range(5):
    clear_output(wait=True); print(n)
#%
print("gone"); clear_output(); print("kept")
#%
print("kept"); clear_output(wait=True)
#%
display("x", display_id="two"); display("y", display_id="two")

#%% unicode
print("ünï日本語 🎉 \u202e\u0000 𝒳 e\u0301")
#%
变量 = "x\u2028y"; 变量
#%
"\ud800".encode("utf-8", "surrogatepass"), "\x7f\x80"
#%
"</script><!-- &amp; \\ \" '"
#%
raise ValueError("ü 🎉")

#%% numbers
10**300, 2**53 + 1, -0.0, 1e-320
#%
float("nan"), float("inf"), 1j
#%
from IPython.display import display
display({"application/json": {"big": 2**53 + 1, "float": 1.10, "exp": 1e100}}, raw=True)
#%
import decimal, fractions; decimal.Decimal("1.10"), fractions.Fraction(1, 3)

#%% large
print("x" * 500_000)
#%
"y" * 300_000
#%
from IPython.display import HTML
HTML("<!--" + "z" * 500_000 + "-->")
#%
for n in range(200): print(n, "w" * 5000, flush=True)

#%% pandas
import pandas as pd, numpy as np
df = pd.DataFrame({"n": range(3), "f": [1.5, np.nan, 3], "s": ["a", None, "ü"]}); df
#%
df.describe()
#%
df.groupby("s").sum()
#%
df.dtypes
#%
pd.DataFrame(np.arange(10_000).reshape(1000, 10))
#%
df.info()
#%
df["none"]
#%
pd.date_range("2026-01-01", periods=3)

#%% styler
import pandas as pd
pd.DataFrame({"a": [1, -2]}, index=["x", "y"]).style.map(lambda v: "color: red" if v < 0 else "").set_caption("c").format("{:.1f}")
#%
pd.DataFrame({"a": [1]}).style.set_uuid("own").background_gradient()

#%% numpy
import numpy as np
np.arange(10_000).reshape(100, 100)
#%
np.zeros(3) / 0
#%
np.ones((2, 3)) @ np.ones((2, 3))
#%
np.array(["ü", "x"]), np.float32(1.1), np.array([1 + 2j])

#%% plots
%matplotlib inline
import matplotlib.pyplot as plt
plt.plot([1, 2, 3])
#%
fig, axes = plt.subplots(1, 2); axes[0].bar([1, 2], [3, 4]); axes[1].set_title("ü"); plt.show()
#%
%config InlineBackend.figure_formats = ["svg"]
import matplotlib; matplotlib.rcParams["svg.hashsalt"] = "x"; matplotlib.rcParams["svg.fonttype"] = "none"
fig = plt.figure(); len(fig.axes); plt.close(fig)
#%
plt.plot([1], [2, 3])

#%% widgets
import ipywidgets as w
slider = w.IntSlider(value=3); slider
#%
slider.value = 5; slider.value
#%
w.VBox([w.Label("l"), w.Text("ü"), slider])
#%
w.interact(lambda n: print("n is", n), n=(0, 3))
#%
out = w.Output()
with out: print("inside")
out
#%
button = w.Button(); button.on_click(lambda _: print("clicked")); button.click()

#%% await
import asyncio
await asyncio.sleep(0.01, "slept")
#%
async def gen():
    for n in range(3):
        await asyncio.sleep(0); yield n
[n async for n in gen()]
#%
async with asyncio.timeout(0.01): await asyncio.sleep(10)
#%
results = await asyncio.gather(*(asyncio.sleep(0, n) for n in range(3)), asyncio.sleep(0, "x")); results
#%
async with asyncio.TaskGroup() as group: task = group.create_task(asyncio.sleep(0, 7))
task.result()

#%% threads
import threading
def work(n): print("thread", n)
for n in range(3):
    thread = threading.Thread(target=work, args=(n,)); thread.start(); thread.join()
#%
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(4) as pool: print(list(pool.map(lambda n: n * n, range(8))))
#%
def fail(): raise ValueError("in a pool")
ThreadPoolExecutor().submit(fail).result()
#%
from IPython.display import display
thread = threading.Thread(target=lambda: display("from a thread")); thread.start(); thread.join()

#%% processes
import subprocess, sys
subprocess.run([sys.executable, "-c", "print('child')"], capture_output=True, text=True).stdout
#%
subprocess.run(["false"], check=True)
#%
import multiprocessing as mp
def square(n): return n * n
with mp.get_context("fork").Pool(2) as pool: print(pool.map(square, range(5)))
#%
subprocess.check_output(["sh", "-c", "echo out; echo more"])

#%% logging
import logging
logging.warning("root"); logging.getLogger("own").error("own")
#%
try: 1 / 0
except ZeroDivisionError: logging.exception("with a traceback")
#%
logging.basicConfig(level="DEBUG", format="%(levelname)s %(message)s", force=True); logging.debug("deep")

#%% warnings
import warnings
warnings.warn("look out")
#%
warnings.warn("old", DeprecationWarning)
#%
warnings.simplefilter("error"); warnings.warn("raised")

#%% classes
from dataclasses import dataclass, field
@dataclass(order=True)
class Point:
    x: int
    tags: list = field(default_factory=list)
#%
Point(1, ["a"]), Point(1) < Point(2)
#%
class Child(Point):
    def __repr__(self): return f"Child of {super().__repr__()}"
Child(3)
#%
import enum, collections, typing
class Color(enum.Enum): RED = 1
Color.RED, collections.Counter("aab"), collections.namedtuple("N", "a b")(1, 2), typing.Optional[int]
#%
match Point(5):
    case Point(x=5): print("five")
#%
Point("x").y

#%% generators
def count():
    received = yield 1
    print("got", received)
    yield from range(2)
g = count(); next(g)
#%
g.send("x"), list(g)
#%
next(g)
#%
import itertools; list(itertools.batched(range(5), 2)) if hasattr(itertools, "batched") else list(itertools.islice(itertools.count(), 5))
#%
from contextlib import contextmanager
@contextmanager
def managed():
    print("in")
    try: yield 1
    finally: print("out")
with managed() as one: raise KeyError(one)

#%% context
import contextvars
v = contextvars.ContextVar("v", default=0); v.set(1)
#%
v.get()
#%
contextvars.copy_context().run(lambda: (v.set(2), v.get())[1]), v.get()
#%
import os
os.environ["OWN"] = "x"; os.environ["OWN"], os.path.basename(os.getcwd())
#%
import sys; sys.displayhook.__class__.__name__, "__file__" in dir(), __name__

#%% questions
input("name? ")
#%
import getpass; getpass.getpass()
#%
len?
#%
def own(a, b=1):
    "It says so."
own??
#%
help(own)
#%
import pdb; 7

#%% progress
from tqdm import tqdm
for _ in tqdm(range(3), mininterval=100, ncols=60): pass
#%
import sys
for n in range(3): print(f"\r{n} of 2", end="", flush=True)
#%
from tqdm.auto import trange
sum(trange(4, disable=True))
#%
print("a", end="", flush=True); print("b", end="", file=sys.stderr, flush=True); print("c")

#%% hooks
from IPython import get_ipython
ip = get_ipython()
ip.events.register("post_run_cell", lambda result: print("after", result.success))
#%
1
#%
1 / 0
#%
ip.events.callbacks["post_run_cell"].clear()
from IPython.core.magic import register_line_cell_magic
@register_line_cell_magic
def own(line, cell=None): return line, cell
#%
%own a line
#%
%%own head
body
#%
ip.set_custom_exc((KeyError,), lambda self, *a, **k: print("handled"))
{}["x"]
#%
ip.run_cell("2 + 2").result
#%
exec("z = 3"); eval("z + 1")
