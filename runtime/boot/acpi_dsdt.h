// The DSDT's definitions, in AML.
#pragma once

#include "runtime/boot/aml.h"

namespace trapline {

/// All that follows the table's header. `serial_ports`: COM1 to COM4.
aml::Bytes dsdt_definitions(int serial_ports);

}  // namespace trapline
