// Products of one layer for eight networks, a lane each, of which a call takes the part that a register holds: there is
// nothing to share between lanes, so that what can be saved is loads, by tiles of units and samples whose sums stay in
// registers. Every sum runs in one order, whatever the tile: samples can be taken four at a time or one by one.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "simd.hpp"

namespace wideangle::WIDEANGLE_PATH {

// Eight networks, and the parts of them that a register holds.
struct alignas(64) EightLanes {
    double at[8];
    WIDEANGLE_INLINE f64 get() const { return load<f64>(at); }
    WIDEANGLE_INLINE void set(f64 x) { store(at, x); }
    WIDEANGLE_INLINE r64 get(int part) const { return get_part<r64>(at, part); }
    WIDEANGLE_INLINE void set(int part, r64 x) { set_part(at, part, x); }
};
constexpr int eight_parts = sizeof(f64) / sizeof(r64);

#if defined(__AVX512F__)
constexpr int unit_tile = 4;
#else
constexpr int unit_tile = 2;
#endif
constexpr int sample_tile = 4;

struct LayerSize {
    std::size_t inputs, units;
};

// Calls body(first, constant number of units) for tiles of units, and one by one for what is left.
template <class Body>
WIDEANGLE_INLINE void for_tiles(std::size_t units, Body&& body) {
    std::size_t i = 0;
    for (; i + unit_tile <= units; i += unit_tile) body(i, std::integral_constant<int, unit_tile>{});
    if constexpr (unit_tile > 1)
        for (; i < units; ++i) body(i, std::integral_constant<int, 1>{});
}

// z(s, i) = b(i) + sum_j W(i, j) h(s, j); weights with the biases behind them.
template <int samples>
WIDEANGLE_INLINE void forward_products(int part, LayerSize size, const EightLanes* weights, const EightLanes* h,
                                       EightLanes* z) {
    const EightLanes* biases = weights + size.inputs * size.units;
    for_tiles(size.units, [&](std::size_t i, auto tile) __attribute__((always_inline)) {
        constexpr int units = tile();
        r64 sum[units][samples];
        for (int u = 0; u < units; ++u)
            for (int s = 0; s < samples; ++s) sum[u][s] = biases[i + u].get(part);
        for (std::size_t j = 0; j < size.inputs; ++j) {
            r64 input[samples];
            for (int s = 0; s < samples; ++s) input[s] = h[s * size.inputs + j].get(part);
            for (int u = 0; u < units; ++u) {
                const r64 weight = weights[(i + u) * size.inputs + j].get(part);
                for (int s = 0; s < samples; ++s) sum[u][s] += weight * input[s];
            }
        }
        for (int u = 0; u < units; ++u)
            for (int s = 0; s < samples; ++s) z[s * size.units + i + u].set(part, sum[u][s]);
    });
}

// Adds sum_s d(s, i) h(s, j) to the gradient of W(i, j), and sum_s d(s, i) to that of b(i).
template <int samples>
WIDEANGLE_INLINE void add_gradients(int part, LayerSize size, const EightLanes* d, const EightLanes* h,
                                    EightLanes* gradients) {
    EightLanes* biases = gradients + size.inputs * size.units;
    for_tiles(size.units, [&](std::size_t i, auto tile) __attribute__((always_inline)) {
        constexpr int units = tile();
        r64 slope[units][samples];
        for (int u = 0; u < units; ++u) {
            r64 sum = biases[i + u].get(part);
            for (int s = 0; s < samples; ++s) {
                slope[u][s] = d[s * size.units + i + u].get(part);
                sum += slope[u][s];
            }
            biases[i + u].set(part, sum);
        }
        for (std::size_t j = 0; j < size.inputs; ++j) {
            r64 input[samples];
            for (int s = 0; s < samples; ++s) input[s] = h[s * size.inputs + j].get(part);
            for (int u = 0; u < units; ++u) {
                EightLanes& to = gradients[(i + u) * size.inputs + j];
                r64 sum = to.get(part);
                for (int s = 0; s < samples; ++s) sum += slope[u][s] * input[s];
                to.set(part, sum);
            }
        }
    });
}

// e(s, j) = slope(s, j) sum_i W(i, j) d(s, i); slope and e may be the same array.
template <int samples>
WIDEANGLE_INLINE void backward_products(int part, LayerSize size, const EightLanes* weights, const EightLanes* d,
                                        const EightLanes* slope, EightLanes* e) {
    for_tiles(size.inputs, [&](std::size_t j, auto tile) __attribute__((always_inline)) {
        constexpr int inputs = tile();
        r64 sum[inputs][samples] = {};
        for (std::size_t i = 0; i < size.units; ++i) {
            r64 upper[samples];
            for (int s = 0; s < samples; ++s) upper[s] = d[s * size.units + i].get(part);
            for (int u = 0; u < inputs; ++u) {
                const r64 weight = weights[i * size.inputs + j + u].get(part);
                for (int s = 0; s < samples; ++s) sum[u][s] += weight * upper[s];
            }
        }
        for (int u = 0; u < inputs; ++u)
            for (int s = 0; s < samples; ++s) {
                const std::size_t at = s * size.inputs + j + u;
                e[at].set(part, slope[at].get(part) * sum[u][s]);
            }
    });
}

}  // namespace wideangle::WIDEANGLE_PATH
