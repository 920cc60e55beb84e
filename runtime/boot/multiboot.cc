#include "runtime/boot/multiboot.h"

#include <algorithm>

#include "runtime/boot/little_endian.h"
#include "runtime/boot/multiboot_kernel.h"

namespace trapline {
namespace {

constexpr uint32_t kBootMagic = 0x2badb002;
constexpr std::string_view kLoaderName = "Trapline";
constexpr uint64_t kUnit = 4096;

namespace info {  // Offsets in the information structure, and the flags of its fields.
constexpr size_t kFlags = 0, kMemoryLower = 4, kMemoryUpper = 8, kCommandLine = 16;
constexpr size_t kModuleCount = 20, kModules = 24, kMapLength = 44, kMap = 48, kLoader = 64;
constexpr size_t kSize = 128;
constexpr uint32_t kHasMemory = 1u << 0, kHasCommandLine = 1u << 2, kHasModules = 1u << 3;
constexpr uint32_t kHasMap = 1u << 6, kHasLoader = 1u << 9;
}  // namespace info

constexpr uint64_t page_up(uint64_t address) {
  return (address + kUnit - 1) & ~(kUnit - 1);
}

struct Module {
  InputFile file;
  std::string text;
};

struct MapEntry {
  uint64_t address = 0;
  uint64_t bytes = 0;
  bool available = true;
};

std::vector<MapEntry> memory_map(const RamLayout& ram) {
  std::vector<MapEntry> map{{0, ram.low_end()}};
  if (ram.bytes > RamLayout::kLowEnd)
    map.push_back({RamLayout::kLowEnd, RamLayout::kHighStart - RamLayout::kLowEnd, false});
  if (ram.high_end() > RamLayout::kHighStart)
    map.push_back({RamLayout::kHighStart, ram.high_end() - RamLayout::kHighStart});
  if (ram.above_bytes() > 0) map.push_back({RamLayout::kAboveStart, ram.above_bytes()});
  return map;
}

Result<std::vector<Module>> open_modules(const std::vector<std::string>& texts) {
  std::vector<Module> modules;
  for (const std::string& text : texts) {
    auto file = InputFile::open(text.substr(0, text.find(' ')), "module");
    if (!file.ok()) return file.error();
    modules.push_back({file.take(), text});
  }
  return modules;
}

/// The information structure with everything that it points to, as one block of memory.
class InformationBlock {
 public:
  InformationBlock(uint64_t address, const RamLayout& ram, const std::string& command_line,
                   const std::vector<Module>& modules)
      : address_(address), content_(info::kSize) {
    store32(content_, info::kFlags,
            info::kHasMemory | info::kHasCommandLine | info::kHasModules | info::kHasMap |
                info::kHasLoader);
    store32(content_, info::kMemoryLower, static_cast<uint32_t>(ram.low_end() / 1024));
    store32(content_, info::kMemoryUpper,
            static_cast<uint32_t>((ram.high_end() - RamLayout::kHighStart) / 1024));
    add_map(memory_map(ram));
    modules_at_ = content_.size();
    content_.resize(content_.size() + 16 * modules.size());
    store32(content_, info::kModuleCount, static_cast<uint32_t>(modules.size()));
    store32(content_, info::kModules, here(modules_at_));
    store32(content_, info::kCommandLine, add_text(command_line));
    store32(content_, info::kLoader, add_text(kLoaderName));
    for (size_t i = 0; i < modules.size(); ++i)
      store32(content_, modules_at_ + 16 * i + 8, add_text(modules[i].text));
  }

  uint64_t end() const { return address_ + content_.size(); }

  void set_module_place(size_t index, uint64_t address, uint64_t bytes) {
    store32(content_, modules_at_ + 16 * index, static_cast<uint32_t>(address));
    store32(content_, modules_at_ + 16 * index + 4, static_cast<uint32_t>(address + bytes));
  }

  BootPiece take() { return {{address_}, std::move(content_)}; }

 private:
  uint32_t here(size_t offset) const { return static_cast<uint32_t>(address_ + offset); }

  void add_map(const std::vector<MapEntry>& map) {
    const size_t start = content_.size();
    for (const MapEntry& entry : map) {
      const size_t at = content_.size();
      content_.resize(at + 24);
      store32(content_, at, 20);
      store64(content_, at + 4, entry.address);
      store64(content_, at + 12, entry.bytes);
      store32(content_, at + 20, entry.available ? 1 : 2);
    }
    store32(content_, info::kMapLength, static_cast<uint32_t>(content_.size() - start));
    store32(content_, info::kMap, here(start));
  }

  uint32_t add_text(std::string_view text) {
    const uint32_t address = here(content_.size());
    for (const char c : text) content_.push_back(static_cast<std::byte>(c));
    content_.push_back(std::byte{0});
    return address;
  }

  uint64_t address_;
  std::vector<std::byte> content_;
  size_t modules_at_ = 0;
};

CpuState entry_state(uint32_t entry, uint64_t information) {
  CpuState state = CpuState::flat32(0);
  state.cr0 = cr0::kPe | cr0::kEt;
  state.cr4 = 0;
  // The caches are valid and the tables are not: a kernel that reloads a segment before it has
  // loaded its own GDT faults here as it would after any other loader.
  state.gdtr = {0, 0};
  state.idtr = {0, 0};
  state.eip = entry;
  state.gpr[kEax] = kBootMagic;
  state.gpr[kEbx] = static_cast<uint32_t>(information);
  return state;
}

Error no_room(const InputFile& file, const RamLayout& ram) {
  return file.bad("does not fit into " + std::to_string(ram.bytes / 1024) +
                  " KiB of RAM together with all else that is loaded; give more --memory");
}

}  // namespace

Result<BootImage> load_multiboot(const MultibootRequest& request, uint64_t ram_bytes) {
  const RamLayout ram{ram_bytes};
  auto opened = InputFile::open(request.kernel_path, "kernel");
  if (!opened.ok()) return opened.error();
  const InputFile& kernel = opened.value();
  auto header = find_multiboot_header(kernel);
  if (!header.ok()) return header.error();
  auto layout = lay_out_kernel(kernel, header.value(), ram);
  if (!layout.ok()) return layout.error();
  auto opened_modules = open_modules(request.modules);
  if (!opened_modules.ok()) return opened_modules.error();
  const std::vector<Module>& modules = opened_modules.value();

  BootImage image;
  uint64_t free = RamLayout::kHighStart;
  for (const KernelSegment& segment : layout.value().segments) {
    auto content = kernel.read(segment.file_offset, segment.file_bytes);
    if (!content.ok()) return content.error();
    image.pieces.push_back({{segment.address}, content.take()});
    free = std::max(free, segment.end());
  }

  const uint64_t information = page_up(free);
  const std::string command_line =
      request.append.empty() ? request.kernel_path : request.kernel_path + " " + request.append;
  InformationBlock block(information, ram, command_line, modules);
  if (!ram.usable(information, block.end() - information)) return no_room(kernel, ram);
  free = block.end();
  for (size_t i = 0; i < modules.size(); ++i) {
    const InputFile& file = modules[i].file;
    const uint64_t address = page_up(free);
    if (!ram.usable(address, file.size())) return no_room(file, ram);
    auto content = file.read(0, file.size());
    if (!content.ok()) return content.error();
    block.set_module_place(i, address, file.size());
    image.pieces.push_back({{address}, content.take()});
    free = address + file.size();
  }
  image.pieces.push_back(block.take());
  image.state = entry_state(layout.value().entry, information);
  return image;
}

}  // namespace trapline
