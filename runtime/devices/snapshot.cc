#include "runtime/devices/snapshot.h"

#include <algorithm>
#include <array>

#include "vcpu/assert.h"

namespace trapline {
namespace {

constexpr std::array<uint8_t, 8> kMagic = {'T', 'R', 'A', 'P', 'S', 'N', 'A', 'P'};

}  // namespace

SnapshotWriter::SnapshotWriter() : content_(kMagic.begin(), kMagic.end()) {}

void SnapshotWriter::begin(std::string_view tag, uint32_t version) {
  TRAPLINE_ASSERT(length_at_ == 0);
  TRAPLINE_ASSERT(!tag.empty() && tag.size() <= 255 && version != 0);
  u8(static_cast<uint8_t>(tag.size()));
  content_.insert(content_.end(), tag.begin(), tag.end());
  u32(version);
  length_at_ = content_.size();
  u32(0);
}

void SnapshotWriter::bytes(std::span<const uint8_t> value) {
  TRAPLINE_ASSERT(value.size() <= UINT32_MAX);
  u32(static_cast<uint32_t>(value.size()));
  content_.insert(content_.end(), value.begin(), value.end());
}

void SnapshotWriter::end() {
  TRAPLINE_ASSERT(length_at_ != 0);
  const size_t length = content_.size() - length_at_ - 4;
  TRAPLINE_ASSERT(length <= UINT32_MAX);
  for (size_t i = 0; i < 4; ++i) content_[length_at_ + i] = static_cast<uint8_t>(length >> (8 * i));
  length_at_ = 0;
}

std::span<const uint8_t> SnapshotWriter::content() const {
  TRAPLINE_ASSERT(length_at_ == 0);
  return content_;
}

void SnapshotWriter::little_endian(uint64_t value, int size) {
  for (int i = 0; i < size; ++i) content_.push_back(static_cast<uint8_t>(value >> (8 * i)));
}

SnapshotReader::SnapshotReader(std::span<const uint8_t> content) {
  if (content.size() < kMagic.size() || !std::ranges::equal(content.first(kMagic.size()), kMagic)) {
    fail("the saved state does not begin as one of Trapline's does");
    return;
  }
  rest_ = content.subspan(kMagic.size());
}

uint32_t SnapshotReader::begin(std::string_view tag, uint32_t newest) {
  tag_ = tag;
  section_ = rest_;
  const auto found = take(u8());
  const uint32_t version = u32();
  const auto content = take(u32());
  if (!failure_.empty()) return 0;
  rest_ = section_;
  section_ = content;
  const std::string_view found_tag(reinterpret_cast<const char*>(found.data()), found.size());
  if (found_tag != tag)
    fail("the saved state holds another device where that of '" + tag_ + "' should be");
  else if (version == 0 || version > newest)
    fail("the saved state of '" + tag_ + "' has version " + std::to_string(version) +
         ", and this program knows versions up to " + std::to_string(newest));
  return failure_.empty() ? version : 0;
}

bool SnapshotReader::boolean() {
  const uint8_t value = u8();
  if (value > 1) reject("a flag is neither 0 nor 1");
  return value == 1;
}

std::vector<uint8_t> SnapshotReader::bytes(size_t most) {
  const uint32_t size = u32();
  if (size > most) {
    reject("a list is longer than the device allows");
    return {};
  }
  const auto taken = take(size);
  return {taken.begin(), taken.end()};
}

void SnapshotReader::reject(std::string_view why) {
  fail("the saved state of '" + tag_ + "' is damaged: " + std::string(why));
}

Result<void> SnapshotReader::end() {
  if (!section_.empty()) reject("it holds more than it should");
  if (failure_.empty()) return {};
  return Error{ExitStatus::kBadInput, failure_};
}

uint64_t SnapshotReader::little_endian(size_t size) {
  uint64_t value = 0;
  const auto taken = take(size);
  for (size_t i = 0; i < taken.size(); ++i) value |= uint64_t{taken[i]} << (8 * i);
  return value;
}

std::span<const uint8_t> SnapshotReader::take(size_t size) {
  if (!failure_.empty()) return {};
  if (size > section_.size()) {
    fail("the saved state of '" + tag_ + "' is cut short");
    return {};
  }
  const auto taken = section_.first(size);
  section_ = section_.subspan(size);
  return taken;
}

void SnapshotReader::fail(std::string why) {
  if (failure_.empty()) failure_ = std::move(why);
  section_ = {};
  rest_ = {};
}

}  // namespace trapline
