#include "tests/mutation/guest_check.h"

#include <chrono>
#include <cstdio>

#include "runtime/boot/multiboot.h"
#include "runtime/devices/debug_console.h"
#include "runtime/devices/debug_exit.h"
#include "runtime/devices/uart16550.h"
#include "runtime/machine.h"

namespace trapline {
namespace {

constexpr uint64_t kMemoryBytes = 64u << 20;
constexpr uint8_t kPassed = 33;
constexpr std::chrono::seconds kTime{4};

class Board {
 public:
  Board()
      : uart_(nowhere_, nullptr),
        console_(nowhere_),
        debug_exit_([this] { machine_->request_stop(); }) {
    bus_.claim(Uart16550::kCom1, Uart16550::kPorts, uart_);
    bus_.claim(DebugConsole::kPort, DebugConsole::kPorts, console_);
    bus_.claim(DebugExit::kPort, DebugExit::kPorts, debug_exit_);
  }

  PortBus& bus() { return bus_; }
  bool run(Machine& machine) {
    machine_ = &machine;
    RunLimits limits;
    limits.time = kTime;
    machine.run(limits);
    return debug_exit_.status() == kPassed;
  }

 private:
  NullBackend nowhere_;
  PortBus bus_;
  Uart16550 uart_;
  DebugConsole console_;
  DebugExit debug_exit_;
  Machine* machine_ = nullptr;
};

}  // namespace

bool guest_passes(const std::string& name, Mutation mutation) {
  const std::string path = std::string(TRAPLINE_GUEST_FOLDER) + "/" + name + ".bin";
  auto image = load_multiboot({.kernel_path = path, .append = {}, .modules = {}}, kMemoryBytes);
  if (!image.ok()) {
    std::fprintf(stderr, "%s\n", image.error().message.c_str());
    return false;
  }
  Board board;
  MachineOptions options;
  options.memory_bytes = kMemoryBytes;
  options.code_cache_bytes = 16u << 20;
  options.ports = &board.bus();
  options.mutation = mutation;
  auto machine = Machine::create(options);
  if (!machine.ok()) return false;
  place_boot_image(image.value(), *machine.value());
  return board.run(*machine.value());
}

}  // namespace trapline
