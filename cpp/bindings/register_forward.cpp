#include "bindings.hpp"
#include "forward_sweep.hpp"

namespace py = pybind11;
using wideangle::bindings::find_path;
using wideangle::bindings::watch;

namespace {

struct Options {
    std::vector<int> activations;
    std::vector<double> slopes;
    int n_threads;
    const wideangle::CpuPath& path;
    bool keep_layers, overlaps;
};

template <class T>
const T* data_or_null(const py::object& array) {
    return array.is_none() ? nullptr : static_cast<const T*>(py::cast<py::array>(array).data());
}

template <class T>
const wideangle::ForwardKernels<T>* kernels(const wideangle::CpuPath& path) {
    if constexpr (sizeof(T) == sizeof(float)) {
        return path.forward_float;
    } else {
        return path.forward_double;
    }
}

template <class T>
py::dict run(const std::vector<py::array>& weights, const std::vector<py::object>& biases, const py::array& x,
             const Options& options) {
    const py::ssize_t networks = weights[0].shape(0), inputs = x.shape(0);
    const auto layers = static_cast<py::ssize_t>(weights.size());
    wideangle::ForwardSweep<T> sweep;
    sweep.networks = static_cast<std::size_t>(networks);
    sweep.x = static_cast<const T*>(x.data());
    sweep.n_inputs = static_cast<std::size_t>(inputs);
    sweep.kernels = kernels<T>(options.path);
    sweep.threads = options.n_threads;
    py::list kept;
    for (std::size_t l = 0; l < weights.size(); ++l) {
        const py::ssize_t units = weights[l].shape(1);
        T* to = nullptr;
        if (options.keep_layers || l + 1 == weights.size()) {
            py::array_t<T> activations({networks, inputs, units});
            to = activations.mutable_data();
            kept.append(activations);
        }
        sweep.layers.push_back({static_cast<const T*>(weights[l].data()), data_or_null<T>(biases[l]),
                                static_cast<std::size_t>(weights[l].shape(2)), static_cast<std::size_t>(units),
                                static_cast<wideangle::Activation>(options.activations[l]), options.slopes[l], to});
    }
    py::array_t<double> norms({networks, layers + 1, inputs}), active({networks, layers + 1, inputs});
    wideangle::ForwardStatistics statistics{norms.mutable_data(), active.mutable_data(), nullptr};
    py::dict result;
    if (options.overlaps) {
        py::array_t<double> overlaps({networks, layers + 1, inputs, inputs});
        statistics.overlaps = overlaps.mutable_data();
        result["overlaps"] = overlaps;
    }
    bool completed = false;
    {
        const py::gil_scoped_release release;
        completed = wideangle::forward(sweep, statistics, watch(py::none()));
    }
    if (!completed) throw py::error_already_set();
    result["kept"] = kept;
    result["norms"] = norms;
    result["active"] = active;
    return result;
}

py::dict forward(const std::vector<py::array>& weights, const std::vector<py::object>& biases, const py::array& x,
                 std::vector<int> activations, std::vector<double> slopes, int n_threads, const std::string& cpu_path,
                 bool keep_layers, bool overlaps) {
    const Options options{std::move(activations), std::move(slopes), n_threads, find_path(cpu_path), keep_layers, overlaps};
    return py::isinstance<py::array_t<float>>(x) ? run<float>(weights, biases, x, options)
                                                 : run<double>(weights, biases, x, options);
}

}  // namespace

void register_forward(py::module_& module) {
    using namespace py::literals;
    module.def("forward", forward, "weights"_a, "biases"_a, "x"_a, py::kw_only(), "activations"_a, "slopes"_a,
               "n_threads"_a, "cpu_path"_a, "keep_layers"_a, "overlaps"_a,
               "Inputs through networks with given weights; arguments are taken as checked: C-contiguous arrays of one "
               "type, float32 or float64.");
}
