"""A process that forks others: each runs one study, and may be disturbed at a chosen point of its way.

Everything is imported once, so that a run costs a tenth of a second. Requests and answers are lines of JSON.
"""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import sqlite3
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import numba  # noqa: F401
import scipy.stats  # noqa: F401
import xarray  # noqa: F401
import zarr  # noqa: F401

import wideangle as wa
import wideangle.propagation
import wideangle.studies._results
import wideangle.studies.running

CHANGES = ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate")


class Events:
    """Counts what is done to the files of a store, and does something at the n-th."""

    def __init__(self, store: str, action: str, at: int) -> None:
        self.store, self.action, self.at = os.path.realpath(store), action, at
        self.n = 0
        self.is_within = False
        sys.addaudithook(self.hook)
        connect = sqlite3.connect
        events = self

        class Connection(sqlite3.Connection):
            def execute(self, sql: str, *arguments: Any) -> sqlite3.Cursor:
                events.tick(is_write=False)
                result = super().execute(sql, *arguments)
                events.tick(is_write=False)
                return result

        sqlite3.connect = lambda *a, **k: connect(*a, factory=Connection, **k)  # type: ignore[assignment]

    def hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        """See sys.addaudithook."""
        if event == "open":
            path, mode, flags = arguments
            writes = bool(flags & (os.O_WRONLY | os.O_RDWR)) if isinstance(flags, int) else "r" not in str(mode)
        elif event in CHANGES:
            path, writes = arguments[0], event == "os.mkdir"
        else:
            return
        is_path = isinstance(path, (str, bytes)) and (event != "open" or writes)
        if is_path and os.path.abspath(os.fsdecode(path)).startswith(self.store):
            self.tick(is_write=writes)

    def tick(self, *, is_write: bool) -> None:
        """Count one event."""
        self.n += 1
        if self.at and self.n >= self.at:
            if self.action == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            elif is_write:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def jump_clock() -> None:
    """Set the clock an hour forth and a day back, turn by turn."""
    real = time.time
    state = {"turn": 0}

    def jumping() -> float:
        state["turn"] += 1
        return real() + (3600.0, -86400.0, 1e8)[state["turn"] % 3]

    time.time = jumping
    import tqdm.std

    tqdm.std.time = jumping
    gmtime = time.gmtime
    time.gmtime = lambda seconds=None: gmtime(jumping() if seconds is None else seconds)


def run_study(request: dict[str, Any]) -> dict[str, Any]:
    """Run the study of a request."""
    sys.path[:0] = request.get("path", [])
    events = Events(request["store"], request.get("action", ""), request.get("at", 0))
    if request.get("clock"):
        jump_clock()
    if limit := request.get("file_size"):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    study = wa.studies.Study.from_dict(request["study"])
    options = request.get("options", {})
    if n_threads := request.get("threads"):
        from concurrent.futures import ThreadPoolExecutor

        options["executor"] = ThreadPoolExecutor(n_threads)
    begun = time.monotonic()
    wa.studies.run(study, request["store"], **{"progress": False, **options})
    peak = int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split("kB")[0])
    return {"error": "", "events": events.n, "peak": peak * 1024, "seconds": time.monotonic() - begun}


def main() -> None:
    """Serve requests until the input ends."""
    print(json.dumps({"ready": os.getpid()}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            _, status = os.waitpid(request["wait"], 0)
            print(json.dumps({"status": os.waitstatus_to_exitcode(status)}), flush=True)
            continue
        pid = os.fork()
        if pid:
            print(json.dumps({"pid": pid}), flush=True)
            continue
        code = 1
        try:
            devnull = os.open(os.devnull, os.O_RDWR)
            os.dup2(devnull, 0)
            os.dup2(devnull, 1)
            if not request.get("loud"):
                os.dup2(devnull, 2)
            try:
                answer = run_study(request)
                code = 0
            except BaseException as error:
                details = traceback.format_exc()
                answer = {"error": f"{type(error).__name__}: {error}", "details": details}
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            Path(request["answer"]).write_text(json.dumps(answer), encoding="utf-8")
        finally:
            os._exit(code)


if __name__ == "__main__":
    main()
