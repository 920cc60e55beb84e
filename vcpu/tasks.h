// Hardware task switches: what a TSS descriptor or a task gate does in a far transfer, in the IDT,
// and what IRET does with NT set.
#pragma once

#include <cstdint>
#include <optional>

#include "vcpu/cpu.h"
#include "vcpu/descriptor.h"

namespace trapline {

/// Once the new task's state is loaded, faults are the new task's: they come back as ever, but the
/// state is then that of the new task, as the manual has it. A TSS with its T bit set ends in #DB
/// that way.
enum class TaskSwitchKind : uint8_t { kJump, kCall, kInterrupt, kReturn };

struct TaskSwitch {
  TaskSwitchKind kind = TaskSwitchKind::kJump;
  uint32_t next_eip = 0;                    ///< Where the old task resumes.
  uint32_t flags = 0;                       ///< EFLAGS as the old task's TSS shall hold it.
  uint32_t ext = 0;                         ///< The EXT bit of error codes.
  std::optional<uint32_t> error_code = {};  ///< Pushed on the new task's stack.
};

/// A far jump or call whose selector names a task gate or a TSS.
OrFault<void> transfer_to_task(Cpu& cpu, uint16_t selector, const Descriptor& descriptor,
                               const TaskSwitch& how);
/// An interrupt or exception whose IDT entry is the task gate `gate`.
OrFault<void> interrupt_to_task(Cpu& cpu, const Descriptor& gate, const TaskSwitch& how);
/// IRET with NT set.
OrFault<void> return_from_task(Cpu& cpu, uint32_t next_eip);

}  // namespace trapline
