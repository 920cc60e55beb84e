#include "runtime/pc/board.h"

#include <utility>

namespace trapline {

namespace {
constexpr int kSerialIrq = 4, kAcpiIrq = 9, kCoprocessorIrq = 13;
}

void PcBoard::PicOutput::set(bool asserted) {
  if (board_.has_local_apic_)
    board_.local_apic.lint0().set(asserted);
  else
    board_.ends_.intr.set(asserted);
}

PcBoard::PcBoard(const Clock& clock, bool has_local_apic, BoardEnds ends)
    : queue(clock),
      has_local_apic_(has_local_apic),
      ends_(std::move(ends)),
      local_apic(queue, ends_.intr, pic, ends_.nmi),
      router(controllers()),
      pit(queue, router.isa(0)),
      rtc(queue, router.isa(8)),
      keyboard_controller(queue, keyboard, mouse,
                          {router.isa(1), router.isa(12),
                           [this](bool open) { set_keyboard_a20(open); }, ends_.reset}),
      system_control([this](bool open) { set_fast_a20(open); }, ends_.reset),
      pci(&system_control.reset_control()),
      isa_bridge(router),
      acpi(queue, router.isa(kAcpiIrq), ends_.power_off),
      power_function([this](std::optional<uint16_t> base) { decode_power_management(base); }),
      uart(ends_.serial, &router.isa(kSerialIrq)),
      debug_console(ends_.debug_console),
      debug_exit(ends_.debug_exit),
      coprocessor_error(router.isa(kCoprocessorIrq), ends_.ignne) {
  local_apic.on_end_of_level([this](uint8_t vector) { io_apic.end_of(vector); });
  local_apic.on_init(ends_.reset);
  pci.add(HostBridge::kDevice, HostBridge::kFunction, host_bridge);
  pci.add(IsaBridge::kDevice, IsaBridge::kFunction, isa_bridge);
  pci.add(PowerFunction::kDevice, PowerFunction::kFunction, power_function);
  pic.connect(bus);
  pit.connect(bus);
  keyboard_controller.connect(bus);
  dma.connect(bus);
  bus.claim(CmosRtc::kPort, CmosRtc::kPorts, rtc);
  bus.claim(SystemControl::kPortA, 1, system_control.port_a());
  bus.claim(PciBus::kPort, PciBus::kPorts, pci);
  bus.claim(AcpiPm::kSmiPort, AcpiPm::kSmiPorts, acpi.smi_command());
  bus.claim(Uart16550::kCom1, Uart16550::kPorts, uart);
  bus.claim(DebugConsole::kPort, DebugConsole::kPorts, debug_console);
  bus.claim(DebugConsole::kFirmwarePort, DebugConsole::kPorts, debug_console);
  bus.claim(DebugExit::kPort, DebugExit::kPorts, debug_exit);
  bus.claim(CoprocessorError::kPort, CoprocessorError::kPorts, coprocessor_error);
  reset();
}

void PcBoard::set_keyboard_a20(bool open) {
  keyboard_a20_ = open;
  ends_.a20(keyboard_a20_ || fast_a20_);
}

void PcBoard::set_fast_a20(bool open) {
  fast_a20_ = open;
  ends_.a20(keyboard_a20_ || fast_a20_);
}

void PcBoard::decode_power_management(std::optional<uint16_t> base) {
  if (power_management_) bus.release(*power_management_, AcpiPm::kPorts);
  power_management_.reset();
  if (!base || !bus.is_free(*base, AcpiPm::kPorts)) return;
  bus.claim(*base, AcpiPm::kPorts, acpi);
  power_management_ = base;
}

InterruptRouter::Controllers PcBoard::controllers() {
  InterruptRouter::Controllers all;
  for (int irq = 0; irq < InterruptRouter::kIsaIrqs; ++irq)
    all.pic[static_cast<size_t>(irq)] = &pic.line(irq);
  for (int pin = 0; pin < InterruptRouter::kIoApicPins && has_local_apic_; ++pin)
    all.io_apic[static_cast<size_t>(pin)] = &io_apic.line(pin);
  return all;
}

uint8_t PcBoard::TakenInterrupts::acknowledge() {
  const uint8_t vector =
      board_.has_local_apic_ ? board_.local_apic.acknowledge() : board_.pic.acknowledge();
  board_.pit.interrupt_taken();
  return vector;
}

InterruptSource& PcBoard::interrupt_source() {
  return taken_interrupts_;
}

void PcBoard::expect_firmware() {
  has_firmware_ = true;
  reset();
}

void PcBoard::reset() {
  const std::initializer_list<Device*> devices = {&local_apic,
                                                  &io_apic,
                                                  &pic,
                                                  &pit,
                                                  &rtc,
                                                  &keyboard,
                                                  &mouse,
                                                  &keyboard_controller,
                                                  &system_control,
                                                  &dma,
                                                  &pci,
                                                  &host_bridge,
                                                  &isa_bridge,
                                                  &acpi,
                                                  &power_function,
                                                  &uart,
                                                  &debug_console,
                                                  &debug_exit,
                                                  &coprocessor_error};
  for (Device* device : devices) device->reset();
  if (has_firmware_) return;
  isa_bridge.program_as_firmware();
  power_function.program_as_firmware(AcpiPm::kPort);
}

}  // namespace trapline
