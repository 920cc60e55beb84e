#include "runtime/cli/program.h"

int main(int argc, char** argv) {
  return trapline::run_program(argc, argv);
}
