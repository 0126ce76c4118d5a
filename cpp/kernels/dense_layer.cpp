#include "dense_layer.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "normal.hpp"
#include "simd.hpp"
#include "threefry.hpp"

namespace wideangle {
namespace WIDEANGLE_PATH {
namespace {

// The tile is used up while it is in the first-level cache; sums of so few products keep float32's accuracy.
constexpr std::uint32_t tile_columns = 32;
constexpr std::uint32_t weight_purpose = 8, bias_purpose = 9;

struct Lanes {
    f32 value;
};

class TileSource {
  public:
    TileSource(const DenseLayer& at, std::uint32_t row)
        : network_low_(broadcast32(static_cast<std::uint32_t>(at.network))),
          network_high_(broadcast32(static_cast<std::uint32_t>(at.network >> 32))),
          key_{{broadcast32(static_cast<std::uint32_t>(at.seed)), broadcast32(static_cast<std::uint32_t>(at.seed >> 32)),
                broadcast32(weight_purpose), broadcast32(at.layer)}},
          variance_(at.weight_variance) {
        constexpr u32 lane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
        row_ = row + lane;
    }

    // Eight columns from `column`, a multiple of eight.
    WIDEANGLE_INLINE void columns(std::uint32_t column, f32* tile) const {
        const auto both = [](u32 x) { return Pair<u32>{x, x}; };
        const Pair<u32> quad = {broadcast32(column / 4), broadcast32(column / 4 + 1)};
        const Words4<Pair<u32>> words = threefry4x32(
            Words4<Pair<u32>>{{both(network_low_), both(network_high_), quad, both(row_)}},
            Words4<Pair<u32>>{{both(key_.word[0]), both(key_.word[1]), both(key_.word[2]), both(key_.word[3])}});
        const auto first = normal_pair32<RoundOnce>(words.word[0], words.word[1], variance_);
        const auto second = normal_pair32<RoundOnce>(words.word[2], words.word[3], variance_);
        tile[0] = first.first.first;
        tile[1] = first.second.first;
        tile[2] = second.first.first;
        tile[3] = second.second.first;
        tile[4] = first.first.second;
        tile[5] = first.second.second;
        tile[6] = second.first.second;
        tile[7] = second.second.second;
    }

    // One number for each row.
    f32 biases(float variance) const {
        Words4<u32> key = key_;
        key.word[2] = broadcast32(bias_purpose);
        const Words4<u32> words = threefry4x32(Words4<u32>{{network_low_, network_high_, u32{}, row_}}, key);
        return normal_pair32<RoundOnce>(words.word[0], words.word[1], variance).first;
    }

