// What the regression of a layer on chunks of its neurons calls, once per instruction set.
//
// Symmetric matrices are stored by rows, of which only the columns from the diagonal on count; what is left of the diagonal
// may be overwritten. The stride of a row is a multiple of matrix_lanes, and columns beyond the size are zero.
#pragma once

#include <cstddef>

namespace wideangle {

constexpr std::size_t matrix_lanes = 8;

// matrix(i, j) += sign sum_k rows(k, i) rows(k, j), for first <= i < last and i <= j < size.
struct SymmetricUpdate {
    const double* rows;  // (depth, stride)
    std::size_t depth;
    double* matrix;  // (size, stride)
    std::size_t first, last, size, stride;
    double sign;
};

// Sum over first <= i < last and i < j < size of |matrix(i, j)| scale / (spread(i) spread(j) + offset).
struct CorrelationSum {
    const double* matrix;
    const double* spread;  // (stride), zeros beyond the size
    std::size_t first, last, size, stride;
    double scale, offset;
};

struct ChunkKernels {
    void (*update)(const SymmetricUpdate&);
    // to += factor from, over `count` numbers.
    void (*add)(double* to, const double* from, double factor, std::size_t count);
    double (*correlations)(const CorrelationSum&);
};

}  // namespace wideangle
