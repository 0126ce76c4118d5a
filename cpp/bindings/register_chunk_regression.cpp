#include "bindings.hpp"
#include "chunk_regression.hpp"

namespace py = pybind11;
using wideangle::bindings::find_path;
using wideangle::bindings::watch;

namespace {

template <class T>
bool scatter(const py::array& features, double* means, double* to, const wideangle::CpuPath& path, int n_threads) {
    const wideangle::LayerFeatures<T> layer{static_cast<const T*>(features.data()),
                                            static_cast<std::size_t>(features.shape(0)),
                                            static_cast<std::size_t>(features.shape(1))};
    const py::none quiet;
    const py::gil_scoped_release release;
    return wideangle::scatter_matrix(layer, means, to, path, n_threads, watch(quiet));
}

py::tuple scatter_matrix(const py::array& features, int n_threads, const std::string& cpu_path) {
    const wideangle::CpuPath& path = find_path(cpu_path);
    const py::ssize_t neurons = features.shape(1);
    py::array_t<double> means(neurons), products({neurons, neurons});
    const bool completed = py::isinstance<py::array_t<float>>(features)
                               ? scatter<float>(features, means.mutable_data(), products.mutable_data(), path, n_threads)
                               : scatter<double>(features, means.mutable_data(), products.mutable_data(), path, n_threads);
    if (!completed) throw py::error_already_set();
    return py::make_tuple(means, products);
}

using Integers = py::array_t<std::int64_t, py::array::c_style>;

py::dict chunk_regression(const py::array_t<double, py::array::c_style>& products, std::size_t n_samples,
                          const Integers& orders, const Integers& sizes, double ridge, bool ridge_matters, double offset,
                          int n_threads, const std::string& cpu_path, const py::object& progress) {
    const wideangle::CpuPath& path = find_path(cpu_path);
    const auto extent = [](py::ssize_t length) { return static_cast<std::size_t>(length); };
    const wideangle::ChunkSweep sweep{products.data(),         extent(products.shape(0)), n_samples,
                                      orders.data(),           extent(orders.shape(0)),   sizes.data(),
                                      extent(sizes.shape(0)), ridge,                     ridge_matters, offset};
    py::dict result;
    const auto output = [&](const char* name) {
        py::array_t<double> values({orders.shape(0), sizes.shape(0)});
        result[name] = values;
        return values.mutable_data();
    };
    const wideangle::ChunkRegressionResult to{output("unexplained"), output("unexplained_outside"), output("correlation"),
                                              output("correlation_outside")};
    bool completed = false;
    {
        const py::gil_scoped_release release;
        completed = wideangle::chunk_regression(sweep, to, path, n_threads, watch(progress));
    }
    if (!completed) throw py::error_already_set();
    return result;
}

}  // namespace

void register_chunk_regression(py::module_& module) {
    using namespace py::literals;
    module.def("scatter_matrix", scatter_matrix, "features"_a, py::kw_only(), "n_threads"_a, "cpu_path"_a,
               "Means, and sums over samples of products of deviations, of C-contiguous float32 or float64 features.");
    module.def("chunk_regression", chunk_regression, "products"_a, py::kw_only(), "n_samples"_a, "orders"_a, "sizes"_a,
               "ridge"_a, "ridge_matters"_a, "offset"_a, "n_threads"_a, "cpu_path"_a, "progress"_a,
               "Ridge regression of all neurons on the first ones of each order; arguments are taken as checked.");
}
