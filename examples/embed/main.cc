// Runs a few instructions of 32-bit guest code and talks to them through two ports.
#include <cstdio>
#include <span>

#include "runtime/machine.h"

namespace {

constexpr unsigned char kGuestCode[] = {
    0x31, 0xc0,                    //       xor  eax, eax
    0xb9, 0x64, 0x00, 0x00, 0x00,  //       mov  ecx, 100
    0x01, 0xc8,                    // next: add  eax, ecx
    0xe2, 0xfc,                    //       loop next
    0xe7, 0x80,                    //       out  0x80, eax
    0xe5, 0x81,                    //       in   eax, 0x81
    0x8d, 0x58, 0x01,              //       lea  ebx, [eax + 1]
    0xf4,                          //       hlt
};

}  // namespace

int main() {
  using trapline::Exit;
  auto created = trapline::Machine::create({.memory_bytes = 16 << 20});
  if (!created.ok()) {
    std::fprintf(stderr, "%s\n", created.error().message.c_str());
    return 1;
  }
  trapline::Machine& machine = *created.value();

  machine.write_memory({0x1000}, std::as_bytes(std::span(kGuestCode)));
  trapline::CpuState state = trapline::CpuState::flat32(0);
  state.eip = 0x1000;
  machine.set_state(state);

  while (true) {
    const Exit exit = machine.run({.instructions = 1'000'000});
    switch (exit.kind) {
      case Exit::Kind::kPortWrite:
        std::printf("The guest wrote %u to port 0x%x.\n", exit.value, exit.port);
        break;
      case Exit::Kind::kPortRead:
        machine.complete_port_read(41);
        break;
      case Exit::Kind::kHalt:
        std::printf("The guest halted with EBX = %u.\n", machine.state().gpr[trapline::kEbx]);
        return 0;
      default:
        std::printf("The guest stopped at EIP 0x%x: %s\n", machine.state().eip,
                    exit.message.c_str());
        return 1;
    }
  }
}
