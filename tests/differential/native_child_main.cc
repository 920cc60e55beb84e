// The native runner's child: differential_child FILE runs the cases that it finds in the memory
// behind that descriptor. A program of its own, whose low 4 GiB are empty: neither an engine nor a
// sanitizer has anything there.
#include <sys/mman.h>

#include <cstdlib>

#include "tests/differential/native_child.h"

int main(int argc, char** argv) {
  using trapline::differential::NativeShared;
  if (argc != 2) return EXIT_FAILURE;
  void* const memory = mmap(nullptr, sizeof(NativeShared), PROT_READ | PROT_WRITE, MAP_SHARED,
                            std::atoi(argv[1]), 0);
  if (memory == MAP_FAILED) return EXIT_FAILURE;
  trapline::differential::native_child_main(*static_cast<NativeShared*>(memory));
}
