// Saved state as a stream of sections, each with a tag, a version and a length. Whatever a reader
// is given (cut short, from another program, from a newer version), it ends in an error sentence.
//
//   writer.begin("uart16550", 1);          reader.begin("uart16550", 1);
//   writer.u8(scratch);                    const uint8_t scratch = reader.u8();
//   writer.end();                          if (auto read = reader.end(); !read.ok()) return read;
//
// A device reads everything into locals first and takes it over only when end() was content, so
// that a failed load changes nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "vcpu/result.h"

namespace trapline {

class SnapshotWriter {
 public:
  SnapshotWriter();

  void begin(std::string_view tag, uint32_t version);  ///< Sections do not nest.
  void u8(uint8_t value) { little_endian(value, 1); }
  void u16(uint16_t value) { little_endian(value, 2); }
  void u32(uint32_t value) { little_endian(value, 4); }
  void u64(uint64_t value) { little_endian(value, 8); }
  void boolean(bool value) { u8(value ? 1 : 0); }
  void bytes(std::span<const uint8_t> value);  ///< Preceded by its length.
  void end();

  /// Everything so far. No section may be open.
  std::span<const uint8_t> content() const;

 private:
  void little_endian(uint64_t value, int size);

  std::vector<uint8_t> content_;
  size_t length_at_ = 0;  ///< Where the open section's length stands; 0: none is open.
};

class SnapshotReader {
 public:
  /// The content must outlive the reader.
  explicit SnapshotReader(std::span<const uint8_t> content);

  /// Goes to the next section, which must have this tag and a version of 1 to `newest`. Returns the
  /// version, or 0 when something is wrong; then all reads give zeros and end() says what it was.
  uint32_t begin(std::string_view tag, uint32_t newest);
  uint8_t u8() { return static_cast<uint8_t>(little_endian(1)); }
  uint16_t u16() { return static_cast<uint16_t>(little_endian(2)); }
  uint32_t u32() { return static_cast<uint32_t>(little_endian(4)); }
  uint64_t u64() { return little_endian(8); }
  bool boolean();
  /// Empty, and an error, when there are more than `most`.
  std::vector<uint8_t> bytes(size_t most);
  /// For values that no writer would have written: makes end() fail.
  void reject(std::string_view why);
  /// The first thing that was wrong with this section or before it; also an error when the section
  /// holds more than was read.
  Result<void> end();

 private:
  uint64_t little_endian(size_t size);
  std::span<const uint8_t> take(size_t size);
  void fail(std::string why);

  std::span<const uint8_t> rest_;     ///< After the open section.
  std::span<const uint8_t> section_;  ///< What is still unread of it.
  std::string tag_;
  std::string failure_;
};

}  // namespace trapline
