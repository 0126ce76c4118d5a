#include <optional>

#include "bindings.hpp"
#include "training_ensemble.hpp"

namespace py = pybind11;
using wideangle::bindings::find_path;
using wideangle::bindings::watch;

namespace {

using Numbers = py::array_t<double, py::array::c_style>;
using Indices = py::array_t<std::uint32_t, py::array::c_style>;

wideangle::SampleVisits make_visits(const Numbers& x, const Numbers& y, const std::string& order, std::uint32_t batch,
                                    const std::optional<Indices>& given, double noise, bool flips, std::uint64_t seed) {
    using wideangle::SampleOrder;
    wideangle::SampleVisits visits;
    visits.x = x.data();
    visits.y = y.data();
    visits.samples = static_cast<std::uint32_t>(x.shape(0));
    visits.features = static_cast<std::uint32_t>(x.shape(1));
    visits.order = order == "full"       ? SampleOrder::full
                   : order == "drawn"    ? SampleOrder::drawn
                   : order == "permuted" ? SampleOrder::permuted
                                         : SampleOrder::given;
    visits.batch = batch;
    visits.given = given ? given->data() : nullptr;
    visits.noise = noise;
    visits.flips = flips;
    visits.seed = seed;
    return visits;
}

py::tuple train_networks(const Numbers& initial, const Numbers& x, const Numbers& y, std::vector<std::uint32_t> widths,
                         int activation, double slope, int loss, std::vector<double> weight_rates,
                         std::vector<double> bias_rates, double learning_rate, double tolerance,
                         std::uint64_t first_step, std::uint64_t n_steps, std::vector<std::uint64_t> records,
                         const std::string& order, std::uint32_t batch, const std::optional<Indices>& given,
                         double noise, bool flips, std::uint64_t seed, std::uint64_t first_network, int n_threads,
                         const std::string& cpu_path, const py::object& progress) {
    wideangle::TrainingEnsemble ensemble;
    wideangle::TrainedNetwork& network = ensemble.run.network;
    network.sizes = std::move(widths);
    network.sizes.insert(network.sizes.begin(), static_cast<std::uint32_t>(x.shape(1)));
    network.sizes.push_back(1);
    network.activation = static_cast<wideangle::Activation>(activation);
    network.slope = slope;
    network.loss = static_cast<wideangle::TrainingLoss>(loss);
    network.weight_rates = std::move(weight_rates);
    network.bias_rates = std::move(bias_rates);
    ensemble.run.visits = make_visits(x, y, order, batch, given, noise, flips, seed);
    ensemble.run.learning_rate = learning_rate;
    ensemble.run.tolerance = tolerance;
    ensemble.run.first_step = first_step;
    ensemble.run.end = first_step + n_steps;
    ensemble.run.records = std::move(records);
    ensemble.first_network = first_network;
    ensemble.networks = static_cast<std::uint64_t>(initial.shape(0));
    ensemble.initial = initial.data();
    ensemble.threads = n_threads;
    ensemble.kernels = find_path(cpu_path).training_step;

    py::array_t<double> parameters(
        {initial.shape(0), static_cast<py::ssize_t>(ensemble.run.records.size()), initial.shape(1)});
    py::array_t<std::int64_t> diverged_step(initial.shape(0));
    const wideangle::TrainingResults to{parameters.mutable_data(), diverged_step.mutable_data()};
    bool completed = false;
    {
        const py::gil_scoped_release release;
        completed = wideangle::train_networks(ensemble, to, watch(progress));
    }
    if (!completed) throw py::error_already_set();
    return py::make_tuple(parameters, diverged_step);
}

py::tuple training_order(const Numbers& x, const Numbers& y, std::uint64_t first_step, std::uint64_t n_steps,
                         const std::string& order, std::uint32_t batch, const std::optional<Indices>& given,
                         double noise, bool flips, std::uint64_t seed, std::uint64_t first_network,
                         std::uint64_t n_networks, const std::string& cpu_path) {
    wideangle::TrainingEnsemble ensemble;
    ensemble.run.visits = make_visits(x, y, order, batch, given, noise, flips, seed);
    ensemble.first_network = first_network;
    ensemble.networks = n_networks;
    ensemble.kernels = find_path(cpu_path).training_step;
    const auto networks = static_cast<py::ssize_t>(n_networks), steps = static_cast<py::ssize_t>(n_steps);
    py::array_t<std::int64_t> indices({networks, steps, static_cast<py::ssize_t>(batch)});
    py::array_t<double> labels({networks, steps, static_cast<py::ssize_t>(batch)});
    const wideangle::StepRange range{first_step, n_steps};
    std::int64_t* const to_indices = indices.mutable_data();
    double* const to_labels = labels.mutable_data();
    {
        const py::gil_scoped_release release;
        wideangle::training_order(ensemble, range, to_indices, to_labels);
    }
    return py::make_tuple(indices, labels);
}

py::array_t<double> initial_parameters(std::uint32_t input_dim, std::vector<std::uint32_t> widths, double weight_variance,
                                       double bias_variance, std::uint64_t seed, std::uint64_t first_network,
                                       std::uint64_t n_networks, const std::string& cpu_path) {
    wideangle::TrainedNetwork network;
    network.sizes = widths;
    network.sizes.insert(network.sizes.begin(), input_dim);
    network.sizes.push_back(1);
    const wideangle::NetworkShape shape{
        input_dim, std::move(widths), 1, wideangle::Activation::relu, 0, weight_variance, bias_variance};
    py::array_t<double> parameters(
        {static_cast<py::ssize_t>(n_networks), static_cast<py::ssize_t>(network.parameters())});
    wideangle::initial_parameters(shape, seed, first_network, n_networks, *find_path(cpu_path).dense_layer,
                                  parameters.mutable_data());
    return parameters;
}

}  // namespace

void register_training(py::module_& module) {
    using namespace py::literals;
    module.def("train_networks", train_networks, "initial"_a, "x"_a, "y"_a, py::kw_only(), "widths"_a, "activation"_a,
               "slope"_a, "loss"_a, "weight_rates"_a, "bias_rates"_a, "learning_rate"_a, "tolerance"_a, "first_step"_a = 0,
               "n_steps"_a, "records"_a, "order"_a, "batch"_a, "given"_a, "noise"_a, "flips"_a, "seed"_a, "first_network"_a, "n_threads"_a,
               "cpu_path"_a, "progress"_a, "Ensemble of networks in training; arguments are taken as checked.");
    module.def("training_order", training_order, "x"_a, "y"_a, py::kw_only(), "first_step"_a = 0, "n_steps"_a,
               "order"_a, "batch"_a, "given"_a, "noise"_a, "flips"_a, "seed"_a, "first_network"_a, "n_networks"_a,
               "cpu_path"_a, "Samples and labels that networks meet in steps of training, (network, step, batch).");
    module.def("initial_parameters", initial_parameters, "input_dim"_a, "widths"_a, py::kw_only(), "weight_variance"_a,
               "bias_variance"_a, "seed"_a, "first_network"_a, "n_networks"_a, "cpu_path"_a,
               "Parameters of networks before training, (network, parameter).");
}
