#include "runtime/boot/raw_image.h"

#include <algorithm>
#include <cstdio>
#include <optional>

#include "runtime/boot/input_file.h"
#include "runtime/boot/memory_map.h"
#include "runtime/boot/ram_layout.h"

namespace trapline {
namespace {

constexpr uint32_t kVariablesEnd = 0x500;
constexpr uint32_t kBootSector = 0x7c00;
constexpr uint32_t kFirstHardDisk = 0x80;

std::string hexadecimal(uint32_t value) {
  char text[16];
  std::snprintf(text, sizeof text, "0x%x", value);
  return text;
}

CpuState entry_state(const RawRequest& request) {
  CpuState state = CpuState::reset();
  state.segment[kCs] = Segment::real(request.entry_segment, true);
  state.eip = request.entry_offset;
  state.cr0 = cr0::kEt;
  state.eflags = eflags::kFixed1 | eflags::kIf;
  state.idtr = {0, 0x3ff};
  state.gpr[kEsp] = std::min(kBootSector, request.load_address & ~3u);
  state.gpr[kEdx] = kFirstHardDisk;
  return state;
}

}  // namespace

Result<BootImage> load_raw(const RawRequest& request, uint64_t ram_bytes) {
  auto opened = InputFile::open(request.path, "raw image");
  if (!opened.ok()) return opened.error();
  const InputFile& file = opened.value();
  const uint32_t address = request.load_address;
  const RamLayout ram{ram_bytes};
  if (file.size() == 0) return file.bad("is empty; give a file with code in it");
  if (address < kVariablesEnd)
    return file.bad("cannot be loaded at " + hexadecimal(address) +
                    ", where interrupt vectors and a BIOS's variables are; give --load 0x500 or "
                    "more");
  if (!ram.usable(address, file.size()))
    return file.bad("has " + std::to_string(file.size()) + " bytes, which at " +
                    hexadecimal(address) +
                    " do not lie in RAM; give another --load, or more --memory");
  auto content = file.read(0, file.size());
  if (!content.ok()) return content.error();
  BootImage image;
  image.pieces.push_back({{address}, content.take()});
  image.state = entry_state(request);
  return image;
}

}  // namespace trapline
