"""Small dense linear systems in row-major memory."""

from __future__ import annotations

from typing import Any

from wideangle.integrators._calls import kernel


@kernel
def factor(matrix: Any, pivot: Any, n: Any) -> None:
    """Factor in place with partial pivoting; a singular matrix leaves infinities, which the step control sees."""
    for k in range(n):
        best, row = abs(matrix[k * n + k]), k
        for i in range(k + 1, n):
            if abs(matrix[i * n + k]) > best:
                best, row = abs(matrix[i * n + k]), i
        pivot[k] = row
        if row != k:
            for j in range(n):
                matrix[k * n + j], matrix[row * n + j] = matrix[row * n + j], matrix[k * n + j]
        inverse = 1.0 / matrix[k * n + k]
        for i in range(k + 1, n):
            multiple = matrix[i * n + k] * inverse
            matrix[i * n + k] = multiple
            if multiple != 0.0:
                for j in range(k + 1, n):
                    matrix[i * n + j] -= multiple * matrix[k * n + j]


@kernel
def solve(matrix: Any, pivot: Any, vector: Any, n: Any) -> None:
    """Solve in place with the factors."""
    for k in range(n):
        row = pivot[k]
        vector[k], vector[row] = vector[row], vector[k]
    for i in range(n):
        total = vector[i]
        for j in range(i):
            total -= matrix[i * n + j] * vector[j]
        vector[i] = total
    for i in range(n - 1, -1, -1):
        total = vector[i]
        for j in range(i + 1, n):
            total -= matrix[i * n + j] * vector[j]
        vector[i] = total / matrix[i * n + i]
