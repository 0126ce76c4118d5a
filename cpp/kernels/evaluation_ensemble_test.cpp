// Every instruction set against long double, one network and point after the other; threads, blocks, what stops.
#include "evaluation_ensemble.hpp"

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "check.hpp"
#include "check_numbers.hpp"

using namespace wideangle;

namespace {

using Real = long double;
using Numbers = std::vector<double>;

const Watcher go_on = [](std::uint64_t) { return true; };

Real value(Activation phi, double slope, Real z) {
    switch (phi) {
        case Activation::relu: return z > 0 ? z : 0;
        case Activation::leaky_relu: return z > 0 ? z : slope * z;
        case Activation::tanh: return std::tanh(z);
        case Activation::elu: return z > 0 ? z : std::expm1(z);
        default: return std::erf(z);
    }
}

Real derivative(Activation phi, double slope, Real z) {
    switch (phi) {
        case Activation::relu: return z > 0 ? 1 : 0;
        case Activation::leaky_relu: return z > 0 ? 1 : slope;
        case Activation::tanh: return 1 - std::tanh(z) * std::tanh(z);
        case Activation::elu: return z > 0 ? 1 : std::exp(z);
        default: return 1.1283791670955125738961589031L * std::exp(-z * z);
    }
}

struct Case {
    std::vector<std::size_t> sizes;
    Activation activation;
    std::size_t networks, points, others;  // no others: the points themselves
    double learning_rate = 0.1;
    int threads = 2;

    ScalarNetwork shape{};
    Numbers parameters{}, x{}, x2{}, loss_derivatives{};
    Numbers outputs{}, diagonal{}, kernel{}, readout_part{}, hidden_part{}, response{}, own_response{};
    std::vector<Numbers> activations{};

    void fill(std::uint64_t seed) {
        check::Numbers next(seed);
        shape = {sizes, activation, 0.25, {}, {}};
        for (std::size_t l = 1; l < sizes.size(); ++l) {
            shape.weight_rates.push_back(1.0 + 0.5 * next());
            shape.bias_rates.push_back(1.0 + 0.5 * next());
        }
        const auto numbers = [&](std::size_t count) {
            Numbers result(count);
            for (double& number : result) number = next();
            return result;
        };
        parameters = numbers(networks * shape.parameters());
        x = numbers(points * sizes[0]);
        x2 = numbers(others * sizes[0]);
        loss_derivatives = numbers(networks * points);
    }

    std::size_t columns() const { return others == 0 ? points : others; }
    const Numbers& column_inputs() const { return others == 0 ? x : x2; }

