#include "translator/decode_memo.h"

#include <algorithm>
#include <cstring>

namespace trapline {
namespace {

constexpr uint32_t kKeyBytes = 7;
constexpr uint32_t kTagShift = kKeyBytes * 8;

enum class Kind : uint8_t { kPlain, kModrm, kPrefix, kEscape, kUnknown };

/// First bytes. VEX, EVEX and XOP share theirs with LES, LDS, BOUND and POP, which are rare.
constexpr std::array<Kind, 256> kOneByte = [] {
  std::array<Kind, 256> kind{};
  for (uint32_t base = 0; base < 0x40; base += 8)
    for (uint32_t i = 0; i < 4; ++i) kind[base + i] = Kind::kModrm;
  for (uint32_t i : {0x63, 0x69, 0x6b, 0xc0, 0xc1, 0xc6, 0xc7, 0xf6, 0xf7, 0xfe, 0xff})
    kind[i] = Kind::kModrm;
  for (uint32_t i = 0x80; i <= 0x8e; ++i) kind[i] = Kind::kModrm;
  for (uint32_t i = 0xd0; i <= 0xd3; ++i) kind[i] = Kind::kModrm;
  for (uint32_t i = 0xd8; i <= 0xdf; ++i) kind[i] = Kind::kModrm;
  for (uint32_t i : {0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x66, 0x67, 0xf0, 0xf2, 0xf3})
    kind[i] = Kind::kPrefix;
  kind[0x0f] = Kind::kEscape;
  for (uint32_t i : {0x62, 0x8f, 0xc4, 0xc5}) kind[i] = Kind::kUnknown;
  return kind;
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

/// Which fields of ModRM and SIB, or of the opcode, only choose among the general registers.
enum class Free : uint8_t { kNone, kRm, kRegAndRm, kOpcode };

constexpr std::array<Free, 256> kFreeOneByte = [] {
  std::array<Free, 256> free{};
  for (uint32_t base = 0; base < 0x40; base += 8)
    for (uint32_t i = 0; i < 4; ++i) free[base + i] = Free::kRegAndRm;
  for (uint32_t i = 0x84; i <= 0x8b; ++i) free[i] = Free::kRegAndRm;
  for (uint32_t i : {0x69, 0x6b, 0x8d}) free[i] = Free::kRegAndRm;
  for (uint32_t i :
       {0x80, 0x81, 0x83, 0xc0, 0xc1, 0xc6, 0xc7, 0xd0, 0xd1, 0xd2, 0xd3, 0xf6, 0xf7, 0xfe, 0xff})
    free[i] = Free::kRm;
  for (uint32_t i = 0x40; i < 0x60; ++i) free[i] = Free::kOpcode;
  for (uint32_t i = 0xb0; i < 0xc0; ++i) free[i] = Free::kOpcode;
  return free;
}();

constexpr std::array<Free, 256> kFreeTwoByte = [] {
  std::array<Free, 256> free{};
  for (uint32_t i = 0x40; i < 0x50; ++i) free[i] = Free::kRegAndRm;
  for (uint32_t i = 0x90; i < 0xa0; ++i) free[i] = Free::kRegAndRm;
  for (uint32_t i : {0xa3, 0xa4, 0xa5, 0xab, 0xac, 0xad, 0xaf, 0xb0, 0xb1, 0xb3, 0xb6, 0xb7, 0xbb,
                     0xbc, 0xbd, 0xbe, 0xbf, 0xc0, 0xc1})
    free[i] = Free::kRegAndRm;
  free[0xba] = Free::kRm;
  for (uint32_t i = 0xc8; i < 0xd0; ++i) free[i] = Free::kOpcode;
  return free;
}();

constexpr uint8_t kSib = 4;      ///< As ModRM's rm: a SIB byte follows.
constexpr uint8_t kNoIndex = 4;  ///< As SIB's index.

constexpr uint8_t field(uint8_t byte, uint32_t shift) {
  return byte >> shift & 7;
}

/// ESP and EBP have another default segment, and their numbers also mean other things.
constexpr uint8_t general_base(uint8_t number) {
  return number == kEsp || number == kEbp ? number : 0;
}

/// Where the registers are named: in ModRM, or in the opcode if there is none.
struct Naming {
  uint32_t at = 0;
  Free free = Free::kNone;
  bool address32 = false;
};

/// How many of the bytes are prefixes, opcode, ModRM and SIB; 0 when that is not known or too much.
/// A wrong answer would cost time, but do no harm: see decode_new(). `found` is told of the Naming.
template <typename Found>
uint32_t key_length(uint64_t word, CodeSize code_size, const Found& found) {
  const auto byte = [word](uint32_t at) { return static_cast<uint8_t>(word >> at * 8); };
  bool address32 = code_size == CodeSize::k32;
  uint32_t at = 0;
  while (kOneByte[byte(at)] == Kind::kPrefix) {
    if (byte(at) == 0x67) address32 = code_size != CodeSize::k32;
    if (++at > 3) return 0;
  }
  const uint8_t opcode = byte(at++);
  Kind kind = kOneByte[opcode];
  Free free = kFreeOneByte[opcode];
  if (kind == Kind::kEscape) {
    const uint8_t second = byte(at++);
    if (second == 0x38 || second == 0x3a) ++at;
    kind = kTwoBytePlain[second] ? Kind::kPlain : Kind::kModrm;
    free = kFreeTwoByte[second];
  }
  if (kind == Kind::kModrm) {
    found(Naming{at, free, address32});
    const uint8_t modrm = byte(at++);
    if (address32 && modrm < 0xc0 && field(modrm, 0) == kSib) ++at;
  } else if (kind == Kind::kPlain) {
    found(Naming{at - 1, free, address32});
  } else {
    return 0;
  }
  return at <= kKeyBytes ? at : 0;
}

uint32_t key_length(uint64_t word, CodeSize code_size) {
  return key_length(word, code_size, [](const Naming&) {});
}

/// Some instructions make no difference between most general registers. Their key's bytes, with one
/// register in the place of all those; 0 for others.
uint64_t with_one_register(uint64_t word, const Naming& in) {
  if (in.free == Free::kNone) return 0;
  const uint64_t before = word & ((uint64_t{1} << in.at * 8) - 1);
  const auto modrm = static_cast<uint8_t>(word >> in.at * 8);
  if (in.free == Free::kOpcode) return before | (modrm & uint64_t{0xf8}) << in.at * 8;
  const uint8_t rm = field(modrm, 0);
  uint64_t general = modrm & 0xc0;
  if (in.free == Free::kRm) general |= modrm & 0x38;
  if (modrm < 0xc0) {
    if (!in.address32) return 0;
    general |= general_base(rm);
    if (rm == kSib) {
      const auto sib = static_cast<uint8_t>(word >> (in.at + 1) * 8);
      const uint32_t index = field(sib, 3) == kNoIndex ? kNoIndex : 0;
      general |= ((sib & 0xc0u) | index << 3 | general_base(field(sib, 0))) << 8;
    }
  }
  return before | general << in.at * 8;
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
  if (encoding.displacement_size && in.memory_operand >= 0)
    in.operand[static_cast<size_t>(in.memory_operand)].value =
        sign_extended(read_value(bytes + encoding.displacement, encoding.displacement_size),
                      encoding.displacement_size);
  if (!encoding.immediate_size[0]) return;
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

/// Values that lie elsewhere than they were looked for show here.
bool reads_back(const uint8_t* bytes, const Instruction& in) {
  if (!in.encoding.displacement_size && !in.encoding.immediate_size[0]) return true;
  Instruction again = in;
  read_values(bytes, again);
  return again == in;
}

void set_number(Operand& operand, uint8_t number) {
  if (operand.size == 1) {
    operand.register_kind = number < 4 ? RegisterKind::kGpr8Low : RegisterKind::kGpr8High;
    number &= 3;
  }
  operand.number = number;
}

/// Reads what ModRM and SIB, or the opcode, at `bytes`, say about registers.
void read_registers(const uint8_t* bytes, Instruction& in) {
  const Encoding& encoding = in.encoding;
  (encoding.modrm ? in.modrm : in.opcode) = bytes[0];
  const uint8_t rm = field(bytes[0], 0);
  if (encoding.reg_operand >= 0)
    set_number(in.operand[static_cast<size_t>(encoding.reg_operand)], field(bytes[0], 3));
  if (encoding.rm_operand >= 0)
    set_number(in.operand[static_cast<size_t>(encoding.rm_operand)], rm);
  if (in.memory_operand >= 0) {
    Operand& memory = in.operand[static_cast<size_t>(in.memory_operand)];
    if (memory.base != Operand::kNoRegister) memory.base = rm == kSib ? field(bytes[1], 0) : rm;
    if (memory.index != Operand::kNoRegister) memory.index = field(bytes[1], 3);
  }
  in.traits = (in.traits & trait::kStack) | register_traits(in);
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
  if (in.operand_count == 0 || !in.flags_written) return false;
  if (in.operand[in.operand_count - size_t{1}].kind != Operand::Kind::kImmediate) return false;
  Instruction other = in;
  Operand& last = other.operand[in.operand_count - size_t{1}];
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

enum class KeyKind : uint64_t { kExact = 0, kGeneral = 2 };

uint64_t key_of(uint64_t bytes, uint32_t length, CodeSize code_size, KeyKind kind) {
  const uint64_t size = code_size == CodeSize::k32 ? 0 : 1;
  return bytes | (uint64_t{length} << 2 | static_cast<uint64_t>(kind) | size) << kTagShift;
}

uint64_t exact_key(uint64_t word, uint32_t length, CodeSize code_size) {
  return key_of(word & ((uint64_t{1} << length * 8) - 1), length, code_size, KeyKind::kExact);
}

}  // namespace

DecodeMemo::DecodeMemo(const CpuModel& model) : model_(model) {
  constexpr size_t kUsual = 512;
  entries_.reserve(kUsual);
}

Decoded DecodeMemo::decode(std::span<const uint8_t> bytes, CodeSize code_size, uint32_t eip,
                           Instruction& out) {
  const uint64_t word = first_bytes(bytes);
  const uint32_t length = key_length(word, code_size);
  if (length == 0 || length > bytes.size()) {
    ++counters_.decoded;
    return trapline::decode(bytes, code_size, model_, eip, out);
  }
  const uint64_t key = exact_key(word, length, code_size);
  const Entry& entry = find<&Entry::key>(key);
  if (entry.key != key) return decode_new(bytes, code_size, key, eip, out);
  ++counters_.found;
  if (entry.instruction.length > bytes.size()) return Decoded::kMoreBytes;
  out = entry.instruction;
  out.eip = eip;
  read_values(bytes.data(), out);
  return Decoded::kOk;
}

/// What is not remembered itself: by one that only has other registers, or by Zydis.
Decoded DecodeMemo::decode_new(std::span<const uint8_t> bytes, CodeSize code_size, uint64_t key,
                               uint32_t eip, Instruction& out) {
  const uint64_t word = first_bytes(bytes);
  Naming naming;
  const uint32_t length =
      key_length(word, code_size, [&naming](const Naming& found) { naming = found; });
  uint64_t general = with_one_register(word, naming);
  if (general) {
    general = key_of(general, length, code_size, KeyKind::kGeneral);
    const Entry& like = find<&Entry::general>(general);
    if (like.general == general) {
      if (like.instruction.length > bytes.size()) return Decoded::kMoreBytes;
      out = like.instruction;
      out.eip = eip;
      read_registers(bytes.data() + naming.at, out);
      read_values(bytes.data(), out);
      ++counters_.derived;
      put({key, general, like.flags_depend_on_value, out});
      return Decoded::kOk;
    }
  }
  ++counters_.decoded;
  const Decoded result = trapline::decode(bytes, code_size, model_, eip, out);
  if (result != Decoded::kOk || !decided_by(out, length)) return result;
  if (reads_back(bytes.data(), out)) put({key, general, flags_depend_on_value(out), out});
  return result;
}

const Instruction* DecodeMemo::decode_shape(std::span<const uint8_t> bytes, CodeSize code_size,
                                            Instruction& room) {
  const uint64_t word = first_bytes(bytes);
  const uint32_t length = key_length(word, code_size);
  if (length != 0 && length <= bytes.size()) {
    const uint64_t key = exact_key(word, length, code_size);
    const Entry& entry = find<&Entry::key>(key);
    if (entry.key == key && !entry.flags_depend_on_value &&
        entry.instruction.length <= bytes.size()) {
      ++counters_.found;
      return &entry.instruction;
    }
  }
  return decode(bytes, code_size, 0, room) == Decoded::kOk ? &room : nullptr;
}

/// Into the neighbour that has the key already or is empty; if there is none, by turns.
template <uint64_t DecodeMemo::Entry::*Key>
void DecodeMemo::enter(uint64_t key, uint16_t number) {
  const size_t home = home_of(key);
  for (const size_t at : {home, home ^ 1}) {
    if (slots_[at] != 0 && entries_[slots_[at]].*Key != key) continue;
    slots_[at] = number;
    return;
  }
  slots_[home ^ (turn_++ & 1)] = number;
}

/// Under both keys. A full memo begins anew.
void DecodeMemo::put(const Entry& entry) {
  if (entries_.size() == kMostEntries) {
    entries_.resize(1);
    slots_.fill(0);
  }
  const auto number = static_cast<uint16_t>(entries_.size());
  entries_.push_back(entry);
  enter<&Entry::key>(entry.key, number);
  if (entry.general) enter<&Entry::general>(entry.general, number);
}

}  // namespace trapline
