#include "training_ensemble.hpp"

#include <algorithm>
#include <cmath>
#include <set>
#include <vector>

#include "cpu_paths.hpp"
#include "ensemble_check.hpp"

using namespace wideangle;

namespace {

const std::vector<double> x = {0.3, -1, 0.5, 2, 0.1, 1, 1, -1, 0, 0.25, 2, -2, 0.7, 0.7};
const std::vector<double> y = {1, -1, 1, 1, -1, -1, 1};
constexpr std::uint32_t samples = 7;

struct Results {
    std::vector<double> parameters;
    std::vector<std::int64_t> diverged_step;
};

struct Case {
    TrainingEnsemble ensemble;
    std::vector<double> initial;

    Case(std::vector<std::uint32_t> widths, std::uint64_t networks) {
        NetworkShape shape;
        shape.input_dim = 2;
        shape.widths = widths;
        shape.bias_variance = 0.1;
        TrainedNetwork& network = ensemble.run.network;
        network.sizes = std::move(widths);
        network.sizes.insert(network.sizes.begin(), 2);
        network.sizes.push_back(1);
        network.weight_rates.assign(network.sizes.size() - 1, 1.0);
        network.bias_rates = network.weight_rates;
        initial.resize(networks * network.parameters());
        initial_parameters(shape, 3, 0, networks, *cpu_paths[0].dense_layer, initial.data());
        ensemble.run.visits = {x.data(), y.data(), samples, 2, SampleOrder::drawn, 1, nullptr, 0.1, true, 3};
        ensemble.run.learning_rate = 0.1;
        ensemble.run.end = 50;
        ensemble.run.records = {0, 17, 50};
        ensemble.networks = networks;
        ensemble.kernels = cpu_paths[0].training_step;
    }

