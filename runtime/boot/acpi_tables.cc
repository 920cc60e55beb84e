#include "runtime/boot/acpi_tables.h"

#include <algorithm>
#include <array>
#include <span>
#include <string_view>

#include "runtime/boot/acpi_dsdt.h"
#include "runtime/boot/little_endian.h"
#include "runtime/devices/acpi_pm.h"
#include "runtime/devices/io_apic.h"
#include "runtime/devices/local_apic.h"
#include "vcpu/assert.h"

namespace trapline {
namespace {

using Table = std::vector<std::byte>;

constexpr std::string_view kOem = "TRAPLN", kOemTable = "TRAPLINE", kCreator = "TRPL";
constexpr size_t kHeaderBytes = 36;
constexpr size_t kChecksumAt = 9;
constexpr uint16_t kSciIrq = 9;

void put_text(Table& table, size_t offset, std::string_view text) {
  TRAPLINE_ASSERT(offset + text.size() <= table.size());
  std::ranges::transform(text, table.begin() + static_cast<ptrdiff_t>(offset),
                         [](char c) { return static_cast<std::byte>(c); });
}

void append(Table& table, std::span<const uint8_t> bytes) {
  for (const uint8_t byte : bytes) table.push_back(static_cast<std::byte>(byte));
}

void append_little(Table& table, uint64_t value, int size) {
  for (int i = 0; i < size; ++i) table.push_back(static_cast<std::byte>(value >> (8 * i)));
}

/// Makes the sum of the bytes 0, as a byte.
void put_checksum(std::span<std::byte> bytes, size_t offset) {
  uint32_t sum = 0;
  bytes[offset] = std::byte{0};
  for (const std::byte byte : bytes) sum += std::to_integer<uint32_t>(byte);
  bytes[offset] = static_cast<std::byte>(-sum);
}

/// A table that begins with the common header; its length and checksum are seal()'s.
Table with_header(std::string_view signature, uint8_t revision) {
  Table table(kHeaderBytes);
  put_text(table, 0, signature);
  table[8] = std::byte{revision};
  put_text(table, 10, kOem);
  put_text(table, 16, kOemTable);
  store32(table, 24, 1);
  put_text(table, 28, kCreator);
  store32(table, 32, 1);
  return table;
}

Table seal(Table table) {
  store32(table, 4, static_cast<uint32_t>(table.size()));
  put_checksum(table, kChecksumAt);
  return table;
}

Table rsdp(uint32_t rsdt) {
  Table table(20);
  put_text(table, 0, "RSD PTR ");
  put_text(table, 9, kOem);
  store32(table, 16, rsdt);
  put_checksum(table, 8);
  return table;
}

Table rsdt(std::initializer_list<uint32_t> tables) {
  Table table = with_header("RSDT", 1);
  for (const uint32_t address : tables) append_little(table, address, 4);
  return seal(table);
}

Table facs() {
  Table table(64);
  put_text(table, 0, "FACS");
  store32(table, 4, 64);
  table[32] = std::byte{1};  // Version.
  return table;
}

Table dsdt(int serial_ports) {
  Table table = with_header("DSDT", 1);
  append(table, dsdt_definitions(serial_ports));
  return seal(table);
}

// --- FADT ---------------------------------------------------------------------------------------

/// A block of registers, which the table names twice: by a number and by a generic address.
struct Block {
  uint16_t port;
  uint8_t bytes;
  size_t port_at, bytes_at, address_at;
};

void put_generic_address(Table& table, size_t offset, uint16_t port, uint8_t bytes) {
  constexpr std::byte kIoSpace{1};
  table[offset] = kIoSpace;
  table[offset + 1] = static_cast<std::byte>(8 * bytes);
  store64(table, offset + 4, port);
}

void put_block(Table& table, const Block& block) {
  store32(table, block.port_at, block.port);
  table[block.bytes_at] = std::byte{block.bytes};
  put_generic_address(table, block.address_at, block.port, block.bytes);
}

constexpr Block kBlocks[] = {
    {AcpiPm::kPort + AcpiPm::kEvents, 4, 56, 88, 148},
    {AcpiPm::kPort + AcpiPm::kControl, 2, 64, 89, 172},
    {AcpiPm::kPort + AcpiPm::kTimer, 4, 76, 91, 208},
    {AcpiPm::kPort + AcpiPm::kGeneral, 4, 80, 92, 220},
};

/// Revision 3, the first whose reset register guests believe in.
Table fadt(uint32_t facs_address, uint32_t dsdt_address) {
  constexpr uint32_t kWbinvdWorks = 1u << 0, kC1Works = 1u << 2, kNoSleepButton = 1u << 5,
                     kNoFixedRtc = 1u << 6, kResetRegister = 1u << 10;
  constexpr uint16_t kLegacyDevices = 1u << 0, kKeyboardController = 1u << 1;
  constexpr uint16_t kNoSuchState = 0xffff;
  constexpr uint16_t kResetPort = 0xcf9;
  constexpr std::byte kDesktop{1}, kCenturyInCmos{0x32}, kHardReset{0x06};

  Table table = with_header("FACP", 3);
  table.resize(244);
  store32(table, 36, facs_address);
  store32(table, 40, dsdt_address);
  table[45] = kDesktop;
  store_little(table, 46, kSciIrq, 2);
  store32(table, 48, AcpiPm::kSmiPort);
  table[52] = std::byte{AcpiPm::kAcpiEnable};
  table[53] = std::byte{AcpiPm::kAcpiDisable};
  for (const Block& block : kBlocks) put_block(table, block);
  store_little(table, 96, kNoSuchState, 2);  // C2
  store_little(table, 98, kNoSuchState, 2);  // C3
  table[108] = kCenturyInCmos;
  store_little(table, 109, kLegacyDevices | kKeyboardController, 2);
  store32(table, 112, kWbinvdWorks | kC1Works | kNoSleepButton | kNoFixedRtc | kResetRegister);
  put_generic_address(table, 116, kResetPort, 1);
  table[128] = kHardReset;
  store64(table, 140, dsdt_address);
  return seal(table);
}

// --- MADT ---------------------------------------------------------------------------------------

void append_override(Table& table, uint8_t irq, uint32_t pin, uint16_t flags) {
  constexpr uint8_t kType = 2, kIsaBus = 0;
  append(table, std::array<uint8_t, 4>{kType, 10, kIsaBus, irq});
  append_little(table, pin, 4);
  append_little(table, flags, 2);
}

Table madt() {
  constexpr uint32_t kHas8259s = 1, kEnabled = 1;
  constexpr uint16_t kAsTheBus = 0, kActiveHighLevel = 0xd;
  constexpr uint8_t kLocalApic = 0, kIoApic = 1, kLocalNmi = 4;
  constexpr uint8_t kProcessor = 0, kApicId = 0, kIoApicId = 0, kAllProcessors = 0xff;

  Table table = with_header("APIC", 1);
  append_little(table, LocalApic::kAddress.value, 4);
  append_little(table, kHas8259s, 4);
  append(table, std::array<uint8_t, 4>{kLocalApic, 8, kProcessor, kApicId});
  append_little(table, kEnabled, 4);
  append(table, std::array<uint8_t, 4>{kIoApic, 12, kIoApicId, 0});
  append_little(table, IoApic::kAddress.value, 4);
  append_little(table, 0, 4);  // Its first interrupt's number.
  append_override(table, 0, 2, kAsTheBus);
  append_override(table, kSciIrq, kSciIrq, kActiveHighLevel);
  append(table, std::array<uint8_t, 6>{kLocalNmi, 6, kAllProcessors, kAsTheBus, 0, 1});  // LINT1
  return seal(table);
}

/// Gives tables their places, one after the other.
class Placement {
 public:
  explicit Placement(uint32_t first) : next_(first) {}

