#include "runtime/devices/uart16550.h"

#include <algorithm>

namespace trapline {
namespace {

constexpr std::string_view kTag = "uart16550";
constexpr uint32_t kVersion = 1;

enum Register : uint16_t {
  kData = 0,             // RBR, THR; DLL
  kInterruptEnable = 1,  // IER; DLM
  kIdentification = 2,   // IIR; FCR when written
  kLineControl = 3,
  kModemControl = 4,
  kLineStatus = 5,
  kModemStatus = 6,
  kScratch = 7,
};

namespace ier {
constexpr uint8_t kReceived = 1, kTransmitter = 2, kLine = 4, kModem = 8, kAll = 15;
}
namespace iir {
constexpr uint8_t kModem = 0, kNone = 1, kTransmitter = 2, kReceived = 4, kLine = 6, kTimeout = 12;
constexpr uint8_t kFifos = 0xc0;
}  // namespace iir
namespace fcr {
constexpr uint8_t kEnable = 1, kClearReceiver = 2, kDma = 8, kTrigger = 0xc0;
constexpr uint8_t kKept = kEnable | kDma | kTrigger;
}  // namespace fcr
namespace lcr {
constexpr uint8_t kWordLength = 3, kDivisorLatch = 0x80;
}
namespace mcr {
constexpr uint8_t kDtr = 1, kRts = 2, kOut1 = 4, kOut2 = 8, kLoopback = 16, kAll = 31;
}
namespace lsr {
constexpr uint8_t kDataReady = 1, kOverrun = 2, kBreak = 16, kTransmitterIdle = 0x60;
}
namespace msr {
constexpr uint8_t kCts = 0x10, kDsr = 0x20, kRing = 0x40, kCarrier = 0x80;
constexpr uint8_t kRingEnded = 4, kChanges = 15;
}  // namespace msr

constexpr std::array<uint8_t, 4> kTriggerLevels = {1, 4, 8, 14};

}  // namespace

Uart16550::Uart16550(CharacterBackend& backend, InterruptLine* line)
    : backend_(backend), line_(line) {}

bool Uart16550::fifo_enabled() const {
  return state_.fifo_control & fcr::kEnable;
}
bool Uart16550::loopback() const {
  return state_.modem_control & mcr::kLoopback;
}
bool Uart16550::divisor_latch() const {
  return state_.line_control & lcr::kDivisorLatch;
}

uint8_t Uart16550::port_read(uint16_t offset) {
  switch (offset) {
    case kData:
      return divisor_latch() ? static_cast<uint8_t>(state_.divisor) : read_received();
    case kInterruptEnable:
      return divisor_latch() ? static_cast<uint8_t>(state_.divisor >> 8) : state_.interrupt_enable;
    case kIdentification:
      return read_identification();
    case kLineControl:
      return state_.line_control;
    case kModemControl:
      return state_.modem_control;
    case kLineStatus:
      return read_line_status();
    case kModemStatus:
      return read_modem_status();
    default:
      return state_.scratch;
  }
}

void Uart16550::port_write(uint16_t offset, uint8_t value) {
  switch (offset) {
    case kData:
      if (divisor_latch())
        state_.divisor = static_cast<uint16_t>((state_.divisor & 0xff00) | value);
      else
        transmit(value);
      break;
    case kInterruptEnable:
      if (divisor_latch())
        state_.divisor = static_cast<uint16_t>((state_.divisor & 0x00ff) | value << 8);
      else
        write_interrupt_enable(value);
      break;
    case kIdentification:
      write_fifo_control(value);
      break;
    case kLineControl:
      state_.line_control = value;
      break;
    case kModemControl:
      write_modem_control(value);
      break;
    case kScratch:
      state_.scratch = value;
      break;
    default:  // LSR and MSR are written by nobody outside the factory.
      break;
  }
}

/// Not so where the read takes something away.
bool Uart16550::changes_by_events_only(uint16_t offset) const {
  switch (offset) {
    case kData:
      return divisor_latch() || state_.received == 0;
    case kIdentification:
      return pending_interrupt() != iir::kTransmitter;
    case kLineStatus:
      return state_.line_errors == 0;
    case kModemStatus:
      return state_.modem_changes == 0;
    default:
      return true;
  }
}

void Uart16550::poll() {
  refill();
  update_line();
}

bool Uart16550::may_interrupt() const {
  return (state_.interrupt_enable & ier::kReceived) && (state_.modem_control & mcr::kOut2) &&
         !loopback();
}

void Uart16550::transmit(uint8_t value) {
  state_.transmitter_interrupt = false;  // An edge-triggered controller sees the line fall,
  update_line();                         // and rise again below.
  if (loopback()) {
    const int bits = 5 + (state_.line_control & lcr::kWordLength);
    receive(static_cast<uint8_t>(value & ((1u << bits) - 1)));
  } else {
    backend_.write(value);
  }
  state_.transmitter_interrupt = true;
  update_line();
}

void Uart16550::receive(uint8_t value) {
  if (state_.received < capacity()) {
    state_.fifo[state_.received++] = value;
    return;
  }
  state_.line_errors |= lsr::kOverrun;
  if (!fifo_enabled()) state_.fifo[0] = value;
}

uint8_t Uart16550::read_received() {
  refill();
  if (state_.received > 0) {
    state_.last_received = state_.fifo[0];
    std::shift_left(state_.fifo.begin(), state_.fifo.begin() + state_.received, 1);
    --state_.received;
    refill();
  }
  update_line();
  return state_.last_received;
}

uint8_t Uart16550::read_identification() {
  refill();
  const uint8_t pending = pending_interrupt();
  if (pending == iir::kTransmitter) state_.transmitter_interrupt = false;
  update_line();
  return pending | (fifo_enabled() ? iir::kFifos : 0);
}

uint8_t Uart16550::read_line_status() {
  refill();
  const uint8_t status =
      lsr::kTransmitterIdle | state_.line_errors | (state_.received > 0 ? lsr::kDataReady : 0);
  state_.line_errors = 0;
  update_line();
  return status;
}

uint8_t Uart16550::read_modem_status() {
  const uint8_t status = modem_inputs() | state_.modem_changes;
  state_.modem_changes = 0;
  update_line();
  return status;
}

void Uart16550::write_interrupt_enable(uint8_t value) {
  const auto turned_on = static_cast<uint8_t>(value & ~state_.interrupt_enable);
  if (turned_on & ier::kTransmitter) state_.transmitter_interrupt = true;
  state_.interrupt_enable = value & ier::kAll;
  update_line();
}

void Uart16550::write_fifo_control(uint8_t value) {
  const bool toggled = (value ^ state_.fifo_control) & fcr::kEnable;
  if (toggled || (value & fcr::kClearReceiver)) state_.received = 0;
  // The other bits can be changed only while the enable bit is written as 1.
  state_.fifo_control = value & fcr::kEnable ? value & fcr::kKept : 0;
  update_line();
}

void Uart16550::write_modem_control(uint8_t value) {
  const uint8_t before = modem_inputs();
  state_.modem_control = value & mcr::kAll;
  const uint8_t after = modem_inputs();
  auto changes = static_cast<uint8_t>((before ^ after) >> 4);
  if (after & msr::kRing) changes &= static_cast<uint8_t>(~msr::kRingEnded);
  state_.modem_changes |= changes;
  update_line();
}

void Uart16550::refill() {
  if (loopback()) return;
  // A break is a zero with an error bit that goes with the next byte to be read: it must be alone.
  if (state_.received == 0 && backend_.take_break()) {
    receive(0);
    state_.line_errors |= lsr::kBreak;
  }
  while (state_.received < capacity()) {
    const auto byte = backend_.read();
    if (!byte) return;
    receive(*byte);
  }
}

/// The cable's other end is always there and ready; in loopback the outputs are the inputs.
uint8_t Uart16550::modem_inputs() const {
  if (!loopback()) return msr::kCts | msr::kDsr | msr::kCarrier;
  uint8_t inputs = 0;
  if (state_.modem_control & mcr::kRts) inputs |= msr::kCts;
  if (state_.modem_control & mcr::kDtr) inputs |= msr::kDsr;
  if (state_.modem_control & mcr::kOut1) inputs |= msr::kRing;
  if (state_.modem_control & mcr::kOut2) inputs |= msr::kCarrier;
  return inputs;
}

/// By priority, as IIR shows it.
uint8_t Uart16550::pending_interrupt() const {
  const uint8_t enabled = state_.interrupt_enable;
  if ((enabled & ier::kLine) && state_.line_errors != 0) return iir::kLine;
  if ((enabled & ier::kReceived) && state_.received > 0) {
    const bool enough =
        !fifo_enabled() || state_.received >= kTriggerLevels[state_.fifo_control >> 6];
    return enough ? iir::kReceived : iir::kTimeout;
  }
  if ((enabled & ier::kTransmitter) && state_.transmitter_interrupt) return iir::kTransmitter;
  if ((enabled & ier::kModem) && state_.modem_changes != 0) return iir::kModem;
  return iir::kNone;
}

void Uart16550::update_line() {
  const bool gated = (state_.modem_control & mcr::kOut2) && !loopback();
  const bool level = gated && pending_interrupt() != iir::kNone;
  if (level == line_level_) return;
  line_level_ = level;
  if (line_ != nullptr) line_->set(level);
}

void Uart16550::reset() {
  const uint8_t scratch = state_.scratch;  // RESET leaves it and the divisor alone.
  const uint16_t divisor = state_.divisor;
  state_ = State{};
  state_.scratch = scratch;
  state_.divisor = divisor;
  update_line();
}

void Uart16550::save(SnapshotWriter& out) const {
  out.begin(kTag, kVersion);
  out.u16(state_.divisor);
  out.u8(state_.interrupt_enable);
  out.u8(state_.fifo_control);
  out.u8(state_.line_control);
  out.u8(state_.modem_control);
  out.u8(state_.line_errors);
  out.u8(state_.modem_changes);
  out.u8(state_.scratch);
  out.u8(state_.last_received);
  out.boolean(state_.transmitter_interrupt);
  out.bytes(std::span(state_.fifo).first(state_.received));
  out.end();
}

Result<void> Uart16550::load(SnapshotReader& in) {
  State loaded;
  in.begin(kTag, kVersion);
  loaded.divisor = in.u16();
  loaded.interrupt_enable = in.u8() & ier::kAll;
  loaded.fifo_control = in.u8() & fcr::kKept;
  loaded.line_control = in.u8();
  loaded.modem_control = in.u8() & mcr::kAll;
  loaded.line_errors = in.u8() & (lsr::kOverrun | lsr::kBreak);
  loaded.modem_changes = in.u8() & msr::kChanges;
  loaded.scratch = in.u8();
  loaded.last_received = in.u8();
  loaded.transmitter_interrupt = in.boolean();
  const auto received = in.bytes(loaded.fifo_control & fcr::kEnable ? kFifoSize : 1);
  if (auto read = in.end(); !read.ok()) return read;
  loaded.received = static_cast<uint8_t>(received.size());
  std::ranges::copy(received, loaded.fifo.begin());
  state_ = loaded;
  update_line();
  return {};
}

}  // namespace trapline
