// The sweep of every instruction set against long double, layer by layer; what overflows, what is undefined, what stops.
#include "forward_sweep.hpp"

#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "check.hpp"
#include "check_numbers.hpp"
#include "cpu_paths.hpp"

using namespace wideangle;

namespace {

using Real = long double;
constexpr double slope = 0.3;

template <class T>
const ForwardKernels<T>* kernels(const CpuPath& path) {
    if constexpr (sizeof(T) == 4) {
        return path.forward_float;
    } else {
        return path.forward_double;
    }
}

using check::Numbers;

Real phi(Activation kind, Real z) {
    switch (kind) {
        case Activation::relu: return z > 0 ? z : 0;
        case Activation::leaky_relu: return z > 0 ? z : slope * z;
        case Activation::abs: return std::fabs(z);
        case Activation::linear: return z;
        case Activation::erf: return std::erf(z);
        case Activation::tanh: return std::tanh(z);
        case Activation::gelu: return z * std::erfc(-z / std::sqrt(2.0L)) / 2;
        case Activation::elu: return z > 0 ? z : std::expm1(z);
        case Activation::silu: return z / (1 + std::exp(-z));
        case Activation::sin: return std::sin(z);
        case Activation::sigmoid: return 1 / (1 + std::exp(-z));
    }
    return 0;
}

template <class T>
struct Case {
    std::vector<std::size_t> sizes;
    std::size_t networks, inputs;
    Activation activation;
    bool bias;
    int threads;
    double scale = 1;  // of the weights

    std::vector<std::vector<T>> weights{}, biases{}, kept{};
    std::vector<T> x{};
    std::vector<double> norms{}, active{}, overlaps{};

    std::size_t layers() const { return sizes.size() - 1; }

    void fill(std::uint64_t seed) {
        Numbers next(seed);
        x.resize(inputs * sizes[0]);
        for (T& value : x) value = static_cast<T>(next());
        for (std::size_t l = 0; l < layers(); ++l) {
            weights.emplace_back(networks * sizes[l + 1] * sizes[l]);
            for (T& value : weights[l])
                value = static_cast<T>(scale * next() * std::sqrt(6.0 / static_cast<double>(sizes[l])));
            biases.emplace_back(networks * sizes[l + 1]);
            for (T& value : biases[l]) value = static_cast<T>(scale * next());
            kept.emplace_back(networks * inputs * sizes[l + 1]);
        }
        norms.resize(networks * sizes.size() * inputs);
        active.resize(norms.size());
        overlaps.resize(norms.size() * inputs);
    }

    bool run(const CpuPath& path, const Watcher& watcher = [](std::uint64_t) { return true; }) {
        ForwardSweep<T> sweep;
        sweep.networks = networks;
        sweep.x = x.data();
        sweep.n_inputs = inputs;
        sweep.kernels = kernels<T>(path);
        sweep.threads = threads;
        for (std::size_t l = 0; l < layers(); ++l)
            sweep.layers.push_back({weights[l].data(), bias ? biases[l].data() : nullptr, sizes[l], sizes[l + 1], activation,
                                    slope, kept[l].data()});
        return forward(sweep, {norms.data(), active.data(), overlaps.empty() ? nullptr : overlaps.data()}, watcher);
    }

