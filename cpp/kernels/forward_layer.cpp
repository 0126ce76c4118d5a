// Compiled once per instruction set, with fused multiply-adds; see forward_layer.hpp.
//
// What a layer must do at least: one fused multiply-add a weight and vector of inputs. A tile holds the sums of some units
// and of one strip of inputs in registers, enough of them (24 of 32, 12 of 16) to keep two multipliers busy; per cell it
// loads one vector for each vector of inputs and one cell for each unit. No weight is copied or transposed.
#include "forward_layer.hpp"

#include <algorithm>
#include <cstring>

#include "activations.hpp"
#include "cells.hpp"
#include "forward_gram.hpp"
#include "simd.hpp"

namespace wideangle {
namespace WIDEANGLE_PATH {
namespace {

// Nothing here depends on the place of a value in its vector, so what is left of a vector may hold anything.
template <class T>
void activate(Activation activation, double slope, T* values, std::size_t count) {
    with_activation(activation, slope, [&](auto phi) {
        constexpr std::size_t step = 8;
        for (std::size_t i = 0; i < count; i += step) {
            const std::size_t left = count - i < step ? count - i : step;
            T some[step] = {};
            std::memcpy(some, values + i, left * sizeof(T));
            f64 x;
            for (std::size_t j = 0; j < step; ++j) x[j] = some[j];
            const f64 y = phi.value(x);
            for (std::size_t j = 0; j < step; ++j) some[j] = static_cast<T>(y[j]);
            std::memcpy(values + i, some, left * sizeof(T));
        }
    });
}

// Piecewise linear activations are a factor for negative numbers, which the tiles apply; ReLU is not a factor of 0, which
// would make NaN of minus infinity. The others are applied to what the tiles have stored.
struct Finish {
    explicit Finish(Activation activation, double slope)
        : relu(activation == Activation::relu),
          piecewise(activation <= Activation::linear),
          slope(activation == Activation::abs          ? -1.0
                : activation == Activation::leaky_relu ? slope
                                                       : 1.0) {}
    bool relu, piecewise;
    double slope;
};

// The squares and counts of a vector of the panel, added to the sums.
template <class T>
WIDEANGLE_INLINE void add_sums(const UnitSums<T>& to, std::size_t at, const Doubles (&squares)[parts<T>], Lanes<T> positive) {
    for (int part = 0; part < parts<T>; ++part) {
        double* const some = to.squares + at + static_cast<std::size_t>(part * width_of<double>);
        store(some, load<Doubles>(some) + squares[part]);
    }
    store(to.positive + at, load<Lanes<T>>(to.positive + at) + positive);
}

// ---- Tiles

// Into the first cache, or, if it is for later, into the second.
WIDEANGLE_INLINE void prefetch(std::uintptr_t address, bool later) {
    if (later)
        __builtin_prefetch(reinterpret_cast<const void*>(address), 0, 2);
    else
        __builtin_prefetch(reinterpret_cast<const void*>(address));
}

// All bits set in the lanes of the first `count` units of each cell.
template <class T>
WIDEANGLE_INLINE Lanes<T> first_units(std::size_t count) {
    LaneCount<T> mask[width_of<T>];
    for (int lane = 0; lane < width_of<T>; ++lane) mask[lane] = static_cast<std::size_t>(lane % cell<T>) < count ? -1 : 0;
    return load<Lanes<T>>(mask);
}

// Where a strip of the panel is before and after the layer.
template <class T>
struct Strip {
    const T* in;
    T* out;
    std::uintptr_t ahead;
};

// Sums over the units of a block, of each vector of a strip.
template <class T>
struct BlockSums {
    Vector<T> squares[most_vectors] = {};
    Lanes<T> positive[most_vectors] = {};
};

// Units unit...unit+units-1 for a strip of some vectors, or, if not whole, those of them that there are.
template <class T, int vectors, int units, bool whole>
WIDEANGLE_INLINE void tile(const LayerCall<T>& call, const Finish& finish, std::size_t unit, const Strip<T>& strip,
                          BlockSums<T>& sums) {
    constexpr std::size_t lanes = width_of<T>, stride = vectors * lanes;
    // Eight sums are just enough to hide the latency of an addition: even and odd cells add up apart.
    constexpr int phases = many_registers && vectors * units <= 8 ? 2 : 1;
    constexpr std::size_t line = 64 / sizeof(T);
    const std::size_t inputs = call.inputs, there = call.units - unit;
    const T* const weights = call.weights + unit * inputs;
    const std::uintptr_t ahead = strip.ahead != 0 ? strip.ahead + unit * inputs * sizeof(T) : 0;

    Vector<T> sum[phases][units][vectors] = {};
    const T* in = strip.in;
    const auto add = [&](int phase, const T* from, auto read) __attribute__((always_inline)) {
        Vector<T> x[vectors];
#pragma GCC unroll 8
        for (std::size_t v = 0; v < vectors; ++v) x[v] = load<Vector<T>>(in + v * lanes);
#pragma GCC unroll 8
        for (std::size_t j = 0; j < units; ++j) {
            const Vector<T> w = read(from + (whole ? j : std::min(j, there - 1)) * inputs);
#pragma GCC unroll 8
            for (std::size_t v = 0; v < vectors; ++v) sum[phase][j][v] += w * x[v];
        }
        in += stride;
    };
    const auto cell_of = [](const T* from) __attribute__((always_inline)) { return for_all_inputs(from); };
    std::size_t k = 0;
    for (; k + line <= inputs; k += line) {
        if (ahead != 0)
#pragma GCC unroll 8
            for (std::size_t j = 0; j < units; ++j) prefetch(ahead + (j * inputs + k) * sizeof(T), call.ahead_is_far);
#pragma GCC unroll 1
        for (std::size_t i = 0; i < line; i += 2 * cell_units<T>) {
            add(0, weights + k + i, cell_of);
            add(phases - 1, weights + k + i + cell_units<T>, cell_of);
        }
    }
    for (; k + cell_units<T> <= inputs; k += cell_units<T>) add(0, weights + k, cell_of);
    if (k < inputs)
        add(0, weights + k, [&](const T* from) __attribute__((always_inline)) { return for_all_inputs(from, inputs - k); });

    T* const out = strip.out + unit / cell_units<T> * stride;
    const T* const bias = call.bias;
    const T slope = static_cast<T>(finish.slope);
    const auto end = [&](auto phi) __attribute__((always_inline)) {
#pragma GCC unroll 8
        for (std::size_t v = 0; v < vectors; ++v) {
#pragma GCC unroll 4
            for (std::size_t c = 0; c < units / cell_units<T>; ++c) {
                Vector<T> of_units[cell<T>];
#pragma GCC unroll 4
                for (std::size_t i = 0; i < cell_units<T>; ++i) {
                    of_units[i] = sum[0][c * cell_units<T> + i][v];
                    if constexpr (phases == 2) of_units[i] += sum[1][c * cell_units<T> + i][v];
                }
                Vector<T> z = block_sums<Vector<T>, width_of<T>, cell<T>>(of_units);
                if (bias != nullptr) {
                    const T* const from = bias + unit + c * cell_units<T>;
                    z += whole ? for_all_inputs(from) : for_all_inputs(from, there);
                }
                if constexpr (!whole) z = bits_as<Vector<T>>(bits_as<Lanes<T>>(z) & first_units<T>(there));
                sums.positive[v] -= z > T{0};
                const Vector<T> value = phi(z);
                sums.squares[v] += value * value;
                store(out + c * stride + v * lanes, value);
            }
        }
    };
    if (finish.relu)
        end([](Vector<T> z) { return z < T{0} ? Vector<T>{} : z; });
    else
        end([slope](Vector<T> z) { return z < T{0} ? z * slope : z; });
}

template <class T, int vectors>
void tiles(const LayerCall<T>& call, const Finish& finish, std::size_t unit, std::size_t last, const Strip<T>& strip,
           BlockSums<T>& sums) {
    // Where there is a choice, more units share the vectors of inputs, fewer are finished sooner.
    if constexpr (vectors <= (many_registers ? 3 : 1)) {
        if (vectors < 3 || call.inputs >= 256)
            for (; unit + 8 <= last; unit += 8) tile<T, vectors, 8, true>(call, finish, unit, strip, sums);
    } else if constexpr (many_registers && vectors == 4 && cell<T> == 2) {
        for (; unit + 6 <= last; unit += 6) tile<T, vectors, 6, true>(call, finish, unit, strip, sums);
    }
    for (; unit + 4 <= last; unit += 4) tile<T, vectors, 4, true>(call, finish, unit, strip, sums);
    if constexpr (cell<T> == 2)
        for (; unit + 2 <= last; unit += 2) tile<T, vectors, 2, true>(call, finish, unit, strip, sums);
    if (unit < last) tile<T, vectors, cell<T>, false>(call, finish, unit, strip, sums);
}

// A block of weights is read once from memory, then for each strip from the cache.
constexpr std::size_t block_units = 48;

template <class T>
void measure_vectors(const T* panel, const PanelLayout<T>& layout, std::size_t width, std::size_t first, std::size_t last,
                     const UnitSums<T>& to, bool count) {
    const std::size_t begin = first / cell_units<T>, end = round_up(last, cell_units<T>) / cell_units<T>;
    for (std::size_t vector = 0; vector < layout.vectors(); ++vector) {
        const T* const from = panel + layout.vector_offset(vector, width);
        const std::size_t stride = layout.stride(vector);
        Doubles squares[parts<T>] = {};
        Lanes<T> positive = {};
        for (std::size_t k = begin; k < end; ++k) {
            const Vector<T> x = load<Vector<T>>(from + k * stride);
            const Doubles low = widened<0, T>(x);
            squares[0] += low * low;
            if constexpr (parts<T> == 2) {
                const Doubles high = widened<1, T>(x);
                squares[1] += high * high;
            }
            if (count) positive -= x > T{0};
        }
        add_sums<T>(to, vector * layout.lanes(), squares, positive);
    }
}

template <class T>
void measure(const T* panel, const PanelLayout<T>& layout, std::size_t width, std::size_t first, std::size_t last,
             const UnitSums<T>& to) {
    measure_vectors(panel, layout, width, first, last, to, true);
}

// The tiles add up squares of their few units in T. In float32 these may overflow, or lose digits near the smallest numbers.
template <class T>
bool squares_in_range(const LayerCall<T>& call) {
    if constexpr (sizeof(T) == sizeof(double)) return true;
    for (std::size_t input = 0; input < call.layout.count; ++input) {
        double squares = 0;
        for (std::size_t lane = 0; lane < cell_units<T>; ++lane) squares += call.sums.squares[input * cell_units<T> + lane];
        if (!(squares > 1e-30 && squares < 1e38)) return false;
    }
    return true;
}

// What remains of the last cell is zero again: an activation need not be zero there.
template <class T>
void clear_remainder(const LayerCall<T>& call, std::size_t vectors, T* strip) {
    constexpr std::size_t lanes = width_of<T>;
    const std::size_t there = call.units % cell_units<T>;
    if (there == 0) return;
    T* const cell = strip + call.units / cell_units<T> * vectors * lanes;
    for (std::size_t at = 0; at < vectors * lanes; at += lanes)
        store(cell + at, bits_as<Vector<T>>(load<Lanes<T>>(cell + at) & first_units<T>(there)));
}

template <class T>
void layer(const LayerCall<T>& call) {
    const Finish finish(call.activation, call.slope);
    const PanelLayout<T>& layout = call.layout;
    constexpr void (*of_vectors[])(const LayerCall<T>&, const Finish&, std::size_t, std::size_t, const Strip<T>&,
                                    BlockSums<T>&) = {
        tiles<T, 1>, tiles<T, 2>, tiles<T, 3>,
#if defined(__AVX512F__)
        tiles<T, 4>, tiles<T, 5>, tiles<T, 6>,
#endif
    };
    static_assert(std::size(of_vectors) == most_vectors);
    for (std::size_t unit = call.first; unit < call.last; unit += block_units) {
        if (call.stop.load(std::memory_order_relaxed)) return;
        const std::size_t last = std::min(unit + block_units, call.last);
        for (std::size_t begin = 0; begin < layout.vectors(); begin += layout.strip()) {
            const std::size_t vectors = layout.strip_vectors(begin), lanes = layout.lanes();
            const Strip<T> strip{call.in + layout.vector_offset(begin, call.inputs),
                                 call.out + layout.vector_offset(begin, call.units),
                                 begin == 0 ? call.ahead : 0};
            BlockSums<T> sums;
            of_vectors[vectors - 1](call, finish, unit, last, strip, sums);
            for (std::size_t v = 0; v < vectors; ++v) {
                Doubles squares[parts<T>] = {widened<0, T>(sums.squares[v])};
                if constexpr (parts<T> == 2) squares[1] = widened<1, T>(sums.squares[v]);
                add_sums<T>(call.sums, (begin + v) * lanes, squares, sums.positive[v]);
            }
            if (!finish.piecewise) {
                const std::size_t cells = round_up(last - unit, cell_units<T>) / cell_units<T>;
                activate(call.activation, call.slope, strip.out + unit / cell_units<T> * vectors * lanes,
                         cells * vectors * lanes);
                if (last == call.units) clear_remainder(call, vectors, strip.out);
            }
        }
    }
    if (!finish.piecewise || !squares_in_range(call)) {
        std::fill_n(call.sums.squares, layout.vectors() * layout.lanes(), 0.0);
        measure_vectors(call.out, layout, call.units, call.first, call.last, call.sums, false);
    }
}

template <class T>
void unpack(const T* panel, const PanelLayout<T>& layout, std::size_t width, std::size_t first, std::size_t last, T* to) {
    for (std::size_t input = 0; input < layout.count; ++input) {
        const T* const from = panel + layout.offset(input, width);
        const std::size_t stride = layout.stride_of_input(input) / cell_units<T>;
        T* const row = to + input * width;
        std::size_t unit = first;
        for (; unit + cell_units<T> <= last; unit += cell_units<T>)
            std::memcpy(row + unit, from + unit * stride, sizeof(T) * cell_units<T>);
        if (unit < last) std::memcpy(row + unit, from + unit * stride, sizeof(T) * (last - unit));
    }
}

}  // namespace
}  // namespace WIDEANGLE_PATH

#define WIDEANGLE_FORWARD(T, name)                                                  \
    extern const ForwardKernels<T> WIDEANGLE_JOIN(name, WIDEANGLE_PATH);            \
    const ForwardKernels<T> WIDEANGLE_JOIN(name, WIDEANGLE_PATH) = {                \
        WIDEANGLE_PATH::vector_inputs, WIDEANGLE_PATH::most_vectors, WIDEANGLE_PATH::layer<T>, \
        WIDEANGLE_PATH::measure<T>, WIDEANGLE_PATH::unpack<T>, WIDEANGLE_PATH::gram<T>};
WIDEANGLE_FORWARD(float, forward_float_)
WIDEANGLE_FORWARD(double, forward_double_)

}  // namespace wideangle
