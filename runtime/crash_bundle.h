// What a broken invariant leaves behind: the VCPU, its code and page tables, and how the machine
// was built, in a file of text that `trapline replay` loads again. Only the program that wrote it
// can be sure to read it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "runtime/machine.h"
#include "vcpu/address.h"

namespace trapline {

struct CrashBundle {
  struct Page {
    uint64_t address = 0;  ///< Physical.
    std::array<std::byte, kPageSize> bytes{};
  };

  std::string reason;
  MachineOptions options;  ///< Without the ports.
  CpuState state;
  uint64_t code_page = ~uint64_t{0};  ///< Physical; all ones when there is none.
  std::vector<Page> pages;

  /// The bytes at EIP, as far as they lie in one page that is there.
  std::span<const std::byte> code() const;
};

/// As text.
std::string to_text(const CrashBundle& bundle);
Result<CrashBundle> parse_bundle(const std::string& text);
Result<CrashBundle> read_bundle(const std::string& path);
/// A new file in the directory; its path.
Result<std::string> write_bundle(const CrashBundle& bundle, const std::string& directory);

/// An AssertionHook whose context is an Engine: writes its bundle and says where.
void write_crash_bundle(void* engine, const char* what);

/// A machine as the bundle describes it, ready to run.
Result<std::unique_ptr<Machine>> machine_of(const CrashBundle& bundle);

}  // namespace trapline
