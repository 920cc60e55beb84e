// The ACPI tables that describe this machine to a guest which no firmware did: RSDP, RSDT, FADT,
// FACS, MADT and a DSDT, with the values of the devices in runtime/devices/.
//
// Interrupts: IRQ 0 is on pin 2 of the I/O APIC; the SCI is IRQ 9, a level; PCI wires are on pins
// 16 to 19, and on the IRQs that IsaBridge::program_as_firmware() gives them while the guest uses
// the 8259s. There is one processor.
#pragma once

#include <cstdint>
#include <vector>

#include "runtime/boot/boot_image.h"

namespace trapline {

struct AcpiOptions {
  /// Where the tables begin: a multiple of 64 in 0xE0000 to 0xFFFFF, where guests search for the
  /// first one. All of that area must be reserved in the map of memory; it must be RAM, since a
  /// guest writes to the FACS.
  uint32_t address = 0xe0000;
  /// COM1 to COM4.
  int serial_ports = 1;
};

/// In the order of their addresses, the RSDP first.
std::vector<BootPiece> build_acpi_tables(const AcpiOptions& options = {});

}  // namespace trapline
