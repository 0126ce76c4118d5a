#include <optional>

#include "bindings.hpp"
#include "kernel_matrix.hpp"

namespace py = pybind11;
using wideangle::bindings::find_path;
using wideangle::bindings::watch;

namespace {

using Inputs = py::array_t<double, py::array::c_style>;

wideangle::KernelPairs pairs_of(const Inputs& x1, const std::optional<Inputs>& x2, int n_threads,
                                const std::string& cpu_path) {
    wideangle::KernelPairs pairs{};
    pairs.first = {x1.data(), x1.shape(0), x1.shape(1)};
    if (x2) pairs.second = {x2->data(), x2->shape(0), x2->shape(1)};
    pairs.threads = n_threads;
    pairs.path = &find_path(cpu_path);
    return pairs;
}

py::dict kernel_matrix(const Inputs& x1, const std::optional<Inputs>& x2, double slope, double weight_variance,
                       double bias_variance, int depth, bool every_layer, bool tangent, int n_threads,
                       const std::string& cpu_path) {
    const wideangle::KernelPairs pairs = pairs_of(x1, x2, n_threads, cpu_path);
    const py::ssize_t rows = x1.shape(0), columns = x2 ? x2->shape(0) : rows;
    const std::vector<py::ssize_t> shape =
        every_layer ? std::vector<py::ssize_t>{depth + 1, rows, columns} : std::vector<py::ssize_t>{rows, columns};
    py::array_t<double> nngp(shape);
    py::dict result;
    result["nngp"] = nngp;
    wideangle::KernelResult to = {nngp.mutable_data(), nullptr, every_layer};
    if (tangent) {
        py::array_t<double> values(shape);
        to.tangent = values.mutable_data();
        result["tangent"] = values;
    }
    const py::none quiet;
    bool completed = false;
    {
        const py::gil_scoped_release release;
        completed = wideangle::kernel_matrix(pairs, {slope, weight_variance, bias_variance, depth}, to, watch(quiet));
    }
    if (!completed) throw py::error_already_set();
    return result;
}

py::array_t<double> kernel_gaps(const Inputs& x1, const std::optional<Inputs>& x2, int n_threads,
                                const std::string& cpu_path) {
    const wideangle::KernelPairs pairs = pairs_of(x1, x2, n_threads, cpu_path);
    py::array_t<double> gaps({x1.shape(0), x2 ? x2->shape(0) : x1.shape(0)});
    double* to = gaps.mutable_data();
    const py::none quiet;
    bool completed = false;
    {
        const py::gil_scoped_release release;
        completed = wideangle::kernel_gaps(pairs, to, watch(quiet));
    }
    if (!completed) throw py::error_already_set();
    return gaps;
}

py::array_t<double> squared_norms(const Inputs& x) {
    py::array_t<double> norms(x.shape(0));
    double* to = norms.mutable_data();
    for (py::ssize_t i = 0; i < x.shape(0); ++i) to[i] = wideangle::squared_norm(x.data(i, 0), x.shape(1));
    return norms;
}

// In place, row by row; one call is one thread's work. Columns are those from first_column on.
void hermite_product(py::array_t<double, py::array::c_style> gaps, py::array_t<double, py::array::c_style> slopes,
                     const Inputs& rows, const Inputs& columns, py::ssize_t first_column, const Inputs& degree,
                     const Inputs& weight,
                     const py::array_t<std::int32_t, py::array::c_style>& jump, bool odd, const std::string& cpu_path) {
    const wideangle::HermiteSeries series = {degree.size(), degree.data(), weight.data(), jump.data(), odd};
    const wideangle::HermiteFunction hermite = find_path(cpu_path).hermite;
    double *to_gaps = gaps.mutable_data(), *to_slopes = slopes.mutable_data();
    const double *row = rows.data(), *column = columns.data() + first_column;
    const py::ssize_t n_rows = gaps.shape(0), n_columns = gaps.shape(1), stride = columns.shape(1);
    const py::ssize_t coefficients = rows.shape(1);
    const py::gil_scoped_release release;
    for (py::ssize_t i = 0; i < n_rows; ++i)
        hermite(series, row + i * coefficients, column, stride, n_columns, to_gaps + i * n_columns,
                to_slopes + i * n_columns);
}

}  // namespace

void register_kernels(py::module_& module) {
    using namespace py::literals;
    module.def("kernel_matrix", kernel_matrix, "x1"_a, "x2"_a, py::kw_only(), "slope"_a, "weight_variance"_a,
               "bias_variance"_a, "depth"_a, "every_layer"_a, "tangent"_a, "n_threads"_a, "cpu_path"_a,
               "Covariance kernel, and tangent kernel if asked for, of a network of piecewise linear activations.");
    module.def("kernel_gaps", kernel_gaps, "x1"_a, "x2"_a, py::kw_only(), "n_threads"_a, "cpu_path"_a,
               "1 - cos(angle) of every pair, or -(1 + cos(angle)) of obtuse ones.");
    module.def("hermite_product", hermite_product, "gaps"_a, "slopes"_a, py::kw_only(), "rows"_a, "columns"_a,
               "first_column"_a, "degree"_a, "weight"_a, "jump"_a, "odd"_a, "cpu_path"_a,
               "Expectation of a product of activations and its derivative, by Hermite coefficients of the inputs.");
    module.def("squared_norms", squared_norms, "x"_a, "Squared length of every row.");
}
