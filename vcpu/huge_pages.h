// Huge pages of the host's for shared memory, which rarely gets them by itself.
#pragma once

#include <cstddef>

namespace trapline {

constexpr size_t kHugePage = size_t{2} << 20;

/// The file from its start, shared, at a multiple of kHugePage. nullptr: errno tells why not.
void* map_aligned(int file, size_t bytes, int protection, int flags = 0);

/// What lies in the kHugePage bytes from there moves into one page, and what was missing is there,
/// zero. At least one byte must have been touched. False: the host has no such page, now or ever.
bool make_huge(void* start);

}  // namespace trapline