    bool run(const CpuPath& path, const Watcher& watcher = go_on) {
        constexpr double unset = std::numeric_limits<double>::quiet_NaN();
        const std::size_t singles = networks * points, pairs = singles * columns();
        EvaluationResults to;
        for (Numbers* const single : {&outputs, &diagonal, &own_response}) single->assign(singles, unset);
        for (Numbers* const pair : {&kernel, &readout_part, &hidden_part, &response}) pair->assign(pairs, unset);
        activations.clear();
        for (std::size_t l = 1; l <= shape.hidden_layers(); ++l) activations.emplace_back(singles * sizes[l], unset);
        for (Numbers& layer : activations) to.activations.push_back(layer.data());
        to.outputs = outputs.data();
        to.diagonal = diagonal.data();
        to.kernel = kernel.data();
        to.readout_part = readout_part.data();
        to.hidden_part = hidden_part.data();
        to.loss_derivatives = loss_derivatives.data();
        to.learning_rate = learning_rate;
        to.response = response.data();
        to.own_response = own_response.data();
        const Points second{others == 0 ? nullptr : x2.data(), others};
        return evaluate({shape, parameters.data(), networks, {x.data(), points}, second, path.network_evaluation, threads},
                        to, watcher);
    }
};

// One network at one point.
struct Exact {
    std::vector<std::vector<Real>> h, d;  // of each layer from the input, and from the first
    Real output;
};

Exact evaluate_exactly(const ScalarNetwork& shape, const std::vector<Real>& parameters, const double* x) {
    Exact result;
    result.h.emplace_back(x, x + shape.sizes[0]);
    std::vector<std::vector<Real>> slopes;
    std::vector<std::size_t> starts;
    std::size_t start = 0;
    for (std::size_t l = 1; l < shape.sizes.size(); ++l) {
        const std::size_t units = shape.sizes[l], inputs = shape.sizes[l - 1];
        std::vector<Real> values, of_values;
        for (std::size_t unit = 0; unit < units; ++unit) {
            Real z = parameters[start + units * inputs + unit];
            for (std::size_t k = 0; k < inputs; ++k) z += parameters[start + unit * inputs + k] * result.h.back()[k];
            const bool last = l + 1 == shape.sizes.size();
            values.push_back(last ? z : value(shape.activation, shape.slope, z));
            of_values.push_back(last ? 1 : derivative(shape.activation, shape.slope, z));
        }
        starts.push_back(start);
        start += units * (inputs + 1);
        result.h.push_back(values);
        slopes.push_back(of_values);
    }
    result.output = result.h.back()[0];
    result.d.assign(shape.sizes.size() - 1, {});
    result.d.back() = {1};
    for (std::size_t l = shape.sizes.size() - 2; l > 0; --l)
        for (std::size_t k = 0; k < shape.sizes[l]; ++k) {
            Real sum = 0;
            for (std::size_t unit = 0; unit < shape.sizes[l + 1]; ++unit)
                sum += result.d[l][unit] * parameters[starts[l] + unit * shape.sizes[l] + k];
            result.d[l - 1].push_back(sum * slopes[l - 1][k]);
        }
    return result;
}

Real dot(const std::vector<Real>& a, const std::vector<Real>& b) {
    Real sum = 0;
    for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
    return sum;
}

std::vector<Real> stepped(const ScalarNetwork& shape, std::vector<Real> parameters, const Exact& at, Real factor) {
    std::size_t start = 0;
    for (std::size_t l = 1; l < shape.sizes.size(); ++l)
        for (std::size_t biases = 0; biases < 2; ++biases)
            for (std::size_t unit = 0; unit < shape.sizes[l]; ++unit) {
                const Real change = factor * at.d[l - 1][unit];
                if (biases == 1)
                    parameters[start++] -= change * shape.bias_rates[l - 1];
                else
                    for (const Real h : at.h[l - 1]) parameters[start++] -= change * h * shape.weight_rates[l - 1];
            }
    return parameters;
}

void check_network(const Case& given, std::size_t network) {
    const ScalarNetwork& shape = given.shape;
    const std::size_t size = shape.parameters(), columns = given.columns(), depth = shape.hidden_layers();
    const std::vector<Real> parameters(given.parameters.begin() + static_cast<std::ptrdiff_t>(network * size),
                                       given.parameters.begin() + static_cast<std::ptrdiff_t>((network + 1) * size));
    const auto at = [&](const Numbers& inputs, std::size_t point) {
        return evaluate_exactly(shape, parameters, inputs.data() + point * shape.sizes[0]);
    };
    for (std::size_t i = 0; i < given.points; ++i) {
        const Exact row = at(given.x, i);
        const std::size_t place = network * given.points + i;
        CHECK_CLOSE(given.outputs[place], static_cast<double>(row.output), 1e-13);
        for (std::size_t l = 1; l <= depth; ++l)
            for (std::size_t unit = 0; unit < shape.sizes[l]; ++unit)
                CHECK_CLOSE(given.activations[l - 1][place * shape.sizes[l] + unit], static_cast<double>(row.h[l][unit]), 1e-13);
        const Real factor = given.learning_rate * static_cast<Real>(given.loss_derivatives[place]);
        const std::vector<Real> after = stepped(shape, parameters, row, factor);
        const auto change = [&](const Numbers& inputs, std::size_t point, const Exact& before) {
            const Exact next = evaluate_exactly(shape, after, inputs.data() + point * shape.sizes[0]);
            return static_cast<double>((next.output - before.output) / given.learning_rate);
        };
        CHECK_CLOSE(given.own_response[place], change(given.x, i, row), 1e-12);
        for (std::size_t j = 0; j < columns; ++j) {
            const Exact column = at(given.column_inputs(), j);
            Real hidden = 0, readout = 0;
            for (std::size_t l = 0; l <= depth; ++l) {
                const Real term = dot(row.d[l], column.d[l]) *
                                  (shape.bias_rates[l] + shape.weight_rates[l] * dot(row.h[l], column.h[l]));
                (l == depth ? readout : hidden) += term;
            }
            const std::size_t pair = place * columns + j;
            CHECK_CLOSE(given.hidden_part[pair], static_cast<double>(hidden), 1e-12);
            CHECK_CLOSE(given.readout_part[pair], static_cast<double>(readout), 1e-12);
            CHECK(given.kernel[pair] == given.readout_part[pair] + given.hidden_part[pair]);
            CHECK_CLOSE(given.response[pair], change(given.column_inputs(), j, column), 1e-12);
            if (given.others == 0 && i == j) {
                CHECK(given.diagonal[place] == given.kernel[pair]);
                CHECK(given.own_response[place] == given.response[pair]);
            }
        }
    }
}

bool same(const Numbers& a, const Numbers& b) {
    return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(double)) == 0;
}

