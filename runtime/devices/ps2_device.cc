#include "runtime/devices/ps2_device.h"

#include <algorithm>

namespace trapline {

std::optional<uint8_t> Ps2Device::take() {
  if (count_ == 0) return std::nullopt;
  last_taken_ = waiting_[0];
  std::shift_left(waiting_.begin(), waiting_.begin() + static_cast<ptrdiff_t>(count_), 1);
  --count_;
  return last_taken_;
}

bool Ps2Device::send(std::span<const uint8_t> bytes) {
  if (bytes.size() > kRoom - count_) return false;
  std::ranges::copy(bytes, waiting_.begin() + static_cast<ptrdiff_t>(count_));
  count_ += bytes.size();
  if (on_output_) on_output_();
  return true;
}

void Ps2Device::answer(std::initializer_list<uint8_t> bytes) {
  clear();
  send(bytes);
}

void Ps2Device::clear() {
  count_ = 0;
}

void Ps2Device::save_output(SnapshotWriter& out) const {
  out.u8(last_taken_);
  out.bytes(std::span(waiting_).first(count_));
}

Ps2Device::Output Ps2Device::load_output(SnapshotReader& in) {
  Output output;
  output.last_taken = in.u8();
  output.waiting = in.bytes(kRoom);
  return output;
}

void Ps2Device::restore(const Output& output) {
  last_taken_ = output.last_taken;
  count_ = output.waiting.size();
  std::ranges::copy(output.waiting, waiting_.begin());
}

}  // namespace trapline
