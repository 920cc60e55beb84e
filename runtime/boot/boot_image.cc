#include "runtime/boot/boot_image.h"

#include "runtime/machine.h"

namespace trapline {

void place_boot_image(const BootImage& image, Machine& machine) {
  for (const BootPiece& piece : image.pieces) machine.write_memory(piece.address, piece.content);
  machine.set_state(image.state);
}

}  // namespace trapline