bool same(const Case& a, const Case& b) {
    bool result = same(a.outputs, b.outputs) && same(a.diagonal, b.diagonal) && same(a.kernel, b.kernel) &&
                  same(a.readout_part, b.readout_part) && same(a.hidden_part, b.hidden_part) &&
                  same(a.response, b.response) && same(a.own_response, b.own_response);
    for (std::size_t l = 0; l < a.activations.size(); ++l) result = result && same(a.activations[l], b.activations[l]);
    return result;
}

void every_way_gives_the_same_bits() {
    for (Case given : {Case{{2, 20, 1}, Activation::tanh, 3, 33, 0}, Case{{1, 1, 1}, Activation::relu, 2, 1, 1},
                       Case{{3, 5, 7, 1}, Activation::elu, 2, 9, 65}, Case{{4, 6, 3, 5, 1}, Activation::erf, 1, 70, 31},
                       Case{{2, 9, 1}, Activation::leaky_relu, 20, 5, 8, 3.0}}) {
        given.fill(given.points);
        const CpuPath& last = cpu_paths[cpu_path_count - 1];
        CHECK(given.run(last));
        check_network(given, 0);
        check_network(given, given.networks - 1);
        for (int threads : {1, 2, 7})
            for (int path = 0; path < cpu_path_count; ++path) {
                if (!cpu_paths[path].supported()) continue;
                Case other = given;
                other.threads = threads;
                CHECK(other.run(cpu_paths[path]));
                CHECK(same(given, other));
            }
    }
}

void parts_are_computed_alone() {
    Case given{{2, 8, 4, 1}, Activation::tanh, 2, 40, 37};
    given.fill(5);
    const CpuPath& path = cpu_paths[cpu_path_count - 1];
    CHECK(given.run(path));
    const Evaluation evaluation{given.shape, given.parameters.data(), given.networks, {given.x.data(), given.points},
                                {given.x2.data(), given.others}, path.network_evaluation, 2};
    const auto alone = [&](auto set, const Numbers& expected) {
        Numbers found(expected.size(), -1.0);
        EvaluationResults to;
        to.loss_derivatives = given.loss_derivatives.data();
        to.learning_rate = given.learning_rate;
        set(to, found.data());
        CHECK(evaluate(evaluation, to, go_on));
        CHECK(same(found, expected));
    };
    alone([](EvaluationResults& to, double* at) { to.outputs = at; }, given.outputs);
    alone([](EvaluationResults& to, double* at) { to.diagonal = at; }, given.diagonal);
    alone([](EvaluationResults& to, double* at) { to.readout_part = at; }, given.readout_part);
    alone([](EvaluationResults& to, double* at) { to.hidden_part = at; }, given.hidden_part);
    alone([](EvaluationResults& to, double* at) { to.response = at; }, given.response);
    alone([](EvaluationResults& to, double* at) { to.own_response = at; }, given.own_response);
    alone([](EvaluationResults& to, double* at) { to.activations = {nullptr, at}; }, given.activations[1]);
}

void a_watcher_stops_it() {
    Case given{{2, 64, 1}, Activation::erf, 2000, 64, 64};
    given.fill(1);
    std::uint64_t reported = 0;
    CHECK(!given.run(cpu_paths[0], [&](std::uint64_t done) { return (reported = done) > 1u << 30; }));
    CHECK(reported < given.networks * given.points);
}

}  // namespace

int main() {
    every_way_gives_the_same_bits();
    parts_are_computed_alone();
    a_watcher_stops_it();
    return check::report();
}
