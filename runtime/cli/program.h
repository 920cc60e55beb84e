// The program `trapline`, from its arguments to its exit status.
#pragma once

namespace trapline {

int run_program(int argc, const char* const* argv);

}  // namespace trapline
