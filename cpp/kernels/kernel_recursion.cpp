// Compiled once per instruction set; see kernel_recursion.hpp.
//
// What an entry costs a layer, acute angles and no biases: half-angle sine and cosine (2 square roots), one quotient, a
// polynomial of degree 10 (20 operations), and 26 more additions and products. With 8 lanes and two operations a cycle
// that is 3 cycles an entry for the arithmetic; the square roots and the quotient take about 4 beside it.
#include "kernel_recursion.hpp"

#include "simd.hpp"
#include "vector_math.hpp"

namespace wideangle {
namespace WIDEANGLE_PATH {
namespace {

constexpr int lanes64 = 8;

// Accumulators that the registers hold: rows times vectors of columns.
#if defined(__AVX512F__)
constexpr int block_rows = 4, block_vectors = 2;
#elif defined(__AVX2__)
constexpr int block_rows = 4, block_vectors = 1;
#else
constexpr int block_rows = 2, block_vectors = 1;
#endif

void distance(KernelTile& tile, TileShape shape, const double* rows, std::int64_t stride, const double* columns,
              std::int64_t features) {
    for (int row = 0; row < shape.rows; row += block_rows)
        for (int column = 0; column < shape.columns; column += block_vectors * lanes64) {
            f64 sum[block_rows][block_vectors] = {};
            const double* from = rows + row * stride;
            for (std::int64_t k = 0; k < features; ++k) {
                for (int v = 0; v < block_vectors; ++v) {
                    const f64 other = load<f64>(columns + k * tile_columns + column + v * lanes64);
                    for (int r = 0; r < block_rows; ++r) {
                        const f64 difference = other - from[r * stride + k];
                        sum[r][v] += difference * difference;
                    }
                }
            }
            for (int r = 0; r < block_rows; ++r)
                for (int v = 0; v < block_vectors; ++v) {
                    double* gap = tile.gap + (row + r) * tile_columns + column + v * lanes64;
                    store(gap, load<f64>(gap) + sum[r][v]);
                }
        }
}

struct Turn {
    f64 angle, excess;  // theta, and sin(theta) - theta cos(theta)
};

// From gap = 1 - cos(theta) for theta up to pi/2, each to a few units in its last place.
//
// With x = sin(theta/2), c = cos(theta/2) and r = 1/(1 + c): tan(theta/4) = x r, theta = 4 x r A(y) where y = (x r)^2
// and A(y) = atan(sqrt y)/sqrt y = 1 + y B(y). Then sin(theta) - theta cos(theta) = 2x (c - 2r A + 2r A gap), and
// c - 2r = -(c + 2) r^2 gap/2, 2r y B = r^3 B gap take the factor gap out of the part that would cancel.
WIDEANGLE_INLINE Turn turn(f64 gap) {
    constexpr double coefficient[] = {-0.3333333333333333016,    0.19999999999995520678,   -0.14285714284666542922,
                                      0.11111111015256361727,    -0.090909045781239018905, 0.076921831908260865637,
                                      -0.066645114473819480001,  0.058581489128022098816,  -0.050854497379402598613,
                                      0.039231658295587191303,   -0.019176887119062258989};
    const f64 half = gap * 0.5;
    const f64 c = square_root(1.0 - half);
    const f64 x = square_root(half);
    const f64 r = 1.0 / (1.0 + c);
    const f64 r2 = r * r;
    const f64 y = half * r2;
    const f64 b = polynomial(y, coefficient);
    const f64 ra = r + r * (y * b);
    const f64 x2 = x + x;
    return {(x2 + x2) * ra, (x2 * gap) * ((ra + ra) - r2 * ((c * 0.5 + 1.0) + r * b))};
}

template <bool obtuse, bool biased>
void step(KernelTile& tile, TileShape shape, const PiecewiseLinear& phi, const TileNorms& norms) {
    for (int row = 0; row < shape.rows; ++row)
        for (int column = 0; column < shape.columns; column += lanes64) {
            const int at = row * tile_columns + column;
            const f64 gap = load<f64>(tile.gap + at);
            f64 next_gap, cosine, slope;
            if constexpr (obtuse) {
                // Beyond a right angle the angle to the opposite input is the one that is known well.
                const i64 beyond = gap > 1.0;
                const f64 acute = select(beyond, load<f64>(tile.far + at), gap);
                const Turn to = turn(acute);
                const f64 excess = to.excess * phi.knee, angle = to.angle * phi.knee;
                next_gap = select(beyond, phi.turned - acute * phi.flip - excess, acute - excess);
                cosine = select(beyond, excess - phi.flip * (1.0 - acute), 1.0 - next_gap);
                slope = select(beyond, phi.flip + angle, 1.0 - angle);
            } else {
                const Turn to = turn(gap);
                next_gap = gap - to.excess * phi.knee;
                slope = 1.0 - to.angle * phi.knee;
                cosine = 1.0 - next_gap;
            }
            if constexpr (biased) {
                const f64 weight = load<f64>(norms.weight + tile_rows + column);
                const f64 shift = load<f64>(norms.shift + tile_rows + column);
                const f64 product = weight * norms.weight[row];
                const f64 along = weight - norms.weight[row], across = shift - norms.shift[row];
                slope *= product;
                next_gap = product * next_gap + 0.5 * (along * along + across * across);
                cosine = obtuse ? product * cosine + shift * norms.shift[row] : 1.0 - next_gap;
            }
            store(tile.gap + at, next_gap);
            if constexpr (obtuse) store(tile.far + at, 1.0 + cosine);
            store(tile.cosine + at, cosine);
            store(tile.tangent + at, cosine + load<f64>(tile.tangent + at) * slope);
        }
}

void step(KernelTile& tile, TileShape shape, const PiecewiseLinear& phi, const TileNorms& norms, bool obtuse,
          bool biased) {
    if (obtuse)
        biased ? step<true, true>(tile, shape, phi, norms) : step<true, false>(tile, shape, phi, norms);
    else
        biased ? step<false, true>(tile, shape, phi, norms) : step<false, false>(tile, shape, phi, norms);
}

void norm(TileNorms& norms, const PiecewiseLinear& phi, bool biased) {
    for (int i = 0; i < tile_norms; i += lanes64) {
        const f64 active = load<f64>(norms.square + i) * phi.gain;
        if (!biased) {
            store(norms.square + i, active);
            continue;
        }
        const f64 bias = load<f64>(norms.bias + i) * phi.unit;
        store(norms.bias + i, bias);
        const f64 square = active + bias;
        store(norms.weight + i, square_root(active / square));
        store(norms.shift + i, square_root(bias / square));
        store(norms.square + i, square);
    }
}

}  // namespace
}  // namespace WIDEANGLE_PATH

void WIDEANGLE_JOIN(kernel_distance_, WIDEANGLE_PATH)(KernelTile& tile, TileShape shape, const double* rows,
                                                     std::int64_t stride, const double* columns,
                                                     std::int64_t features) {
    WIDEANGLE_PATH::distance(tile, shape, rows, stride, columns, features);
}

void WIDEANGLE_JOIN(kernel_step_, WIDEANGLE_PATH)(KernelTile& tile, TileShape shape, const PiecewiseLinear& phi,
                                                 const TileNorms& norms, bool obtuse, bool biased) {
    WIDEANGLE_PATH::step(tile, shape, phi, norms, obtuse, biased);
}

void WIDEANGLE_JOIN(kernel_norm_, WIDEANGLE_PATH)(TileNorms& norms, const PiecewiseLinear& phi, bool biased) {
    WIDEANGLE_PATH::norm(norms, phi, biased);
}

}  // namespace wideangle
