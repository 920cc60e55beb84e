#include "vcpu/tasks.h"

namespace trapline {

OrFault<void> transfer_to_task(Cpu&, uint16_t selector, const Descriptor&, const TaskSwitch&) {
  return selector_fault(Vector::kGeneralProtection, selector);
}

OrFault<void> interrupt_to_task(Cpu&, const Descriptor& gate, const TaskSwitch& how) {
  return selector_fault(Vector::kGeneralProtection, gate.gate_selector(), how.ext);
}

OrFault<void> return_from_task(Cpu&, uint32_t) {
  return Fault::with_error(Vector::kInvalidTss, 0);
}

}  // namespace trapline
