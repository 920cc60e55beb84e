// Guest page walks, as hardware does them: two-level, PSE, PAE, NX, WP, reserved bits, A and D.
#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "shadowmmu/physical_memory.h"
#include "vcpu/address.h"
#include "vcpu/cpu_model.h"
#include "vcpu/fault.h"
#include "vcpu/state.h"

namespace trapline {

enum class Access : uint8_t { kRead, kWrite, kExecute };

/// Everything that decides a translation besides the address and the access.
struct PagingContext {
  bool paging = false;
  bool pae = false;
  bool pse = false;    ///< Two-level only; PAE always has large pages.
  bool pse36 = false;  ///< Large pages above 4 GiB, without PAE.
  bool nxe = false;
  bool write_protect = false;
  uint8_t physical_bits = kPhysicalBits;  ///< The model's; entries' bits above are reserved.
  uint32_t root = 0;                      ///< Two-level: the page directory's physical address.
  std::array<uint64_t, 4> pdpte{};        ///< PAE.
  uint64_t address_mask = ~uint64_t{0};   ///< A20.

  bool operator==(const PagingContext&) const = default;
  static PagingContext from(const CpuState& state, const CpuModel& model);
};

/// One step of a walk: which entry was read, and what it held after A and D were set.
struct WalkStep {
  Physical entry;
  uint64_t value = 0;
};

struct Walk {
  Physical address;       ///< Of the byte asked for.
  bool user = false;      ///< User mode may access it.
  bool writable = false;  ///< All levels agree on R/W.
  bool executable = true;
  bool large = false;              ///< The leaf is a directory entry (4 MiB or 2 MiB).
  bool dirty = false;              ///< The leaf's D is set.
  uint8_t steps = 0;               ///< 0 without paging.
  std::array<WalkStep, 2> step{};  ///< Directory first, then the table (absent when large).
};

/// Where the directory's entry for a linear address lies. nullopt: nothing is looked up there.
std::optional<Physical> directory_entry(const PagingContext& context, Linear address);

/// Whether a walk may set A and D. kPeek changes nothing and is for debuggers, tests and prefill.
enum class WalkMode : uint8_t { kArchitectural, kPeek };

/// The page fault has the right error code for the access; #PF's U bit comes from `user`.
/// A and D updates are made atomically in guest memory and fire no traces.
OrFault<Walk> walk_page(const PagingContext& context, PhysicalMemory& memory, Linear address,
                        Access access, bool user, WalkMode mode = WalkMode::kArchitectural);

}  // namespace trapline
