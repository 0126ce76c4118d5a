// Compiled once per instruction set, with fused multiply-adds; see forward_layer.hpp.
//
// What a layer must do at least: one fused multiply-add a weight and vector of inputs. A tile holds the sums of some units
// and of one strip of inputs in registers, enough of them (24 of 32, 12 of 16) to keep two multipliers busy; per step it
// loads one vector for each vector of inputs and one number for each unit. No weight is copied or transposed.
#include "forward_layer.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

#include "activations.hpp"
#include "simd.hpp"

namespace wideangle {
namespace WIDEANGLE_PATH {
namespace {

#if defined(__AVX512F__)
constexpr std::size_t vector_bytes = 64;
constexpr int strip_vectors = 4;
#elif defined(__AVX__)
constexpr std::size_t vector_bytes = 32;
constexpr int strip_vectors = 2;
#else
constexpr std::size_t vector_bytes = 16;
constexpr int strip_vectors = 2;
#endif
constexpr bool many_registers = strip_vectors > 2;

template <class T>
constexpr int width_of = vector_bytes / sizeof(T);

template <class T>
struct VectorOf {
    typedef T type __attribute__((vector_size(vector_bytes)));
};
template <class T>
using Vector = typename VectorOf<T>::type;
template <class T>
using Lanes = Vector<LaneCount<T>>;
using Doubles = Vector<double>;
using FewFloats = float __attribute__((vector_size(vector_bytes / 2)));  // as many as Doubles

// Vectors of doubles that hold what a vector of T holds.
template <class T>
constexpr int parts = sizeof(double) / sizeof(T);

template <int part, class T>
WIDEANGLE_INLINE Doubles widened(Vector<T> x) {
    if constexpr (sizeof(T) == sizeof(double)) {
        return x;
    } else {
        return [x]<int... I>(std::integer_sequence<int, I...>) {
            return __builtin_convertvector(__builtin_shufflevector(x, x, (part * width_of<double> + I)...), Doubles);
        }(std::make_integer_sequence<int, width_of<double>>{});
    }
}

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

    template <class T>
    WIDEANGLE_INLINE Vector<T> operator()(Vector<T> z) const {
        if (relu) return z < T{0} ? Vector<T>{} : z;
        return z < T{0} ? z * static_cast<T>(slope) : z;
    }
};

template <class T>
struct Sums {
    Doubles squares[parts<T>];
    Lanes<T> positive;

