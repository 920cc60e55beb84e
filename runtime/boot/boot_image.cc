#include "runtime/boot/boot_image.h"

#include <sys/random.h>

#include <cerrno>
#include <optional>

#include "runtime/machine.h"

namespace trapline {
namespace {

std::optional<std::vector<std::byte>> with_randomness(const BootPiece& piece) {
  std::vector<std::byte> content = piece.content;
  content.resize(content.size() + piece.random_bytes);
  size_t done = piece.content.size();
  while (done < content.size()) {
    const ssize_t got = getrandom(content.data() + done, content.size() - done, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return std::nullopt;
    done += static_cast<size_t>(got);
  }
  return content;
}

}  // namespace

void place_boot_image(const BootImage& image, Machine& machine) {
  for (const BootPiece& piece : image.pieces) {
    if (piece.random_bytes == 0)
      machine.write_memory(piece.address, piece.content);
    else if (const auto content = with_randomness(piece))
      machine.write_memory(piece.address, *content);
  }
  machine.set_state(image.state);
}

}  // namespace trapline
