#include "forward_sweep.hpp"
int main(){return 0;}
