#include "bindings.hpp"
#include "chunk_readout.hpp"

namespace py = pybind11;
using wideangle::bindings::find_path;
using wideangle::bindings::watch;

namespace {

using Numbers = py::array_t<double, py::array::c_style>;
using Indices = py::array_t<std::int64_t, py::array::c_style>;

template <class T>
py::tuple run(const py::array& features, const Numbers& readout, const Numbers& bias, const Indices& targets,
              const Indices& orders, const Indices& sizes, int n_threads, const std::string& cpu_path,
              const py::object& progress) {
    const auto size = [](const py::array& array, int axis) { return static_cast<std::size_t>(array.shape(axis)); };
    const wideangle::ChunkReadout<T> chunks{static_cast<const T*>(features.data()),
                                            size(features, 0),
                                            size(features, 1),
                                            readout.data(),
                                            bias.data(),
                                            size(readout, 0),
                                            targets.data(),
                                            orders.data(),
                                            size(orders, 0),
                                            size(orders, 1),
                                            sizes.data(),
                                            size(sizes, 0),
                                            &find_path(cpu_path),
                                            n_threads};
    py::array_t<std::int64_t> correct({orders.shape(0), sizes.shape(0)});
    py::array_t<double> loss({orders.shape(0), sizes.shape(0)});
    const wideangle::ChunkScores scores{correct.mutable_data(), loss.mutable_data()};
    bool completed = false;
    {
        const py::gil_scoped_release release;
        completed = wideangle::chunk_readout(chunks, scores, watch(progress));
    }
    if (!completed) throw py::error_already_set();
    return py::make_tuple(correct, loss);
}

py::tuple chunk_readout(const py::array& features, const Numbers& readout, const Numbers& bias, const Indices& targets,
                        const Indices& orders, const Indices& sizes, int n_threads, const std::string& cpu_path,
                        const py::object& progress) {
    const auto run_as = py::isinstance<py::array_t<float>>(features) ? run<float> : run<double>;
    return run_as(features, readout, bias, targets, orders, sizes, n_threads, cpu_path, progress);
}

}  // namespace

void register_chunk_readout(py::module_& module) {
    using namespace py::literals;
    module.def("chunk_readout", chunk_readout, "features"_a, "readout"_a, "bias"_a, "targets"_a, "orders"_a, "sizes"_a,
               py::kw_only(), "n_threads"_a, "cpu_path"_a, "progress"_a,
               "Correct samples and summed cross-entropy (order, size) of the first neurons of each order under a linear "
               "readout; arguments are taken as checked: C-contiguous features in float32 or float64.");
}
