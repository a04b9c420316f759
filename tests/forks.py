"""Start Python programs as forks of the test process, which has imported their libraries.

Imports take most of the time of a short stage: TensorFlow takes 7 s of processor time. A fork has
the imports of its parent. Apart from this it is a process like any other, with its own memory, and
may be killed. The processes that it starts are forks, too: DVC, and the stages that DVC runs.
"""

import gc
import json
import os
import re
import runpy
import shlex
import socket
import subprocess
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from threading import Thread
from typing import Any

# What most commands of DVC import, and the libraries of the stages.
_IMPORTS_OF_DVC = (
    "dvc.cli.parser",
    "dvc.data_cloud",
    "dvc.repo.experiments",
    "dvc.repo.index",
    "dvc.repo.open_repo",
    "dvc.repo.plots",
    "dvc.repo.reproduce",
    "dvc.stage.run",
    "networkx",
    "imgpipe.nn.common.runtime",
    "matplotlib.pyplot",
    "pandas",
)

# A program that lets the server of `fork_commands` run a command, with its own streams.
_CLIENT = """
import json, os, socket, sys
with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
    server.connect("\\0" + sys.argv[1])
    request = json.dumps([sys.argv[2:], os.getcwd(), dict(os.environ)]).encode()
    socket.send_fds(server, [request], [0, 1, 2])
    sys.exit(int(server.recv(16)))
"""
_LARGEST_REQUEST_BYTES = 1 << 17

# Objects that a fork must not delete: a deleted stream would write what waits in its buffer.
_kept: list[object] = []


def import_libraries() -> None:
    """Import what DVC and the stages use, for all forks of this process."""
    for module in _IMPORTS_OF_DVC:
        import_module(module)


class Popen(subprocess.Popen[str]):
    """As `subprocess.Popen`, but a command of Python or DVC runs in a fork if it can."""

    def __init__(self, command: str | Sequence[Any], **options: Any) -> None:
        main = _find_main([command] if isinstance(command, str) else [*map(str, command)])
        if main and _can_fork():
            options["preexec_fn"] = partial(_become, main, options.get("env") or os.environ.copy())
            options["restore_signals"] = False  # as Python has them
            sys.stdout.flush()
            sys.stderr.flush()
        with warnings.catch_warnings():
            # pytest-xdist has a thread; Python 3.12 warns that the fork may wait for its locks.
            warnings.simplefilter("ignore", DeprecationWarning)
            super().__init__(command, **options)


