#include "runtime/boot/acpi_tables.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include "runtime/boot/little_endian.h"

namespace trapline {
namespace {

std::string text(std::span<const std::byte> bytes, size_t offset, size_t size) {
  std::string result(size, '\0');
  for (size_t i = 0; i < size; ++i) result[i] = static_cast<char>(bytes[offset + i]);
  return result;
}

uint8_t sum(std::span<const std::byte> bytes) {
  uint32_t total = 0;
  for (const std::byte byte : bytes) total += std::to_integer<uint32_t>(byte);
  return static_cast<uint8_t>(total);
}

class Tables : public ::testing::Test {
 protected:
  const std::vector<std::byte>& at(uint32_t address) const {
    const auto piece = std::ranges::find_if(
        pieces, [&](const BootPiece& candidate) { return candidate.address.value == address; });
    EXPECT_NE(piece, pieces.end()) << std::hex << address;
    return piece->content;
  }
  const std::vector<std::byte>& rsdt() const { return at(load32(pieces[0].content, 16)); }
  const std::vector<std::byte>& named(std::string_view signature) const {
    for (size_t i = 36; i + 4 <= rsdt().size(); i += 4)
      if (text(at(load32(rsdt(), i)), 0, 4) == signature) return at(load32(rsdt(), i));
    ADD_FAILURE() << "no table " << signature;
    return rsdt();
  }
  const std::vector<std::byte>& dsdt() const { return at(load32(named("FACP"), 40)); }

  std::vector<BootPiece> pieces = build_acpi_tables({.serial_ports = 2});
};

TEST_F(Tables, LieWhereGuestsSearch) {
  uint64_t end = 0xe0000;
  for (const BootPiece& piece : pieces) {
    EXPECT_GE(piece.address.value, end);
    EXPECT_EQ(piece.address.value % 16, 0u);
    end = piece.address.value + piece.content.size();
  }
  EXPECT_LE(end, 0xf0000u);
  const auto moved = build_acpi_tables({.address = 0xf0000});
  EXPECT_EQ(moved.front().address.value, 0xf0000u);
  EXPECT_GE(load32(moved.front().content, 16), 0xf0000u);
}

TEST_F(Tables, AreFoundFromTheRootPointer) {
  const auto& rsdp = pieces[0].content;
  EXPECT_EQ(text(rsdp, 0, 8), "RSD PTR ");
  EXPECT_EQ(rsdp.size(), 20u);
  EXPECT_EQ(rsdp[15], std::byte{0});
  EXPECT_EQ(sum(rsdp), 0);
  EXPECT_EQ(text(rsdt(), 0, 4), "RSDT");
  for (const auto* table : {&rsdt(), &named("FACP"), &named("APIC"), &dsdt()}) {
    EXPECT_EQ(load32(*table, 4), table->size());
    EXPECT_EQ(sum(*table), 0);
    EXPECT_EQ(text(*table, 10, 6), "TRAPLN");
  }
}

TEST_F(Tables, TheFadtNamesTheRegisters) {
  const auto& fadt = named("FACP");
  ASSERT_EQ(fadt.size(), 244u);
  const uint32_t facs = load32(fadt, 36);
  EXPECT_EQ(facs % 64, 0u);
  EXPECT_EQ(text(at(facs), 0, 4), "FACS");
  EXPECT_EQ(load32(at(facs), 4), 64u);
  EXPECT_EQ(load16(fadt, 46), 9);
  EXPECT_EQ(load32(fadt, 48), 0xb2u);
  EXPECT_EQ(load32(fadt, 56), 0x600u);
  EXPECT_EQ(load32(fadt, 64), 0x604u);
  EXPECT_EQ(load32(fadt, 76), 0x608u);
  EXPECT_EQ(load32(fadt, 80), 0x60cu);
  EXPECT_EQ(load32(fadt, 88), 0x04000204u);
  EXPECT_EQ(load32(fadt, 112) & 1u << 8, 0u) << "the timer has 24 bits";
  EXPECT_EQ(load32(fadt, 152), 0x600u);
  EXPECT_EQ(load32(fadt, 212), 0x608u);
  EXPECT_EQ(load32(fadt, 116), 0x0801u);
  EXPECT_EQ(load32(fadt, 120), 0xcf9u);
  EXPECT_EQ(fadt[128], std::byte{6});
}

TEST_F(Tables, TheMadtHasOneProcessorAndOneIoApic) {
  const auto& madt = named("APIC");
  EXPECT_EQ(load32(madt, 36), 0xfee00000u);
  EXPECT_EQ(load32(madt, 40), 1u);
  std::vector<std::string> entries;
  for (size_t i = 44; i < madt.size(); i += std::to_integer<size_t>(madt[i + 1])) {
    ASSERT_GE(std::to_integer<size_t>(madt[i + 1]), 2u);
    std::ostringstream entry;
    for (size_t j = 0; j < std::to_integer<size_t>(madt[i + 1]); ++j)
      entry << std::hex << std::to_integer<int>(madt[i + j]) << ' ';
    entries.push_back(entry.str());
  }
  EXPECT_EQ(entries, (std::vector<std::string>{"0 8 0 0 1 0 0 0 ", "1 c 0 0 0 0 c0 fe 0 0 0 0 ",
                                               "2 a 0 0 2 0 0 0 0 0 ", "2 a 0 9 9 0 0 0 d 0 ",
                                               "4 6 ff 0 0 1 "}));
}

// --- What ACPI's own tools make of the DSDT, where they are installed ----------------------------

class Tools : public Tables {
 protected:
  void SetUp() override {
    if (!succeeds("command -v iasl") || !succeeds("command -v acpiexec"))
      GTEST_SKIP() << "acpica-tools are not installed";
    std::string name = std::filesystem::temp_directory_path() / "trapline-acpi-XXXXXX";
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    folder = name;
    std::ofstream file(folder / "dsdt.aml", std::ios::binary);
    for (const std::byte byte : dsdt()) file.put(static_cast<char>(byte));
  }
  void TearDown() override {
    if (!folder.empty()) std::filesystem::remove_all(folder);
  }
  static bool succeeds(const std::string& command) {
    return std::system((command + " >/dev/null 2>&1").c_str()) == 0;
  }
  /// What a command that runs in the folder prints.
  std::string output(const std::string& command) const {
    const auto log = folder / "log";
    const auto line = "cd " + folder.string() + " && " + command + " >log 2>&1 </dev/null";
    EXPECT_EQ(std::system(line.c_str()), 0) << command;
    std::ostringstream content;
    content << std::ifstream(log).rdbuf();
    return content.str();
  }

