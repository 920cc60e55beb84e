#include "runtime/devices/pic8259_pair.h"

#include "vcpu/assert.h"

namespace trapline {
namespace {

constexpr std::string_view kTag = "pic8259";
constexpr uint32_t kVersion = 1;

/// The inputs that may be made level-triggered.
constexpr uint8_t kMasterElcr = 0xf8, kSlaveElcr = 0xde;
/// What a chip answers when the request is gone.
constexpr uint8_t kSpurious = 7;

}  // namespace

Pic8259Pair::Pic8259Pair(InterruptLine& intr) : intr_(intr) {
  for (uint8_t irq = 0; irq < kIrqs; ++irq) {
    inputs_[irq].pair = this;
    inputs_[irq].irq = irq;
  }
}

InterruptLine& Pic8259Pair::line(int irq) {
  TRAPLINE_ASSERT(irq >= 0 && irq < kIrqs);
  return inputs_[static_cast<size_t>(irq)];
}

void Pic8259Pair::connect(PortBus& bus) {
  bus.claim(kMaster, kPorts, master_ports_);
  bus.claim(kSlave, kPorts, slave_ports_);
  bus.claim(kElcr, kPorts, elcr_ports_);
}

void Pic8259Pair::set_irq(uint8_t irq, bool asserted) {
  if (irq == kCascade) return;
  (irq < 8 ? master_ : slave_).set_input(irq & 7, asserted);
  update();
}

void Pic8259Pair::update() {
  master_.set_input(kCascade, slave_.output());
  const bool level = master_.output();
  if (level == announced_) return;
  announced_ = level;
  intr_.set(level);
}

uint8_t Pic8259Pair::acknowledge() {
  const auto taken = master_.acknowledge();
  uint8_t vector = master_.vector_of(taken.value_or(kSpurious));
  if (taken == kCascade) {
    vector = slave_.vector_of(slave_.acknowledge().value_or(kSpurious));
    // The slave's output falls meanwhile, so that what it has next is an edge for the master.
    master_.set_input(kCascade, false);
  }
  master_.set_input(kCascade, slave_.output());
  announced_ = master_.output();
  intr_.set(announced_);
  return vector;
}

uint8_t Pic8259Pair::ChipPorts::port_read(uint16_t offset) {
  const bool polled = chip_.polling();
  const uint8_t value = chip_.read(offset != 0);
  if (polled && &chip_ == &pair_.slave_) pair_.master_.set_input(kCascade, false);
  pair_.update();
  return value;
}

void Pic8259Pair::ChipPorts::port_write(uint16_t offset, uint8_t value) {
  chip_.write(offset != 0, value);
  pair_.update();
}

uint8_t Pic8259Pair::ElcrPorts::port_read(uint16_t offset) {
  return offset == 0 ? pair_.master_.level_triggered() : pair_.slave_.level_triggered();
}

void Pic8259Pair::ElcrPorts::port_write(uint16_t offset, uint8_t value) {
  if (offset == 0)
    pair_.master_.set_level_triggered(value & kMasterElcr);
  else
    pair_.slave_.set_level_triggered(value & kSlaveElcr);
  pair_.update();
}

void Pic8259Pair::reset() {
  master_.reset();
  slave_.reset();
  update();
}

void Pic8259Pair::save(SnapshotWriter& out) const {
  out.begin(kTag, kVersion);
  master_.save(out);
  slave_.save(out);
  out.end();
}

Result<void> Pic8259Pair::load(SnapshotReader& in) {
  in.begin(kTag, kVersion);
  master_.load(in);
  slave_.load(in);
  if (auto read = in.end(); !read.ok()) return read;
  master_.commit();
  slave_.commit();
  announced_ = master_.output();
  intr_.set(announced_);
  return {};
}

}  // namespace trapline
