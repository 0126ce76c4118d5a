"""The coefficients satisfy the order conditions of all rooted trees."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from functools import cache
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from wideangle.integrators import _rosenbrock
from wideangle.integrators._tableaux import DOP853, TSIT5, Tableau

Tree = tuple[Any, ...]  # a tree is the sorted tuple of its subtrees
Floats = NDArray[np.float64]
PAIRS = {"dop853": DOP853, "tsit5": TSIT5}


@cache
def trees(order: int) -> tuple[Tree, ...]:
    """All rooted trees with so many nodes."""

    def forests(nodes: int, largest: Tree | None) -> list[Tree]:
        if nodes == 0:
            return [()]
        found = []
        for size in range(1, nodes + 1):
            for tree in trees(size):
                if largest is None or (size, tree) <= (count(largest), largest):
                    found += [(tree, *rest) for rest in forests(nodes - size, tree)]
        return found

    return tuple(forests(order - 1, None)) if order > 1 else ((),)


def count(tree: Tree) -> int:
    return 1 + sum(map(count, tree))


def gamma(tree: Tree) -> int:
    return count(tree) * math.prod(map(gamma, tree))


def dense_matrix(start: NDArray[np.int64], column: NDArray[np.int64], weight: Floats, width: int) -> Floats:
    matrix = np.zeros((len(start) - 1, width))
    for row, (first, stop) in enumerate(itertools.pairwise(start)):
        matrix[row, column[first:stop]] = weight[first:stop]
    return matrix


def stage_matrix(tableau: Tableau) -> Floats:
    return dense_matrix(tableau.start, tableau.place, tableau.weight, tableau.stages)


def test_numbers_of_trees() -> None:
    assert [len(trees(order)) for order in range(1, 9)] == [1, 1, 2, 4, 9, 20, 48, 115]
    assert all(max(Counter(trees(order)).values()) == 1 for order in range(1, 9))


def elementary_weight(tree: Tree, a: Floats, single: Floats) -> Floats:
    """The elementary weight at every stage; ``single`` replaces ``a`` at vertices with one child (Rosenbrock)."""
    if len(tree) == 1:
        return np.asarray(single @ elementary_weight(tree[0], a, single))
    result = np.ones(len(a))
    for child in tree:
        result = result * (a @ elementary_weight(child, a, single))
    return result


def defects(a: Floats, single: Floats, b: Floats, order: int, x: float = 1.0) -> list[float]:
    found = []
    for tree in trees(order):
        weight = elementary_weight(tree, a, single)
        # Relative to the size of the terms, which cancel.
        size = np.abs(b) @ np.abs(weight) + x**order / gamma(tree)
        found.append(float(abs(b @ weight - x**order / gamma(tree)) / size))
    return found


@pytest.mark.parametrize("name", PAIRS)
def test_order_of_the_pair(name: str) -> None:
    tableau = PAIRS[name]
    a = stage_matrix(tableau)
    end = a[tableau.last]
    np.testing.assert_allclose(a.sum(axis=1), tableau.c, rtol=0, atol=2e-14)
    for order in range(1, tableau.order + 1):
        assert max(defects(a, a, end, order)) < 1e-13
    assert max(defects(a, a, end, tableau.order + 1)) > 1e-7


@pytest.mark.parametrize(("name", "rows"), [("dop853", (5, 3)), ("tsit5", (4,))])
def test_orders_of_the_error_estimates(name: str, rows: tuple[int, ...]) -> None:
    tableau = PAIRS[name]
    a = stage_matrix(tableau)
    tests = dense_matrix(tableau.test_start, tableau.test_place, tableau.test_weight, tableau.stages)
    for row, order in enumerate(rows):
        embedded = a[tableau.last] - tests[row]
        assert all(max(defects(a, a, embedded, low)) < 1e-13 for low in range(1, order + 1))
        assert max(defects(a, a, embedded, order + 1)) > 1e-6


@pytest.mark.parametrize(("name", "order"), [("dop853", 7), ("tsit5", 4)])
@pytest.mark.parametrize("x", [0.1, 0.37, 0.5, 0.9])
def test_order_of_the_interpolant(name: str, order: int, x: float) -> None:
    tableau = PAIRS[name]
    a = stage_matrix(tableau)
    rows = dense_matrix(tableau.dense_start, tableau.dense_place, tableau.dense_weight, tableau.stages)
    b = np.zeros(tableau.stages)
    for index in reversed(range(len(rows))):
        b = (b + rows[index]) * (x if index % 2 == 0 else 1.0 - x)
    for low in range(1, order + 1):
        assert max(defects(a, a, b, low, x)) < 1e-12
    assert max(defects(a, a, b, order + 1, x)) > 1e-7


def rosenbrock_matrices() -> tuple[Floats, Floats, Floats]:
    """Return alpha, beta and the matrix Gamma from the coefficients of the form without multiplications by J."""
    method = _rosenbrock.make_rosenbrock(1, np.zeros(0, dtype=np.int64))
    inverse = np.eye(8) / _rosenbrock._GAMMA - method.c
    gammas = np.linalg.inv(inverse)
    alpha = method.a @ gammas
    return alpha, alpha + gammas, gammas


def test_order_of_rodas5p() -> None:
    method = _rosenbrock.make_rosenbrock(1, np.zeros(0, dtype=np.int64))
    alpha, beta, gammas = rosenbrock_matrices()
    np.testing.assert_allclose(alpha.sum(axis=1), method.alpha, atol=1e-13)
    np.testing.assert_allclose(gammas.sum(axis=1), method.gamma, atol=1e-13)
    last = np.eye(8)[7]
    solution, embedded = (method.a[7] + last) @ gammas, method.a[7] @ gammas
    assert all(max(defects(alpha, beta, solution, order)) < 1e-12 for order in range(1, 6))
    assert max(defects(alpha, beta, solution, 6)) > 1e-6
    assert all(max(defects(alpha, beta, embedded, order)) < 1e-12 for order in range(1, 5))
    assert max(defects(alpha, beta, embedded, 5)) > 1e-6


@pytest.mark.parametrize("x", [0.2, 0.5, 0.8])
def test_order_of_the_interpolant_of_rodas5p(x: float) -> None:
    method = _rosenbrock.make_rosenbrock(1, np.zeros(0, dtype=np.int64))
    alpha, beta, gammas = rosenbrock_matrices()
    end = method.a[7] + np.eye(8)[7]
    k1, k2, k3 = method.h
    weight = x * (end + (1.0 - x) * (k1 + x * (k2 + x * k3))) @ gammas
    assert all(max(defects(alpha, beta, weight, order, x)) < 1e-12 for order in range(1, 5))
    assert max(defects(alpha, beta, weight, 5, x)) > 1e-6


def test_rodas5p_is_l_stable() -> None:
    _, beta, gammas = rosenbrock_matrices()
    method = _rosenbrock.make_rosenbrock(1, np.zeros(0, dtype=np.int64))
    b = (method.a[7] + np.eye(8)[7]) @ gammas
    for z in [*(1j * np.geomspace(0.001, 1000000.0, 400)).tolist(), -1000.0, -1000000.0]:
        growth = 1.0 + z * b @ np.linalg.solve(np.eye(8) - z * beta, np.ones(8))
        assert abs(growth) <= 1.0 + 1e-12
    assert abs(1.0 - 1e12 * b @ np.linalg.solve(np.eye(8) + 1e12 * beta, np.ones(8))) < 1e-8


@pytest.mark.parametrize("name", PAIRS)
def test_stability_bounds(name: str) -> None:
    """The bound of the stiffness test lies where the method becomes unstable on the negative axis, within 5%."""
    tableau = PAIRS[name]
    a, last = stage_matrix(tableau), tableau.last

    def growth(z: float) -> float:
        return float(abs(1.0 + z * a[last, :last] @ np.linalg.solve(np.eye(last) - z * a[:last, :last], np.ones(last))))

    assert growth(-0.95 * tableau.stability) < 1.0 < growth(-1.06 * tableau.stability)


def test_dop853_is_that_of_scipy() -> None:
    from scipy.integrate._ivp import dop853_coefficients as other

    np.testing.assert_allclose(stage_matrix(DOP853), other.A, rtol=1e-15)
    np.testing.assert_allclose(DOP853.c, other.C, rtol=1e-15)
