#include "tests/differential/values.h"

#include <bit>
#include <cstring>

namespace trapline::differential {
namespace {

constexpr uint64_t kIntegerBit = uint64_t{1} << 63;

std::array<uint8_t, 10> extended(uint16_t sign_exponent, uint64_t significand) {
  std::array<uint8_t, 10> out;
  std::memcpy(out.data(), &significand, 8);
  std::memcpy(out.data() + 8, &sign_exponent, 2);
  return out;
}

template <typename T>
void fill_with(Random& random, std::span<uint8_t> out, T (*make)(Random&)) {
  for (size_t i = 0; i + sizeof(T) <= out.size(); i += sizeof(T)) {
    const T value = make(random);
    std::memcpy(&out[i], &value, sizeof(T));
  }
}

uint64_t boundary64(Random& random) {
  const uint64_t value = uint64_t{1} << random.below(64);
  switch (random.below(4)) {
    case 0:
      return value - 1;
    case 1:
      return ~value;
    case 2:
      return 0 - value;
    default:
      return value;
  }
}

}  // namespace

uint32_t interesting_integer(Random& random) {
  static constexpr uint32_t kValues[] = {
      0,      1,      2,      3,      4,          7,          8,          9,          10,
      15,     16,     31,     32,     33,         63,         64,         99,         0x7f,
      0x80,   0x81,   0xfe,   0xff,   0x100,      0x101,      0x7fff,     0x8000,     0x8001,
      0xfffe, 0xffff, 0x1000, 0xfff,  0x10000,    0x7fffffff, 0x80000000, 0x80000001, 0xfffffffe,
      ~0u,    0xff00, 0xf0f0, 0x8080, 0x80008000, 0x7f7f7f7f, 0x99999999, 0x66666666};
  switch (random.below(4)) {
    case 0:
      return kValues[random.below(std::size(kValues))];
    case 1:
      return static_cast<uint32_t>(boundary64(random));
    case 2:
      return random.below(256);
    default:
      return random.next32();
  }
}

float interesting_float(Random& random) {
  static constexpr uint32_t kValues[] = {
      0,          0x80000000, 0x3f800000, 0xbf800000, 0x3f000000, 0x40490fdb, 0x7f800000,
      0xff800000, 0x7fc00000, 0xffc00000, 0x7fa00001, 0xffbfffff, 1,          0x807fffff,
      0x00800000, 0x7f7fffff, 0xff7fffff, 0x4f000000, 0xcf000000, 0x4effffff, 0x33800000,
      0x34000000, 0x4b800000, 0x5f000000, 0xdf000000, 0x7fc12345, 0x00400000};
  const uint32_t bits = random.one_in(2) ? kValues[random.below(std::size(kValues))]
                        : random.one_in(2)
                            ? random.next32()
                            : (random.next32() & 0x807fffff) | (110 + random.below(40)) << 23;
  return std::bit_cast<float>(bits);
}

double interesting_double(Random& random) {
  static constexpr uint64_t kValues[] = {0,
                                         0x8000000000000000,
                                         0x3ff0000000000000,
                                         0xbff0000000000000,
                                         0x3fe0000000000000,
                                         0x400921fb54442d18,
                                         0x7ff0000000000000,
                                         0xfff0000000000000,
                                         0x7ff8000000000000,
                                         0xfff8000000000000,
                                         0x7ff4000000000001,
                                         0xfff7ffffffffffff,
                                         1,
                                         0x800fffffffffffff,
                                         0x0010000000000000,
                                         0x7fefffffffffffff,
                                         0xffefffffffffffff,
                                         0x41dfffffffc00000,
                                         0xc1e0000000000000,
                                         0x43e0000000000000,
                                         0x3690000000000000,
                                         0x36a0000000000000,
                                         0x47efffffe0000000,
                                         0x380fffffffffffff};
  const uint64_t bits = random.one_in(2) ? kValues[random.below(std::size(kValues))]
                        : random.one_in(2)
                            ? random.next()
                            : (random.next() & 0x800fffffffffffff) |
                                  static_cast<uint64_t>(1000 + random.below(60)) << 52;
  return std::bit_cast<double>(bits);
}

std::array<uint8_t, 10> interesting_extended(Random& random) {
  const uint16_t sign = random.one_in(2) ? 0x8000 : 0;
  const auto with = [&](uint32_t exponent, uint64_t significand) {
    return extended(static_cast<uint16_t>(sign | exponent), significand);
  };
  switch (random.below(16)) {
    case 0:
      return with(0, 0);
    case 1:
      return with(0x3fff, kIntegerBit);
    case 2:
      return with(0x7fff, kIntegerBit);  // infinity
    case 3:
      return with(0x7fff, kIntegerBit | uint64_t{1} << 62 | random.next() >> 8);  // quiet NaN
    case 4:
      return with(0x7fff, kIntegerBit | (random.next() >> 2) | 1);  // signalling NaN, mostly
    case 5:
      return with(0, random.next() >> (1 + random.below(63)));  // denormal
    case 6:
      return with(0, random.next() | kIntegerBit);  // pseudo-denormal
    case 7:
      return with(random.below(0x8000), random.next() >> 1);  // unnormal, pseudo-NaN
    case 8:
      return with(0x3fff + random.below(70), random.next() | kIntegerBit);  // around integers
    case 9: {
      const uint32_t shift = random.below(63);
      return with(0x3fff + shift, (random.next() | kIntegerBit) >> (63 - shift) << (63 - shift));
    }
    case 10:
      return with(0x3fff - random.below(70), random.next() | kIntegerBit);
    case 11:
      return with(0x7ffe, ~uint64_t{0});  // the largest
    case 12:
      return with(1, kIntegerBit | random.below(3));  // the smallest normal
    case 13:
      return with(random.below(0x7fff), random.next() | kIntegerBit);
    default:
      return with(0x3fff - 20 + random.below(40), random.next() | kIntegerBit);
  }
}

std::array<uint8_t, 10> interesting_decimal(Random& random) {
  std::array<uint8_t, 10> out;
  const bool valid = !random.one_in(8);
  for (uint8_t& byte : out) {
    byte = valid ? static_cast<uint8_t>(random.below(10) << 4 | random.below(10))
                 : static_cast<uint8_t>(random.next32());
  }
  out[9] = random.one_in(2) ? 0x80 : 0;
  if (random.one_in(2)) std::fill(out.begin() + 1 + random.below(8), out.begin() + 9, uint8_t{0});
  return out;
}

void interesting_bytes(Random& random, std::span<uint8_t> out) {
  switch (random.below(8)) {
    case 0:
    case 1:
      return fill_with<float>(random, out, interesting_float);
    case 2:
    case 3:
      return fill_with<double>(random, out, interesting_double);
    case 4:
      return fill_with<uint32_t>(random, out, interesting_integer);
    case 5:
      return fill_with<uint64_t>(random, out, boundary64);
    case 6:
      return fill_with<uint16_t>(
          random, out, [](Random& r) { return static_cast<uint16_t>(interesting_integer(r)); });
    default:
      return fill_with<uint8_t>(random, out,
                                [](Random& r) { return static_cast<uint8_t>(r.next32()); });
  }
}

uint32_t random_mxcsr(Random& random, FpuMood mood) {
  constexpr uint32_t kFlags = 0x3f, kMasks = 0x1f80;
  uint32_t value = random.next32() & 0xffff & ~kMasks;
  if (!random.one_in(4)) value &= ~0x8040u;  // flush to zero, denormals are zero
  if (!random.one_in(3)) value &= ~kFlags;
  if (mood == FpuMood::kAny && random.one_in(4)) return value | (random.next32() & kMasks);
  return value | kMasks;
}

void random_fpu(Random& random, FpuMood mood, FpuImage& fpu) {
  constexpr uint16_t kMasks = 0x3f;
  fpu = FpuImage{};
  fpu.control = static_cast<uint16_t>(0x40 | (random.next32() & 0xf00));
  if (random.one_in(2)) fpu.control |= 0x300;  // extended precision, the usual one
  const bool unmask = mood == FpuMood::kAny && random.one_in(6);
  fpu.control |= unmask ? static_cast<uint16_t>(random.next32() & kMasks) : kMasks;

  fpu.status = static_cast<uint16_t>(random.next32() & 0x7f00);
  const bool pending_allowed = mood == FpuMood::kAny && random.one_in(4);
  if (random.one_in(3)) {
    uint16_t flags = static_cast<uint16_t>(random.next32() & 0x7f);
    if (!pending_allowed) flags &= static_cast<uint16_t>(~kMasks | (fpu.control & kMasks));
    fpu.status |= flags;
  }
  if (fpu.status & ~fpu.control & kMasks) fpu.status |= 0x8080;

  switch (random.below(4)) {
    case 0:
      fpu.abridged_tag = static_cast<uint8_t>(random.next32());
      break;
    case 1:
      fpu.abridged_tag = random.one_in(2) ? 0 : 0xff;
      break;
    default: {
      // As a program has it: the lowest few registers of the stack are in use.
      const uint32_t top = fpu.status >> 11 & 7, depth = random.below(7) + 1;
      for (uint32_t i = 0; i < depth; ++i)
        fpu.abridged_tag = static_cast<uint8_t>(fpu.abridged_tag | 1u << ((top + i) & 7));
    }
  }
  fpu.opcode = static_cast<uint16_t>(random.next32() & 0x7ff);
  // As in real programs, where code is.
  fpu.ip = kCodeBase + random.below(1u << 24);
  fpu.dp = random.next32();
  for (auto& st : fpu.st) {
    const auto value = interesting_extended(random);
    std::memcpy(st.data(), value.data(), value.size());
  }
  fpu.mxcsr = random_mxcsr(random, mood);
  for (auto& xmm : fpu.xmm) interesting_bytes(random, xmm);
}

uint32_t random_eflags(Random& random) {
  uint32_t value = random.next32() & eflags::kArithmetic;
  if (random.one_in(4)) value |= eflags::kDf;
  if (random.one_in(8)) value |= eflags::kId;
  return value | eflags::kFixed1 | eflags::kIf;
}

void fill_window(uint64_t seed, WindowImage& image) {
  Random random(seed, ~uint64_t{0});
  for (uint32_t offset = 0; offset < kWindowBytes; offset += 16)
    interesting_bytes(random, std::span(image.bytes).subspan(offset, 16));
}

}  // namespace trapline::differential