  std::filesystem::path folder;
};

bool has(const std::string& where, std::string_view what) {
  return where.find(what) != where.npos;
}

TEST_F(Tools, TheDsdtIsReadBackAndCompilesAgain) {
  output("iasl -d dsdt.aml");
  const std::string source = output("cat dsdt.dsl");
  for (const std::string_view what :
       {"\\_S5", "Device (PCI0)", "PNP0A03", "Method (_PRT, 0", "Device (COM1)", "Device (COM2)",
        "Device (KBD)", "Device (RTC)", "DWordMemory", "WordBusNumber"})
    EXPECT_TRUE(has(source, what)) << what;
  EXPECT_FALSE(has(source, "COM3"));
  const std::string compiled = output("iasl -p again dsdt.dsl");
  EXPECT_TRUE(has(compiled, " 0 Errors, 0 Warnings")) << compiled;
}

TEST_F(Tools, TheDsdtRuns) {
  const std::string s5 = output("acpiexec -b 'evaluate \\_S5' dsdt.aml");
  EXPECT_TRUE(has(s5, "Contains 4 Elements")) << s5;
  const std::string before = output("acpiexec -b 'evaluate \\_SB.PCI0._PRT' dsdt.aml");
  EXPECT_TRUE(has(before, "Contains 124 Elements")) << before;
  EXPECT_TRUE(has(before, "000000000000000B"));
  EXPECT_FALSE(has(before, "0000000000000013"));
  const std::string after =
      output("acpiexec -b 'execute \\_PIC 1;evaluate \\_SB.PCI0._PRT' dsdt.aml");
  EXPECT_TRUE(has(after, "0000000000000013")) << after;
  EXPECT_FALSE(has(after, "000000000000000B"));
}

}  // namespace
}  // namespace trapline