  uint32_t place(Table table) {
    constexpr uint32_t kAlignment = 64;  // What the FACS needs.
    constexpr uint32_t kAreaEnd = 0x100000;
    const uint32_t address = next_;
    next_ += (static_cast<uint32_t>(table.size()) + kAlignment - 1) & ~(kAlignment - 1);
    TRAPLINE_ASSERT(next_ <= kAreaEnd);
    pieces_.push_back({Physical{address}, std::move(table)});
    return address;
  }
  std::vector<BootPiece> take() { return std::move(pieces_); }

 private:
  uint32_t next_;
  std::vector<BootPiece> pieces_;
};

}  // namespace

std::vector<BootPiece> build_acpi_tables(const AcpiOptions& options) {
  TRAPLINE_ASSERT(options.address >= 0xe0000 && options.address % 64 == 0);
  Placement placement(options.address);
  placement.place(rsdp(0));  // Filled in when it is known where the RSDT is.
  const uint32_t facs_at = placement.place(facs());
  const uint32_t dsdt_at = placement.place(dsdt(options.serial_ports));
  const uint32_t fadt_at = placement.place(fadt(facs_at, dsdt_at));
  const uint32_t madt_at = placement.place(madt());
  const uint32_t rsdt_at = placement.place(rsdt({fadt_at, madt_at}));
  std::vector<BootPiece> pieces = placement.take();
  pieces.front().content = rsdp(rsdt_at);
  return pieces;
}

}  // namespace trapline
