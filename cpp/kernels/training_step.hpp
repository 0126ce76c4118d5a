// Training of sixteen small networks at once: what the ensemble calls, once per instruction set.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "activations.hpp"

namespace wideangle {

constexpr int training_lanes = 16;

// In the order of wideangle.losses.LOSSES. Of an output f and a label y.
enum class TrainingLoss : int { cross_entropy, hinge, squared, exponential };

// How the samples of a batch are chosen.
enum class SampleOrder : int {
    full,      // all of them, in their order
    drawn,     // each at random, with replacement
    permuted,  // each once in an epoch, in another order in every epoch; the last batch of an epoch may be smaller
    given,     // by a list, the same for all networks
};

// A sample met by a network is a visit. Visits are counted from 0; what is random about one is a function of (seed,
// network, visit) alone.
struct SampleVisits {
    const double* x = nullptr;  // (sample, feature) in C order
    const double* y = nullptr;  // (sample)
    std::uint32_t samples = 0, features = 0;
    SampleOrder order = SampleOrder::full;
    std::uint32_t batch = 1;
    const std::uint32_t* given = nullptr;  // (step, batch)
    double noise = 0;       // standard deviation of what is added to a label, or
    bool flips = false;     // the probability with which it changes its sign
    std::uint64_t seed = 0;
};

struct VisitRange {
    std::uint64_t first;
    std::uint32_t count;
};

inline VisitRange visits_of_step(const SampleVisits& visits, std::uint64_t step) {
    if (visits.order != SampleOrder::permuted) return {step * visits.batch, visits.batch};
    const std::uint64_t steps = (visits.samples + visits.batch - 1) / visits.batch;
    const std::uint64_t place = step % steps * visits.batch, left = visits.samples - place;
    return {step / steps * visits.samples + place, left < visits.batch ? static_cast<std::uint32_t>(left) : visits.batch};
}

// A network of one linear output. Its parameters are a row of numbers: for each layer the weights (unit, input) and then
// the biases (unit).
struct TrainedNetwork {
    std::vector<std::uint32_t> sizes;  // input, hidden layers, 1
    Activation activation = Activation::relu;
    double slope = 0;
    TrainingLoss loss = TrainingLoss::cross_entropy;
    std::vector<double> weight_rates, bias_rates;  // what each layer's learning rate is multiplied with

    std::size_t parameters() const {
        std::size_t count = 0;
        for (std::size_t l = 1; l < sizes.size(); ++l) count += (sizes[l - 1] + std::size_t{1}) * sizes[l];
        return count;
    }
};

// From one record to the next, and to the end: by steps of descent or, if there is a tolerance, along gradient flow, for
// which time is the learning rate times steps. What a step of flow may err by: that part of the norm of all parameters.
struct TrainingRun {
    TrainedNetwork network;
    SampleVisits visits;
    double learning_rate = 0;
    double tolerance = 0;
    std::uint64_t first_step = 0, end = 0;  // the steps are those from the one to just before the other
    std::vector<std::uint64_t> records;     // steps, increasing
};

// Up to sixteen networks with consecutive numbers.
struct TrainingGroup {
    std::uint64_t first_network = 0;
    int networks = 0;
    const double* initial = nullptr;  // (network, parameter)
    double* parameters = nullptr;     // (network, record, parameter); NaN from the step on where a network diverges
    // (network): the first step where an output was not below 1e100 in size, or would have been in the step after the
    // last; else -1.
    std::int64_t* diverged_step = nullptr;
};

// Work done is counted in steps of a network.
using TrainGroupFunction = void (*)(const TrainingRun&, const TrainingGroup&, const std::atomic<bool>& stop,
                                    std::atomic<std::uint64_t>& done);

struct StepRange {
    std::uint64_t first, count;
};

// The samples and labels of steps, (step, batch) by network; -1 and NaN where a batch is smaller.
using TrainingOrderFunction = void (*)(const SampleVisits&, std::uint64_t first_network, int networks, StepRange,
                                       std::int64_t* indices, double* labels);

struct TrainingKernels {
    TrainGroupFunction train;
    TrainingOrderFunction order;
};

}  // namespace wideangle
