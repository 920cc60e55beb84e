#include "runtime/boot/missing_bios.h"

#include <gtest/gtest.h>

#include <span>
#include <vector>

#include "runtime/machine.h"

namespace trapline {
namespace {

constexpr uint16_t kSegment = 0x2000;

/// Runs real-mode code up to its halt.
std::unique_ptr<Machine> halted_after(const std::vector<uint8_t>& code) {
  auto machine = Machine::create({.memory_bytes = 4 << 20}).take();
  BootImage image{missing_bios_pieces(), CpuState::reset()};
  const auto bytes = std::as_bytes(std::span(code));
  image.pieces.push_back({{kSegment * 16}, {bytes.begin(), bytes.end()}});
  for (Segment& each : image.state.segment) each = Segment::real(kSegment, false);
  image.state.segment[kCs] = Segment::real(kSegment, true);
  image.state.eip = 0;
  image.state.gpr[kEsp] = 0x8000;
  place_boot_image(image, *machine);
  EXPECT_EQ(machine->run({.time = std::chrono::seconds(10)}).kind, Exit::Kind::kHalt);
  return machine;
}

TEST(MissingBios, TellsWhichCallWasMadeAndWhere) {
  // mov ax, 0xe820; int 0x15
  auto machine = halted_after({0xb8, 0x20, 0xe8, 0xcd, 0x15});
  EXPECT_EQ(missing_bios_call(*machine),
            "the guest called the BIOS by INT 0x15 with AX e820 at 2000:0003");
  machine = halted_after({0xcd, 0xff});
  EXPECT_EQ(missing_bios_call(*machine),
            "the guest called the BIOS by INT 0xff with AX 0000 at 2000:0000");
}

TEST(MissingBios, TellsCallsFromExceptions) {
  const auto machine = halted_after({0x90, 0x0f, 0x0b});  // nop; ud2
  EXPECT_EQ(missing_bios_call(*machine),
            "the guest was interrupted by vector 0x06, which is still the BIOS's, at 2000:0001");
}

TEST(MissingBios, HasNothingToSayOfOtherHalts) {
  EXPECT_EQ(missing_bios_call(*halted_after({0xfa, 0xf4})), std::nullopt);
}

TEST(MissingBios, NamesTheSizeOfLowMemoryAndTheSerialPort) {
  // mov ds, bx (0); mov ax, [0x400]; mov cx, [0x413]; hlt
  const auto machine =
      halted_after({0x31, 0xdb, 0x8e, 0xdb, 0xa1, 0x00, 0x04, 0x8b, 0x0e, 0x13, 0x04, 0xf4});
  EXPECT_EQ(machine->state().gpr[kEax] & 0xffff, 0x3f8u);
  EXPECT_EQ(machine->state().gpr[kEcx] & 0xffff, 639u);
}

}  // namespace
}  // namespace trapline
