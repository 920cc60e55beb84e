#include "runtime/boot/aml.h"

#include "vcpu/assert.h"

namespace trapline::aml {
namespace {

enum Op : uint8_t {
  kZero = 0x00,
  kOne = 0x01,
  kName = 0x08,
  kByte = 0x0a,
  kWord = 0x0b,
  kDword = 0x0c,
  kScope = 0x10,
  kBuffer = 0x11,
  kPackage = 0x12,
  kMethod = 0x14,
  kTwoSegments = 0x2e,
  kManySegments = 0x2f,
  kExtended = 0x5b,
  kArgument0 = 0x68,
  kStore = 0x70,
  kDevice = 0x82,  // After kExtended.
  kIf = 0xa0,
  kReturn = 0xa4,
};

void append(Bytes& to, const Bytes& what) {
  to.insert(to.end(), what.begin(), what.end());
}

void append_little(Bytes& to, uint32_t value, int size) {
  for (int i = 0; i < size; ++i) to.push_back(static_cast<uint8_t>(value >> (8 * i)));
}

/// The length of a term after its opcode, which counts its own one to four bytes. The first byte
/// says in its top bits how many follow; when some do, it holds only four bits.
Bytes length_of(size_t rest) {
  if (rest + 1 < 0x40) return {static_cast<uint8_t>(rest + 1)};
  for (size_t more = 1; more <= 3; ++more) {
    const size_t total = rest + 1 + more;
    if (total >> (4 + 8 * more) != 0) continue;
    Bytes length = {static_cast<uint8_t>(more << 6 | (total & 0xf))};
    append_little(length, static_cast<uint32_t>(total >> 4), static_cast<int>(more));
    return length;
  }
  TRAPLINE_ASSERT(!"an AML term of 256 MiB");
  return {};
}

/// An opcode, the length of the rest, and the rest.
Bytes sized(std::initializer_list<uint8_t> opcode, const Bytes& rest) {
  return join({Bytes(opcode), length_of(rest.size()), rest});
}

/// Shorter ones are filled up with underscores.
Bytes segment(std::string_view text) {
  TRAPLINE_ASSERT(!text.empty() && text.size() <= 4);
  Bytes bytes(4, '_');
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    TRAPLINE_ASSERT(c == '_' || (c >= 'A' && c <= 'Z') || (i > 0 && c >= '0' && c <= '9'));
    bytes[i] = static_cast<uint8_t>(c);
  }
  return bytes;
}

uint32_t hex_digit(char c) {
  TRAPLINE_ASSERT((c >= '0' && c <= '9') || (c >= 'A' && c <= 'F'));
  return static_cast<uint32_t>(c <= '9' ? c - '0' : c - 'A' + 10);
}

}  // namespace

Bytes join(std::initializer_list<Bytes> terms) {
  Bytes all;
  for (const Bytes& term : terms) append(all, term);
  return all;
}

Bytes integer(uint32_t value) {
  if (value == 0) return {kZero};
  if (value == 1) return {kOne};
  const int size = value < 0x100 ? 1 : value < 0x10000 ? 2 : 4;
  Bytes bytes = {size == 1 ? kByte : size == 2 ? kWord : kDword};
  append_little(bytes, value, size);
  return bytes;
}

/// Three letters of five bits and four digits of four, the highest first, in big-endian order.
Bytes eisa_id(std::string_view id) {
  TRAPLINE_ASSERT(id.size() == 7);
  uint32_t packed = 0;
  for (const char c : id.substr(0, 3)) {
    TRAPLINE_ASSERT(c >= 'A' && c <= 'Z');
    packed = packed << 5 | static_cast<uint32_t>(c - 'A' + 1);
  }
  for (const char c : id.substr(3)) packed = packed << 4 | hex_digit(c);
  return integer(__builtin_bswap32(packed));
}

Bytes package(const std::vector<Bytes>& elements) {
  TRAPLINE_ASSERT(elements.size() <= 255);
  Bytes rest = {static_cast<uint8_t>(elements.size())};
  for (const Bytes& element : elements) append(rest, element);
  return sized({kPackage}, rest);
}

Bytes buffer(const Bytes& content) {
  return sized({kBuffer}, join({integer(static_cast<uint32_t>(content.size())), content}));
}

