// The devices of a PC and the wires between them.
#pragma once

#include <functional>
#include <memory>
#include <optional>

#include "runtime/devices/acpi_pm.h"
#include "runtime/devices/clock.h"
#include "runtime/devices/cmos_rtc.h"
#include "runtime/devices/coprocessor_error.h"
#include "runtime/devices/debug_console.h"
#include "runtime/devices/debug_exit.h"
#include "runtime/devices/dma8237.h"
#include "runtime/devices/i8042.h"
#include "runtime/devices/interrupt_router.h"
#include "runtime/devices/io_apic.h"
#include "runtime/devices/local_apic.h"
#include "runtime/devices/pci_bus.h"
#include "runtime/devices/pci_chipset.h"
#include "runtime/devices/pic8259_pair.h"
#include "runtime/devices/pit8254.h"
#include "runtime/devices/port_bus.h"
#include "runtime/devices/ps2_keyboard.h"
#include "runtime/devices/ps2_mouse.h"
#include "runtime/devices/system_control.h"
#include "runtime/devices/uart16550.h"

namespace trapline {

/// Where the wires of the board end: the CPU's pins and the front panel.
struct BoardEnds {
  InterruptLine& intr;
  std::function<void()> nmi;
  /// Whether bit 20 of addresses gets through; called when it may have changed.
  std::function<void(bool)> a20;
  std::function<void(bool)> ignne;  ///< Whether the CPU is to ignore x87 errors.
  std::function<void()> power_off;
  std::function<void()> reset;
  std::function<void()> debug_exit;
  CharacterBackend& serial;
  CharacterBackend& debug_console;
};

class PcBoard {
 public:
  /// With a local APIC the 8259s' output goes to it, without one to the CPU.
  PcBoard(const Clock& clock, bool local_apic, BoardEnds ends);

  /// Everything as after power-on, with what firmware would have programmed where there is none.
  void reset();
  /// From now on a reset leaves all programming to a firmware.
  void expect_firmware();
  /// What the CPU asks for the vector of an interrupt.
  InterruptSource& interrupt_source();

  EventQueue queue;
  PortBus bus;

 private:
  const bool has_local_apic_;
  BoardEnds ends_;

  /// Joins the 8259s to the local APIC, which is built after them.
  class PicOutput : public InterruptLine {
   public:
    explicit PicOutput(PcBoard& board) : board_(board) {}
    void set(bool asserted) override;

   private:
    PcBoard& board_;
  };
  PicOutput pic_output_{*this};

  /// What the CPU acknowledges, and the 8254 hears of.
  class TakenInterrupts : public InterruptSource {
   public:
    explicit TakenInterrupts(PcBoard& board) : board_(board) {}
    uint8_t acknowledge() override;

   private:
    PcBoard& board_;
  };
  TakenInterrupts taken_interrupts_{*this};

  /// Either gate opens the line.
  void set_keyboard_a20(bool open);
  void set_fast_a20(bool open);
  bool has_firmware_ = false;

  /// Nowhere, when somebody else has the ports.
  void decode_power_management(std::optional<uint16_t> base);
  std::optional<uint16_t> power_management_;
  bool keyboard_a20_ = true;
  bool fast_a20_ = false;

 public:
  Pic8259Pair pic{pic_output_};
  LocalApic local_apic;
  IoApic io_apic{local_apic};
  InterruptRouter router;
  Pit8254 pit;
  CmosRtc rtc;
  Ps2Keyboard keyboard;
  Ps2Mouse mouse;
  I8042 keyboard_controller;
  SystemControl system_control;
  Dma8237Pair dma;
  PciBus pci;
  HostBridge host_bridge;
  IsaBridge isa_bridge;
  AcpiPm acpi;
  PowerFunction power_function;
  Uart16550 uart;
  DebugConsole debug_console;
  DebugExit debug_exit;
  CoprocessorError coprocessor_error;

 private:
  InterruptRouter::Controllers controllers();
};

}  // namespace trapline
