#include "translator/decode_memo.h"

#include <algorithm>
#include <cstring>

namespace trapline {
namespace {

constexpr uint32_t kKeyBytes = 7;
constexpr uint32_t kTagShift = kKeyBytes * 8;

enum class Shape : uint8_t { kPlain, kModrm, kPrefix, kEscape, kUnknown };

/// First bytes. VEX, EVEX and XOP share theirs with LES, LDS, BOUND and POP, which are rare.
constexpr std::array<Shape, 256> kOneByte = [] {
  std::array<Shape, 256> shape{};
  for (uint32_t base = 0; base < 0x40; base += 8)
    for (uint32_t i = 0; i < 4; ++i) shape[base + i] = Shape::kModrm;
  for (uint32_t i : {0x63, 0x69, 0x6b, 0xc0, 0xc1, 0xc6, 0xc7, 0xf6, 0xf7, 0xfe, 0xff})
    shape[i] = Shape::kModrm;
  for (uint32_t i = 0x80; i <= 0x8e; ++i) shape[i] = Shape::kModrm;
  for (uint32_t i = 0xd0; i <= 0xd3; ++i) shape[i] = Shape::kModrm;
  for (uint32_t i = 0xd8; i <= 0xdf; ++i) shape[i] = Shape::kModrm;
  for (uint32_t i : {0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x66, 0x67, 0xf0, 0xf2, 0xf3})
    shape[i] = Shape::kPrefix;
  shape[0x0f] = Shape::kEscape;
  for (uint32_t i : {0x62, 0x8f, 0xc4, 0xc5}) shape[i] = Shape::kUnknown;
  return shape;
}();

/// Bytes behind 0F that have no ModRM.
constexpr std::array<bool, 256> kTwoBytePlain = [] {
  std::array<bool, 256> plain{};
  const auto range = [&plain](uint32_t first, uint32_t last) {
    for (uint32_t i = first; i <= last; ++i) plain[i] = true;
  };
  range(0x04, 0x0c);
  range(0x30, 0x37);
  range(0x80, 0x8f);
  range(0xa0, 0xa2);
  range(0xa8, 0xaa);
  range(0xc8, 0xcf);
  plain[0x0e] = plain[0x77] = true;
  return plain;
}();

/// How many of the bytes are prefixes, opcode, ModRM and SIB; 0 when that is not known or too much.
/// A wrong answer would cost time, but do no harm: see remember().
uint32_t key_length(uint64_t word, bool address32) {
  const auto byte = [word](uint32_t at) { return static_cast<uint8_t>(word >> at * 8); };
  uint32_t at = 0;
  while (kOneByte[byte(at)] == Shape::kPrefix) {
    if (byte(at) == 0x67) address32 = !address32;
    if (++at > 3) return 0;
  }
  Shape shape = kOneByte[byte(at++)];
  if (shape == Shape::kEscape) {
    const uint8_t second = byte(at++);
    if (second == 0x38 || second == 0x3a) ++at;
    shape = kTwoBytePlain[second] ? Shape::kPlain : Shape::kModrm;
  }
  if (shape == Shape::kModrm) {
    const uint8_t modrm = byte(at++);
    if (address32 && modrm < 0xc0 && (modrm & 7) == 4) ++at;
  } else if (shape != Shape::kPlain) {
    return 0;
  }
  return at <= kKeyBytes ? at : 0;
}

template <typename Value>
Value read_as(const uint8_t* at) {
  Value value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

uint64_t read_value(const uint8_t* at, uint8_t size) {
  switch (size) {
    case 1:
      return *at;
    case 2:
      return read_as<uint16_t>(at);
    default:
      return read_as<uint32_t>(at);
  }
}

int64_t sign_extended(uint64_t value, uint8_t size) {
  const int unused = 64 - size * 8;
  return static_cast<int64_t>(value << unused) >> unused;
}

/// Reads the values of displacement and immediates from the instruction's bytes.
void read_values(const uint8_t* bytes, Instruction& in) {
  const Encoding& encoding = in.encoding;
  if (!encoding.displacement_size && !encoding.immediate_size[0]) return;
  const auto immediate = [&](size_t which) {
    const uint8_t size = encoding.immediate_size[which];
    const uint64_t value = read_value(bytes + encoding.immediate[which], size);
    return encoding.immediate_signed[which] ? sign_extended(value, size)
                                            : static_cast<int64_t>(value);
  };
  size_t next = 0;
  for (size_t i = 0; i < in.operand_count; ++i) {
    Operand& operand = in.operand[i];
    switch (operand.kind) {
      case Operand::Kind::kMemory:
        if (encoding.displacement_size)
          operand.value =
              sign_extended(read_value(bytes + encoding.displacement, encoding.displacement_size),
                            encoding.displacement_size);
        break;
      case Operand::Kind::kImmediate:
      case Operand::Kind::kRelative:
        if (next < 2 && encoding.immediate_size[next]) operand.value = immediate(next++);
        break;
      case Operand::Kind::kFar:
        operand.value = immediate(0);
        operand.selector = static_cast<uint16_t>(immediate(1));
        break;
      default:
        break;
    }
  }
  if (next) in.flags_conditional = leaves_flags_perhaps(in);
}

uint64_t first_bytes(std::span<const uint8_t> bytes) {
  uint64_t word = 0;
  if (bytes.size() >= sizeof word)
    std::memcpy(&word, bytes.data(), sizeof word);
  else
    std::memcpy(&word, bytes.data(), bytes.size());
  return word;
}

/// Whether flags_conditional depends on the value of an immediate.
bool flags_depend_on_value(const Instruction& in) {
  Instruction other = in;
  if (in.operand_count == 0) return false;
  Operand& last = other.operand[in.operand_count - size_t{1}];
  if (last.kind != Operand::Kind::kImmediate) return false;
  last.value = 0;
  const bool with_zero = leaves_flags_perhaps(other);
  last.value = 1;
  return leaves_flags_perhaps(other) != with_zero;
}

/// Whether the first `length` bytes decide about all but the values.
bool decided_by(const Instruction& in, uint32_t length) {
  const Encoding& encoding = in.encoding;
  uint32_t end = in.length;
  if (encoding.immediate_size[0]) end = encoding.immediate[0];
  if (encoding.displacement_size) end = encoding.displacement;
  return end <= length;
}

}  // namespace

namespace {
uint64_t key_of(uint64_t word, uint32_t length, CodeSize code_size) {
  const uint64_t kind = code_size == CodeSize::k32 ? 0 : 1;
  return (word & ((uint64_t{1} << length * 8) - 1)) | (uint64_t{length} << 2 | kind) << kTagShift;
}
}  // namespace

Decoded DecodeMemo::decode(std::span<const uint8_t> bytes, CodeSize code_size, uint32_t eip,
                           Instruction& out) {
  const uint64_t word = first_bytes(bytes);
  const uint32_t length = key_length(word, code_size == CodeSize::k32);
  if (length == 0 || length > bytes.size()) {
    ++counters_.decoded;
    return trapline::decode(bytes, code_size, model_, eip, out);
  }
  const uint64_t key = key_of(word, length, code_size);
  uint16_t& slot = slot_of(key);
  const Entry& entry = entries_[slot];
  if (entry.key == key) {
    ++counters_.found;
    if (entry.instruction.length > bytes.size()) return Decoded::kMoreBytes;
    out = entry.instruction;
    out.eip = eip;
    read_values(bytes.data(), out);
    return Decoded::kOk;
  }
  ++counters_.decoded;
  const Decoded result = trapline::decode(bytes, code_size, model_, eip, out);
  if (result == Decoded::kOk && decided_by(out, length)) remember(slot, key, bytes, out);
  return result;
}

const Instruction* DecodeMemo::decode_shape(std::span<const uint8_t> bytes, CodeSize code_size,
                                            Instruction& room) {
  const uint64_t word = first_bytes(bytes);
  const uint32_t length = key_length(word, code_size == CodeSize::k32);
  if (length != 0 && length <= bytes.size()) {
    const uint64_t key = key_of(word, length, code_size);
    const Entry& entry = entries_[slot_of(key)];
    if (entry.key == key && !entry.flags_depend_on_value &&
        entry.instruction.length <= bytes.size()) {
      ++counters_.found;
      return &entry.instruction;
    }
  }
  return decode(bytes, code_size, 0, room) == Decoded::kOk ? &room : nullptr;
}

void DecodeMemo::remember(uint16_t& slot, uint64_t key, std::span<const uint8_t> bytes,
                          const Instruction& in) {
  // Values that lie elsewhere than they were looked for would show here.
  Instruction again = in;
  read_values(bytes.data(), again);
  if (again != in) return;
  if (slot == 0) {
    slot = static_cast<uint16_t>(entries_.size());
    entries_.emplace_back();
  }
  entries_[slot] = {key, flags_depend_on_value(in), in};
}

}  // namespace trapline
