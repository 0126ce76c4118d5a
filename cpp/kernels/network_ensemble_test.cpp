#include "network_ensemble.hpp"

#include <cmath>
#include <vector>

#include "cpu_paths.hpp"
#include "ensemble_check.hpp"

using namespace wideangle;

namespace {

// The larger one, or NaN.
double larger(double a, double b) { return b <= a ? a : b; }

struct Run {
    std::vector<double> outputs, gram, log_gradient2, log_tangent2, tangent_kernel;
    std::vector<std::vector<float>> layers;
};

Run run(const NetworkEnsemble& ensemble) {
    const NetworkShape& shape = ensemble.shape;
    const std::size_t pairs = static_cast<std::size_t>(ensemble.inputs) * ensemble.inputs;
    Run result;
    result.outputs.resize(ensemble.networks * ensemble.inputs * shape.outputs);
    result.gram.resize(ensemble.networks * (shape.widths.size() + 1) * pairs);
    result.log_gradient2.resize(ensemble.networks * (shape.widths.size() + 2) * ensemble.inputs);
    result.log_tangent2.resize(result.log_gradient2.size());
    NetworkResults to{result.outputs.data(), result.gram.data(), {}, result.log_gradient2.data(), nullptr, nullptr};
    result.tangent_kernel.resize(ensemble.networks * pairs);
    to.tangent_kernel = result.tangent_kernel.data();
    if (ensemble.tangent != nullptr) to.log_tangent2 = result.log_tangent2.data();
    result.layers.reserve(shape.widths.size());
    for (std::uint32_t width : shape.widths) {
        result.layers.emplace_back(ensemble.networks * ensemble.inputs * width);
        to.layers.push_back(result.layers.back().data());
    }
    CHECK(simulate_networks(ensemble, to, check::go_on));
    return result;
}

NetworkEnsemble some_ensemble(const double* x, std::uint32_t inputs) {
    NetworkEnsemble ensemble;
    ensemble.shape = {5, {20, 33, 9}, 3, Activation::tanh, 0, 1.7, 0.2};
    ensemble.seed = 11;
    ensemble.networks = 40;
    ensemble.inputs = inputs;
    ensemble.x = x;
    ensemble.kernels = cpu_paths[0].dense_layer;
    return ensemble;
}

// By hand, from the weights, in double.
std::vector<double> output_of(const NetworkEnsemble& ensemble, std::uint64_t network, std::vector<double> values) {
    const NetworkShape& shape = ensemble.shape;
    for (std::uint32_t layer = 1; layer <= shape.widths.size() + 1; ++layer) {
        const DenseLayer at = dense_layer_of(shape, ensemble.seed, network, layer);
        std::vector<float> weights(static_cast<std::size_t>(at.fan_in) * at.fan_out), biases(at.fan_out);
        ensemble.kernels->weights(at, weights.data(), biases.data());
        std::vector<double> next(at.fan_out);
        for (std::uint32_t i = 0; i < at.fan_out; ++i) {
            next[i] = biases[i];
            for (std::uint32_t j = 0; j < at.fan_in; ++j) next[i] += weights[i * at.fan_in + j] * values[j];
            if (layer <= shape.widths.size()) next[i] = std::tanh(next[i]);
        }
        values = next;
    }
    return values;
}

void networks_are_their_weights() {
    const std::vector<double> x = {0.3, -1, 0.5, 2, 0.1, 1, 1, -1, 0, 0.25};
    const std::vector<double> direction = {0.5, 0.5, -0.5, 0, 0.5, 1e30, 0, 0, 0, 2e30};
    NetworkEnsemble ensemble = some_ensemble(x.data(), 2);
    ensemble.tangent = direction.data();
    const Run found = run(ensemble);
    ensemble.tangent = nullptr;
    CHECK(run(ensemble).outputs == found.outputs);
    double worst = 0, worst_gradient = 0, worst_tangent = 0;
    for (std::uint64_t network = 0; network < ensemble.networks; ++network) {
        for (std::uint32_t input = 0; input < 2; ++input) {
            const std::vector<double> at(x.begin() + 5 * input, x.begin() + 5 * input + 5);
            const std::vector<double> expected = output_of(ensemble, network, at);
            for (int k = 0; k < 3; ++k)
                worst = larger(worst, std::fabs(found.outputs[(network * 2 + input) * 3 + k] - expected[k]));
            double norm2 = 0;
            for (int j = 0; j < 5; ++j) {
                std::vector<double> up = at, down = at;
                up[j] += 1e-4;
                down[j] -= 1e-4;
                const double slope = (output_of(ensemble, network, up)[0] - output_of(ensemble, network, down)[0]) / 2e-4;
                norm2 += slope * slope;
            }
            std::vector<double> up = at, down = at;
            const double length = input == 0 ? 1 : 1e30;
            for (int j = 0; j < 5; ++j) {
                up[j] += 1e-4 * direction[5 * input + j] / length;
                down[j] -= 1e-4 * direction[5 * input + j] / length;
            }
            const std::vector<double> above = output_of(ensemble, network, up), below = output_of(ensemble, network, down);
            double tangent2 = 0;
            for (int k = 0; k < 3; ++k) tangent2 += (above[k] - below[k]) / 2e-4 * ((above[k] - below[k]) / 2e-4);
            worst_tangent = larger(worst_tangent, std::fabs(std::log(tangent2) + 2 * std::log(length) -
                                                            found.log_tangent2[(network * 5 + 4) * 2 + input]));
            worst_gradient = larger(worst_gradient, std::fabs(std::log(norm2) - found.log_gradient2[network * 5 * 2 + input]));
        }
    }
    CHECK_CLOSE(worst, 0.0, 2e-6);
    CHECK_CLOSE(found.log_tangent2[0], 0.0, 1e-15);
    CHECK_CLOSE(worst_tangent, 0.0, 2e-5);
    CHECK_CLOSE(worst_gradient, 0.0, 2e-5);  // slopes in float32; central differences err by 1e-8
}

void layers_and_gram_agree() {
    const std::vector<double> x = {0.3, -1, 0.5, 2, 0.1, 1, 1, -1, 0, 0.25};
    const NetworkEnsemble ensemble = some_ensemble(x.data(), 2);
    const Run found = run(ensemble);
    double worst = 0;
    for (std::uint64_t network = 0; network < ensemble.networks; ++network) {
        for (std::uint32_t layer = 1; layer <= 3; ++layer) {
            const std::uint32_t width = ensemble.shape.widths[layer - 1];
            const float* values = found.layers[layer - 1].data() + network * 2 * width;
            double overlap = 0;
            for (std::uint32_t unit = 0; unit < width; ++unit)
                overlap += static_cast<double>(values[unit]) * values[width + unit] / width;
            worst = larger(worst, std::fabs(overlap - found.gram[(network * 4 + layer) * 4 + 1]));
        }
    }
    CHECK_CLOSE(worst, 0.0, 1e-7);
    CHECK_CLOSE(found.gram[1], (0.3 - 1 - 0.5 + 0.1 * 0.25) / 5, 1e-15);
}

void parts_and_threads_give_the_same_bits() {
    const std::vector<double> x = {0.3, -1, 0.5, 2, 0.1, 1, 1, -1, 0, 0.25, 4, 4, 4, 1, 2};
    NetworkEnsemble ensemble = some_ensemble(x.data(), 3);
    ensemble.networks = 3000;
    const Run whole = run(ensemble);
    ensemble.threads = 3;
    const Run threaded = run(ensemble);
    CHECK(whole.outputs == threaded.outputs && whole.gram == threaded.gram && whole.layers == threaded.layers);
    CHECK(whole.log_gradient2 == threaded.log_gradient2);
    ensemble.first_network = 1234;
    ensemble.networks = 10;
    const Run part = run(ensemble);
    CHECK(check::same_rows(part.outputs, whole.outputs, 1234, 9));
    // An input's outputs do not depend on its company.
    NetworkEnsemble alone = some_ensemble(x.data() + 5, 1);
    alone.networks = 10;
    const Run one = run(alone);
    bool same = true;
    for (std::size_t network = 0; network < 10; ++network)
        for (std::size_t k = 0; k < 3; ++k) same = same && one.outputs[network * 3 + k] == whole.outputs[network * 9 + 3 + k];
    CHECK(same);
}

// A scale that a homogeneous network passes on is carried beside the values.
void deep_networks_stay_in_range() {
    const std::vector<double> x = {1e-200, 2e-200, -1e-200};
    NetworkEnsemble ensemble;
    ensemble.shape = {3, std::vector<std::uint32_t>(3000, 12), 1, Activation::abs, 0, 1.0, 0};
    ensemble.networks = 3;
    ensemble.inputs = 1;
    ensemble.x = x.data();
    ensemble.kernels = cpu_paths[0].dense_layer;
    const Run shrinking = run(ensemble);
    // Every factor of the gradient's norm is that of the forward sweep in law: ln chi2_12/12 a layer.
    const double slope = std::log(2.0 / 12) + (-0.5772156649015329 + 1 + 0.5 + 1.0 / 3 + 0.25 + 0.2);
    for (int network = 0; network < 3; ++network)
        CHECK_CLOSE(shrinking.log_gradient2[static_cast<std::size_t>(network) * 3002], 3000 * slope, 6 * std::sqrt(3000 * 0.1813));
    ensemble.shape.weight_variance = 256;
    ensemble.shape.widths.resize(80);
    const std::vector<double> one = {1, 2, -1};
    ensemble.x = one.data();
    for (double output : run(ensemble).outputs) CHECK(std::isfinite(output) && std::fabs(output) > 1e80);
}

void a_run_can_be_stopped() {
    const std::vector<double> x(10, 1.0);
    NetworkEnsemble ensemble = some_ensemble(x.data(), 2);
    ensemble.shape.widths = {4096, 4096};
    ensemble.networks = 1000000;
    std::vector<double> outputs(ensemble.networks * 6);
    NetworkResults to;
    to.outputs = outputs.data();
    CHECK(!simulate_networks(ensemble, to, [](std::uint64_t) { return false; }));
}

}  // namespace

int main() {
    networks_are_their_weights();
    layers_and_gram_agree();
    parts_and_threads_give_the_same_bits();
    deep_networks_stay_in_range();
    a_run_can_be_stopped();
    return check::report();
}
