"""Puts what is in a pex in front of the path of this environment's Python. Made by nb."""

import site
import sys

MOUNT = None


def is_pip():
    """Whether this is `python -m pip`, which is nb's whatever the pex has: nothing is installed here."""
    try:
        with open("/proc/self/cmdline", "rb") as line:
            words = line.read().split(b"\0")[1:]
    except OSError:
        return False
    while words and words[0].startswith(b"-"):
        word = words.pop(0)
        if word.endswith(b"m"):
            return words[:1] == [b"pip"]
        if word in (b"-W", b"-X"):
            del words[:1]
    return False


def put():
    before = list(sys.path)
    # Also does what the .pth files of distributions say.
    site.addsitedir(MOUNT)
    new = [entry for entry in sys.path if entry not in before]
    sys.path[:] = before + new if is_pip() else new + before


put()
