"""Where tasks run: threads of this process, any executor of ``concurrent.futures``, or a Dask cluster."""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple

from wideangle._cpu import available_threads
from wideangle._progress import stopped_by
from wideangle.studies._samples import SamplesNotWrittenError

_DEFAULT_WORKERS = 8  # of an executor that does not say how many it has
_SECONDS_WITHOUT_WORKERS = 10.0  # before that is said


class TakesNoTasksError(BrokenExecutor):
    """An executor refuses tasks, as it was shut down."""


class NoWorkersWarning(RuntimeWarning):
    """A cluster has no workers, and the run waits for them."""


class Workers(NamedTuple):
    """Something to submit tasks to.

    ``tells_running`` says whether tasks that are being computed cannot be cancelled: of others nobody knows which are.
    """

    submit: Callable[..., Future[Any]]
    number: Callable[[], int]
    is_remote: bool
    tells_running: bool
    are_gone: Callable[[], bool] = lambda: False


@contextmanager
def workers_of(executor: Any) -> Iterator[Workers]:
    """Give the workers of an executor, by default threads, one for each core."""
    if executor is None:
        n_threads = available_threads()
        pool, over = ThreadPoolExecutor(n_threads, thread_name_prefix="wideangle-study"), threading.Event()
        try:
            yield Workers(lambda *work: pool.submit(_run_until, over, *work), lambda: n_threads, False, True)
        finally:
            over.set()
            pool.shutdown(wait=True, cancel_futures=True)
    elif _is_dask(executor):
        with executor.get_executor(pure=False, retries=10) as pool:
            number = _DaskWorkers(executor)
            yield Workers(_submitting(pool), number, True, False, lambda: not number.threads())
    else:
        n_workers = getattr(executor, "_max_workers", None) or _DEFAULT_WORKERS
        is_remote = not isinstance(executor, ThreadPoolExecutor)
        tells_running = isinstance(executor, (ThreadPoolExecutor, ProcessPoolExecutor))
        yield Workers(_submitting(executor), lambda: n_workers, is_remote, tells_running)


def workers_here(executor: Any) -> int | None:
    """Return how many workers share the memory of this machine, None if they may be elsewhere."""
    if executor is None:
        return available_threads()
    if isinstance(executor, (ThreadPoolExecutor, ProcessPoolExecutor)):
        return int(getattr(executor, "_max_workers", None) or _DEFAULT_WORKERS)
    return None


def _submitting(executor: Any) -> Callable[..., Future[Any]]:
    """Return the function that submits a task, or says why the executor does not take it."""

    def submit(*work: Any) -> Future[Any]:
        try:
            future = executor.submit(*work)
        except BrokenExecutor:
            raise
        except Exception as error:
            raise TakesNoTasksError(f"{type(error).__name__}: {error}") from error
        if not isinstance(future, Future):
            raise TypeError(
                f"executor must return a concurrent.futures.Future from submit, got {future!r}; give an executor of "
                "concurrent.futures, or a dask.distributed Client"
            )
        return future

    return submit


class _DaskWorkers:
    """Finds the number of threads of a Dask cluster, and says so if it stays without any."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.alone_since: float | None = None
        self.is_said = False

    def threads(self) -> int:
        """Return the number of threads that there are now."""
        try:
            return int(sum(self.client.ncores().values()))
        except Exception as error:
            raise BrokenExecutor(f"the Dask scheduler does not answer: {type(error).__name__}: {error}") from error

    def __call__(self) -> int:
        number = self.threads()
        if number:
            self.alone_since, self.is_said = None, False
            return number
        self.alone_since = self.alone_since or time.monotonic()
        if not self.is_said and time.monotonic() - self.alone_since > _SECONDS_WITHOUT_WORKERS:
            self.is_said = True
            address = getattr(getattr(self.client, "scheduler", None), "address", "")
            warnings.warn(
                f"executor: the Dask cluster {address} has had no workers for {_SECONDS_WITHOUT_WORKERS:g} s; the run "
                f"waits for them: start some, such as with `dask worker {address}`, or end it with Ctrl-C",
                NoWorkersWarning,
                stacklevel=5,  # where `run` was called
            )
        return 1


def _run_until(over: threading.Event, function: Callable[..., Any], *arguments: Any) -> Any:
    with stopped_by(over):
        return function(*arguments)


def check_executor(executor: Any) -> None:
    """Refuse what tasks cannot be submitted to."""
    if executor is None:
        return
    if getattr(executor, "asynchronous", False):
        raise ValueError(
            f"executor must be a synchronous Dask client, got an asynchronous one, {executor!r}; leave out "
            "asynchronous=True"
        )
    if _is_dask(executor):
        if getattr(executor, "status", "") in ("closing", "closed"):
            raise ValueError(f"executor must be an open Dask client, got a closed one, {executor!r}; open a new one")
        return
    # As executors of threads and of processes call it.
    if any(getattr(executor, name, False) is True for name in ("_shutdown", "_shutdown_thread")):
        raise ValueError(
            f"executor must take tasks, got one that was shut down, {executor!r}; give a new one, and run before its "
            "`with` block ends"
        )
    if isinstance(executor, Executor):
        return
    if not callable(getattr(executor, "submit", None)):
        raise TypeError(
            "executor must be None, an executor of concurrent.futures, or a dask.distributed Client, got "
            f"{executor!r}; for a Dask cluster give executor=Client(address)"
        )


def explained(problem: Exception) -> Exception:
    """Return the error that a run ends with, when a task could not be run."""
    text, kept = f"{type(problem).__name__}: {problem}", "everything that was finished is kept"
    if isinstance(problem, SamplesNotWrittenError):
        return OSError(f"{problem}; {kept}: free some space, see that workers reach the folder, and run again")
    if isinstance(problem, TakesNoTasksError):
        return RuntimeError(f"the executor takes no tasks ({problem}); {kept}: run again with a new one")
    if isinstance(problem, BrokenExecutor):
        return RuntimeError(f"the executor lost its workers ({text}); {kept}: run again with a new one")
    return RuntimeError(f"a task could not be run on its worker ({text}); {kept}: run again when this is mended")


def _is_dask(executor: Any) -> bool:
    return callable(getattr(executor, "get_executor", None)) and callable(getattr(executor, "ncores", None))
