#include "runtime/devices/pci_chipset.h"

#include "vcpu/assert.h"

namespace trapline {
namespace {

constexpr uint16_t kIntel = 0x8086;
constexpr uint32_t kStatusErrors = 0xf900;  // In the status register; cleared by ones.

struct Defined {
  uint8_t offset, size;
  uint32_t reset_value, writable;
};

template <size_t Count>
void define_all(PciConfig& config, const Defined (&rows)[Count]) {
  for (const Defined& row : rows)
    config.define(row.offset, row.size, row.reset_value, row.writable);
}

constexpr uint8_t kPam = 0x59, kPams = 7, kSmram = 0x72;

constexpr Defined kHostBridge[] = {
    {pci::kCommand, 2, 0x0006, 0x0140},
    {pci::kStatus, 2, 0x0280, 0},
    {pci::kLatencyTimer, 1, 0, 0xf8},
    {0x50, 2, 0x0000, 0xffff},          // PMC configuration
    {0x52, 1, 0x00, 0xff},              // Deturbo counter
    {0x53, 1, 0x80, 0xff},              // Buffer control
    {0x54, 1, 0x00, 0xff},              // Auxiliary control
    {0x55, 2, 0x0000, 0xffff},          // DRAM row types
    {0x57, 1, 0x01, 0xff},              // DRAM control
    {0x58, 1, 0x10, 0xff},              // DRAM timing
    {kPam, 4, 0, 0x33333330},           // PAM0 to PAM3; the first has only an upper half.
    {kPam + 4, 2, 0, 0x3333},           // PAM4, PAM5
    {kPam + 6, 1, 0, 0x33},             // PAM6
    {0x60, 4, 0x01010101, 0xffffffff},  // DRAM row boundaries
    {0x64, 4, 0x01010101, 0xffffffff},
    {0x68, 1, 0x00, 0xc0},    // The hole below 16 MiB
    {0x70, 1, 0x20, 0xf8},    // Multi-transaction timer
    {0x71, 1, 0x10, 0xf8},    // CPU latency timer
    {kSmram, 1, 0x02, 0x78},  // SMRAM control
    {0x90, 1, 0x00, 0xff},    // Error command
    {0x91, 2, 0x0000, 0},     // Error status
    {0x93, 1, 0x00, 0x0b},    // Turbo and reset control
};

constexpr uint8_t kPirq = 0x60;

constexpr Defined kIsaBridge[] = {
    {pci::kCommand, 2, 0x0007, 0x0008},
    {pci::kStatus, 2, 0x0200, 0},
    {0x4c, 1, 0x4d, 0xff},      // I/O recovery timer
    {0x4e, 2, 0x0003, 0xffff},  // X-bus chip selects
    {kPirq, 4, 0x80808080, 0x8f8f8f8f},
    {0x69, 1, 0x02, 0xfe},      // Top of memory
    {0x6a, 2, 0x0000, 0x8085},  // Miscellaneous status
    {0x70, 2, 0x8080, 0xefef},  // Motherboard device IRQs
    {0x76, 2, 0x0c0c, 0x8f8f},  // Motherboard device DMA
    {0x78, 2, 0x0002, 0xffff},  // Programmable chip select
    {0x80, 1, 0x00, 0x7f},      // APIC base
    {0x82, 1, 0x00, 0x0f},      // Deterministic latency
    {0xa0, 1, 0x08, 0x1f},      // SMI control
    {0xa2, 2, 0x0000, 0x01ff},  // SMI enable
    {0xa4, 4, 0, 0xe000ffff},   // System events
    {0xa8, 1, 0x0f, 0xff},      // Fast-off timer
    {0xaa, 2, 0x0000, 0x01ff},  // SMI requests
    {0xac, 1, 0x00, 0xff},      // Clock scale, low
    {0xae, 1, 0x00, 0xff},      // Clock scale, high
};

constexpr uint8_t kPmBase = 0x40, kPmEnable = 0x80;
constexpr uint32_t kPmBaseBits = 0xffc0;

constexpr Defined kPowerFunction[] = {
    {pci::kCommand, 2, 0x0000, 0x0001},
    {pci::kStatus, 2, 0x0280, 0},
    {pci::kInterruptLine, 1, 0, 0xff},
    {pci::kInterruptPin, 1, 1, 0},
    {kPmBase, 4, 0x00000001, kPmBaseBits},
    {0x44, 4, 0, 0xffffffff},  // Counts
    {0x48, 4, 0, 0xffffffff},
    {0x4c, 4, 0, 0xffffffff},  // General-purpose inputs
    {0x50, 4, 0, 0xffffffff},  // Device resources and activity
    {0x54, 4, 0, 0xffffffff},
    {0x58, 4, 0x02000000, 0xffffffff},  // System management interrupts are set up: there are none.
    {0x5c, 4, 0, 0xffffffff},
    {0x60, 4, 0, 0xffffffff},
    {0x64, 4, 0, 0xffffffff},
    {0x68, 4, 0, 0xffffffff},
    {0x6c, 4, 0, 0xffffffff},
    {0x70, 4, 0, 0xffffffff},
    {0x74, 4, 0, 0xffffffff},
    {0x78, 4, 0, 0xffffffff},
    {0x7c, 4, 0, 0xffffffff},
    {kPmEnable, 1, 0, 0x01},
    {0x90, 4, 0x00000001, 0xfff0},  // SMBus base
    {0xd2, 1, 0, 0x0f},             // SMBus host configuration
    {0xd3, 1, 0, 0xff},             // SMBus slave command
    {0xd4, 2, 0, 0xffff},           // SMBus slave shadows
};

}  // namespace

HostBridge::HostBridge()
    : PciFunction("pci-host-bridge",
                  {.vendor = kIntel, .device = 0x1237, .class_code = 0x060000, .revision = 2}) {
  define_all(config_, kHostBridge);
  config_.define_cleared_by_ones(pci::kStatus, 2, kStatusErrors);
}

/// PAM0's upper half is for the last 64 KiB; the halves of PAM1 to PAM6 are for the pieces of
/// 16 KiB from 0xC0000 on.
HostBridge::Shadow HostBridge::shadow(uint32_t address) const {
  constexpr uint32_t kLastPiece = 0xf0000;
  TRAPLINE_ASSERT(address >= kShadowStart && address < kShadowEnd);
  const uint32_t half = address >= kLastPiece ? 1 : 2 + (address - kShadowStart) / kShadowPiece;
  const uint32_t bits = config_.read(static_cast<uint8_t>(kPam + half / 2), 1) >> 4 * (half % 2);
  return {.ram_read = (bits & 1) != 0, .ram_write = (bits & 2) != 0};
}

void HostBridge::config_changed() {
  uint64_t seen = smram();
  for (uint8_t i = 0; i < kPams; ++i)
    seen = seen << 8 | config_.read(static_cast<uint8_t>(kPam + i), 1);
  if (seen == seen_) return;
  seen_ = seen;
  if (on_change_) on_change_();
}

IsaBridge::IsaBridge(InterruptRouter& router)
    : PciFunction("pci-isa-bridge", {.vendor = kIntel,
                                     .device = 0x7000,
                                     .class_code = 0x060100,
                                     .revision = 0,
                                     .header_type = pci::kMultiFunction}),
      router_(router) {
  define_all(config_, kIsaBridge);
  config_.define_cleared_by_ones(pci::kStatus, 2, kStatusErrors);
}

void IsaBridge::program_as_firmware() {
  for (uint8_t i = 0; i < kFirmwareIrqs.size(); ++i) config_write(kPirq + i, 1, kFirmwareIrqs[i]);
}

void IsaBridge::config_changed() {
  for (int i = 0; i < InterruptRouter::kPirqs; ++i)
    router_.route(i, static_cast<uint8_t>(config_.read(static_cast<uint8_t>(kPirq + i), 1)));
}

// Revision 3 is the first whose power management timer can be read without precautions.
PowerFunction::PowerFunction(std::function<void(std::optional<uint16_t>)> on_decode)
    : PciFunction("pci-power",
                  {.vendor = kIntel, .device = 0x7113, .class_code = 0x068000, .revision = 3}),
      on_decode_(std::move(on_decode)) {
  define_all(config_, kPowerFunction);
  config_.define_cleared_by_ones(pci::kStatus, 2, kStatusErrors);
}

void PowerFunction::program_as_firmware(uint16_t base) {
  TRAPLINE_ASSERT((base & kPmBaseBits) == base);
  config_write(pci::kInterruptLine, 1, 9);
  config_write(kPmBase, 4, base);
  config_write(kPmEnable, 1, 1);
}

void PowerFunction::config_changed() {
  std::optional<uint16_t> base;
  if (config_.read(kPmEnable, 1) & 1)
    base = static_cast<uint16_t>(config_.read(kPmBase, 4) & kPmBaseBits);
  if (base == decoded_) return;
  decoded_ = base;
  if (on_decode_) on_decode_(base);
}

}  // namespace trapline
