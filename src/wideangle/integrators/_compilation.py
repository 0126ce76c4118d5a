"""Compilation of a user's functions behind addresses that the compiled drivers call.

A right-hand side is compiled for lanes if it can be, and else called lane by lane. What it compiles to is kept on disk
if the function itself was declared with ``cache=True``.
"""

from __future__ import annotations

import contextlib
import hashlib
import inspect
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numba import carray, jit, njit, types
from numba.core.caching import FunctionCache, NullCache
from numba.core.ccallback import CFunc
from numba.core.errors import NumbaError
from numba.core.registry import CPUDispatcher

from wideangle.integrators import _math as _math  # its functions of lanes
from wideangle.integrators._digest import package_digest
from wideangle.integrators._lane_arrays import read_lanes, write_lanes
from wideangle.integrators._lanes import LANES, store

_POINTER = types.CPointer(types.float64)
_RHS = (_POINTER, _POINTER, _POINTER, _POINTER, types.int64, types.int64, types.int64, _POINTER)
_SCALAR = (types.float64, _POINTER, _POINTER, _POINTER, types.int64, types.int64)


class Compiled(NamedTuple):
    """A compiled function: its address, and the object that keeps the code alive."""

    address: int
    in_lanes: bool
    owner: CFunc


def _call_in_lanes(function: Any) -> Callable[..., None]:
    def call(t: Any, y: Any, params: Any, out: Any, size: Any, n_params: Any, lanes: Any, scratch: Any) -> None:
        # What the function does not write must not pass for a slope.
        for i in range(size):
            store(out, i * LANES, np.nan)
        try:
            function(read_lanes(t, 1)[0], read_lanes(y, size), read_lanes(params, n_params), write_lanes(out, size))
        except Exception:
            for i in range(size):
                store(out, i * LANES, np.nan)

    return call


def _call_lane_by_lane(function: Any) -> Callable[..., None]:
    def call(t: Any, y: Any, params: Any, out: Any, size: Any, n_params: Any, lanes: Any, scratch: Any) -> None:
        memory = carray(scratch, 2 * size + n_params)
        own_y, own_out, own_params = memory[:size], memory[size : 2 * size], memory[2 * size :]
        for lane in range(LANES):
            if not lanes >> lane & 1:
                continue
            for i in range(size):
                own_y[i] = y[i * LANES + lane]
                own_out[i] = np.nan
            for i in range(n_params):
                own_params[i] = params[i * LANES + lane]
            try:
                function(t[lane], own_y, own_params, own_out)
            except Exception:
                for i in range(size):
                    own_out[i] = np.nan
            for i in range(size):
                out[i * LANES + lane] = own_out[i]

    return call


class _DiskCache(FunctionCache):
    """A cache for a wrapper, whose key is what the wrapped function is."""

    def __init__(self, wrapper: Any, key: str) -> None:
        super().__init__(wrapper)
        self._wrapped = key

    def _index_key(self, sig: Any, codegen: Any) -> Any:
        return (sig, codegen.magic_tuple(), self._wrapped)


def _disk_key(function: Any) -> str | None:
    """Return what identifies a function declared with ``cache=True``, or None where nothing is to be kept."""
    if not isinstance(function, CPUDispatcher) or isinstance(function._cache, NullCache):
        return None
    plain = function.py_func
    cells = [cell.cell_contents for cell in plain.__closure__ or ()]
    source = inspect.getsourcefile(plain)
    if source is None or not Path(source).is_file() or not all(isinstance(cell, (int, float, str)) for cell in cells):
        return None
    parts = (
        package_digest(),
        Path(source).read_bytes(),
        plain.__module__,
        plain.__qualname__,
        plain.__code__.co_firstlineno,
        plain.__code__.co_code,
        cells,
        sorted(function.targetoptions.items(), key=str),
    )
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _compile(wrapper: Callable[..., None], arguments: tuple[Any, ...], key: str | None) -> CFunc:
    library = CFunc(wrapper, (arguments, types.void), {}, {})
    if key is not None:
        # It raises where Numba finds no directory that it can write to.
        with contextlib.suppress(RuntimeError):
            library._cache = _DiskCache(wrapper, key)
    library.compile()
    return library


def _dispatcher(function: Any) -> CPUDispatcher:
    """Return a function to be compiled for us alone.

    Code for lanes must not come to lie in a cache on disk that Numba keeps for the user's function: it would stay there
    when this package changes.
    """
    if isinstance(function, CPUDispatcher):
        return jit(**function.targetoptions)(function.py_func)
    # NumPy's error model: a division by zero gives an infinity, which the step control sees.
    return njit(function, error_model="numpy")


