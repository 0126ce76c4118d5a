// Expectations of a product of activations by their Hermite coefficients, once per instruction set.
#pragma once

#include <cstdint>

namespace wideangle {

// With orthonormal Hermite polynomials h_k, a_k(q) = E[phi(sqrt(q) U) h_k(U)] over sqrt(E[phi(sqrt(q) U)^2]), and
// correlation c, the normalised expectation of the product is the sum of a_k(q1) a_k(q2) c^k. Above some degree the
// terms vary so slowly that a few stand, with weights, for all. Coefficients: that of degree 0, then one for each term.
struct HermiteSeries {
    std::int64_t terms;
    const double* degree;      // ascending from 1
    const double* weight;
    const std::int32_t* jump;  // from a term's degree to the next: 2^j for j >= 0, 2^-j - 1 for j < 0
    bool odd;                  // only odd degrees occur
};

// Columns are taken in groups of that many; coefficients of columns must be readable up to a whole group.
constexpr int hermite_group = 32;

// For one row input and `columns` column inputs, whose coefficients lie `stride` apart from term to term. gaps holds
// 1 - c or, for negative c, -(1 + c), and is overwritten by the same of the expectation of the product; slopes receives
// the sum of k a_k a_k c^(k-1).
using HermiteFunction = void (*)(const HermiteSeries&, const double* row, const double* column, std::int64_t stride,
                                 std::int64_t columns, double* gaps, double* slopes);

}  // namespace wideangle
