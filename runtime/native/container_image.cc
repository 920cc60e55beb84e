#include "runtime/native/container_image.h"

asm(".pushsection .rodata\n"
    ".balign 16\n"
    ".globl trapline_container_begin\n"
    ".hidden trapline_container_begin\n"
    "trapline_container_begin:\n"
    ".incbin \"" TRAPLINE_CONTAINER_PROGRAM
    "\"\n"
    ".globl trapline_container_end\n"
    ".hidden trapline_container_end\n"
    "trapline_container_end:\n"
    ".popsection\n");

extern "C" const std::byte trapline_container_begin[];
extern "C" const std::byte trapline_container_end[];

namespace trapline {

std::span<const std::byte> container_image() {
  return {trapline_container_begin, trapline_container_end};
}

}  // namespace trapline
