// Compiled once per instruction set; see training_step.hpp. Lanes are networks, so that everything is straight-line code
// on parameters in the first-level cache, and what becomes of a network does not depend on its company.
#include "training_step.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>

#include "batch_descent.hpp"
#include "gradient_flow.hpp"
#include "single_sample.hpp"

namespace wideangle {
namespace WIDEANGLE_PATH {
namespace {

constexpr double undefined = std::numeric_limits<double>::quiet_NaN();

template <class Phi, int features>
class SingleDescent final : public Training {
  public:
    SingleDescent(const GroupContext& context, std::uint64_t first_network, Phi phi)
        : context_(context),
          staged_(context.run.visits, first_network),
          kernel_(context.run.network, phi, rates(context.run)) {}

    void advance(Half (&halves)[2], std::uint64_t from, std::uint64_t to) override {
        EightLanes* const parameters[2] = {halves[0].parameters.data(), halves[1].parameters.data()};
        while (from < to && !context_.stopped()) {
            const auto steps = static_cast<std::uint32_t>(std::min<std::uint64_t>(staged_.capacity(), to - from));
            staged_.take(from, steps);
            const EightLanes* const x[2] = {staged_.x(0), staged_.x(1)};
            const EightLanes* const y[2] = {staged_.y(0), staged_.y(1)};
            i64 alive[2] = {halves[0].alive, halves[1].alive}, good[2] = {halves[0].good, halves[1].good};
            kernel_.descend(parameters, x, y, steps, alive, good);
            for (int h = 0; h < 2; ++h) {
                halves[h].alive = alive[h];
                halves[h].good = good[h];
            }
            context_.report(steps);
            from += steps;
        }
    }

  private:
    static SingleRates rates(const TrainingRun& run) {
        const auto& weights = run.network.weight_rates;
        const auto& biases = run.network.bias_rates;
        return {run.learning_rate * weights[0], run.learning_rate * biases[0], run.learning_rate * weights[1],
                run.learning_rate * biases[1]};
    }

