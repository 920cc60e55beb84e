// Keyboards of the AT speak scan code set 2, and programs of the PC expect set 1: 8042 controllers
// translate.
#pragma once

#include <cstdint>
#include <optional>

namespace trapline {

/// Byte by byte, as the controller sees them: F0 announces the release of the key that follows, and
/// becomes that key's bit 7.
class ScanCodeTranslator {
 public:
  /// Nothing for an F0.
  std::optional<uint8_t> translate(uint8_t set2);

  bool release() const { return release_; }
  void set_release(bool release) { release_ = release; }

 private:
  bool release_ = false;
};

}  // namespace trapline
