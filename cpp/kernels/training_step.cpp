// Compiled once per instruction set; see training_step.hpp. Lanes are networks, so that everything is straight-line code
// on parameters in the first-level cache, and what becomes of a network does not depend on its company.
#include "training_step.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>

#include "batch_gradient.hpp"
#include "sample_visits.hpp"
#include "single_sample.hpp"

namespace wideangle {
namespace WIDEANGLE_PATH {
namespace {

constexpr double undefined = std::numeric_limits<double>::quiet_NaN();

// Eight networks of a group and how far they have come.
struct Half {
    std::vector<EightLanes> parameters;
    i64 alive = ~i64{};  // where no output has been too large yet
    i64 good = {};       // steps before the first that was
};

// Inputs and labels of consecutive visits, each half with its own lanes.
class Staged {
  public:
    Staged(const SampleVisits& visits, std::uint64_t first_network)
        : visits_(visits), source_(visits, first_network) {
        constexpr std::size_t most = 16384;  // bytes that leave room in the first-level cache
        const std::size_t visit = (visits.features + std::size_t{1}) * training_lanes * sizeof(double);
        capacity_ = static_cast<std::uint32_t>(std::max(most / visit, std::size_t{sample_tile}));
        index_.resize(std::size_t{capacity_} * training_lanes);
        label_.resize(index_.size());
        for (auto& half : x_) half.resize(std::size_t{capacity_} * visits.features);
        for (auto& half : y_) half.resize(capacity_);
    }

    std::uint32_t capacity() const { return capacity_; }
    const EightLanes* x(int half) const { return x_[half].data(); }
    const EightLanes* y(int half) const { return y_[half].data(); }

    void take(std::uint64_t first, std::uint32_t count) {
        // The whole of the data, always the same.
        const bool fixed = visits_.order == SampleOrder::full && visits_.noise == 0 && count == visits_.samples;
        if (fixed && holds_all_) return;
        holds_all_ = fixed;
        source_.draw(first, count, index_.data(), label_.data());
        const std::size_t d = visits_.features;
        for (std::uint32_t k = 0; k < count; ++k) {
            for (int lane = 0; lane < training_lanes; ++lane) {
                const std::size_t at = std::size_t{k} * training_lanes + static_cast<std::size_t>(lane);
                const double* from = visits_.x + index_[at] * d;
                for (std::size_t j = 0; j < d; ++j) x_[lane / 8][k * d + j].at[lane % 8] = from[j];
                y_[lane / 8][k].at[lane % 8] = label_[at];
            }
        }
    }

  private:
    const SampleVisits& visits_;
    VisitSource source_;
    std::uint32_t capacity_;
    bool holds_all_ = false;
    std::vector<std::uint32_t> index_;  // (visit, lane)
    std::vector<double> label_;
    std::vector<EightLanes> x_[2], y_[2];  // (visit, feature) and (visit)
};

// What advances a group to a step. The interface is called once between two records.
class Descent {
  public:
    virtual ~Descent() = default;
    virtual void advance(Half (&halves)[2], std::uint64_t from, std::uint64_t to) = 0;
};

struct GroupContext {
    const TrainingRun& run;
    int networks;
    const std::atomic<bool>& stop;
    std::atomic<std::uint64_t>& done;

    bool stopped() const { return stop.load(std::memory_order_relaxed); }
    void report(std::uint64_t steps) const { done.fetch_add(steps * static_cast<std::uint64_t>(networks)); }
};

template <class Phi, int features>
class SingleDescent final : public Descent {
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
class BatchDescent final : public Descent {
  public:
    BatchDescent(const GroupContext& context, std::uint64_t first_network, Phi phi)
        : context_(context),
          staged_(context.run.visits, first_network),
          gradient_(context.run.network, phi),
          used_(context.networks > 8 ? 2 : 1) {
        for (auto& half : gradients_) half.resize(context.run.network.parameters());
    }

    void advance(Half (&halves)[2], std::uint64_t from, std::uint64_t to) override {
        for (; from < to; ++from) {
            const VisitRange visits = visits_of_step(context_.run.visits, from);
            i64 good[2] = {~i64{}, ~i64{}};
            for (auto& half : gradients_) std::fill(half.begin(), half.end(), EightLanes{});
            for (std::uint32_t k = 0; k < visits.count; k += staged_.capacity()) {
                if (context_.stopped()) return;
                const std::uint32_t count = std::min(staged_.capacity(), visits.count - k);
                staged_.take(visits.first + k, count);
                for (int h = 0; h < used_; ++h)
                    good[h] &= gradient_.add(halves[h].parameters.data(), staged_.x(h), staged_.y(h), count,
                                             gradients_[h].data());
            }
            for (int h = 0; h < used_; ++h) {
                halves[h].alive &= good[h];
                halves[h].good -= halves[h].alive;
                apply(context_.run.learning_rate / visits.count, halves[h].parameters.data(), gradients_[h].data());
            }
            context_.report(1);
        }
    }