    const GroupContext& context_;
    Staged staged_;
    SingleSample<Phi, features> kernel_;
};

template <class Phi>
std::unique_ptr<Training> make_training(const GroupContext& context, std::uint64_t first_network, Phi phi) {
    const TrainingRun& run = context.run;
    if (run.tolerance > 0) return std::make_unique<GradientFlow<Phi>>(context, first_network, phi);
    if (run.network.sizes.size() != 3 || run.visits.batch != 1)
        return std::make_unique<BatchDescent<Phi>>(context, first_network, phi);
    switch (run.visits.features) {
        case 1: return std::make_unique<SingleDescent<Phi, 1>>(context, first_network, phi);
        case 2: return std::make_unique<SingleDescent<Phi, 2>>(context, first_network, phi);
        default: return std::make_unique<SingleDescent<Phi, 0>>(context, first_network, phi);
    }
}

void read_parameters(const TrainingRun& run, const TrainingGroup& group, Half (&halves)[2]) {
    const std::size_t count = run.network.parameters();
    for (Half& half : halves) {
        half.parameters.resize(count);
        half.good += static_cast<std::int64_t>(run.first_step);
    }
    for (int k = group.networks; k < training_lanes; ++k) halves[k / 8].alive[k % 8] = 0;
    for (int k = 0; k < group.networks; ++k)
        for (std::size_t p = 0; p < count; ++p)
            halves[k / 8].parameters[p].at[k % 8] = group.initial[static_cast<std::size_t>(k) * count + p];
}

void write_record(const TrainingGroup& group, const Half (&halves)[2], std::size_t record, std::size_t records) {
    const std::size_t count = halves[0].parameters.size();
    for (int k = 0; k < group.networks; ++k) {
        double* to = group.parameters + (static_cast<std::size_t>(k) * records + record) * count;
        for (std::size_t p = 0; p < count; ++p) to[p] = halves[k / 8].parameters[p].at[k % 8];
    }
}

// Takes the samples of the step after the last into account, so that what is found of a network does not depend on where
// the run ends. A list of samples has none for it.
template <class Phi>
void judge_end(const GroupContext& context, std::uint64_t first_network, Phi phi, Half (&halves)[2]) {
    const TrainingRun& run = context.run;
    if (run.visits.order == SampleOrder::given) return;
    GradientSum<Phi> sum(context, first_network, phi);
    const EightLanes* const parameters[2] = {halves[0].parameters.data(), halves[1].parameters.data()};
    i64 good[2];
    if (!sum.add_up(parameters, visits_of_step(run.visits, run.end), good)) return;
    for (int h = 0; h < sum.used(); ++h) halves[h].alive &= good[h];
}

void write_status(const TrainingRun& run, const TrainingGroup& group, const Half (&halves)[2]) {
    const std::size_t count = halves[0].parameters.size(), records = run.records.size();
    for (int k = 0; k < group.networks; ++k) {
        const Half& half = halves[k / 8];
        bool fine = half.alive[k % 8] != 0;
        for (const EightLanes& lanes : half.parameters) fine = fine && std::isfinite(lanes.at[k % 8]);
        group.diverged_step[k] = fine ? -1 : half.good[k % 8];
        if (fine) continue;
        const auto diverged = static_cast<std::uint64_t>(group.diverged_step[k]);
        const auto from = std::lower_bound(run.records.begin(), run.records.end(), diverged) - run.records.begin();
        double* const rows = group.parameters + static_cast<std::size_t>(k) * records * count;
        std::fill(rows + static_cast<std::size_t>(from) * count, rows + records * count, undefined);
    }
}

void train(const TrainingRun& run, const TrainingGroup& group, const std::atomic<bool>& stop,
           std::atomic<std::uint64_t>& done) {
    const GroupContext context{run, group.networks, stop, done};
    Half halves[2];
    read_parameters(run, group, halves);
    with_activation(run.network.activation, run.network.slope, [&](auto phi) {
        const std::unique_ptr<Training> training = make_training(context, group.first_network, phi);
        std::uint64_t step = run.first_step;
        for (std::size_t record = 0; record < run.records.size(); ++record) {
            training->advance(halves, step, run.records[record]);
            step = run.records[record];
            write_record(group, halves, record, run.records.size());
        }
        training->advance(halves, step, run.end);
        judge_end(context, group.first_network, phi, halves);
    });
    write_status(run, group, halves);
}

void order(const SampleVisits& visits, std::uint64_t first_network, int networks, StepRange steps,
           std::int64_t* indices, double* labels) {
    VisitSource source(visits, first_network);
    for (std::uint64_t step = 0; step < steps.count; ++step) {
        const VisitRange range = visits_of_step(visits, steps.first + step);
        for (std::uint32_t b = 0; b < visits.batch; ++b) {
            const bool met = b < range.count, first = step == 0 && b == 0;  // visits follow on each other
            const std::uint32_t* samples = met ? source.samples(range.first + b, first) : nullptr;
            double told[training_lanes];
            for (int k = 0; k < training_lanes; ++k) told[k] = met ? visits.y[samples[k]] : undefined;
            if (met) source.disturb(range.first + b, first, told, told + 8);
            for (int k = 0; k < networks; ++k) {
                const std::size_t at = (static_cast<std::size_t>(k) * steps.count + step) * visits.batch + b;
                indices[at] = met ? std::int64_t{samples[k]} : -1;
                labels[at] = told[k];
            }
        }
    }
}

}  // namespace
}  // namespace WIDEANGLE_PATH

extern const TrainingKernels WIDEANGLE_JOIN(training_step_, WIDEANGLE_PATH);
const TrainingKernels WIDEANGLE_JOIN(training_step_, WIDEANGLE_PATH) = {WIDEANGLE_PATH::train, WIDEANGLE_PATH::order};

}  // namespace wideangle
