// What the CPU's own semantics (descriptor loads, stack switches, interrupt frames, the
// interpreter) need of memory, ports and time. The engine implements these.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "vcpu/address.h"
#include "vcpu/debug_registers.h"
#include "vcpu/fault.h"
#include "vcpu/host_access.h"
#include "vcpu/state.h"

namespace trapline {

/// Whose rights an access has. System accesses (descriptor tables, the TSS) and those to inner
/// stacks are supervisor accesses whatever the CPL; system accesses meet no breakpoints.
enum class Privilege : uint8_t { kCurrent, kSystem, kInnerStack, kUser };

/// Guest memory by linear address, with paging, faults, A and D bits, MMIO, and accesses that cross
/// pages all done right. A write that faults has written nothing.
class LinearMemory {
 public:
  virtual ~LinearMemory() = default;

  /// Little-endian, size 1, 2, 4 or 8.
  OrFault<uint64_t> read(Linear address, uint32_t size, Privilege privilege) {
    if (const std::byte* host = reach(address, size, false, privilege))
      return load_sized(host, size);
    return read_unreached(address, size, privilege);
  }
  [[gnu::always_inline]] OrFault<void> write(Linear address, uint32_t size, uint64_t value,
                                             Privilege privilege) {
    if (std::byte* host = reach(address, size, true, privilege)) {
      store_sized(host, size, value);
      return {};
    }
    return write_unreached(address, size, value, privilege);
  }
  /// Faults exactly as a write of that range would, and writes nothing. For instructions that must
  /// not have half an effect.
  virtual OrFault<void> probe_write(Linear address, uint32_t size, Privilege privilege) = 0;
  /// Where the host has the bytes, when they lie in one page that this access may use as it is:
  /// with nothing to fault, to set or to notice. nullptr says only that read() and write() must be
  /// asked. Good until anything else is done with the memory.
  std::byte* reach(Linear address, uint32_t size, bool write, Privilege privilege) {
    const uint64_t* pages = pages_[user_rights(privilege)].delta[write];
    if (!pages || address.offset() + size > kPageSize) return nullptr;
    const uint64_t delta = pages[address.page()];
    if (!delta || (meets_breakpoints(privilege) && watched())) return nullptr;
    return reinterpret_cast<std::byte*>(delta + address.value);
  }
  /// An instruction byte, checked for execution at the current privilege.
  virtual OrFault<uint8_t> fetch(Linear address) = 0;

 protected:
  explicit LinearMemory(const CpuState& state) : state_(state) {}

  static bool meets_breakpoints(Privilege privilege) {
    return privilege == Privilege::kCurrent || privilege == Privilege::kInnerStack;
  }
  /// Whether the guest has any breakpoint.
  bool watched() const { return DebugRegisters(state_).any(); }
  bool user_rights(Privilege privilege) const {
    return privilege == Privilege::kCurrent ? state_.cpl == 3 : privilege == Privilege::kUser;
  }
  /// By linear page what is added to its addresses to get the host's, for reading and for writing;
  /// 0: not reached. Without tables nothing is.
  struct Pages {
    std::array<const uint64_t*, 2> delta{};
  };
  void set_pages(bool user, const Pages& pages) { pages_[user] = pages; }

 private:
  /// read() and write() of what is not reached.
  virtual OrFault<uint64_t> read_unreached(Linear address, uint32_t size, Privilege privilege) = 0;
  virtual OrFault<void> write_unreached(Linear address, uint32_t size, uint64_t value,
                                        Privilege privilege) = 0;

  const CpuState& state_;
  std::array<Pages, 2> pages_;  ///< Supervisor, user.
};

/// The I/O space: 64 Ki ports. Size 1, 2 or 4. Permission has been checked already.
class PortSpace {
 public:
  virtual ~PortSpace() = default;
  virtual uint32_t in(uint16_t port, uint32_t size) = 0;
  virtual void out(uint16_t port, uint32_t size, uint32_t value) = 0;
};

/// What the semantics tell the engine, so that nothing derived from CPU state goes stale.
class CpuEvents {
 public:
  virtual ~CpuEvents() = default;
  /// CR0, CR3, CR4, EFER or the PDPTEs changed: the view to use may be another one. `flush` when
  /// the guest asked for its TLB to be emptied (a load of CR3, or a change of PG, PAE, PSE, PGE,
  /// NXE).
  virtual void paging_changed(bool flush) = 0;
  virtual void invalidate_page(Linear address) = 0;  ///< INVLPG.
  /// Reads physical memory for PDPTE loads (aligned quadword).
  virtual uint64_t read_physical(Physical address) = 0;
  virtual uint64_t time_stamp() = 0;  ///< The virtual clock's TSC, before CpuState::tsc_offset.
  /// Whether the board has a local APIC for this CPU; models of family 6 show it then.
  virtual bool has_local_apic() const { return false; }
  /// IA32_APIC_BASE was written.
  virtual void local_apic_base_written(uint64_t) {}
};

}  // namespace trapline
