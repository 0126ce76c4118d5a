#include <pybind11/pybind11.h>

void register_angles(pybind11::module_& module);

PYBIND11_MODULE(_core, module) {
    module.doc() = "Compiled kernels of wideangle.";
    register_angles(module);
}
