#include <algorithm>
#include <optional>

#include "bindings.hpp"
#include "evaluation_ensemble.hpp"

namespace py = pybind11;
using wideangle::bindings::find_path;
using wideangle::bindings::watch;

namespace {

using Numbers = py::array_t<double, py::array::c_style>;

wideangle::Points points(const Numbers& x) { return {x.data(), static_cast<std::size_t>(x.shape(0))}; }

py::dict evaluate_networks(const Numbers& parameters, const std::vector<std::size_t>& sizes, const Numbers& x,
                           const std::optional<Numbers>& others, int activation, double slope,
                           const std::vector<double>& weight_rates, const std::vector<double>& bias_rates,
                           const std::vector<std::string>& keep, const std::vector<std::size_t>& layers,
                           const std::optional<Numbers>& loss_derivatives, double learning_rate, int n_threads,
                           const std::string& cpu_path, const py::object& progress) {
    const wideangle::Evaluation evaluation{
        {sizes, static_cast<wideangle::Activation>(activation), slope, weight_rates, bias_rates},
        parameters.data(),
        static_cast<std::size_t>(parameters.shape(0)),
        points(x),
        others ? points(*others) : wideangle::Points{nullptr, 0},
        find_path(cpu_path).network_evaluation,
        n_threads};
    const py::ssize_t networks = parameters.shape(0), rows = x.shape(0), columns = (others ? *others : x).shape(0);
    py::dict result;
    wideangle::EvaluationResults to;
    const auto array = [&](const std::string& name, std::vector<py::ssize_t> shape) {
        py::array_t<double> values(std::move(shape));
        result[name.c_str()] = values;
        return values.mutable_data();
    };
    for (const std::string& name : keep) {
        if (name == "outputs") to.outputs = array(name, {networks, rows});
        if (name == "diagonal") to.diagonal = array(name, {networks, rows});
        if (name == "kernel") to.kernel = array(name, {networks, rows, columns});
        if (name == "readout_part") to.readout_part = array(name, {networks, rows, columns});
        if (name == "hidden_part") to.hidden_part = array(name, {networks, rows, columns});
    }
    for (const std::size_t layer : layers) {
        to.activations.resize(std::max(to.activations.size(), layer), nullptr);
        to.activations[layer - 1] =
            array("activations_" + std::to_string(layer), {networks, rows, static_cast<py::ssize_t>(sizes[layer])});
    }
    if (loss_derivatives) {
        to.loss_derivatives = loss_derivatives->data();
        to.learning_rate = learning_rate;
        to.response = array("response", {networks, rows, columns});
        to.own_response = array("own_response", {networks, rows});
    }
    bool completed = false;
    {
        const py::gil_scoped_release release;
        completed = wideangle::evaluate(evaluation, to, watch(progress));
    }
    if (!completed) throw py::error_already_set();
    return result;
}

}  // namespace

void register_evaluation(py::module_& module) {
    using namespace py::literals;
    module.def("evaluate_networks", evaluate_networks, "parameters"_a, "sizes"_a, "x"_a, "others"_a, py::kw_only(),
               "activation"_a, "slope"_a, "weight_rates"_a, "bias_rates"_a, "keep"_a, "layers"_a, "loss_derivatives"_a,
               "learning_rate"_a, "n_threads"_a, "cpu_path"_a, "progress"_a,
               "Networks of one shape at the same points; arguments are taken as checked: C-contiguous float64.");
}
