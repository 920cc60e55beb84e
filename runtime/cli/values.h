// Values of command-line options. Errors are ExitStatus::kUsage and name the option.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include "runtime/machine.h"
#include "translator/switches.h"
#include "vcpu/cpu_model.h"
#include "vcpu/result.h"

namespace trapline {

/// "65536", "64K", "64M", "1G"; more than zero and a multiple of 4096.
Result<uint64_t> parse_size(std::string_view option, std::string_view text);
/// "0x7c00", "31744"; below 4 GiB.
Result<uint32_t> parse_address(std::string_view option, std::string_view text);
struct RealModeAddress {
  uint16_t segment = 0;
  uint16_t offset = 0;
};
/// "07c0:0000" (hexadecimal), or an address that real mode reaches.
Result<RealModeAddress> parse_entry(std::string_view option, std::string_view text);
/// "5", "0.25"; more than zero.
Result<std::chrono::nanoseconds> parse_seconds(std::string_view option, std::string_view text);
/// "NAME=on" or "NAME=off", applied to the switches.
Result<void> parse_switch(std::string_view text, Switches& switches);
Result<const CpuModel*> parse_cpu(std::string_view text);
/// "host" or "instructions".
Result<TimeSource> parse_clock(std::string_view text);
/// "never", "always" or "adaptive".
Result<DirectExecution> parse_direct_execution(std::string_view text);

/// RAM for the guest must not be more than the model can address, nor than the host has: physical
/// memory, or this process's control group's limit.
Result<uint64_t> parse_memory(std::string_view text, const CpuModel& cpu, uint64_t host_bytes);
uint64_t host_memory_bytes();

}  // namespace trapline
