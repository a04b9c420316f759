"""Make the virtual environment .venv from the locked requirements; `make setup` runs this file.

python3 install.py          libraries for the processor; an environment for GPUs stays as it is
python3 install.py --gpu    libraries for NVIDIA GPUs, on x86-64 Linux; not tested on hardware

The versions and hashes of all packages are in requirements.txt and requirements-gpu.txt. uv
installs the packages, several times as fast as pip. If uv fails, pip installs them. Both use the
package indexes that pip is configured with. If the environment is complete, nothing is done.

Only the standard library is imported, because this file runs before any package is installed.
"""

import argparse
import ast
import hashlib
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

ENVIRONMENT = Path(".venv")
PYTHON = ENVIRONMENT / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
PIP = [str(PYTHON), "-m", "pip", "--disable-pip-version-check"]
# Holds the hash of the lock that the environment was made from; written last.
MARKER = ENVIRONMENT / ".locked"
CPU_LOCK = Path("requirements.txt")
GPU_LOCK = Path("requirements-gpu.txt")
SETUP_LOCK = Path("requirements-setup.txt")

# The settings of pip, and the variables by which uv takes the same settings.
UV_VARIABLES = {
    "index-url": ("UV_DEFAULT_INDEX", " "),
    "extra-index-url": ("UV_INDEX", " "),
    "find-links": ("UV_FIND_LINKS", ","),
    "trusted-host": ("UV_INSECURE_HOST", " "),
    "cert": ("SSL_CERT_FILE", ""),
    "proxy": ("ALL_PROXY", ""),
}
# Older names of two of these variables: a value that a person has set wins under either name.
OLDER_NAMES = {"UV_DEFAULT_INDEX": "UV_INDEX_URL", "UV_INDEX": "UV_EXTRA_INDEX_URL"}


def choose_lock(*, gpu: bool) -> Path:
    """Return the file of locked requirements; exit if this system cannot use the file.

    Args:
        gpu: the libraries for GPUs are asked for; they are also chosen if they are installed.
    """
    if not (3, 11) <= sys.version_info < (3, 14):
        major, minor = sys.version_info[:2]
        sys.exit(
            f"error: this is Python {major}.{minor}; 3.11, 3.12 or 3.13 is needed: for example"
            " `make setup PYTHON=python3.12` or `python3.12 install.py`"
        )
    if gpu and (sys.platform != "linux" or platform.machine() != "x86_64"):
        sys.exit(
            f"error: --gpu is for x86-64 Linux; this is {platform.machine()} {platform.system()}:"
            " install without it"
        )
    installed = MARKER.read_text() if MARKER.is_file() else ""
    return GPU_LOCK if gpu or installed.startswith(f"{GPU_LOCK} ") else CPU_LOCK


def hash_lock(lock: Path) -> str:
    """Return the text of the marker of a complete environment."""
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()
    return f"{lock} {digest} Python {sys.version_info[0]}.{sys.version_info[1]}\n"


def is_complete(lock: Path) -> bool:
    """Whether the environment was made from this lock, by this version of Python."""
    return PYTHON.exists() and MARKER.is_file() and MARKER.read_text() == hash_lock(lock)


def parse_pip_settings(listed: str) -> dict[str, str]:
    """Return the settings of pip by name, from the lines that `pip config list` prints.

    Settings of the environment win over settings for `pip install`, and these over global ones.
    """
    found: dict[str, str] = {}
    for section in ("global.", "install.", ":env:."):
        for line in listed.splitlines():
            key, _, value = line.partition("=")
            if key.startswith(section):
                found[key.removeprefix(section)] = str(ast.literal_eval(value))
    return found


def translate_settings(pip: Mapping[str, str], environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that make uv use pip's indexes; variables that are set stay as they are.

    Variables, not arguments, because an address may contain a password.
    """
    added = {
        # As pip does, look for a version in all indexes. The hashes keep this safe.
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_NO_CONFIG": "1",
    }
    for setting, (variable, separator) in UV_VARIABLES.items():
        if values := pip.get(setting, "").split():
            added[variable] = separator.join(values) if separator else pip[setting]
    if pip.get("no-index", "").lower() in {"1", "true", "yes", "on"}:
        added["UV_NO_INDEX"] = "1"
    return {
        variable: value
        for variable, value in added.items()
        if not {variable, OLDER_NAMES.get(variable, variable)} & set(environment)
    }


def install_by_uv(lock: Path) -> bool:
    """Install uv, and by uv the locked requirements; return whether both succeeded."""
    listed = subprocess.run([*PIP, "config", "list"], capture_output=True, text=True, check=False)
    variables = translate_settings(parse_pip_settings(listed.stdout), os.environ)
    no_index = ["--no-index"] if variables.pop("UV_NO_INDEX", None) else []
    commands = [
        [*PIP, "install", "--quiet", "--require-hashes", "--requirement", str(SETUP_LOCK)],
        [str(PYTHON), "-m", "uv", "pip", "install", "--python", str(PYTHON), *no_index,
         "--require-hashes", "--requirement", str(lock)],
    ]  # fmt: skip
    environment = {**os.environ, **variables}
    return all(subprocess.run(command, env=environment).returncode == 0 for command in commands)


def install_by_pip(lock: Path) -> None:
    """Install the locked requirements by pip; exit if pip fails."""
    result = subprocess.run([*PIP, "install", "--require-hashes", "--requirement", str(lock)])
    if result.returncode:
        sys.exit("error: pip could not install the packages; its lines above say why")


def main() -> None:
    """Make the environment, if it is not complete."""
    parser = argparse.ArgumentParser(description="Make .venv from the locked requirements.")
    parser.add_argument("--gpu", action="store_true", help="libraries for NVIDIA GPUs")
    lock = choose_lock(gpu=parser.parse_args().gpu)
    if is_complete(lock):
        return
    if ENVIRONMENT.is_symlink():  # `--clear` would empty the environment of another project
        sys.exit(
            f"error: {ENVIRONMENT} is a link, and its environment is not the one of {lock}; delete"
            " the link, and run the command again"
        )
    start_s = time.monotonic()
    print(f"setup: making {ENVIRONMENT} from {lock}: up to 2 GB, about half a minute", flush=True)
    MARKER.unlink(missing_ok=True)
    # The running Python may be the one of the old environment; its base is not.
    base = getattr(sys, "_base_executable", sys.executable)
    if subprocess.run([base, "-m", "venv", "--clear", str(ENVIRONMENT)]).returncode:
        sys.exit(
            "error: the virtual environment could not be made; on Debian, install python3-venv"
        )
    if not install_by_uv(lock):
        print("setup: uv failed; pip installs the same packages in some minutes", flush=True)
        install_by_pip(lock)
    MARKER.write_text(hash_lock(lock))
    print(f"setup: {ENVIRONMENT} is complete, after {time.monotonic() - start_s:.0f} s", flush=True)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