  private:
    u32 network_low_, network_high_, row_;
    Words4<u32> key_;
    float variance_;
};

// total(input) += sum over the tile's columns, for `count` inputs of a block.
template <int count>
WIDEANGLE_INLINE void multiply(const f32* tile, std::uint32_t columns, const float* x, f64 (*total)[2]) {
    f32 sum[count] = {};
    for (std::uint32_t j = 0; j < columns; ++j)
        for (int k = 0; k < count; ++k)
            sum[k] = fused(tile[j], broadcast32(x[j * input_block + static_cast<std::uint32_t>(k)]), sum[k]);
    for (int k = 0; k < count; ++k) {
        total[k][0] += widen(sum[k], 0);
        total[k][1] += widen(sum[k], 1);
    }
}

WIDEANGLE_INLINE void multiply_some(std::uint32_t count, const f32* tile, std::uint32_t columns, const float* x,
                                    f64 (*total)[2]) {
    switch (count) {
        case 1: return multiply<1>(tile, columns, x, total);
        case 2: return multiply<2>(tile, columns, x, total);
        case 3: return multiply<3>(tile, columns, x, total);
        case 4: return multiply<4>(tile, columns, x, total);
        case 5: return multiply<5>(tile, columns, x, total);
        case 6: return multiply<6>(tile, columns, x, total);
        case 7: return multiply<7>(tile, columns, x, total);
        default: return multiply<8>(tile, columns, x, total);
    }
}

void forward(const DenseLayer& at, const PackedValues& x, std::uint32_t inputs, std::uint32_t biased, double* z,
             const std::atomic<bool>& stop) {
    const std::size_t stride = padded(at.fan_out, row_lanes);
    const std::size_t block_size = padded(at.fan_in, row_lanes) * input_block;
    const std::uint32_t columns = static_cast<std::uint32_t>(padded(at.fan_in, column_block));
    struct alignas(64) Total {
        f64 half[2];
    };
    std::vector<Total> totals(padded(inputs, input_block));
    alignas(64) f32 tile[tile_columns];
    for (std::uint32_t row = 0; row < at.fan_out; row += row_lanes) {
        const TileSource source(at, row);
        for (Total& total : totals) total = {};
        for (std::uint32_t column = 0; column < columns; column += tile_columns) {
            if (stop.load(std::memory_order_relaxed)) return;
            const std::uint32_t count = std::min(tile_columns, columns - column);
            for (std::uint32_t j = 0; j < count; j += column_block) source.columns(column + j, tile + j);
            for (std::uint32_t input = 0; input < inputs; input += input_block) {
                const float* block = x.value + input / input_block * block_size + column * input_block;
                auto* total = reinterpret_cast<f64(*)[2]>(totals.data() + input);
                multiply_some(std::min(input_block, inputs - input), tile, count, block, total);
            }
        }
        f64x2 bias{};
        if (at.bias_variance > 0) {
            const f32 numbers = source.biases(at.bias_variance);
            bias = {{widen(numbers, 0), widen(numbers, 1)}};
        }
        for (std::uint32_t input = 0; input < inputs; ++input) {
            const double scale = std::ldexp(1.0, x.exponent[input]);
            for (int h = 0; h < 2; ++h) {
                const f64 sum = totals[input].half[h] * scale;
                store(z + input * stride + row + 8 * h, input < biased ? sum + bias.half[h] : sum);
            }
        }
    }
}

void backward(const DenseLayer& at, const PackedValues& g, std::uint32_t inputs, double* y,
              const std::atomic<bool>& stop) {
    const std::size_t stride = padded(at.fan_in, row_lanes);
    const std::uint32_t columns = static_cast<std::uint32_t>(padded(at.fan_in, column_block));
    // Sixteen partial sums for each column, one a row of the tile; added up at the end.
    std::vector<Lanes> partial(static_cast<std::size_t>(columns) * inputs);
    alignas(64) f32 tile[column_block];
    alignas(64) float rows[row_lanes];
    std::vector<Lanes> factors(inputs);
    for (std::uint32_t row = 0; row < at.fan_out; row += row_lanes) {
        const TileSource source(at, row);
        for (std::uint32_t input = 0; input < inputs; ++input) {
            for (std::uint32_t i = 0; i < row_lanes; ++i)
                rows[i] = g.value[packed_index(at.fan_out, row + i, input)];
            factors[input].value = load<f32>(rows);
        }
        for (std::uint32_t column = 0; column < columns; column += column_block) {
            if (stop.load(std::memory_order_relaxed)) return;
            source.columns(column, tile);
            for (std::uint32_t input = 0; input < inputs; ++input) {
                Lanes* sums = partial.data() + static_cast<std::size_t>(input) * columns + column;
                for (std::uint32_t j = 0; j < column_block; ++j) sums[j].value = fused(tile[j], factors[input].value, sums[j].value);
            }
        }
    }
    for (std::uint32_t input = 0; input < inputs; ++input) {
        const double scale = std::ldexp(1.0, g.exponent[input]);
        for (std::uint32_t column = 0; column < at.fan_in; ++column) {
            store(rows, partial[static_cast<std::size_t>(input) * columns + column].value);
            double sum = 0;
            for (float part : rows) sum += static_cast<double>(part);
            y[input * stride + column] = sum * scale;
        }
        for (std::size_t column = at.fan_in; column < stride; ++column) y[input * stride + column] = 0;
    }
}

void write_weights(const DenseLayer& at, float* weights, float* biases) {
    alignas(64) f32 tile[column_block];
    alignas(64) float lane[row_lanes];
    for (std::uint32_t row = 0; row < at.fan_out; row += row_lanes) {
        const TileSource source(at, row);
        const std::uint32_t rows = std::min(row_lanes, at.fan_out - row);
        for (std::uint32_t column = 0; column < at.fan_in; column += column_block) {
            source.columns(column, tile);
            for (std::uint32_t j = 0; j < std::min(column_block, at.fan_in - column); ++j) {
                store(lane, tile[j]);
                for (std::uint32_t i = 0; i < rows; ++i)
                    weights[static_cast<std::size_t>(row + i) * at.fan_in + column + j] = lane[i];
            }
        }
        if (biases == nullptr) continue;
        store(lane, source.biases(at.bias_variance));
        for (std::uint32_t i = 0; i < rows; ++i) biases[row + i] = lane[i];
    }
}

void activate(Activation kind, double slope, std::uint32_t units, std::uint32_t inputs, double* z, double* slopes) {
    const std::size_t stride = padded(units, row_lanes);
    with_activation(kind, slope, [&](const auto& activation) {
        for (std::size_t i = 0; i < stride * inputs; i += 8) {
            const f64 x = load<f64>(z + i);
            if (slopes != nullptr) store(slopes + i, activation.derivative(x));
            store(z + i, activation.value(x));
        }
    });
    for (std::uint32_t input = 0; input < inputs; ++input) {
        std::fill(z + input * stride + units, z + (input + 1) * stride, 0.0);
        if (slopes != nullptr) std::fill(slopes + input * stride + units, slopes + (input + 1) * stride, 0.0);
    }
}

void pack(std::uint32_t units, std::uint32_t inputs, const double* values, const PackedValues& to) {
    const std::size_t stride = padded(units, row_lanes);
    for (std::uint32_t input = 0; input < padded(inputs, input_block); ++input) {
        float* column = to.value + packed_index(units, 0, input);
        if (input >= inputs) {
            for (std::size_t unit = 0; unit < stride; ++unit) column[unit * input_block] = 0;
            continue;
        }
        const double* from = values + input * stride;
        f64 most{};
        for (std::size_t unit = 0; unit < stride; unit += 8) {
            const f64 here = magnitude(load<f64>(from + unit));
            most = select(here > most, here, most);
        }
        double largest = 0;
        for (int i = 0; i < 8; ++i) largest = std::max(largest, most[i]);
        // Powers of two that have an inverse, and none for zero and for what is not finite.
        const bool scaled = largest > 0 && largest <= std::numeric_limits<double>::max();
        to.exponent[input] = scaled ? std::clamp(std::ilogb(largest) + 1, -1000, 1023) : 0;
        const double scale = std::ldexp(1.0, -to.exponent[input]);
        alignas(64) float rounded[row_lanes];
        for (std::size_t unit = 0; unit < stride; unit += row_lanes) {
            store(rounded, narrow({{load<f64>(from + unit) * scale, load<f64>(from + unit + 8) * scale}}));
            for (std::uint32_t i = 0; i < row_lanes; ++i) column[(unit + i) * input_block] = rounded[i];
        }
    }
}

void gram(std::uint32_t units, std::uint32_t inputs, const double* values, double* result) {
    const std::size_t stride = padded(units, row_lanes);
    for (std::uint32_t i = 0; i < inputs; ++i) {
        for (std::uint32_t j = 0; j <= i; ++j) {
            f64 sum{};
            for (std::size_t unit = 0; unit < stride; unit += 8)
                sum += load<f64>(values + i * stride + unit) * load<f64>(values + j * stride + unit);
            double total = 0;
            for (int k = 0; k < 8; ++k) total += sum[k];
            result[i * inputs + j] = result[j * inputs + i] = total;
        }
    }
}

}  // namespace
}  // namespace WIDEANGLE_PATH

extern const DenseKernels WIDEANGLE_JOIN(dense_layer_, WIDEANGLE_PATH);
const DenseKernels WIDEANGLE_JOIN(dense_layer_, WIDEANGLE_PATH) = {
    WIDEANGLE_PATH::forward, WIDEANGLE_PATH::backward, WIDEANGLE_PATH::write_weights,
    WIDEANGLE_PATH::activate, WIDEANGLE_PATH::pack, WIDEANGLE_PATH::gram};

}  // namespace wideangle
