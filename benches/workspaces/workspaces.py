"""What a private, writable tree of a repository takes, by each way that git has, and by `nb workspace create`.

Makes a repository of many files and commits, serves it by `git daemon` on loopback, and has a bare mirror of it, as nb keeps one. In each
round a tree is made by each way in turn, of all files or of one project: whole commands on the wall clock, with the page cache warm. What
a tree holds is what removing it gives back: files that it shares with the mirror do not count. Prints medians and asserts nothing but that
the files are there. Run by `cargo xtask bench workspaces`.
"""

import argparse
import os
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROUNDS = 3

DEADLINE = 900

PROJECTS = 100

FILES_OF_A_COMMIT = 10

PROJECT = "projects/p007"


def bodies():
    rng = random.Random(7)
    letters = b"abcdefghijklmnopqrstuvwxyz_"
    words = [bytes(rng.choices(letters, k=rng.randint(3, 11))) for _ in range(20_000)]
    while True:
        count = int(rng.lognormvariate(5.0, 1.0))
        yield b" ".join(rng.choices(words, k=max(5, min(count, 3000)))) + b"\n"


def write_history(out, files, commits):
    """The stream that `git fast-import` reads."""
    rng, texts = random.Random(11), bodies()
    paths = [f"projects/p{n % PROJECTS:03}/m{n // PROJECTS % 20:02}/f{n}.py".encode() for n in range(files)]

    def put(path):
        text = next(texts)
        out.write(b"M 100644 inline %s\ndata %d\n%s\n" % (path, len(text), text))

    for number in range(commits):
        when = 1_700_000_000 + number
        out.write(b"commit refs/heads/main\ncommitter a <a@example.org> %d +0000\ndata 1\nx\n" % when)
        for path in paths if number == 0 else rng.sample(paths, FILES_OF_A_COMMIT):
            put(path)
    out.write(b"done\n")


def git(*arguments, folder=None):
    done = subprocess.run(
        ["git", *map(str, arguments)], cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=DEADLINE
    )
    if done.returncode != 0:
        sys.exit(f"git {arguments}: {done.stderr}")


def make_repository(folder, files, commits):
    git("init", "--quiet", "--bare", "--initial-branch=main", folder)
    with subprocess.Popen(["git", "fast-import", "--quiet", "--done"], cwd=folder, stdin=subprocess.PIPE) as importing:
        write_history(importing.stdin, files, commits)
        importing.stdin.close()
    git("repack", "-adq", "--write-bitmap-index", folder=folder)
    git("config", "uploadpack.allowFilter", "true", folder=folder)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def serve(folder, port):
    arguments = ["git", "daemon", "--listen=127.0.0.1", f"--port={port}", f"--base-path={folder}", "--export-all", str(folder)]
    daemon = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return daemon
        except OSError:
            if time.monotonic() > deadline:
                sys.exit("git daemon does not listen")


def own_bytes(folder):
    """What removing it gives back."""
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            about = os.lstat(os.path.join(root, name))
            if about.st_nlink == 1:
                total += about.st_blocks * 512
    return total


def worktree(mirror, tree, is_sparse):
    if not is_sparse:
        return git("worktree", "add", "--quiet", "--detach", tree, "main", folder=mirror)
    git("worktree", "add", "--quiet", "--detach", "--no-checkout", tree, "main", folder=mirror)
    git("sparse-checkout", "set", "--cone", PROJECT, folder=tree)
    git("checkout", "--quiet", folder=tree)


def clone(*how):
    def make(source, tree, is_sparse):
        git("clone", "--quiet", *how, *(["--sparse"] if is_sparse else []), source, tree)
        if is_sparse:
            git("sparse-checkout", "set", PROJECT, folder=tree)
    return make


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--nb", required=True)
    arguments.add_argument("--files", type=int, default=50_000)
    arguments.add_argument("--commits", type=int, default=2_000)
    arguments.add_argument("--rounds", type=int, default=ROUNDS)
    asked = arguments.parse_args()
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        del os.environ[name]
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        origin, mirror, data = folder / "served/mono.git", folder / "mirror.git", folder / "data"
        begun = time.monotonic()
        make_repository(origin, asked.files, asked.commits)
        print(f"{asked.files} files, {asked.commits} commits, {own_bytes(origin) >> 20} MiB of history, made in {time.monotonic() - begun:.0f} s")
        port = free_port()
        daemon = serve(folder / "served", port)
        try:
            measure(f"git://127.0.0.1:{port}/mono.git", mirror, folder, data, Path(asked.nb).resolve(), asked.rounds)
        finally:
            daemon.terminate()
            daemon.wait(DEADLINE)


def measure(url, mirror, folder, data, program, rounds):
    begun = time.monotonic()
    git("clone", "--quiet", "--mirror", url, mirror)
    print(f"a bare mirror of it: {time.monotonic() - begun:.1f} s\n")
    ways = {
        "worktree of the mirror": (mirror, worktree),
        "alternates (clone --shared)": (mirror, clone("--shared")),
        "hard links (clone --local)": (mirror, clone("--local")),
        "origin, objects of the mirror (--reference)": (url, clone(f"--reference={mirror}")),
        "origin, partial (--filter=blob:none)": (url, clone("--filter=blob:none")),
        "origin, shallow (--depth=1)": (url, clone("--depth=1")),
        "origin, shallow and partial": (url, clone("--depth=1", "--filter=blob:none")),
        "origin, plain clone": (url, clone()),
    }
    environment = {**os.environ, "NB_DATA_DIR": str(data), "NB_STATE_DIR": str(folder / "state")}

    def nb(*arguments):
        done = subprocess.run(
            [program, "workspace", *arguments], env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=DEADLINE
        )
        if done.returncode != 0:
            sys.exit(f"nb workspace {arguments}: {done.stderr}")

    def nb_way(is_warm):
        def make(source, tree, is_sparse):
            nb("create", source, "--name", "w", *(["--paths", PROJECT] if is_sparse else []))
            tree.symlink_to(data / "workspaces/w")
        return make

    if program.exists():
        ways["nb workspace create, no mirror yet"] = (url, nb_way(False))
        ways["nb workspace create, beside another"] = (url, nb_way(True))
    for is_sparse, title in [(False, "all files"), (True, f"one project of {PROJECTS}")]:
        took, held = {way: [] for way in ways}, {}
        for _ in range(rounds):
            for way, (source, make) in ways.items():
                tree = folder / "tree"
                if way.endswith("another"):
                    nb("create", source, "--name", "before", "--paths", PROJECT)
                    nb("complete", "before")
                begun = time.monotonic()
                make(source, tree, is_sparse)
                took[way].append(time.monotonic() - begun)
                if not (tree / PROJECT).is_dir():
                    sys.exit(f"{way}: no {PROJECT}")
                if tree.is_symlink():
                    nb("complete", "w")
                    held[way] = own_bytes(tree.resolve())
                    nb("delete", "w", "--force")
                    tree.unlink()
                    if way.endswith("another"):
                        nb("delete", "before", "--force")
                else:
                    held[way] = own_bytes(tree)
                    shutil.rmtree(tree)
                    git("worktree", "prune", folder=mirror)
        print(f"{title:46} {'seconds':>8}  {'spread':>12}  {'MiB held':>8}")
        for way, times in took.items():
            spread = f"{min(times):.1f} to {max(times):.1f}"
            print(f"{way:46} {statistics.median(times):8.1f}  {spread:>12}  {held[way] >> 20:8}")
        print()


main()
