#include "runtime/boot/reset_rom.h"

#include "runtime/boot/input_file.h"
#include "vcpu/address.h"

namespace trapline {

Result<BootImage> load_reset_rom(const std::string& path) {
  constexpr uint64_t kMost = 16u << 20;
  auto opened = InputFile::open(path, "reset ROM");
  if (!opened.ok()) return opened.error();
  const InputFile& file = opened.value();
  if (file.size() == 0 || file.size() % kPageSize != 0 || file.size() > kMost)
    return file.bad("has " + std::to_string(file.size()) +
                    " bytes; a ROM has a multiple of 4096, and at most 16 MiB");
  auto content = file.read(0, file.size());
  if (!content.ok()) return content.error();
  BootImage image;
  image.rom = content.take();
  image.state = CpuState::reset();
  return image;
}

}  // namespace trapline
