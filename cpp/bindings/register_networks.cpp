#include <optional>

#include "bindings.hpp"
#include "network_ensemble.hpp"

namespace py = pybind11;
using wideangle::bindings::find_path;
using wideangle::bindings::watch;

namespace {

wideangle::NetworkShape make_shape(std::uint32_t input_dim, std::vector<std::uint32_t> widths, std::uint32_t outputs,
                                   int activation, double slope, double weight_variance, double bias_variance) {
    return {input_dim,       std::move(widths), outputs, static_cast<wideangle::Activation>(activation), slope,
            weight_variance, bias_variance};
}

using Matrix = py::array_t<double, py::array::c_style>;

py::dict simulate_networks(const Matrix& x, const std::optional<Matrix>& tangent, std::vector<std::uint32_t> widths,
                           std::uint32_t outputs, int activation, double slope, double weight_variance,
                           double bias_variance, std::uint64_t seed, std::uint64_t first_network,
                           std::uint64_t n_networks, int n_threads, const std::string& cpu_path,
                           const std::vector<std::string>& keep, const py::object& progress) {
    wideangle::NetworkEnsemble ensemble;
    ensemble.shape = make_shape(static_cast<std::uint32_t>(x.shape(1)), std::move(widths), outputs, activation, slope,
                                weight_variance, bias_variance);
    ensemble.seed = seed;
    ensemble.first_network = first_network;
    ensemble.networks = n_networks;
    ensemble.inputs = static_cast<std::uint32_t>(x.shape(0));
    ensemble.x = x.data();
    if (tangent) ensemble.tangent = tangent->data();
    ensemble.threads = n_threads;
    ensemble.kernels = find_path(cpu_path).dense_layer;

    py::dict result;
    wideangle::NetworkResults to;
    const auto networks = static_cast<py::ssize_t>(n_networks), inputs = x.shape(0);
    const auto layers = static_cast<py::ssize_t>(ensemble.shape.widths.size() + 1);
    const auto doubles = [&](const char* name, std::vector<py::ssize_t> shape) {
        py::array_t<double> array(std::move(shape));
        result[name] = array;
        return array.mutable_data();
    };
    for (const std::string& name : keep) {
        if (name == "outputs") to.outputs = doubles("outputs", {networks, inputs, outputs});
        if (name == "gram") to.gram = doubles("gram", {networks, layers, inputs, inputs});
        if (name == "log_gradient2") to.log_gradient2 = doubles("log_gradient2", {networks, layers + 1, inputs});
        if (name == "log_tangent2") to.log_tangent2 = doubles("log_tangent2", {networks, layers + 1, inputs});
        if (name == "tangent_kernel") to.tangent_kernel = doubles("tangent_kernel", {networks, inputs, inputs});
        if (name != "layers") continue;
        py::list arrays;
        for (std::uint32_t width : ensemble.shape.widths) {
            py::array_t<float> array({networks, inputs, static_cast<py::ssize_t>(width)});
            to.layers.push_back(array.mutable_data());
            arrays.append(array);
        }
        result["layers"] = arrays;
    }

    bool completed = false;
    {
        const py::gil_scoped_release release;
        completed = wideangle::simulate_networks(ensemble, to, watch(progress));
    }
    if (!completed) throw py::error_already_set();
    return result;
}

py::list network_weights(std::uint32_t input_dim, std::vector<std::uint32_t> widths, std::uint32_t outputs,
                         double weight_variance, double bias_variance, std::uint64_t seed, std::uint64_t network,
                         const std::string& cpu_path) {
    const wideangle::NetworkShape shape =
        make_shape(input_dim, std::move(widths), outputs, 0, 0, weight_variance, bias_variance);
    const wideangle::DenseKernels& kernels = *find_path(cpu_path).dense_layer;
    py::list result;
    for (std::uint32_t layer = 1; layer <= shape.widths.size() + 1; ++layer) {
        const wideangle::DenseLayer at = wideangle::dense_layer_of(shape, seed, network, layer);
        const auto rows = static_cast<py::ssize_t>(at.fan_out), columns = static_cast<py::ssize_t>(at.fan_in);
        py::array_t<float> weights({rows, columns});
        py::array_t<float> biases(rows);
        kernels.weights(at, weights.mutable_data(), biases.mutable_data());
        result.append(py::make_tuple(weights, biases));
    }
    return result;
}

}  // namespace

void register_networks(py::module_& module) {
    using namespace py::literals;
    module.def("simulate_networks", simulate_networks, "x"_a, "tangent"_a, "widths"_a, py::kw_only(), "outputs"_a, "activation"_a,
               "slope"_a, "weight_variance"_a, "bias_variance"_a, "seed"_a, "first_network"_a, "n_networks"_a,
               "n_threads"_a, "cpu_path"_a, "keep"_a, "progress"_a,
               "Ensemble of random networks with real weights; arguments are taken as checked.");
    module.def("network_weights", network_weights, "input_dim"_a, "widths"_a, py::kw_only(), "outputs"_a,
               "weight_variance"_a, "bias_variance"_a, "seed"_a, "network"_a, "cpu_path"_a,
               "Weights and biases of one network of the ensemble, layer by layer.");
}
