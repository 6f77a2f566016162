"""Hands pip's command line over to nb: the nb of the kernel that this runs in, else the one on the path."""

import os
import shutil
import sys


def main():
    nb = os.environ.get("NB_PIP")
    if nb and os.access(nb, os.X_OK):
        os.execv(nb, ["pip", *sys.argv[1:]])
    nb = shutil.which("nb")
    if nb:
        os.execv(nb, ["nb", "pip", "--python", sys.executable, *sys.argv[1:]])
    sys.exit("pip: this environment is kept by nb, which is not on the path; put it there, or use the notebook's %pip.")


main()