    WIDEANGLE_INLINE void add(Vector<T> x) {
        squares[0] += widened<0, T>(x);
        if constexpr (parts<T> == 2) squares[1] += widened<1, T>(x);
    }
    WIDEANGLE_INLINE void add_square(Vector<T> x) {
        const Doubles low = widened<0, T>(x);
        squares[0] += low * low;
        if constexpr (parts<T> == 2) {
            const Doubles high = widened<1, T>(x);
            squares[1] += high * high;
        }
    }
    WIDEANGLE_INLINE static Sums load_from(const UnitSums<T>& from, std::size_t at) {
        Sums sums;
        for (int part = 0; part < parts<T>; ++part)
            sums.squares[part] = load<Doubles>(from.squares + at + static_cast<std::size_t>(part * width_of<double>));
        sums.positive = load<Lanes<T>>(from.positive + at);
        return sums;
    }
    WIDEANGLE_INLINE void store_to(const UnitSums<T>& to, std::size_t at) const {
        for (int part = 0; part < parts<T>; ++part)
            store(to.squares + at + static_cast<std::size_t>(part * width_of<double>), squares[part]);
        store(to.positive + at, positive);
    }
};

// ---- Strips

WIDEANGLE_INLINE void prefetch(std::uintptr_t address) { __builtin_prefetch(reinterpret_cast<const void*>(address)); }

// Units unit...unit+units-1 for a strip of some vectors of inputs that starts at input `at` of the panel.
template <class T, int vectors, int units>
WIDEANGLE_INLINE void strip_tile(const LayerCall<T>& call, const Finish& finish, std::size_t unit, std::size_t at) {
    constexpr std::size_t lanes = width_of<T>, width = vectors * lanes;
    // One vector and eight units are too few sums to hide the latency of an addition: even and odd steps add up apart.
    constexpr int phases = vectors * units <= 8 ? 2 : 1;
    constexpr std::size_t steps = vectors == 1 ? 8 : 4;
    constexpr std::size_t lines = (units * steps * sizeof(T) + 63) / 64;

    const T* const in = call.in + at * call.inputs;
    const T* rows[units];
    for (int j = 0; j < units; ++j) rows[j] = call.weights + (unit + static_cast<std::size_t>(j)) * call.inputs;
    const std::uintptr_t ahead = at == 0 ? call.ahead : 0;

    Vector<T> sum[phases][units][vectors] = {};
    const auto step = [&](std::size_t k, int phase) __attribute__((always_inline)) {
        Vector<T> x[vectors];
        for (int v = 0; v < vectors; ++v)
            x[v] = load<Vector<T>>(in + k * width + static_cast<std::size_t>(v) * lanes);
#pragma GCC unroll 8
        for (int j = 0; j < units; ++j)
#pragma GCC unroll 4
            for (int v = 0; v < vectors; ++v) sum[phase][j][v] += x[v] * rows[j][k];
    };
    std::size_t k = 0;
    for (; k + steps <= call.inputs; k += steps) {
#pragma GCC unroll 8
        for (std::size_t i = 0; i < steps; ++i) step(k + i, static_cast<int>(i) % phases);
        if (ahead != 0)
            for (std::size_t line = 0; line < lines; ++line)
                prefetch(ahead + (unit * call.inputs + k * units) * sizeof(T) + 64 * line);
    }
    for (; k < call.inputs; ++k) step(k, 0);

    T* const out = call.out + at * call.units + unit * width;
    const auto end = [&](auto phi) __attribute__((always_inline)) {
        for (int v = 0; v < vectors; ++v) {
            const std::size_t lane = static_cast<std::size_t>(v) * lanes;
            Sums<T> sums = Sums<T>::load_from(call.sums, at + lane);
            Vector<T> squares = {};
            for (int j = 0; j < units; ++j) {
                Vector<T> z = sum[0][j][v];
                if constexpr (phases == 2) z += sum[1][j][v];
                if (call.bias != nullptr) z += call.bias[unit + static_cast<std::size_t>(j)];
                sums.positive -= z > T{0};
                const Vector<T> value = phi(z);
                squares += value * value;
                store(out + static_cast<std::size_t>(j) * width + lane, value);
            }
            sums.add(squares);
            sums.store_to(call.sums, at + lane);
        }
    };
    if (finish.relu)
        end([](Vector<T> z) { return z < T{0} ? Vector<T>{} : z; });
    else
        end([&](Vector<T> z) { return z < T{0} ? z * static_cast<T>(finish.slope) : z; });
}

template <class T, int vectors>
void strip(const LayerCall<T>& call, const Finish& finish, std::size_t unit, std::size_t last, std::size_t at) {
    constexpr int units = many_registers && vectors < 4 ? 8 : 6;
    for (; unit + units <= last; unit += units) strip_tile<T, vectors, units>(call, finish, unit, at);
    for (; unit + 4 <= last; unit += 4) strip_tile<T, vectors, 4>(call, finish, unit, at);
    for (; unit + 2 <= last; unit += 2) strip_tile<T, vectors, 2>(call, finish, unit, at);
    if (unit < last) strip_tile<T, vectors, 1>(call, finish, unit, at);
}

// A multiple of the units of every tile: a block of weights is read once from memory, then for each strip from the cache.
constexpr std::size_t block_units = 48;

template <class T>
void strips_measure(const T* panel, const PanelLayout<T>& layout, std::size_t width, std::size_t first,
                    std::size_t last, const UnitSums<T>& to, bool positive) {
    constexpr std::size_t lanes = width_of<T>;
    for (std::size_t input = 0; input < layout.padded(); input += lanes) {
        const T* const from = panel + layout.offset(input, width);
        const std::size_t stride = layout.stride(input);
        Sums<T> sums = Sums<T>::load_from(to, input);
        for (std::size_t unit = first; unit < last; ++unit) {
            const Vector<T> x = load<Vector<T>>(from + unit * stride);
            sums.add_square(x);
            if (positive) sums.positive -= x > T{0};
        }
        sums.store_to(to, input);
    }
}

// The tiles add up squares of their few units in T. In float32 these may overflow, or lose digits near the smallest numbers.
template <class T>
bool squares_in_range(const LayerCall<T>& call) {
    if constexpr (sizeof(T) == sizeof(double)) return true;
    for (std::size_t input = 0; input < call.layout.count; ++input)
        if (!(call.sums.squares[input] > 1e-30 && call.sums.squares[input] < 1e38)) return false;
    return true;
}

template <class T>
void strips_layer(const LayerCall<T>& call) {
    const Finish finish(call.activation, call.slope);
    const std::size_t padded = call.layout.padded(), strip_inputs = call.layout.strip_inputs;
    for (std::size_t unit = call.first; unit < call.last; unit += block_units) {
        if (call.stop.load(std::memory_order_relaxed)) return;
        const std::size_t last = unit + block_units < call.last ? unit + block_units : call.last;
        for (std::size_t at = 0; at < padded; at += strip_inputs) {
            const std::size_t vectors = call.layout.stride(at) / width_of<T>;
            if (vectors == 1) strip<T, 1>(call, finish, unit, last, at);
            if (vectors == 2) strip<T, 2>(call, finish, unit, last, at);
            if constexpr (strip_vectors > 2) {
                if (vectors == 3) strip<T, 3>(call, finish, unit, last, at);
                if (vectors == 4) strip<T, 4>(call, finish, unit, last, at);
            }
            if (!finish.piecewise) {
                const std::size_t width = vectors * width_of<T>;
                activate(call.activation, call.slope, call.out + at * call.units + unit * width, (last - unit) * width);
            }
        }
    }
    if (!finish.piecewise || !squares_in_range(call)) {
        std::fill_n(call.sums.squares, padded, 0.0);
        strips_measure(call.out, call.layout, call.units, call.first, call.last, call.sums, false);
    }
}

// Lanes of x and y where bit `distance` of the lane is as in `high`: x's at lanes without that bit, y's at lanes with it.
template <class V, int lanes, int distance, bool high>
WIDEANGLE_INLINE V picked(V x, V y) {
    return [x, y]<int... I>(std::integer_sequence<int, I...>) {
        return __builtin_shufflevector(x, y, ((I & distance) != 0 ? lanes : 0) +
                                                 (high ? I | distance : I & ~distance)...);
    }(std::make_integer_sequence<int, lanes>{});
}

// Lane i of x[j] and lane j of x[i] change places.
template <class V, int lanes, int distance = 1>
WIDEANGLE_INLINE void transpose(V (&x)[lanes]) {
    if constexpr (distance < lanes) {
        for (int i = 0; i < lanes; ++i)
            if ((i & distance) == 0) {
                const V low = picked<V, lanes, distance, false>(x[i], x[i | distance]);
                x[i | distance] = picked<V, lanes, distance, true>(x[i], x[i | distance]);
                x[i] = low;
            }
        transpose<V, lanes, 2 * distance>(x);
    }
}

template <class T>
void strips_unpack(const T* panel, const PanelLayout<T>& layout, std::size_t width, std::size_t first, std::size_t last,
                   T* to) {
    constexpr std::size_t lanes = width_of<T>;
    for (std::size_t input = 0; input < layout.count; input += lanes) {
        const T* const from = panel + layout.offset(input, width);
        const std::size_t stride = layout.stride(input);
        const std::size_t inputs = std::min(lanes, layout.count - input);
        for (std::size_t unit = first; unit < last; unit += lanes) {
            const std::size_t units = std::min(lanes, last - unit);
            Vector<T> block[lanes] = {};
            for (std::size_t j = 0; j < units; ++j) block[j] = load<Vector<T>>(from + (unit + j) * stride);
            transpose<Vector<T>, lanes>(block);
            for (std::size_t i = 0; i < inputs; ++i) {
                T* const at = to + (input + i) * width + unit;
                if (units == lanes)
                    store(at, block[i]);
                else
                    std::memcpy(at, &block[i], units * sizeof(T));
            }
        }
    }
}

// ---- Rows

// Lane i of the result is the sum of all lanes of x[i].
template <class V, int lanes, int distance = 1>
WIDEANGLE_INLINE V sums_of(const V* x) {
    if constexpr (distance == lanes) {
        return x[0];
    } else {
        V half[lanes / (2 * distance)];
        for (int i = 0; i < lanes / (2 * distance); ++i) {
            const V low = picked<V, lanes, distance, false>(x[2 * i], x[2 * i + 1]);
            half[i] = low + picked<V, lanes, distance, true>(x[2 * i], x[2 * i + 1]);
        }
        return sums_of<V, lanes, 2 * distance>(half);
    }
}

template <class T, int count, int units>
WIDEANGLE_INLINE void row_tile(const LayerCall<T>& call, std::size_t unit) {
    constexpr int lanes = width_of<T>;
    constexpr int sums = units * count, groups = (sums + lanes - 1) / lanes;
    const std::size_t in_stride = round_up(call.inputs, most_lanes<T>);
    const std::size_t out_stride = round_up(call.units, most_lanes<T>);
    const T* const row = call.weights + unit * call.inputs;

    Vector<T> sum[groups * lanes] = {};
    const std::size_t whole = call.inputs / lanes * lanes, rest = call.inputs - whole;
    for (std::size_t k = 0; k < whole; k += lanes)
#pragma GCC unroll 8
        for (std::size_t j = 0; j < units; ++j) {
            const Vector<T> w = load<Vector<T>>(row + j * call.inputs + k);
            if (call.ahead != 0) prefetch(call.ahead + ((unit + j) * call.inputs + k) * sizeof(T));
            for (std::size_t i = 0; i < count; ++i)
                sum[i * units + j] += w * load<Vector<T>>(call.in + i * in_stride + k);
        }
    if (rest != 0)
        for (std::size_t j = 0; j < units; ++j) {
            T padded[lanes] = {};
            std::memcpy(padded, row + j * call.inputs + whole, rest * sizeof(T));
            const Vector<T> w = load<Vector<T>>(padded);
            for (std::size_t i = 0; i < count; ++i)
                sum[i * units + j] += w * load<Vector<T>>(call.in + i * in_stride + whole);
        }

    T total[groups * lanes];
    for (int group = 0; group < groups; ++group)
        store(total + group * lanes, sums_of<Vector<T>, lanes>(sum + group * lanes));
    for (std::size_t i = 0; i < count; ++i)
        for (std::size_t j = 0; j < units; ++j)
            call.out[i * out_stride + unit + j] =
                total[i * units + j] + (call.bias != nullptr ? call.bias[unit + j] : T{0});
}

template <class T>
void rows_measure(const T* panel, const PanelLayout<T>& layout, std::size_t width, std::size_t first, std::size_t last,
                  const UnitSums<T>& to, bool positive) {
    for (std::size_t input = 0; input < layout.count; ++input) {
        const T* const from = panel + layout.offset(input, width);
        Sums<T> sums = {};
        for (std::size_t unit = first; unit < last; unit += width_of<T>) {
            const Vector<T> x = load<Vector<T>>(from + unit);
            sums.add_square(x);
            if (positive) sums.positive -= x > T{0};
        }
        for (int lane = 0; lane < width_of<T>; ++lane) {
            to.squares[input] += sums.squares[lane / width_of<double>][lane % width_of<double>];
            to.positive[input] += sums.positive[lane];
        }
    }
}

// The values up to the next multiple of most_lanes are zero, and stay so: every activation is 0 at 0.
template <class T>
void rows_finish(const LayerCall<T>& call) {
    const Finish finish(call.activation, call.slope);
    for (std::size_t input = 0; input < call.layout.count; ++input) {
        T* const out = call.out + call.layout.offset(input, call.units);
        for (std::size_t unit = call.last; unit % most_lanes<T> != 0; ++unit) out[unit] = T{0};
        Lanes<T> positive = {};
        for (std::size_t unit = call.first; unit < call.last; unit += width_of<T>) {
            const Vector<T> z = load<Vector<T>>(out + unit);
            positive -= z > T{0};
            store(out + unit, finish.operator()<T>(z));
        }
        for (int lane = 0; lane < width_of<T>; ++lane) call.sums.positive[input] += positive[lane];
        if (!finish.piecewise) activate(call.activation, call.slope, out + call.first, call.last - call.first);
    }
    rows_measure(call.out, call.layout, call.units, call.first, call.last, call.sums, false);
}

template <class T, int count>
void rows_layer(const LayerCall<T>& call) {
    // As many sums as fill the vectors that they are gathered in, or half the registers.
    constexpr int units = count == 1 ? 8 : (many_registers ? 16 : 8) / (count == 2 ? 2 : 4);
    for (std::size_t unit = call.first; unit < call.last;) {
        if (call.stop.load(std::memory_order_relaxed)) return;
        const std::size_t last = unit + block_units < call.last ? unit + block_units : call.last;
        for (; unit + units <= last; unit += units) row_tile<T, count, units>(call, unit);
        for (; unit < last; ++unit) row_tile<T, count, 1>(call, unit);
    }
    rows_finish(call);
}

// ---- Both

template <class T>
void layer(const LayerCall<T>& call) {
    if (!call.layout.rows) return strips_layer(call);
    switch (call.layout.count) {
        case 1: return rows_layer<T, 1>(call);
        case 2: return rows_layer<T, 2>(call);
        case 3: return rows_layer<T, 3>(call);
        default: return rows_layer<T, most_rows>(call);
    }
}

template <class T>
void measure(const T* panel, const PanelLayout<T>& layout, std::size_t width, std::size_t first, std::size_t last,
             const UnitSums<T>& to) {
    return layout.rows ? rows_measure(panel, layout, width, first, last, to, true)
                         : strips_measure(panel, layout, width, first, last, to, true);
}

template <class T>
void unpack(const T* panel, const PanelLayout<T>& layout, std::size_t width, std::size_t first, std::size_t last, T* to) {
    if (!layout.rows) return strips_unpack(panel, layout, width, first, last, to);
    for (std::size_t input = 0; input < layout.count; ++input)
        std::memcpy(to + input * width + first, panel + layout.offset(input, width) + first, (last - first) * sizeof(T));
}

// ---- Gram matrix, in double precision whatever T is

constexpr std::size_t gram_rows = 8;     // inputs of a block
constexpr std::size_t gram_units = 512;  // of which a block is kept in the cache

template <class T>
WIDEANGLE_INLINE Doubles load_doubles(const T* from) {
    if constexpr (sizeof(T) == sizeof(double)) {
        return load<Doubles>(from);
    } else {
        return __builtin_convertvector(load<FewFloats>(from), Doubles);
    }
}

struct GramPart {
    double* entries;
    std::size_t stride, rows, columns;
    bool set;  // rather than add
};

// Products of `rows` inputs, or a few fewer, with one vector of inputs.
template <class T, int rows>
void gram_tile(const double (*block)[gram_rows], const T* from, std::size_t stride, std::size_t units, const GramPart& to) {
    Doubles sum[rows] = {};
    for (std::size_t k = 0; k < units; ++k) {
        const Doubles x = load_doubles(from + k * stride);
        for (int i = 0; i < rows; ++i) sum[i] += x * block[k][i];
    }
    for (std::size_t i = 0; i < to.rows; ++i) {
        double* const row = to.entries + i * to.stride;
        Doubles before = {};
        if (!to.set) std::memcpy(&before, row, to.columns * sizeof(double));
        before += sum[i];
        if (to.columns == width_of<double>)
            store(row, before);
        else
            std::memcpy(row, &before, to.columns * sizeof(double));
    }
}

template <class T>
void gram_of_strips(const GramCall<T>& call) {
    constexpr std::size_t lanes = width_of<double>;
    alignas(64) double block[gram_units][gram_rows];  // what lies beyond the last input is not used
    for (std::size_t row = call.begin; row < call.end; row += gram_rows) {
        const std::size_t rows = call.end - row < gram_rows ? call.end - row : gram_rows;
        const std::size_t panel = row / panel_inputs<T>, in_panel = row % panel_inputs<T>;
        for (std::size_t first = 0; first < call.width; first += gram_units) {
            if (call.stop.load(std::memory_order_relaxed)) return;
            const std::size_t units = call.width - first < gram_units ? call.width - first : gram_units;
            for (std::size_t i = 0; i < rows; i += lanes) {
                const std::size_t stride = call.layouts[panel].stride(in_panel + i);
                const T* const from =
                    call.panels + panel * call.panel_size + call.layouts[panel].offset(in_panel + i, call.width) + first * stride;
                for (std::size_t k = 0; k < units; ++k) store(block[k] + i, load_doubles(from + k * stride));
            }
            const auto tile = rows > 4   ? gram_tile<T, 8>
                              : rows > 2 ? gram_tile<T, 4>
                              : rows > 1 ? gram_tile<T, 2>
                                         : gram_tile<T, 1>;
            for (std::size_t other = panel; other < call.count; ++other) {
                const PanelLayout<T>& layout = call.layouts[other];
                for (std::size_t in = other == panel ? in_panel : 0; in < layout.count; in += lanes) {
                    const std::size_t column = other * panel_inputs<T> + in, stride = layout.stride(in);
                    tile(block, call.panels + other * call.panel_size + layout.offset(in, call.width) + first * stride, stride, units,
                         {call.gram + row * call.stride + column, call.stride, rows,
                          layout.count - in < lanes ? layout.count - in : lanes, first == 0});
                }
            }
        }
    }
}

template <class T>
void gram_of_rows(const GramCall<T>& call) {
    const T* const panel = call.panels;
    const std::size_t stride = round_up(call.width, most_lanes<T>);
    for (std::size_t row = call.begin; row < call.end; ++row)
        for (std::size_t column = row; column < call.layouts[0].count; ++column) {
            Doubles sum = {};
            for (std::size_t k = 0; k < stride; k += width_of<double>)
                sum += load_doubles(panel + row * stride + k) * load_doubles(panel + column * stride + k);
            double total = 0;
            for (int i = 0; i < width_of<double>; ++i) total += sum[i];
            call.gram[row * call.stride + column] = total;
        }
}

template <class T>
void gram(const GramCall<T>& call) {
    return call.layouts[0].rows ? gram_of_rows(call) : gram_of_strips(call);
}

}  // namespace
}  // namespace WIDEANGLE_PATH

#define WIDEANGLE_FORWARD(T, name)                                                    \
    extern const ForwardKernels<T> WIDEANGLE_JOIN(name, WIDEANGLE_PATH);              \
    const ForwardKernels<T> WIDEANGLE_JOIN(name, WIDEANGLE_PATH) = {                  \
        WIDEANGLE_PATH::width_of<T>, WIDEANGLE_PATH::strip_vectors * WIDEANGLE_PATH::width_of<T>, \
        WIDEANGLE_PATH::layer<T>, WIDEANGLE_PATH::measure<T>, WIDEANGLE_PATH::unpack<T>, WIDEANGLE_PATH::gram<T>};
WIDEANGLE_FORWARD(float, forward_float_)
WIDEANGLE_FORWARD(double, forward_double_)

}  // namespace wideangle
