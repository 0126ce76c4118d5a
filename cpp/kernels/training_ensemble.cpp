#include "training_ensemble.hpp"

#include <algorithm>

namespace wideangle {

namespace {

std::uint64_t groups_of(const TrainingEnsemble& ensemble) {
    return (ensemble.networks + training_lanes - 1) / training_lanes;
}

int networks_of_group(const TrainingEnsemble& ensemble, std::uint64_t group) {
    return static_cast<int>(std::min<std::uint64_t>(training_lanes, ensemble.networks - group * training_lanes));
}

}  // namespace

bool train_networks(const TrainingEnsemble& ensemble, const TrainingResults& results, const Watcher& watcher) {
    const std::size_t count = ensemble.run.network.parameters(), records = ensemble.run.records.size();
    struct Nothing {};
    OrderedBlocks<Nothing> blocks(
        groups_of(ensemble), ensemble.threads,
        [&](std::uint64_t block, const BlockContext& context) {
            const std::uint64_t first = block * training_lanes;
            ensemble.kernels->train(ensemble.run,
                                    {ensemble.first_network + first, networks_of_group(ensemble, block),
                                     ensemble.initial + first * count, results.parameters + first * records * count,
                                     results.diverged_step + first},
                                    context.stop, context.done);
            return Nothing{};
        },
        [](Nothing&&) {});
    return blocks.finish(watcher);
}

void training_order(const TrainingEnsemble& ensemble, StepRange steps, std::int64_t* indices, double* labels) {
    for (std::uint64_t group = 0; group < groups_of(ensemble); ++group) {
        const std::uint64_t first = group * training_lanes;
        const std::uint64_t at = first * steps.count * ensemble.run.visits.batch;
        ensemble.kernels->order(ensemble.run.visits, ensemble.first_network + first, networks_of_group(ensemble, group),
                                steps, indices + at, labels + at);
    }
}

void initial_parameters(const NetworkShape& shape, std::uint64_t seed, std::uint64_t first_network,
                        std::uint64_t networks, const DenseKernels& kernels, double* parameters) {
    std::vector<float> weights, biases;
    for (std::uint64_t k = 0; k < networks; ++k) {
        for (std::uint32_t layer = 1; layer <= shape.widths.size() + 1; ++layer) {
            const DenseLayer at = dense_layer_of(shape, seed, first_network + k, layer);
            weights.resize(static_cast<std::size_t>(at.fan_in) * at.fan_out);
            biases.resize(at.fan_out);
            kernels.weights(at, weights.data(), biases.data());
            if (shape.bias_variance == 0) std::fill(biases.begin(), biases.end(), 0.0f);  // products with 0 may be -0
            parameters = std::copy(weights.begin(), weights.end(), parameters);
            parameters = std::copy(biases.begin(), biases.end(), parameters);
        }
    }
}

}  // namespace wideangle
