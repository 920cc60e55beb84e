// Emitted code as text that changes only when the code does: addresses are replaced by names.
#pragma once

#include <string>

#include "translator/translation.h"

namespace trapline {

/// Thunks at invented addresses, which listing() knows.
Thunks listing_thunks();
/// Where blocks for a listing are put.
inline constexpr uint32_t kListingCode = 0x20100000;

/// The guest's instructions, one a line.
std::string guest_listing(std::span<const uint8_t> code, uint32_t eip, bool code32);
/// The host's, with labels for targets inside the block, and the entries and records marked.
std::string host_listing(const Translation& translation);

}  // namespace trapline