    Results run() {
        ensemble.initial = initial.data() + ensemble.first_network * ensemble.run.network.parameters();
        Results results;
        results.parameters.resize(ensemble.networks * ensemble.run.records.size() * ensemble.run.network.parameters());
        results.diverged_step.resize(ensemble.networks);
        CHECK(train_networks(ensemble, {results.parameters.data(), results.diverged_step.data()}, check::go_on));
        return results;
    }
};

std::vector<Case> some_cases() {
    std::vector<Case> cases;
    for (const std::vector<std::uint32_t>& widths : {std::vector<std::uint32_t>{20}, {7, 5}})
        for (const std::uint32_t batch : {1u, 3u, samples}) {
            cases.emplace_back(widths, 40);
            cases.back().ensemble.run.visits.batch = batch;
            cases.back().ensemble.run.network.activation = batch == 3 ? Activation::tanh : Activation::relu;
            if (batch == 3) cases.back().ensemble.run.visits.order = SampleOrder::permuted;
            if (batch == samples) cases.back().ensemble.run.visits.order = SampleOrder::full;
        }
    return cases;
}

// Every activation on single samples; 7 units are four side by side and three one by one.
std::vector<Case> all_activations() {
    std::vector<Case> cases;
    for (int kind = 0; kind < activation_count; ++kind) {
        cases.emplace_back(std::vector<std::uint32_t>{7}, 40);
        cases.back().ensemble.run.network.activation = static_cast<Activation>(kind);
    }
    return cases;
}

std::vector<Case> some_flows() {
    std::vector<Case> cases;
    for (const std::vector<std::uint32_t>& widths : {std::vector<std::uint32_t>{20}, {7, 5}}) {
        cases.emplace_back(widths, 40);
        TrainingRun& run = cases.back().ensemble.run;
        run.tolerance = 1e-6;
        run.network.activation = Activation::tanh;
        run.visits.order = SampleOrder::full;
        run.visits.batch = samples;
        run.visits.noise = 0;
    }
    return cases;
}

void parts_threads_and_paths_give_the_same_bits(std::vector<Case> cases) {
    for (Case& at : cases) {
        const Results whole = at.run();
        const std::size_t row = 3 * at.ensemble.run.network.parameters();
        at.ensemble.threads = 3;
        CHECK(check::same_bits(at.run().parameters, whole.parameters));
        for (int path = 1; path < cpu_path_count; ++path) {
            if (!cpu_paths[path].supported()) continue;
            at.ensemble.kernels = cpu_paths[path].training_step;
            CHECK(check::same_bits(at.run().parameters, whole.parameters));
        }
        for (const auto& [first, count] : {std::pair{0, 1}, {16, 24}, {5, 9}, {39, 1}}) {
            at.ensemble.first_network = static_cast<std::uint64_t>(first);
            at.ensemble.networks = static_cast<std::uint64_t>(count);
            CHECK(check::same_rows(at.run().parameters, whole.parameters, static_cast<std::size_t>(first), row));
        }
    }
}

void records_do_not_disturb() {
    for (Case& at : some_cases()) {
        const std::size_t count = at.ensemble.run.network.parameters();
        const Results few = at.run();
        at.ensemble.run.records.clear();
        for (std::uint64_t step = 0; step <= 50; ++step) at.ensemble.run.records.push_back(step);
        const Results all = at.run();
        for (std::size_t k = 0; k < 40; ++k)
            CHECK(std::equal(&all.parameters[(k * 51 + 17) * count], &all.parameters[(k * 51 + 18) * count],
                             &few.parameters[(k * 3 + 1) * count]));
    }
}

// One network is sent off; nobody else notices.
void a_diverging_network_leaves_the_others_alone() {
    for (Case& at : some_cases()) {
        const std::size_t count = at.ensemble.run.network.parameters(), row = 3 * count;
        const Results before = at.run();
        at.initial[4 * count - 1] = 1e200;  // the readout's bias
        const Results after = at.run();
        CHECK(after.diverged_step[3] == 0);
        CHECK(std::all_of(&after.parameters[3 * row], &after.parameters[3 * row] + row, [](double p) { return std::isnan(p); }));
        for (std::size_t k = 0; k < 40; ++k) {
            if (k == 3) continue;
            CHECK(after.diverged_step[k] == -1);
            CHECK(std::equal(&after.parameters[k * row], &after.parameters[k * row] + row, &before.parameters[k * row]));
        }
    }
}

// Two runs, the second from where the first ended, are one.
void runs_go_on() {
    for (Case& at : some_cases()) {
        const std::size_t count = at.ensemble.run.network.parameters();
        const Results whole = at.run();
        at.ensemble.run.end = 20;
        at.ensemble.run.records = {20};
        at.initial = at.run().parameters;
        at.ensemble.run.first_step = 20;
        at.ensemble.run.end = 50;
        at.ensemble.run.records = {20, 50};
        const Results rest = at.run();
        for (std::size_t k = 0; k < 40; ++k)
            CHECK(std::equal(&rest.parameters[(2 * k + 1) * count], &rest.parameters[(2 * k + 1) * count] + count,
                             &whole.parameters[(3 * k + 2) * count]));
    }
}

void permutations_meet_every_sample_once() {
    Case at({4}, 20);
    at.ensemble.run.visits.order = SampleOrder::permuted;
    at.ensemble.run.visits.batch = 3;
    std::vector<std::int64_t> indices(20 * 30 * 3);
    std::vector<double> labels(indices.size());
    training_order(at.ensemble, {0, 30}, indices.data(), labels.data());  // ten epochs of 3 + 3 + 1
    std::set<std::vector<std::int64_t>> orders;
    for (auto epoch = indices.begin(); epoch != indices.end(); epoch += 9) {
        CHECK(epoch[7] == -1 && epoch[8] == -1);
        std::vector<std::int64_t> order(epoch, epoch + 7);
        orders.insert(order);
        std::sort(order.begin(), order.end());
        for (std::int64_t sample = 0; sample < 7; ++sample) CHECK(order[static_cast<std::size_t>(sample)] == sample);
    }
    CHECK(orders.size() > 180);  // of 200 draws from 5040, 4 coincide on average
}

void the_order_is_the_same_from_any_step_on() {
    constexpr std::size_t networks = 20, steps = 30, batch = 3, first = 10;  // neither a multiple of an epoch nor of 4
    for (const SampleOrder order : {SampleOrder::full, SampleOrder::drawn, SampleOrder::permuted}) {
        Case at({4}, networks);
        at.ensemble.run.visits.order = order;
        at.ensemble.run.visits.batch = batch;
        std::vector<std::int64_t> whole(networks * steps * batch), part(networks * (steps - first) * batch);
        std::vector<double> labels(whole.size()), part_labels(part.size());
        training_order(at.ensemble, {0, steps}, whole.data(), labels.data());
        training_order(at.ensemble, {first, steps - first}, part.data(), part_labels.data());
        for (std::size_t k = 0; k < networks; ++k) {
            const std::size_t from = (k * steps + first) * batch, count = (steps - first) * batch;
            for (std::size_t i = 0; i < count; ++i) {
                CHECK(part[k * count + i] == whole[from + i]);
                const double is = part_labels[k * count + i], expected = labels[from + i];
                CHECK(is == expected || (std::isnan(is) && std::isnan(expected)));
            }
        }
    }
}

void a_run_can_be_stopped(std::vector<Case> cases) {
    for (Case& at : cases) {
        // Smooth flows come to an end soon, wherever it is: those at the kinks of ReLU do not.
        at.ensemble.run.network.activation = Activation::relu;
        at.ensemble.run.end = std::uint64_t{1} << 50;
        at.ensemble.initial = at.initial.data();
        std::vector<double> parameters(at.ensemble.networks * 3 * at.ensemble.run.network.parameters());
        std::vector<std::int64_t> diverged_step(at.ensemble.networks);
        CHECK(check::is_stopped_by_third_call([&](const Watcher& watcher) {
            return train_networks(at.ensemble, {parameters.data(), diverged_step.data()}, watcher);
        }));
    }
}

}  // namespace

int main() {
    parts_threads_and_paths_give_the_same_bits(some_cases());
    parts_threads_and_paths_give_the_same_bits(all_activations());
    parts_threads_and_paths_give_the_same_bits(some_flows());
    records_do_not_disturb();
    a_diverging_network_leaves_the_others_alone();
    runs_go_on();
    permutations_meet_every_sample_once();
    the_order_is_the_same_from_any_step_on();
    a_run_can_be_stopped(some_cases());
    a_run_can_be_stopped(some_flows());
    return check::report();
}
