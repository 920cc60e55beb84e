// How cases and outcomes are printed.
#pragma once

#include <cstdint>
#include <span>
#include <string>

namespace trapline::differential {

struct Case;
struct Outcome;

[[gnu::format(printf, 1, 2)]] std::string format(const char* pattern, ...);
/// For %llx, whatever uint64_t is.
constexpr unsigned long long ull(uint64_t value) {
  return value;
}

/// Bytes in memory order, "66 90"; and as one little-endian number, "9066".
std::string hex_bytes(std::span<const uint8_t> bytes);
std::string hex_number(std::span<const uint8_t> bytes);

std::string describe_event(const Outcome& outcome);
/// The instructions of a case with address, bytes and text.
std::string listing(const Case& test);
/// Registers, FPU state and patches.
std::string describe_initial(const Case& test);
std::string describe_outcome(const Outcome& outcome);

}  // namespace trapline::differential
