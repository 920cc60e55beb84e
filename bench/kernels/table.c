#include "kernel.h"

const struct Kernel kKernels[] = {
    {"quicksort", run_quicksort, 0xb36c279b},     {"sieve", run_sieve, 0x0bb14516},
    {"sha256", run_sha256, 0x55d8c1e4},           {"matrix-x87", run_matrix_x87, 0x65f26eea},
    {"matrix-sse2", run_matrix_sse2, 0x65f26eea}, {"recursion", run_recursion, 0x67c616d1},
    {"interpreter", run_interpreter, 0x4e16f21a}, {"memcpy-rep", run_memcpy_rep, 0x82478343},
    {"memcpy-loop", run_memcpy_loop, 0x544ae687}, {"chase", run_chase, 0x72fa457c},
    {"accounts", run_accounts, 0xb4c92e7c},
};
const unsigned kKernelCount = sizeof kKernels / sizeof kKernels[0];
