// Compiled once per instruction set, with fused multiply-adds; see readout_sums.hpp.
//
// What a permutation must do at least: one fused multiply-add a sample, neuron and class, and one exponential a sample,
// size and class. The logits of a strip of samples and of a tile of classes stay in registers from one size to the next;
// a neuron costs them one load for the samples and one broadcast a class.
#include "readout_sums.hpp"

#include <algorithm>
#include <array>
#include <utility>

#include "activations.hpp"
#include "cells.hpp"
#include "simd.hpp"
#include "vector_math.hpp"

namespace wideangle {
namespace WIDEANGLE_PATH {
namespace {

// A strip holds two registers of doubles or, where these are narrow, the eight lanes of an f64.
constexpr std::size_t strip = many_registers ? 16 : 8;
constexpr int vectors = static_cast<int>(strip) / width_of<double>;
// Classes of a tile: with the samples and a broadcast, sums that leave no register over.
#if defined(__x86_64__) && !defined(__AVX__)
constexpr std::size_t most_classes = 2;
#else
constexpr std::size_t most_classes = many_registers ? 10 : 5;
#endif
static_assert(readout_lanes % strip == 0);
constexpr std::size_t octets = strip / 8;

// Samples first...first+strip-1, neuron after neuron; zeros where there are none.
template <class T>
void pack(const ReadoutCall<T>& call, std::size_t first) {
    const std::size_t there = std::min(strip, call.samples - first);
    const T* const from = call.features + first * call.neurons;
    for (std::size_t neuron = 0; neuron < call.neurons; ++neuron) {
        T* const to = call.packed + neuron * strip;
        for (std::size_t lane = 0; lane < strip; ++lane) to[lane] = lane < there ? from[lane * call.neurons + neuron] : T{0};
    }
}

// Adds the given neurons to the logits of `classes` classes.
template <class T, std::size_t classes>
void tile(const ReadoutCall<T>& call, const std::int64_t* neuron, const std::int64_t* end, std::size_t first_class) {
    double* const logits = call.logits + first_class * strip;
    const double* const readout = call.readout + first_class;
    Doubles sum[classes][vectors];
#pragma GCC unroll 16
    for (std::size_t c = 0; c < classes; ++c)
#pragma GCC unroll 8
        for (int v = 0; v < vectors; ++v) sum[c][v] = load<Doubles>(logits + c * strip + v * width_of<double>);
#pragma GCC unroll 1
    for (; neuron != end; ++neuron) {
        const auto index = static_cast<std::size_t>(*neuron);
        const T* const from = call.packed + index * strip;
        Doubles x[vectors];
        [&]<int... I>(std::integer_sequence<int, I...>) __attribute__((always_inline)) {
            ((x[I] = widened<I % parts<T>, T>(load<Vector<T>>(from + I / parts<T> * width_of<T>))), ...);
        }(std::make_integer_sequence<int, vectors>{});
        const double* const weight = readout + index * call.classes;
#pragma GCC unroll 16
        for (std::size_t c = 0; c < classes; ++c)
#pragma GCC unroll 8
            for (int v = 0; v < vectors; ++v) sum[c][v] += x[v] * weight[c];
    }
#pragma GCC unroll 16
    for (std::size_t c = 0; c < classes; ++c)
#pragma GCC unroll 8
        for (int v = 0; v < vectors; ++v) store(logits + c * strip + v * width_of<double>, sum[c][v]);
}

// Tiles of as equal widths as there are.
template <class T>
void add_neurons(const ReadoutCall<T>& call, const std::int64_t* neuron, const std::int64_t* end) {
    using Tile = void (*)(const ReadoutCall<T>&, const std::int64_t*, const std::int64_t*, std::size_t);
    constexpr auto tiles = []<std::size_t... I>(std::index_sequence<I...>) {
        return std::array<Tile, sizeof...(I)>{tile<T, I + 1>...};
    }(std::make_index_sequence<most_classes>{});
    std::size_t left = (call.classes + most_classes - 1) / most_classes;
    for (std::size_t first = 0; first < call.classes; --left) {
        const std::size_t width = (call.classes - first + left - 1) / left;
        tiles[width - 1](call, neuron, end, first);
        first += width;
    }
}

// Of eight lanes the class of the target, and all bits set where there is a sample. Classes are counted in doubles, for
// which there are comparisons of every width.
struct LaneTargets {
    f64 target;
    i64 live;
};

// Adds what the logits of a strip say. All lanes side by side, as each step waits for the one before.
WIDEANGLE_INLINE void evaluate(const double* logits, std::size_t classes, const LaneTargets (&lane)[octets],
                               std::int64_t& correct, double& loss) {
    const auto logit = [logits](std::size_t c, std::size_t i)
                           __attribute__((always_inline)) { return load<f64>(logits + c * strip + i * 8); };
    f64 best[octets], of_target[octets], first_best[octets] = {}, sum[octets] = {}, index{};
    for (std::size_t i = 0; i < octets; ++i) best[i] = of_target[i] = logit(0, i);
    for (std::size_t c = 1; c < classes; ++c) {
        index += 1.0;
#pragma GCC unroll 2
        for (std::size_t i = 0; i < octets; ++i) {
            const f64 z = logit(c, i);
            const i64 better = is_less(best[i], z);
            best[i] = select(better, z, best[i]);
            first_best[i] = select(better, index, first_best[i]);
            of_target[i] = select(is_unequal(lane[i].target, index), of_target[i], z);
        }
    }
    for (std::size_t c = 0; c < classes; ++c)
#pragma GCC unroll 2
        for (std::size_t i = 0; i < octets; ++i) sum[i] += exp64(logit(c, i) - best[i]);
    i64 hits{};
    f64 lost{};
    for (std::size_t i = 0; i < octets; ++i) {
        hits += ~is_unequal(first_best[i], lane[i].target) & lane[i].live;
        lost += keep(lane[i].live, (best[i] - of_target[i]) + log64(sum[i]));
    }
    for (int i = 0; i < 8; ++i) correct -= hits[i];
    loss += ((lost[0] + lost[1]) + (lost[2] + lost[3])) + ((lost[4] + lost[5]) + (lost[6] + lost[7]));
}

template <class T>
void readout_sums(const ReadoutCall<T>& call) {
    for (std::size_t first = 0; first < call.samples; first += strip) {
        const std::size_t there = std::min(strip, call.samples - first);
        pack(call, first);
        LaneTargets lanes_of[octets] = {};
        for (std::size_t lane = 0; lane < there; ++lane) {
            lanes_of[lane / 8].target[lane % 8] = static_cast<double>(call.targets[first + lane]);
            lanes_of[lane / 8].live[lane % 8] = -1;
        }
        for (std::size_t k = 0; k < call.permutations && !call.stop.load(std::memory_order_relaxed); ++k) {
            for (std::size_t c = 0; c < call.classes; ++c) std::fill_n(call.logits + c * strip, strip, call.bias[c]);
            const std::int64_t* const order = call.orders + k * call.order_stride;
            std::int64_t size = 0;
            for (std::size_t s = 0; s < call.n_sizes; ++s) {
                add_neurons(call, order + size, order + call.sizes[s]);
                size = call.sizes[s];
                const std::size_t at = k * call.n_sizes + s;
                evaluate(call.logits, call.classes, lanes_of, call.correct[at], call.loss[at]);
            }
            call.done.fetch_add(there, std::memory_order_relaxed);
        }
    }
}

}  // namespace
}  // namespace WIDEANGLE_PATH

#define WIDEANGLE_READOUT(T, name)                                                          \
    void WIDEANGLE_JOIN(name, WIDEANGLE_PATH)(const ReadoutCall<T>& call);                  \
    void WIDEANGLE_JOIN(name, WIDEANGLE_PATH)(const ReadoutCall<T>& call) { WIDEANGLE_PATH::readout_sums<T>(call); }
WIDEANGLE_READOUT(float, readout_float_)
WIDEANGLE_READOUT(double, readout_double_)

}  // namespace wideangle
