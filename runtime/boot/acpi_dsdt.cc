#include "runtime/boot/acpi_dsdt.h"

#include <array>
#include <string>

#include "runtime/boot/ram_layout.h"
#include "runtime/devices/acpi_pm.h"
#include "runtime/devices/interrupt_router.h"
#include "runtime/devices/pci_bus.h"
#include "runtime/devices/pci_chipset.h"
#include "vcpu/assert.h"

namespace trapline {
namespace {

using aml::Bytes;
using aml::Resources;

// Where the guest says which interrupt controllers it uses: 0 for the 8259s, else the APICs.
constexpr std::string_view kModel = "PICF";

/// One entry for each pin of each device but the host bridge. No link devices: an interrupt is what
/// it is, by the function that maps a PIRQ to it.
template <typename InterruptOf>
Bytes routing_table(InterruptOf interrupt_of) {
  constexpr uint32_t kAnyFunction = 0xffff;
  std::vector<Bytes> entries;
  for (int device = 1; device < InterruptRouter::kSlots; ++device) {
    for (int pin = 0; pin < InterruptRouter::kPirqs; ++pin) {
      const int pirq = InterruptRouter::pirq_of(device, pin);
      entries.push_back(
          aml::package({aml::integer(static_cast<uint32_t>(device) << 16 | kAnyFunction),
                        aml::integer(static_cast<uint32_t>(pin)), aml::integer(0),
                        aml::integer(interrupt_of(pirq))}));
    }
  }
  return aml::package(entries);
}

Bytes interrupt_routing() {
  const auto io_apic_pin = [](int pirq) {
    return static_cast<uint32_t>(InterruptRouter::kFirstPirqPin + pirq);
  };
  const auto isa_irq = [](int pirq) {
    return uint32_t{IsaBridge::kFirmwareIrqs[static_cast<size_t>(pirq)]};
  };
  return aml::join(
      {aml::name("PRTA", routing_table(io_apic_pin)), aml::name("PRTP", routing_table(isa_irq)),
       aml::method("_PRT", 0,
                   aml::join({aml::if_true(aml::path(kModel), aml::return_value(aml::path("PRTA"))),
                              aml::return_value(aml::path("PRTP"))}))});
}

/// All ports but the bus's own, the screen's memory, and what lies between RAM and the APICs.
Bytes bus_windows() {
  constexpr uint16_t kOwn = PciBus::kPort, kAfterOwn = PciBus::kPort + PciBus::kPorts;
  constexpr auto kHole = static_cast<uint32_t>(RamLayout::kHoleStart);
  return Resources()
      .bus_window(0, 0xff)
      .ports(kOwn, PciBus::kPorts)
      .port_window(0, kOwn - 1)
      .port_window(kAfterOwn, 0xffff)
      .memory_window(0xa0000, 0xbffff, Resources::Caching::kCached)
      .memory_window(kHole, 0xfebfffff, Resources::Caching::kUncached)
      .as_buffer();
}

Bytes board_device(std::string_view name, std::string_view id, const Resources& resources) {
  return aml::device(name, aml::join({aml::name("_HID", aml::eisa_id(id)),
                                      aml::name("_CRS", resources.as_buffer())}));
}

Bytes serial_port(int index) {
  struct Place {
    uint16_t port;
    int irq;
  };
  constexpr std::array<Place, 4> kPlaces = {{{0x3f8, 4}, {0x2f8, 3}, {0x3e8, 4}, {0x2e8, 3}}};
  const Place& place = kPlaces[static_cast<size_t>(index)];
  const auto number = static_cast<uint32_t>(index + 1);
  return aml::device(
      "COM" + std::to_string(number),
      aml::join({aml::name("_HID", aml::eisa_id("PNP0501")),
                 aml::name("_UID", aml::integer(number)),
                 aml::name("_CRS", Resources().ports(place.port, 8).irq(place.irq).as_buffer())}));
}

/// Ports that belong to the board, for nobody else to be put there.
Resources board_ports() {
  return Resources()
      .ports(0x61, 1)
      .ports(0x92, 1)
      .ports(AcpiPm::kSmiPort, AcpiPm::kSmiPorts)
      .ports(0x4d0, 2)
      .ports(AcpiPm::kPort, AcpiPm::kPorts);
}

Bytes isa_bridge(int serial_ports) {
  constexpr auto kAddress = static_cast<uint32_t>(IsaBridge::kDevice << 16 | IsaBridge::kFunction);
  Bytes body = aml::join(
      {aml::name("_ADR", aml::integer(kAddress)), board_device("BRD", "PNP0C02", board_ports()),
       board_device("PIC", "PNP0000", Resources().ports(0x20, 2).ports(0xa0, 2).irq(2)),
       board_device("PIT", "PNP0100", Resources().ports(0x40, 4).irq(0)),
       board_device("RTC", "PNP0B00", Resources().ports(0x70, 2).irq(8)),
       board_device("KBD", "PNP0303", Resources().ports(0x60, 1).ports(0x64, 1).irq(1))});
  for (int i = 0; i < serial_ports; ++i) body = aml::join({body, serial_port(i)});
  return aml::device("ISA", body);
}

Bytes root_bridge(int serial_ports) {
  return aml::device(
      "PCI0",
      aml::join({aml::name("_HID", aml::eisa_id("PNP0A03")), aml::name("_UID", aml::integer(0)),
                 aml::name("_BBN", aml::integer(0)), aml::name("_CRS", bus_windows()),
                 interrupt_routing(), isa_bridge(serial_ports)}));
}

/// Both sleep types of S5, for the PM1a and the PM1b control register, and what is reserved.
Bytes soft_off() {
  const Bytes type = aml::integer(AcpiPm::kSoftOff), reserved = aml::integer(0);
  return aml::name("\\_S5", aml::package({type, type, reserved, reserved}));
}

}  // namespace

Bytes dsdt_definitions(int serial_ports) {
  TRAPLINE_ASSERT(serial_ports >= 0 && serial_ports <= 4);
  return aml::join({aml::name(kModel, aml::integer(0)),
                    aml::method("\\_PIC", 1, aml::store(aml::argument(0), aml::path(kModel))),
                    soft_off(), aml::scope("\\_SB", root_bridge(serial_ports))});
}

}  // namespace trapline
