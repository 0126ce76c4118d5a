// Compiled once per instruction set; see network_evaluation.hpp.
//
// What the kernel of a pair of points costs at least: with n units in each of L hidden layers, 2 n L products and as many
// additions, on eight pairs at a time. For 2-20-1 on 200 x 200 points that is 4e5 operations, 2e5 cycles where there are
// two units for them: some 60 us a network. Reading the points is hidden: a tile of sums stays in registers.
#include "network_evaluation.hpp"

#include <algorithm>
#include <array>
#include <type_traits>
#include <utility>

#include "simd.hpp"

namespace wideangle {
namespace WIDEANGLE_PATH {
namespace {

constexpr std::size_t lanes64 = 8, block_vectors = block_points / lanes64;

// Sums that the registers hold: rows times vectors of points, as wide as a register is.
#if defined(__AVX512F__)
constexpr std::size_t vector_bytes = 64, tile_rows = 4, tile_vectors = 4;
#elif defined(__AVX2__)
constexpr std::size_t vector_bytes = 32, tile_rows = 4, tile_vectors = 2;
#else
constexpr std::size_t vector_bytes = 16, tile_rows = 4, tile_vectors = 2;
#endif
using Doubles = double __attribute__((vector_size(vector_bytes)));
constexpr std::size_t width = vector_bytes / sizeof(double), tile_points = tile_vectors * width;
static_assert(block_points % tile_points == 0 && block_points % tile_rows == 0);

template <std::size_t rows>
using Sums = Doubles[rows][tile_vectors];

// body(row, vector) for each of the sums, unrolled: indices known when it is compiled keep them in registers.
template <std::size_t rows, class Body>
WIDEANGLE_INLINE void each_sum(Body body) {
#pragma GCC unroll 4
    for (std::size_t r = 0; r < rows; ++r)
#pragma GCC unroll 4
        for (std::size_t v = 0; v < tile_vectors; ++v) body(r, v);
}

// The sums of factor(row, k) times row k of `from`, k = 0, 1, ...: at `from` the first of the vectors.
template <std::size_t rows, class Factor>
WIDEANGLE_INLINE void sum_products(Sums<rows>& sum, std::size_t count, const double* from, Factor factor) {
    each_sum<rows>([&](std::size_t r, std::size_t v) __attribute__((always_inline)) { sum[r][v] = Doubles{}; });
#pragma GCC unroll 1
    for (std::size_t k = 0; k < count; ++k) {
        Doubles value[tile_vectors];
#pragma GCC unroll 4
        for (std::size_t v = 0; v < tile_vectors; ++v) value[v] = load<Doubles>(from + k * block_points + v * width);
#pragma GCC unroll 4
        for (std::size_t r = 0; r < rows; ++r) {
            const double scale = factor(r, k);
#pragma GCC unroll 4
            for (std::size_t v = 0; v < tile_vectors; ++v) sum[r][v] += value[v] * scale;
        }
    }
}

// ---- Layers

// A matrix, or its transpose.
struct Matrix {
    const double* values;
    std::size_t rows, columns, row_stride, column_stride;
};

template <std::size_t rows>
WIDEANGLE_INLINE void multiply_rows(const Matrix& matrix, std::size_t row, const double* bias, const double* from, double* to) {
    const double* const factors = matrix.values + row * matrix.row_stride;
    for (std::size_t begin = 0; begin < block_points; begin += tile_points) {
        Sums<rows> sum;
        sum_products<rows>(sum, matrix.columns, from + begin, [&](std::size_t r, std::size_t k) __attribute__((always_inline)) {
            return factors[r * matrix.row_stride + k * matrix.column_stride];
        });
        each_sum<rows>([&](std::size_t r, std::size_t v) __attribute__((always_inline)) {
            store(to + (row + r) * block_points + begin + v * width, bias != nullptr ? sum[r][v] + bias[row + r] : sum[r][v]);
        });
    }
}

// to = matrix from + bias, whose rows are 32 points.
void multiply(const Matrix& matrix, const double* bias, const double* from, double* to) {
    std::size_t row = 0;
    for (; row + tile_rows <= matrix.rows; row += tile_rows) multiply_rows<tile_rows>(matrix, row, bias, from, to);
    for (; row < matrix.rows; ++row) multiply_rows<1>(matrix, row, bias, from, to);
}

// The layers of a network one after the other, and where a block has their values.
class Layers {
  public:
    Layers(const ScalarNetwork& shape, const double* parameters) : shape_(shape), weights_(parameters) {}

