// Writes AML, the byte code of ACPI, as far as a small table needs it. Each function returns the
// bytes of one term, and terms are put together by join():
//
//   aml::scope("\\_SB", aml::device("COM1", aml::join({aml::name("_HID", aml::eisa_id("PNP0501")),
//                                                      aml::name("_UID", aml::integer(1))})));
//
// Names that break the grammar are broken invariants: only constants are passed here.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string_view>
#include <vector>

namespace trapline::aml {

using Bytes = std::vector<uint8_t>;

Bytes join(std::initializer_list<Bytes> terms);

// --- Values -------------------------------------------------------------------------------------

Bytes integer(uint32_t value);
/// The packed form of an identifier as "PNP0A03".
Bytes eisa_id(std::string_view id);
/// At most 255 elements.
Bytes package(const std::vector<Bytes>& elements);
Bytes buffer(const Bytes& content);

/// A name where a value or a target is expected: up to four characters for each segment, segments
/// parted by dots, a backslash before what starts at the root.
Bytes path(std::string_view name);
/// The number of one of a method's arguments, from 0.
Bytes argument(uint8_t number);

// --- Objects ------------------------------------------------------------------------------------

Bytes name(std::string_view name, const Bytes& value);
Bytes scope(std::string_view name, const Bytes& body);
Bytes device(std::string_view name, const Bytes& body);
Bytes method(std::string_view name, uint8_t arguments, const Bytes& body);

// --- What methods do ----------------------------------------------------------------------------

Bytes store(const Bytes& value, const Bytes& target);
Bytes if_true(const Bytes& condition, const Bytes& body);
Bytes return_value(const Bytes& value);

// --- Resources ----------------------------------------------------------------------------------

/// What _CRS says, as the content of a buffer.
class Resources {
 public:
  Resources& ports(uint16_t first, uint8_t count);
  /// An ISA interrupt: an edge, active high.
  Resources& irq(int number);
  // What a bridge passes on to the bus behind it; `last` belongs to it.
  Resources& bus_window(uint16_t first, uint16_t last);
  Resources& port_window(uint16_t first, uint16_t last);
  enum class Caching : uint8_t { kUncached = 0, kCached = 1 };
  Resources& memory_window(uint32_t first, uint32_t last, Caching caching);
  /// With the end that a list needs.
  Bytes as_buffer() const;

 private:
  void word_window(uint8_t kind, uint8_t flags, uint16_t first, uint16_t last);
  Bytes content_;
};

}  // namespace trapline::aml
