"""Puts what is in a pex in front of the path of this environment's Python. Made by nb."""

import site
import sys

MOUNT = None


def put():
    before = list(sys.path)
    # Also does what the .pth files of distributions say.
    site.addsitedir(MOUNT)
    sys.path[:] = [entry for entry in sys.path if entry not in before] + before


put()
