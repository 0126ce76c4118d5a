#include "dense_layer.hpp"

#include <cmath>
#include <cstring>
#include <vector>

#include "check.hpp"
#include "cpu_paths.hpp"

using namespace wideangle;

namespace {

const std::atomic<bool> stop{false};

// The larger one, or NaN.
double larger(double a, double b) { return b <= a ? a : b; }

DenseLayer some_layer(std::uint32_t fan_in, std::uint32_t fan_out) {
    return {0x1234567890abcdefULL, 0x100000007ULL, 3, fan_in, fan_out, 2.0f / static_cast<float>(fan_in), 0.3f};
}

std::vector<double> some_values(std::uint32_t units, std::uint32_t inputs) {
    const std::size_t stride = padded(units, row_lanes);
    std::vector<double> values(stride * inputs);
    for (std::uint32_t input = 0; input < inputs; ++input)
        for (std::uint32_t unit = 0; unit < units; ++unit)
            values[input * stride + unit] = std::sin(1.0 + unit * 0.7 + input * 2.3) * std::ldexp(1.0, 40 * static_cast<int>(input) - 60);
    return values;
}

struct Packed {
    std::vector<float> value;
    std::vector<int> exponent;
    Packed(const DenseKernels& kernels, std::uint32_t units, std::uint32_t inputs, const std::vector<double>& from)
        : value(packed_size(units, inputs)), exponent(padded(inputs, input_block)) {
        kernels.pack(units, inputs, from.data(), view());
    }
    PackedValues view() { return {value.data(), exponent.data()}; }
    double at(std::uint32_t units, std::uint32_t unit, std::uint32_t input) const {
        return std::ldexp(static_cast<double>(value[packed_index(units, unit, input)]), exponent[input]);
    }
};

// Every product and sum against long double arithmetic on the same weights.
void products_are_those_of_the_weights(const DenseKernels& kernels, std::uint32_t fan_in, std::uint32_t fan_out,
                                       std::uint32_t inputs) {
    const DenseLayer at = some_layer(fan_in, fan_out);
    std::vector<float> weights(static_cast<std::size_t>(fan_in) * fan_out), biases(fan_out);
    kernels.weights(at, weights.data(), biases.data());

    Packed x(kernels, fan_in, inputs, some_values(fan_in, inputs));
    std::vector<double> z(padded(fan_out, row_lanes) * inputs);
    const std::uint32_t biased = inputs / 2;
    kernels.forward(at, x.view(), inputs, biased, z.data(), stop);
    double worst = 0;
    for (std::uint32_t input = 0; input < inputs; ++input) {
        for (std::uint32_t i = 0; i < fan_out; ++i) {
            long double sum = input < biased ? biases[i] : 0, size = std::fabs(sum);
            for (std::uint32_t j = 0; j < fan_in; ++j) {
                const long double term = static_cast<long double>(weights[i * fan_in + j]) * x.at(fan_in, j, input);
                sum += term;
                size += std::fabs(term);
            }
            worst = larger(worst, static_cast<double>(std::fabs(sum - z[input * padded(fan_out, row_lanes) + i]) / size));
        }
    }
    CHECK_CLOSE(worst, 0.0, 16 * 0x1p-24);  // a sum of 32 float32 products, the rest in double

    Packed g(kernels, fan_out, inputs, some_values(fan_out, inputs));
    std::vector<double> y(padded(fan_in, row_lanes) * inputs);
    kernels.backward(at, g.view(), inputs, y.data(), stop);
    worst = 0;
    for (std::uint32_t input = 0; input < inputs; ++input) {
        for (std::uint32_t j = 0; j < fan_in; ++j) {
            long double sum = 0, size = 0;
            for (std::uint32_t i = 0; i < fan_out; ++i) {
                const long double term = static_cast<long double>(weights[i * fan_in + j]) * g.at(fan_out, i, input);
                sum += term;
                size += std::fabs(term);
            }
            worst = larger(worst, static_cast<double>(std::fabs(sum - y[input * padded(fan_in, row_lanes) + j]) / size));
        }
    }
    CHECK_CLOSE(worst, 0.0, 16 * 0x1p-24);
}

void packing_keeps_24_bits_and_pads_with_zeros(const DenseKernels& kernels) {
    const std::uint32_t units = 21, inputs = 11;
    const std::vector<double> values = some_values(units, inputs);
    const Packed packed(kernels, units, inputs, values);
    for (std::uint32_t input = 0; input < inputs; ++input) {
        double most = 0, worst = 0, beyond = 0;
        for (std::uint32_t unit = 0; unit < padded(units, row_lanes); ++unit) {
            const double value = values[input * padded(units, row_lanes) + unit];
            most = std::max(most, std::fabs(value));
            worst = larger(worst, std::fabs(packed.at(units, unit, input) - value));
            if (unit >= units) beyond = std::max(beyond, std::fabs(packed.at(units, unit, input)));
        }
        CHECK(most > 0 && worst <= most * 0x1p-24 && beyond == 0);
        float largest = 0;
        for (std::uint32_t unit = 0; unit < units; ++unit)
            largest = std::max(largest, std::fabs(packed.value[packed_index(units, unit, input)]));
        CHECK(largest >= 0.5f && largest <= 1.0f);
    }
    for (std::uint32_t input = inputs; input < padded(inputs, input_block); ++input)
        for (std::uint32_t unit = 0; unit < units; ++unit)
            CHECK(packed.value[packed_index(units, unit, input)] == 0);
}

void weights_are_independent_normal_numbers(const DenseKernels& kernels) {
    const std::uint32_t n = 1024;
    DenseLayer at = some_layer(n, n);
    std::vector<float> weights(static_cast<std::size_t>(n) * n), biases(n), others(weights.size());
    kernels.weights(at, weights.data(), biases.data());
    at.layer = 4;
    kernels.weights(at, others.data(), biases.data());
    const double scale = std::sqrt(static_cast<double>(at.weight_variance));
    double sum[7] = {}, beside = 0, below = 0, across = 0;
    for (std::size_t i = 0; i < weights.size(); ++i) {
        const double w = weights[i] / scale;
        double power = 1;
        for (double& s : sum) {
            s += power;
            power *= w;
        }
        if (i + 1 < weights.size()) beside += w * weights[i + 1] / scale;
        if (i + n < weights.size()) below += w * weights[i + n] / scale;
        across += w * others[i] / scale;
    }
    const double count = sum[0], error = std::sqrt(count);
    CHECK_CLOSE(sum[1] / error, 0.0, 5.0);
    CHECK_CLOSE((sum[2] - count) / (error * std::sqrt(2.0)), 0.0, 5.0);
    CHECK_CLOSE(sum[3] / (error * std::sqrt(15.0)), 0.0, 5.0);
    CHECK_CLOSE((sum[4] - 3 * count) / (error * std::sqrt(96.0)), 0.0, 5.0);
    CHECK_CLOSE(beside / error, 0.0, 5.0);
    CHECK_CLOSE(below / error, 0.0, 5.0);
    CHECK_CLOSE(across / error, 0.0, 5.0);
    double b2 = 0;
    for (float b : biases) b2 += static_cast<double>(b) * b / 0.3;
    CHECK_CLOSE((b2 - n) / std::sqrt(2.0 * n), 0.0, 5.0);
}

// A weight is a function of its place, whatever the shape of the layer.
void weights_do_not_depend_on_the_shape(const DenseKernels& kernels) {
    DenseLayer small = some_layer(5, 7), large = some_layer(40, 50);
    small.weight_variance = large.weight_variance = 1;
    std::vector<float> few(35), many(2000), biases(50);
    kernels.weights(small, few.data(), biases.data());
    kernels.weights(large, many.data(), biases.data());
    bool same = true;
    for (int i = 0; i < 7; ++i)
        for (int j = 0; j < 5; ++j) same = same && few[i * 5 + j] == many[i * 40 + j];
    CHECK(same);
}

std::uint64_t fingerprint(const DenseKernels& kernels, Activation kind) {
    const std::uint32_t fan_in = 45, fan_out = 37, inputs = 11;
    const DenseLayer at = some_layer(fan_in, fan_out);
    Packed x(kernels, fan_in, inputs, some_values(fan_in, inputs));
    const std::size_t stride = padded(fan_out, row_lanes);
    std::vector<double> z(stride * inputs), slopes(z.size()), y(padded(fan_in, row_lanes) * inputs), gram(inputs * inputs);
    for (int& exponent : x.exponent) exponent = 0;
    kernels.forward(at, x.view(), inputs, inputs, z.data(), stop);
    kernels.activate(kind, 0.2, fan_out, inputs, z.data(), slopes.data());
    kernels.gram(fan_out, inputs, z.data(), gram.data());
    for (std::size_t i = 0; i < z.size(); ++i) slopes[i] *= z[i];
    Packed g(kernels, fan_out, inputs, slopes);
    kernels.backward(at, g.view(), inputs, y.data(), stop);
    std::uint64_t hash = 0xcbf29ce484222325ULL;
    for (const std::vector<double>* values : {&z, &slopes, &y, &gram}) {
        for (double value : *values) {
            std::uint64_t bits;
            std::memcpy(&bits, &value, sizeof bits);
            hash = (hash ^ bits) * 0x100000001b3ULL;
        }
    }
    return hash;
}

}  // namespace

