// The recursion of the infinite-width kernels for a tile of pairs of inputs, once per instruction set: piecewise linear
// activations layer by layer, and sums over Hermite coefficients for the others.
#pragma once

#include <cstdint>

namespace wideangle {

constexpr int tile_rows = 16;
constexpr int tile_columns = 64;
constexpr int tile_size = tile_rows * tile_columns;

// Pairs of a row input and a column input after some layer, with angle theta between them. All in units of the two
// norms, the square roots of the covariance kernel of each input with itself.
struct alignas(64) KernelTile {
    double gap[tile_size];      // 1 - cos(theta), which keeps the digits that the cosine loses
    double far[tile_size];      // 1 + cos(theta), kept where theta can be obtuse
    double cosine[tile_size];   // covariance kernel
    double tangent[tile_size];  // tangent kernel
};

// The norms of the inputs of a tile, rows first, then columns. A layer adds the bias variance to the mean square of the
// activations; `weight` and `shift` are the square roots of their shares in the sum.
constexpr int tile_norms = tile_rows + tile_columns;
struct alignas(64) TileNorms {
    double square[tile_norms];  // covariance kernel of the input with itself, over 2^exponent
    double bias[tile_norms];    // bias variance, over 2^exponent
    double weight[tile_norms];
    double shift[tile_norms];
    std::int64_t exponent[tile_norms];  // even
};

// phi(x) = x for x > 0 and slope x for x < 0. With theta the angle of the layer below, both expectations over
// phi(x)^2 = (1 + slope^2)/2 at unit variance:
//   E[phi phi]   = cos(theta) + knee (sin(theta) - theta cos(theta)),
//   E[phi' phi'] = 1 - knee theta.
struct PiecewiseLinear {
    double gain;    // weight variance (1 + slope^2)/2, brought between 1 and 4 by a power of two
    double unit;    // by which the bias variance is multiplied each layer for that: the inverse of the power
    double knee;    // (1 - slope)^2 / (pi (1 + slope^2))
    double turned;  // (1 + slope)^2 / (1 + slope^2): 1 - E[phi phi] at theta = pi
    double flip;    // 2 slope / (1 + slope^2): - E[phi phi] at theta = pi
};

struct TileShape {
    int rows;     // 1 to tile_rows
    int columns;  // 1 to tile_columns
};

// Adds to gap the sums over `features` of (row - column)^2; rows lie `stride` apart, `columns` holds tile_columns
// numbers for each feature. All tile_rows rows must be readable.
using KernelDistanceFunction = void (*)(KernelTile&, TileShape, const double* rows, std::int64_t stride,
                                        const double* columns, std::int64_t features);

// One layer. obtuse: whether angles above pi/2 can occur, which read `far` and write it; biased: whether norms hold
// weight and shift.
using KernelStepFunction = void (*)(KernelTile&, TileShape, const PiecewiseLinear&, const TileNorms&, bool obtuse,
                                    bool biased);

// Norms one layer up, for the next step.
using KernelNormFunction = void (*)(TileNorms&, const PiecewiseLinear&, bool biased);

}  // namespace wideangle