    const T* activations(std::size_t network, std::size_t layer, std::size_t input) const {
        return layer == 0 ? x.data() + input * sizes[0]
                          : kept[layer - 1].data() + (network * inputs + input) * sizes[layer];
    }
    std::size_t at(std::size_t network, std::size_t layer) const { return (network * sizes.size() + layer) * inputs; }
};

// Each layer from what the sweep itself gave for the layer before, so that the bound is that of one sum: (n + 3) roundings
// of its terms, and two more for the activation, none of which is steeper than 1.2 or than its slope.
template <class T>
bool layers_agree(const Case<T>& c) {
    constexpr Real unit = std::numeric_limits<T>::epsilon();
    bool good = true;
    for (std::size_t network = 0; network < c.networks; ++network)
        for (std::size_t input = 0; input < c.inputs; ++input) {
            for (std::size_t l = 0; l < c.layers(); ++l) {
                const T* const below = c.activations(network, l, input);
                const T* const found = c.activations(network, l + 1, input);
                std::size_t least = 0, most = 0;
                for (std::size_t unit_index = 0; unit_index < c.sizes[l + 1]; ++unit_index) {
                    const std::size_t row = network * c.sizes[l + 1] + unit_index;
                    Real z = c.bias ? static_cast<Real>(c.biases[l][row]) : 0, terms = std::fabs(z);
                    for (std::size_t k = 0; k < c.sizes[l]; ++k) {
                        const Real term = static_cast<Real>(c.weights[l][row * c.sizes[l] + k]) * below[k];
                        z += term;
                        terms += std::fabs(term);
                    }
                    const Real error = static_cast<Real>(c.sizes[l] + 3) * unit * terms;
                    const Real expected = phi(c.activation, z);
                    good &= std::fabs(found[unit_index] - expected) <= 1.2L * error + 2 * unit * std::fabs(expected) + 1e-300L;
                    least += z > error;
                    most += z > -error;
                }
                const double active = c.active[c.at(network, l + 1) + input] * static_cast<double>(c.sizes[l + 1]);
                good &= active > static_cast<double>(least) - 1e-6 && active < static_cast<double>(most) + 1e-6;
            }
        }
    return good;
}

template <class T>
bool statistics_agree(const Case<T>& c) {
    bool good = true;
    for (std::size_t network = 0; network < c.networks; ++network)
        for (std::size_t layer = 0; layer < c.sizes.size(); ++layer)
            for (std::size_t a = 0; a < c.inputs; ++a) {
                const std::size_t n = c.sizes[layer];
                const T* const x = c.activations(network, layer, a);
                Real xx = 0;
                for (std::size_t k = 0; k < n; ++k) xx += static_cast<Real>(x[k]) * x[k];
                // Eight squares in T, the rest in float64.
                const Real unit = 4 * static_cast<Real>(std::numeric_limits<T>::epsilon()) + static_cast<Real>(n) * 2.3e-16L;
                good &= std::fabs(c.norms[c.at(network, layer) + a] * static_cast<Real>(n) - xx) <= unit * xx;
                for (std::size_t b = 0; b < c.inputs && !c.overlaps.empty(); ++b) {
                    const T* const y = c.activations(network, layer, b);
                    Real xy = 0, yy = 0;
                    for (std::size_t k = 0; k < n; ++k) {
                        xy += static_cast<Real>(x[k]) * y[k];
                        yy += static_cast<Real>(y[k]) * y[k];
                    }
                    const double found = c.overlaps[(c.at(network, layer) + a) * c.inputs + b];
                    if (xx == 0 || yy == 0)
                        good &= std::isnan(found);
                    else
                        good &= std::fabs(found - xy / std::sqrt(xx * yy)) <= static_cast<Real>(n + 4) * 2.3e-16L;
                }
            }
    return good;
}

template <class T>
void agree(const CpuPath& path, Case<T> c) {
    c.fill(c.inputs * 1000 + c.sizes[0]);
    CHECK(c.run(path));
    CHECK(layers_agree(c));
    CHECK(statistics_agree(c));
}

template <class T>
void check_shapes(const CpuPath& path) {
    const std::vector<std::vector<std::size_t>> shapes = {{1, 1}, {3, 5, 2}, {16, 16, 16}, {37, 70, 9, 21}, {130, 53, 4}};
    for (const std::vector<std::size_t>& sizes : shapes)
        for (const std::size_t inputs : {1, 2, 3, 4, 5, 16, 17, 40, 64, 70, 130})
            for (const std::size_t networks : {1, 3})
                agree<T>(path, {sizes, networks, inputs, Activation::relu, inputs % 2 == 0, 2});
    // Longer than a block of the Gram matrix.
    agree<T>(path, {{1100, 40}, 1, 20, Activation::linear, false, 1});
}

template <class T>
void check_activations(const CpuPath& path) {
    for (int kind = 0; kind <= static_cast<int>(Activation::sin); ++kind)
        for (const std::size_t inputs : {1, 2, 3, 4, 21})
            agree<T>(path, {{20, 45, 33, 6}, 2, inputs, static_cast<Activation>(kind), true, 1});
}

// Enough work for one network that its threads share the units of a layer; several items, more threads than units.
template <class T>
void check_sharing(const CpuPath& path) {
    agree<T>(path, {{600, 1200, 700, 5}, 1, 20, Activation::relu, true, 3});
    agree<T>(path, {{600, 1200, 700, 5}, 2, 70, Activation::tanh, true, 2});
    agree<T>(path, {{2500, 2500, 1}, 1, 4, Activation::abs, false, 3});
    Case<T> c{{600, 700, 3}, 1, 150, Activation::relu, true, 3};
    c.fill(7);
    c.overlaps.clear();
    CHECK(c.run(path));
    CHECK(layers_agree(c) && statistics_agree(c));
}

// Squares beyond the range of T, in both directions.
void check_range(const CpuPath& path) {
    for (const double scale : {1e15, 1e-15})
        for (const std::size_t inputs : {1, 5})
            agree<float>(path, {{30, 40, 20}, 1, inputs, Activation::leaky_relu, true, 1, scale});
    Case<float> c{{8, 9, 5}, 1, 3, Activation::relu, false, 1, 1e30};
    c.fill(3);
    CHECK(c.run(path));
    bool finite = true, good = true;
    for (const float value : c.kept[1]) finite &= std::isfinite(value), good &= !(value < 0);
    CHECK(!finite);
    CHECK(good);
}

template <class T>
void check_undefined(const CpuPath& path) {
    constexpr T infinity = std::numeric_limits<T>::infinity();
    for (const std::size_t inputs : {1, 2, 5}) {
        Case<T> c{{3, 4}, 1, inputs, Activation::relu, false, 1};
        c.fill(1);
        c.weights[0] = {-infinity, 0, 0, 1, 0, 0, std::numeric_limits<T>::quiet_NaN(), 0, 0, 0, 0, 0};
        for (std::size_t i = 0; i < inputs; ++i) c.x[3 * i] = T{1};
        CHECK(c.run(path));
        for (std::size_t i = 0; i < inputs; ++i) {
            const T* const out = c.activations(0, 1, i);
            CHECK(out[0] == 0 && out[1] == 1 && std::isnan(out[2]) && out[3] == 0);
            CHECK(std::isnan(c.norms[c.at(0, 1) + i]) && c.active[c.at(0, 1) + i] == 0.25);
            CHECK(std::isnan(c.overlaps[c.at(0, 1) * inputs + i * inputs + i]));
        }
        // All units silent: no direction.
        c.weights[0].assign(12, T{0});
        CHECK(c.run(path));
        CHECK(c.norms[c.at(0, 1)] == 0 && std::isnan(c.overlaps[c.at(0, 1) * inputs]));
    }
}

// Shared by two threads, and many items.
void check_stop(const CpuPath& path) {
    for (const std::size_t inputs : {64, 1000}) {
        Case<float> c{std::vector<std::size_t>(20, 256), 1, inputs, Activation::relu, false, 2};
        c.fill(1);
        c.overlaps.clear();
        CHECK(!c.run(path, [](std::uint64_t) { return false; }));
    }
}

}  // namespace

int main() {
    for (int i = 0; i < cpu_path_count; ++i) {
        const CpuPath& path = cpu_paths[i];
        if (!path.supported()) continue;
        check_shapes<float>(path);
        check_shapes<double>(path);
        check_activations<float>(path);
        check_activations<double>(path);
        check_sharing<float>(path);
        check_sharing<double>(path);
        check_range(path);
        check_undefined<float>(path);
        check_undefined<double>(path);
        check_stop(path);
    }
    return check::report();
}