int main() {
    for (int path = 0; path < cpu_path_count; ++path) {
        if (!cpu_paths[path].supported()) continue;
        const DenseKernels& kernels = *cpu_paths[path].dense_layer;
        const std::uint32_t sizes[][3] = {{1, 1, 1}, {3, 17, 2}, {64, 16, 8}, {70, 33, 11}, {129, 5, 19}};
        for (const auto& size : sizes) products_are_those_of_the_weights(kernels, size[0], size[1], size[2]);
        packing_keeps_24_bits_and_pads_with_zeros(kernels);
        weights_do_not_depend_on_the_shape(kernels);
        // The same bits on every instruction set and machine; recorded when the kernel was checked against the model.
        for (int kind = 0; kind < activation_count; ++kind) {
            const std::uint64_t expected[activation_count] = {
                0x45fb05156f38aa7eULL, 0xb311c9f07c5d201aULL, 0x19942fbfbf496445ULL, 0x587e2b371f529955ULL, 0x939fde39ee1e2079ULL,
                0x9e1c871cebf2ed11ULL, 0x22acf5c6e5b8072fULL, 0xf1d9a0f7e37cdd48ULL, 0x15d01892ffac1b24ULL, 0x503eb9da661e77e5ULL,
                0xc276a74f70eb66c8ULL};
            const std::uint64_t found = fingerprint(kernels, static_cast<Activation>(kind));
            if (found != expected[kind]) std::printf("%s, activation %d: 0x%llxULL\n", cpu_paths[path].name, kind, static_cast<unsigned long long>(found));
            CHECK(found == expected[kind]);
        }
    }
    weights_are_independent_normal_numbers(*cpu_paths[0].dense_layer);
    return check::report();
}