  private:
    void apply(double rate, EightLanes* parameters, const EightLanes* gradients) const {
        const TrainedNetwork& network = context_.run.network;
        const auto descend = [&](std::size_t count, double step) {
            for (std::size_t k = 0; k < count; ++k) parameters[k].set(parameters[k].get() - step * gradients[k].get());
            parameters += count;
            gradients += count;
        };
        for (std::size_t l = 1; l < network.sizes.size(); ++l) {
            descend(std::size_t{network.sizes[l - 1]} * network.sizes[l], rate * network.weight_rates[l - 1]);
            descend(network.sizes[l], rate * network.bias_rates[l - 1]);
        }
    }

    const GroupContext& context_;
    Staged staged_;
    BatchGradient<Phi> gradient_;
    const int used_;  // halves with networks
    std::vector<EightLanes> gradients_[2];
};

template <class Phi>
std::unique_ptr<Descent> make_descent(const GroupContext& context, std::uint64_t first_network, Phi phi) {
    const TrainingRun& run = context.run;
    if (run.network.sizes.size() != 3 || run.visits.batch != 1)
        return std::make_unique<BatchDescent<Phi>>(context, first_network, phi);
    switch (run.visits.features) {
        case 1: return std::make_unique<SingleDescent<Phi, 1>>(context, first_network, phi);
        case 2: return std::make_unique<SingleDescent<Phi, 2>>(context, first_network, phi);
        default: return std::make_unique<SingleDescent<Phi, 0>>(context, first_network, phi);
    }
}

void read_parameters(const TrainingGroup& group, std::size_t count, Half (&halves)[2]) {
    for (Half& half : halves) half.parameters.resize(count);
    for (int k = 0; k < group.networks; ++k)
        for (std::size_t p = 0; p < count; ++p)
            halves[k / 8].parameters[p].at[k % 8] = group.initial[static_cast<std::size_t>(k) * count + p];
}

// A network is written as a whole or not at all.
void write_record(const TrainingGroup& group, const Half (&halves)[2], std::size_t record, std::size_t records) {
    const std::size_t count = halves[0].parameters.size();
    for (int k = 0; k < group.networks; ++k) {
        double* to = group.parameters + (static_cast<std::size_t>(k) * records + record) * count;
        bool finite = halves[k / 8].alive[k % 8] != 0;
        for (std::size_t p = 0; p < count; ++p) {
            to[p] = halves[k / 8].parameters[p].at[k % 8];
            finite = finite && std::isfinite(to[p]);
        }
        if (!finite) std::fill_n(to, count, undefined);
    }
}

// The step where an output was too large. Where parameters were to become infinite, the output of the step after.
void write_status(const TrainingGroup& group, const Half (&halves)[2], std::uint64_t steps) {
    for (int k = 0; k < group.networks; ++k) {
        const Half& half = halves[k / 8];
        bool finite = true;
        for (const EightLanes& lanes : half.parameters) finite = finite && std::isfinite(lanes.at[k % 8]);
        group.diverged_step[k] = half.alive[k % 8] == 0 ? half.good[k % 8] : finite ? -1 : static_cast<std::int64_t>(steps);
    }
}

void train(const TrainingRun& run, const TrainingGroup& group, const std::atomic<bool>& stop,
           std::atomic<std::uint64_t>& done) {
    const GroupContext context{run, group.networks, stop, done};
    Half halves[2];
    read_parameters(group, run.network.parameters(), halves);
    std::unique_ptr<Descent> descent;
    with_activation(run.network.activation, run.network.slope,
                    [&](auto phi) { descent = make_descent(context, group.first_network, phi); });
    std::uint64_t step = 0;
    for (std::size_t record = 0; record < run.records.size(); ++record) {
        descent->advance(halves, step, run.records[record]);
        step = run.records[record];
        write_record(group, halves, record, run.records.size());
    }
    descent->advance(halves, step, run.steps);
    write_status(group, halves, run.steps);
}

void order(const SampleVisits& visits, std::uint64_t first_network, int networks, StepRange steps,
           std::int64_t* indices, double* labels) {
    VisitSource source(visits, first_network);
    std::vector<std::uint32_t> index(std::size_t{visits.batch} * training_lanes);
    std::vector<double> label(index.size());
    for (std::uint64_t step = 0; step < steps.count; ++step) {
        const VisitRange range = visits_of_step(visits, steps.first + step);
        source.draw(range.first, range.count, index.data(), label.data());
        for (int k = 0; k < networks; ++k) {
            const std::size_t row = (static_cast<std::size_t>(k) * steps.count + step) * visits.batch;
            for (std::uint32_t b = 0; b < visits.batch; ++b) {
                const std::size_t from = std::size_t{b} * training_lanes + static_cast<std::size_t>(k);
                indices[row + b] = b < range.count ? std::int64_t{index[from]} : -1;
                labels[row + b] = b < range.count ? label[from] : undefined;
            }
        }
    }
}

}  // namespace
}  // namespace WIDEANGLE_PATH

extern const TrainingKernels WIDEANGLE_JOIN(training_step_, WIDEANGLE_PATH);
const TrainingKernels WIDEANGLE_JOIN(training_step_, WIDEANGLE_PATH) = {WIDEANGLE_PATH::train, WIDEANGLE_PATH::order};

}  // namespace wideangle
