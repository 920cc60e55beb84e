#include "runtime/devices/interrupt_router.h"

#include "vcpu/assert.h"

namespace trapline {
namespace {

constexpr int kTimerIrq = 0, kTimerPin = 2, kCascadeIrq = 2;
constexpr int kNowhere = -1;

/// IRQs that the board itself uses cannot be shared.
constexpr int irq_of_route(uint8_t value) {
  constexpr uint32_t kReserved = 1u << 0 | 1u << 1 | 1u << 2 | 1u << 8 | 1u << 13;
  const int irq = value & 0xf;
  if ((value & InterruptRouter::kRouteOff) || (kReserved >> irq & 1)) return kNowhere;
  return irq;
}

void drive(InterruptLine* line, bool asserted) {
  if (line != nullptr) line->set(asserted);
}

}  // namespace

InterruptRouter::InterruptRouter(const Controllers& controllers) : controllers_(controllers) {
  for (int irq = 0; irq < kIsaIrqs; ++irq)
    isa_.emplace_back(*this, &InterruptRouter::isa_changed, irq);
  for (int i = 0; i < kSlots * kPirqs; ++i)
    slots_.emplace_back(*this, &InterruptRouter::slot_changed, i);
  routes_.fill(kRouteOff);
}

InterruptLine& InterruptRouter::isa(int irq) {
  TRAPLINE_ASSERT(irq >= 0 && irq < kIsaIrqs);
  return isa_[static_cast<size_t>(irq)];
}

InterruptLine& InterruptRouter::pci(int device, int pin) {
  TRAPLINE_ASSERT(device >= 0 && device < kSlots && pin >= 0 && pin < kPirqs);
  return slots_[static_cast<size_t>(device * kPirqs + pin)];
}

void InterruptRouter::isa_changed(int irq, bool asserted) {
  drive_irq(irq, asserted ? 1 : -1);
  if (irq == kCascadeIrq) return;
  const int pin = irq == kTimerIrq ? kTimerPin : irq;
  drive(controllers_.io_apic[static_cast<size_t>(pin)], asserted);
}

void InterruptRouter::slot_changed(int index, bool asserted) {
  const int pirq = pirq_of(index / kPirqs, index % kPirqs);
  int& asserting = slots_asserted_[static_cast<size_t>(pirq)];
  asserting += asserted ? 1 : -1;
  if (asserting != (asserted ? 1 : 0)) return;
  drive(controllers_.io_apic[static_cast<size_t>(kFirstPirqPin + pirq)], asserted);
  drive_irq(irq_of_route(routes_[static_cast<size_t>(pirq)]), asserted ? 1 : -1);
}

void InterruptRouter::route(int pirq, uint8_t value) {
  TRAPLINE_ASSERT(pirq >= 0 && pirq < kPirqs);
  uint8_t& route = routes_[static_cast<size_t>(pirq)];
  const int before = irq_of_route(route), after = irq_of_route(value);
  route = value;
  if (before == after || slots_asserted_[static_cast<size_t>(pirq)] == 0) return;
  drive_irq(before, -1);
  drive_irq(after, 1);
}

void InterruptRouter::drive_irq(int irq, int by) {
  if (irq == kNowhere) return;
  int& asserting = asserted_[static_cast<size_t>(irq)];
  const bool was = asserting > 0;
  asserting += by;
  const bool is = asserting > 0;
  if (was != is) drive(controllers_.pic[static_cast<size_t>(irq)], is);
}

}  // namespace trapline