def run_process(
    command: Sequence[Any], folder: Path, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder, in a fork if it can; return its status and what it prints.

    Args:
        command: the program and its arguments.
        folder: the working directory.
        environment: variables to set.
    """
    process = Popen(
        command,
        cwd=folder,
        env={**os.environ, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    output, errors = process.communicate()
    return subprocess.CompletedProcess(command, process.returncode, output, errors)


@contextmanager
def fork_commands(folder: Path) -> Iterator[None]:
    """Put the commands `python` and `dvc` into a folder; they run in forks if forks work.

    The commands work until the end of the block, for all processes that find them.
    """
    name, forks = f"forks-{os.getpid()}-{folder.stat().st_ino}", _can_fork()
    for program in (sys.executable, str(Path(sys.executable).with_name("dvc"))):
        client = [sys.executable, "-I", "-S", "-c", _CLIENT, name] if forks else []
        command = folder / ("python" if program == sys.executable else "dvc")
        command.write_text(f'#!/bin/sh\nexec {shlex.join([*client, program])} "$@"\n')
        command.chmod(0o755)
    if not forks:
        yield
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
        server.bind(f"\0{name}")
        server.listen()
        Thread(target=_serve, args=(server,), daemon=True).start()
        yield
        server.shutdown(socket.SHUT_RDWR)


def _serve(server: socket.socket) -> None:
    """Run the commands of all clients, until the server is shut down."""
    with suppress(OSError):
        while True:
            client, _ = server.accept()
            Thread(target=_answer, args=(client,), daemon=True).start()


def _answer(client: socket.socket) -> None:
    """Run the command of a client; send the exit status."""
    with client:
        request, streams, _, _ = socket.recv_fds(client, _LARGEST_REQUEST_BYTES, 3)
        command, folder, environment = json.loads(request)
        stdin, stdout, stderr = streams
        process = Popen(
            command, cwd=folder, env=environment, stdin=stdin, stdout=stdout, stderr=stderr
        )
        for stream in streams:
            os.close(stream)
        status = process.wait()
        client.send(b"%d" % (status if status >= 0 else 128 - status))


def _can_fork() -> bool:
    """Return whether a fork of this process works.

    After an operation of TensorFlow, a fork would wait forever for threads of TensorFlow.
    """
    context = sys.modules.get("tensorflow.python.eager.context")
    return sys.platform == "linux" and (context is None or context._context is None)


def _find_main(command: Sequence[str]) -> Callable[[], None] | None:
    """Return a function that does what a command of Python or DVC does, or None."""
    if command[-2:-1] == ["-c"] and re.fullmatch(r"python src/\w+\.py", command[-1]):
        command = command[-1].split()  # DVC starts a stage in a shell
    program, *words = command
    if Path(program).name == "dvc":
        return partial(_run_dvc, words)
    if program not in ("python", sys.executable):
        return None
    match words:
        case ["-m", "dvc", *arguments]:
            return partial(_run_dvc, arguments)
        case ["-c", code, *arguments]:
            return partial(_run_code, code, arguments)
        case [script, *_] if script.endswith(".py"):
            return partial(_run_script, words)
    return None


def _become(main: Callable[[], None], environment: Mapping[str, str]) -> None:
    """Do, in a fork, all that a new process would do; never return.

    Streams, working directory and session are as `subprocess.Popen` has set them. Warnings are
    errors, as in the tests, unless PYTHONWARNINGS has another action.
    """
    status = 1
    try:
        gc.freeze()
        gc.enable()
        _close_files()
        os.environ.clear()
        os.environ.update(environment)
        if action := environment.get("PYTHONWARNINGS"):
            warnings.resetwarnings()
            warnings.simplefilter(action)  # type: ignore[arg-type]
        _unload("dask", "distributed")  # Dask reads the environment once
        _kept.extend([sys.stdin, sys.stdout, sys.stderr])
        sys.stdin = os.fdopen(0, closefd=False)
        sys.stdout = os.fdopen(1, "w", closefd=False)
        sys.stderr = os.fdopen(2, "w", 1, errors="backslashreplace", closefd=False)
        subprocess.Popen = Popen  # type: ignore[assignment, misc]
        status = _call(main)
        sys.stdout.flush()
    finally:
        os._exit(status)  # without what the test process does at its end


def _close_files() -> None:
    """Close the files of the parent; their numbers stay in use, because objects have them."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in map(int, os.listdir("/proc/self/fd")):
        if number > 2 and number != nothing:
            os.dup2(nothing, number, inheritable=False)


def _unload(*packages: str) -> None:
    """Let the next import of packages load them again."""
    modules = [name for name in sys.modules if name.split(".")[0] in packages]
    _kept.extend(sys.modules.pop(name) for name in modules)


def _call(main: Callable[[], None]) -> int:
    """Call a function; return the exit status that it would give a process."""
    try:
        main()
    except SystemExit as end:
        if isinstance(end.code, int):
            return end.code
        if end.code is not None:
            print(end.code, file=sys.stderr)
        return int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def _run_script(words: Sequence[str]) -> None:
    """Run a script, with the modules of `imgpipe` beside it."""
    source = Path(words[0]).resolve().parent
    package = sys.modules.get("imgpipe")
    if package and Path(str(package.__file__)).parents[1] != source:
        _unload("imgpipe")
    sys.path.insert(0, str(source))
    sys.argv = list(words)
    runpy.run_path(words[0], run_name="__main__")


def _run_code(code: str, arguments: Sequence[str]) -> None:
    """Run code from a command line."""
    sys.argv = ["-c", *arguments]
    exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})


def _run_dvc(words: Sequence[str]) -> None:
    """Run DVC, as its script does."""
    from dvc.cli import main
    from dvc.logger import setup

    setup()  # writes to the standard output of this process, not of the process that imported DVC
    warnings.simplefilter("ignore")
    sys.argv = [str(Path(sys.executable).with_name("dvc")), *words]
    sys.exit(main())
