// Ensembles of angle chains on several threads, reduced as they run.
#pragma once

#include <cstdint>
#include <vector>

#include "angle_step.hpp"
#include "moments.hpp"
#include "ordered_blocks.hpp"

namespace wideangle {

struct HistogramBins {
    double low = 0, high = 0;
    int count = 0;  // 0: no histogram
};

struct AngleEnsemble {
    double theta0 = 0;
    std::vector<std::uint32_t> widths;
    double weight_variance = 2;
    std::uint64_t seed = 0;
    std::uint64_t first_sample = 0, samples = 0;
    int threads = 1;
    AngleStepFunction angle_step = nullptr;
    HistogramBins bins;
};

// By layer 0...L, over the pairs that survived up to it; collapsed and dead are cumulative.
struct AngleMoments {
    std::vector<CentralMoments> log_sin2, log_norm2;
    std::vector<std::uint64_t> collapsed, dead;
    std::vector<std::uint64_t> histogram;            // (layer, bin)
    std::vector<std::uint64_t> underflow, overflow;  // below low; at or above high
};

// Where to put every sample: (sample, layer) in C order, or null.
struct AngleSamples {
    double* log_sin2 = nullptr;
    double* log_norm2 = nullptr;
    std::uint8_t* status = nullptr;  // PairStatus after the last layer, (sample)
};

// Result of sample k: a function of (seed, k, theta0, widths) alone. The moments do not depend on the number of threads.
// The watcher hears of samples. Returns false if it stopped the run, and then leaves the outputs incomplete.
bool simulate_angles(const AngleEnsemble& ensemble, AngleMoments& moments, const AngleSamples& samples,
                     const Watcher& watcher);

}  // namespace wideangle