Bytes path(std::string_view name) {
  Bytes bytes;
  if (name.starts_with('\\')) {
    bytes.push_back('\\');
    name.remove_prefix(1);
  }
  std::vector<Bytes> segments;
  for (;;) {
    const size_t dot = name.find('.');
    segments.push_back(segment(name.substr(0, dot)));
    if (dot == name.npos) break;
    name.remove_prefix(dot + 1);
  }
  if (segments.size() == 2) bytes.push_back(kTwoSegments);
  if (segments.size() > 2) append(bytes, {kManySegments, static_cast<uint8_t>(segments.size())});
  for (const Bytes& one : segments) append(bytes, one);
  return bytes;
}

Bytes argument(uint8_t number) {
  TRAPLINE_ASSERT(number < 7);
  return {static_cast<uint8_t>(kArgument0 + number)};
}

Bytes name(std::string_view name, const Bytes& value) {
  return join({{kName}, path(name), value});
}

Bytes scope(std::string_view name, const Bytes& body) {
  return sized({kScope}, join({path(name), body}));
}

Bytes device(std::string_view name, const Bytes& body) {
  return sized({kExtended, kDevice}, join({path(name), body}));
}

Bytes method(std::string_view name, uint8_t arguments, const Bytes& body) {
  TRAPLINE_ASSERT(arguments <= 7);
  return sized({kMethod}, join({path(name), {arguments}, body}));
}

Bytes store(const Bytes& value, const Bytes& target) {
  return join({{kStore}, value, target});
}

Bytes if_true(const Bytes& condition, const Bytes& body) {
  return sized({kIf}, join({condition, body}));
}

Bytes return_value(const Bytes& value) {
  return join({{kReturn}, value});
}

// --- Resources ----------------------------------------------------------------------------------

namespace {

enum Tag : uint8_t {
  kIrqTag = 0x22,
  kPortsTag = 0x47,
  kEndTag = 0x79,
  kDwordWindowTag = 0x87,
  kWordWindowTag = 0x88,
};
enum WindowKind : uint8_t { kMemory = 0, kPorts = 1, kBus = 2 };

constexpr uint8_t kDecodes16Bits = 1;
constexpr uint8_t kFixedProducer = 0x0c;  // Both ends are fixed; it passes them on.
constexpr uint8_t kAllPorts = 3;          // Not only, or all but, those of ISA.
constexpr uint8_t kWritable = 1;

}  // namespace

Resources& Resources::ports(uint16_t first, uint8_t count) {
  append(content_, {kPortsTag, kDecodes16Bits});
  append_little(content_, first, 2);
  append_little(content_, first, 2);
  append(content_, {1, count});
  return *this;
}

Resources& Resources::irq(int number) {
  TRAPLINE_ASSERT(number >= 0 && number < 16);
  content_.push_back(kIrqTag);
  append_little(content_, 1u << number, 2);
  return *this;
}

void Resources::word_window(uint8_t kind, uint8_t flags, uint16_t first, uint16_t last) {
  content_.push_back(kWordWindowTag);
  append_little(content_, 13, 2);
  append(content_, {kind, kFixedProducer, flags});
  append_little(content_, 0, 2);  // Granularity.
  append_little(content_, first, 2);
  append_little(content_, last, 2);
  append_little(content_, 0, 2);  // Translation.
  append_little(content_, last - first + 1u, 2);
}

Resources& Resources::bus_window(uint16_t first, uint16_t last) {
  word_window(kBus, 0, first, last);
  return *this;
}

Resources& Resources::port_window(uint16_t first, uint16_t last) {
  word_window(kPorts, kAllPorts, first, last);
  return *this;
}

Resources& Resources::memory_window(uint32_t first, uint32_t last, Caching caching) {
  content_.push_back(kDwordWindowTag);
  append_little(content_, 23, 2);
  const auto flags = static_cast<uint8_t>(kWritable | static_cast<uint8_t>(caching) << 1);
  append(content_, {kMemory, kFixedProducer, flags});
  append_little(content_, 0, 4);
  append_little(content_, first, 4);
  append_little(content_, last, 4);
  append_little(content_, 0, 4);
  append_little(content_, last - first + 1, 4);
  return *this;
}

Bytes Resources::as_buffer() const {
  return buffer(join({content_, {kEndTag, 0}}));  // 0: no checksum.
}

}  // namespace trapline::aml