    std::size_t layer() const { return layer_; }
    std::size_t units() const { return shape_.sizes[layer_]; }
    std::size_t inputs() const { return shape_.sizes[layer_ - 1]; }
    const double* weights() const { return weights_; }
    const double* biases() const { return weights_ + units() * inputs(); }
    Matrix matrix() const { return {weights_, units(), inputs(), inputs(), 1}; }
    // In a block, of a hidden layer, or, the first, of the outputs.
    std::size_t pre() const { return values_; }
    std::size_t post() const { return values_ + units() * block_points; }
    std::size_t derivative() const { return values_ + 2 * units() * block_points; }

    bool is_readout() const { return layer_ == shape_.hidden_layers() + 1; }
    double weight_rate() const { return shape_.weight_rates[layer_ - 1]; }
    double bias_rate() const { return shape_.bias_rates[layer_ - 1]; }

    void up() {
        weights_ += shape_.parameters_of(layer_);
        values_ += 3 * units() * block_points;
        ++layer_;
    }
    void down() {
        --layer_;
        weights_ -= shape_.parameters_of(layer_);
        values_ -= 3 * units() * block_points;
    }

  private:
    const ScalarNetwork& shape_;
    const double* weights_;
    std::size_t layer_ = 1, values_ = 0;
};

void forward(const ScalarNetwork& shape, const double* parameters, const double* x, double* values) {
    Layers at(shape, parameters);
    const double* in = x;
    for (; !at.is_readout(); at.up()) {
        multiply(at.matrix(), at.biases(), in, values + at.pre());
        with_activation(shape.activation, shape.slope, [&](auto phi) {
            const double* const z = values + at.pre();
            double* const h = values + at.post();
            for (std::size_t i = 0; i < at.units() * block_points; i += lanes64) store(h + i, phi.value(load<f64>(z + i)));
        });
        in = values + at.post();
    }
    multiply(at.matrix(), at.biases(), in, values + at.pre());
}

void backward(const ScalarNetwork& shape, const double* parameters, double* values) {
    Layers at(shape, parameters);
    while (!at.is_readout()) at.up();
    alignas(64) double ones[block_points];
    std::fill_n(ones, block_points, 1.0);
    const double* above = ones;  // derivatives by the pre-activations of the layer at hand
    while (at.layer() > 1) {
        const Matrix transposed{at.weights(), at.inputs(), at.units(), 1, at.inputs()};
        at.down();
        double* const d = values + at.derivative();
        multiply(transposed, nullptr, above, d);
        with_activation(shape.activation, shape.slope, [&](auto phi) {
            const double* const z = values + at.pre();
            for (std::size_t i = 0; i < at.units() * block_points; i += lanes64)
                store(d + i, load<f64>(d + i) * phi.derivative(load<f64>(z + i)));
        });
        above = d;
    }
}

// ---- Kernels

// Products of some points of one block with some of another, (row, point).
struct Tile {
    alignas(vector_bytes) double at[tile_rows][tile_points];
};

// Not inlined, so that the sums have the registers to themselves.
__attribute__((noinline)) void set_products(Tile& tile, std::size_t units, const double* rows, const double* columns) {
    Sums<tile_rows> sum;
    sum_products<tile_rows>(sum, units, columns, [rows](std::size_t r, std::size_t k) __attribute__((always_inline)) {
        return rows[k * block_points + r];
    });
    each_sum<tile_rows>([&](std::size_t r, std::size_t v) __attribute__((always_inline)) {
        store(&tile.at[r][v * width], sum[r][v]);
    });
}

void products(const double* rows, const double* columns, std::size_t units, double* to) {
    for (std::size_t row = 0; row < block_points; row += tile_rows)
        for (std::size_t begin = 0; begin < block_points; begin += tile_points) {
            Tile tile;
            set_products(tile, units, rows + row, columns + begin);
            for (std::size_t r = 0; r < tile_rows; ++r)
                std::copy_n(tile.at[r], tile_points, to + (row + r) * block_points + begin);
        }
}

void write_part(double* part, const TangentCall& call, std::size_t row, std::size_t begin, const Tile& tile) {
    if (part == nullptr) return;
    for (std::size_t r = 0; r < tile_rows && row + r < call.rows; ++r) {
        double* const to = part + (row + r) * call.stride + begin;
        if (begin + tile_points <= call.columns)
            std::copy_n(tile.at[r], tile_points, to);
        else
            std::copy_n(tile.at[r], call.columns - begin, to);
    }
}

void tangent_tile(const TangentCall& call, std::size_t row, std::size_t begin) {
    Tile below, derivatives, hidden = {}, readout, kernel;
    for (std::size_t r = 0; r < tile_rows; ++r)
        std::copy_n(call.input_products + (row + r) * block_points + begin, tile_points, below.at[r]);
    Layers at(call.shape, nullptr);
    const auto each_vector = [](auto body) __attribute__((always_inline)) {
        for (std::size_t r = 0; r < tile_rows; ++r)
            for (std::size_t i = 0; i < tile_points; i += width) body(r, i);
    };
    const auto of_layer = [&](std::size_t r, std::size_t i) __attribute__((always_inline)) {
        return load<Doubles>(&below.at[r][i]) * at.weight_rate() + at.bias_rate();
    };
    for (; !at.is_readout(); at.up()) {
        set_products(derivatives, at.units(), call.row_values + at.derivative() + row, call.column_values + at.derivative() + begin);
        each_vector([&](std::size_t r, std::size_t i) __attribute__((always_inline)) {
            store(&hidden.at[r][i], load<Doubles>(&hidden.at[r][i]) + load<Doubles>(&derivatives.at[r][i]) * of_layer(r, i));
        });
        set_products(below, at.units(), call.row_values + at.post() + row, call.column_values + at.post() + begin);
    }
    each_vector([&](std::size_t r, std::size_t i) __attribute__((always_inline)) {
        store(&readout.at[r][i], of_layer(r, i));
        store(&kernel.at[r][i], load<Doubles>(&readout.at[r][i]) + load<Doubles>(&hidden.at[r][i]));
    });
    write_part(call.kernel, call, row, begin, kernel);
    write_part(call.readout_part, call, row, begin, readout);
    write_part(call.hidden_part, call, row, begin, hidden);
}

void tangent(const TangentCall& call) {
    for (std::size_t row = 0; row < call.rows; row += tile_rows)
        for (std::size_t begin = 0; begin < call.columns; begin += tile_points) tangent_tile(call, row, begin);
}

WIDEANGLE_INLINE f64 squares(const double* from, std::size_t units) {
    f64 sum{};
    for (std::size_t k = 0; k < units; ++k) {
        const f64 value = load<f64>(from + k * block_points);
        sum += value * value;
    }
    return sum;
}

void diagonal(const ScalarNetwork& shape, const double* x, const double* values, double* to) {
    for (std::size_t begin = 0; begin < block_points; begin += lanes64) {
        f64 below = squares(x + begin, shape.sizes[0]), hidden{};
        Layers at(shape, nullptr);
        for (; !at.is_readout(); at.up()) {
            hidden += squares(values + at.derivative() + begin, at.units()) * (below * at.weight_rate() + at.bias_rate());
            below = squares(values + at.post() + begin, at.units());
        }
        store(to + begin, (below * at.weight_rate() + at.bias_rate()) + hidden);
    }
}

// ---- Steps

template <class Phi>
constexpr bool is_piecewise_linear = std::is_same_v<Phi, Relu> || std::is_same_v<Phi, LeakyRelu> ||
                                     std::is_same_v<Phi, Abs> || std::is_same_v<Phi, Linear>;

WIDEANGLE_INLINE bool all(i64 mask) {
    return (((mask[0] & mask[1]) & (mask[2] & mask[3])) & ((mask[4] & mask[5]) & (mask[6] & mask[7]))) != 0;
}

// phi(z + dz) - phi(z), h = phi(z), with an error that is small against dz however small that is.
template <class Phi>
WIDEANGLE_INLINE f64 change(Phi phi, f64 z, f64 h, f64 dz) {
    const f64 next = z + dz;
    if constexpr (is_piecewise_linear<Phi> || std::is_same_v<Phi, Elu>) {
        // Across the kink the two values are of the size of dz themselves.
        const i64 left = is_less(z, 0.0);
        const i64 same_side = ~(left ^ is_less(next, 0.0));
        f64 along;
        if constexpr (std::is_same_v<Phi, Elu>)
            along = select(left, phi.derivative(z) * expm1_64(select(is_less(1.0, dz), broadcast64(1.0), dz)), dz);
        else
            along = select(left, phi.value(broadcast64(-1.0)) * -dz, dz);
        const f64 across = phi.value(next) - h;
        if constexpr (std::is_same_v<Phi, Elu>) return select(same_side & is_less_equal(dz, 1.0), along, across);
        else return select(same_side, along, across);
    } else {
        // dz times the mean slope, by the Gauss rule of three points: with |dz| < 1/64 and sixth derivatives of slopes up
        // to 140 (of erf) it is good to 1e-15, and beyond that the difference to 1.5e-14 of dz.
        const f64 middle = z + 0.5 * dz, outer = 0.38729833462074168852 * dz;
        const f64 mean = (5.0 / 18.0) * (phi.derivative(middle - outer) + phi.derivative(middle + outer)) +
                         (4.0 / 9.0) * phi.derivative(middle);
        const i64 small = is_less(magnitude(dz), 1.0 / 64.0);
        return all(small) ? dz * mean : select(small, dz * mean, phi.value(next) - h);
    }
}

// The changes of a hidden layer's activations, and their products with the sample's activations after the step. `sent` is
// what the units' own derivatives multiply; `through` what comes from the changes below, null in the first layer.
template <class Phi>
void change_layer(Phi phi, const Layers& at, const StepCall& call, const f64 (&sent)[block_vectors], const double* through,
                  double* to, f64 (&overlap)[block_vectors]) {
    const double* const z = call.values + at.pre();
    const double* const h = call.values + at.post();
    const double* const own_h = call.sample_values + at.post() + call.sample;
    const double* const own_d = call.sample_values + at.derivative() + call.sample;
    for (f64& sum : overlap) sum = f64{};
    for (std::size_t unit = 0; unit < at.units(); ++unit)
#pragma GCC unroll 4
        for (std::size_t v = 0; v < block_vectors; ++v) {
            const std::size_t place = unit * block_points + v * lanes64;
            f64 dz = sent[v] * own_d[unit * block_points];
            if (through != nullptr) dz += load<f64>(through + place);
            const f64 before = load<f64>(h + place);
            const f64 dh = change(phi, load<f64>(z + place), before, dz);
            store(to + place, dh);
            overlap[v] += (before + dh) * own_h[unit * block_points];
        }
}

// With g = dl/df at the sample and D = df/dz, the step subtracts learning_rate g D^l(x_s) (weight_rate h^{l-1}(x_s), bias_rate)
// from the weights and the bias of each unit of layer l. So its pre-activation at x changes by
//     W^l dh^{l-1}(x) - learning_rate g D^l(x_s) (weight_rate h^{l-1}(x_s) . (h^{l-1} + dh^{l-1})(x) + bias_rate),
// in which nothing is a difference of large numbers.
void step(const StepCall& call) {
    const double force = -call.learning_rate * call.loss_derivative;
    Layers at(call.shape, call.parameters);
    f64 overlap[block_vectors], sent[block_vectors];
    for (std::size_t v = 0; v < block_vectors; ++v) overlap[v] = load<f64>(call.input_products + v * lanes64);
    const auto send = [&] {
        for (std::size_t v = 0; v < block_vectors; ++v) sent[v] = (overlap[v] * at.weight_rate() + at.bias_rate()) * force;
    };
    const std::size_t half = *std::max_element(call.shape.sizes.begin() + 1, call.shape.sizes.end()) * block_points;
    double *changes = call.scratch, *through = call.scratch + half;
    for (; !at.is_readout(); at.up()) {
        if (at.layer() > 1) multiply(at.matrix(), nullptr, changes, through);
        send();
        with_activation(call.shape.activation, call.shape.slope, [&](auto phi) {
            change_layer(phi, at, call, sent, at.layer() > 1 ? through : nullptr, changes, overlap);
        });
    }
    multiply(at.matrix(), nullptr, changes, call.response);
    send();
    for (std::size_t v = 0; v < block_vectors; ++v) {
        double* const to = call.response + v * lanes64;
        store(to, (load<f64>(to) + sent[v]) / call.learning_rate);
    }
}

}  // namespace
}  // namespace WIDEANGLE_PATH

extern const EvaluationKernels WIDEANGLE_JOIN(network_evaluation_, WIDEANGLE_PATH);
const EvaluationKernels WIDEANGLE_JOIN(network_evaluation_, WIDEANGLE_PATH) = {
    WIDEANGLE_PATH::forward,  WIDEANGLE_PATH::backward, WIDEANGLE_PATH::products,
    WIDEANGLE_PATH::diagonal, WIDEANGLE_PATH::tangent,  WIDEANGLE_PATH::step};

}  // namespace wideangle