def check_function(name: str, function: Any, arguments: tuple[str, ...]) -> None:
    """Refuse what is not a function of so many arguments."""
    call = f"{', '.join(arguments)}"
    remedy = f"give a function f({call}), decorated with numba.njit or such that it can be"
    if not callable(function) or isinstance(function, type):
        raise TypeError(f"{name} must be a function, got {function!r} ({type(function).__name__}); {remedy}")
    plain = getattr(function, "py_func", function)
    if not inspect.isfunction(plain):
        raise TypeError(f"{name} must be a Python function, got {function!r} ({type(function).__name__}); {remedy}")
    try:
        inspect.signature(plain).bind(*arguments)
    except TypeError:
        given = inspect.signature(plain)
        raise TypeError(f"{name} must take the arguments ({call}), got {plain.__qualname__}{given}; {remedy}") from None


def _refuse(name: str, function: Any, error: NumbaError) -> TypeError:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return TypeError(
        f"{name} could not be compiled by Numba, got {function!r}: {' '.join(lines[:6])[:600]}; use floats, NumPy "
        "arrays and functions that Numba knows, and write the result into out"
    )


@lru_cache(maxsize=128)
def _compile_rhs(function: Any) -> Compiled:
    dispatcher, key = _dispatcher(function), _disk_key(function)
    try:
        library = _compile(_call_in_lanes(dispatcher), _RHS, key)
        return Compiled(library.address, True, library)
    except NumbaError:
        library = _compile(_call_lane_by_lane(dispatcher), _RHS, key)
        return Compiled(library.address, False, library)


def compile_rhs(name: str, function: Any) -> Compiled:
    """Compile a right-hand side f(t, y, params, out), for lanes if possible."""
    check_function(name, function, ("t", "y", "params", "out"))
    try:
        return _compile_rhs(function)
    except NumbaError as error:
        raise _refuse(name, function, error) from None


def _call_one_number(function: Any) -> Callable[..., None]:
    def call(t: Any, y: Any, params: Any, out: Any, size: Any, n_params: Any) -> None:
        try:
            out[0] = function(t, carray(y, size), carray(params, n_params))
        except Exception:
            out[0] = np.nan

    return call


def _call_into(function: Any, n_out: int) -> Callable[..., None]:
    def call(t: Any, y: Any, params: Any, out: Any, size: Any, n_params: Any) -> None:
        view = carray(out, n_out)
        view[:] = np.nan
        try:
            function(t, carray(y, size), carray(params, n_params), view)
        except Exception:
            view[:] = np.nan

    return call


@lru_cache(maxsize=128)
def _compile_event(function: Any, n_out: int | None) -> Compiled:
    dispatcher, key = _dispatcher(function), _disk_key(function)
    wrapper = _call_one_number(dispatcher) if n_out is None else _call_into(dispatcher, n_out)
    library = _compile(wrapper, _SCALAR, None if key is None else f"{key}-{n_out}")
    return Compiled(library.address, False, library)


def compile_event(name: str, function: Any, n_out: int | None) -> Compiled:
    """Compile an event function: g(t, y, params), or g(t, y, params, out) of ``n_out`` numbers."""
    check_function(name, function, ("t", "y", "params") if n_out is None else ("t", "y", "params", "out"))
    try:
        return _compile_event(function, n_out)
    except NumbaError as error:
        raise _refuse(name, function, error) from None


def _call_jacobian(function: Any) -> Callable[..., None]:
    def call(t: Any, y: Any, params: Any, out: Any, size: Any, n_params: Any) -> None:
        view = carray(out, (size, size))
        view[:, :] = np.nan
        try:
            function(t, carray(y, size), carray(params, n_params), view)
        except Exception:
            view[:, :] = np.nan

    return call


@lru_cache(maxsize=128)
def _compile_jacobian(function: Any) -> Compiled:
    dispatcher, key = _dispatcher(function), _disk_key(function)
    library = _compile(_call_jacobian(dispatcher), _SCALAR, None if key is None else f"{key}-jacobian")
    return Compiled(library.address, False, library)


def compile_jacobian(name: str, function: Any) -> Compiled:
    """Compile a Jacobian f(t, y, params, out), out[i, j] being the derivative of slope i by component j."""
    check_function(name, function, ("t", "y", "params", "out"))
    try:
        return _compile_jacobian(function)
    except NumbaError as error:
        raise _refuse(name, function, error) from None
