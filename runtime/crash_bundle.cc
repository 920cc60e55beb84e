#include "runtime/crash_bundle.h"

#include <fcntl.h>
#include <unistd.h>

#include <charconv>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <optional>
#include <span>
#include <sstream>

#include "runtime/engine.h"

namespace trapline {
namespace {

constexpr const char* kHeading = "trapline crash bundle 1";

std::string hex(std::span<const std::byte> bytes) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string out;
  for (const std::byte byte : bytes) {
    out += kDigits[static_cast<uint8_t>(byte) >> 4];
    out += kDigits[static_cast<uint8_t>(byte) & 15];
  }
  return out;
}

bool from_hex(std::string_view text, std::span<std::byte> out) {
  if (text.size() != out.size() * 2) return false;
  for (size_t i = 0; i < out.size(); ++i) {
    uint8_t value = 0;
    const char* const end = text.data() + i * 2 + 2;
    if (std::from_chars(end - 2, end, value, 16).ptr != end) return false;
    out[i] = static_cast<std::byte>(value);
  }
  return true;
}

Error broken(const std::string& line) {
  return {ExitStatus::kBadInput, "the crash bundle has a line that makes no sense: '" +
                                     line.substr(0, 40) + "'; it must come from this very program"};
}

/// One line; false when it makes no sense.
bool take_line(const std::string& line, CrashBundle& bundle) {
  std::istringstream in(line);
  std::string key;
  in >> key;
  if (key == "reason") {
    bundle.reason = line.substr(std::min(line.size(), key.size() + 1));
    return true;
  }
  if (key == "cpu") {
    std::string name;
    in >> name;
    bundle.options.cpu = CpuModel::find(name);
    return bundle.options.cpu != nullptr;
  }
  if (key == "switch") {
    std::string name, value;
    in >> name >> value;
    const SwitchName* found = find_switch(name);
    if (found) bundle.options.switches.*(found->member) = value == "on";
    return found && (value == "on" || value == "off");
  }
  if (key == "state" || key == "page") {
    uint64_t address = 0;
    std::string bytes;
    if (key == "page") in >> std::hex >> address;
    in >> bytes;
    if (key == "state") return from_hex(bytes, std::as_writable_bytes(std::span(&bundle.state, 1)));
    bundle.pages.push_back({address, {}});
    return address % kPageSize == 0 && from_hex(bytes, bundle.pages.back().bytes);
  }
  uint64_t number = 0;
  if (!(in >> number)) return false;
  if (key == "memory")
    bundle.options.memory_bytes = number;
  else if (key == "code-cache")
    bundle.options.code_cache_bytes = number;
  else if (key == "clock")
    bundle.options.clock = number ? TimeSource::kInstructions : TimeSource::kHost;
  else if (key == "code-page")
    bundle.code_page = number;
  else if (key == "mutation")
    bundle.options.mutation = static_cast<Mutation>(number);
  else
    return false;
  return true;
}

/// The frames that a CPU needs to go on for a few instructions.
class Collector {
 public:
  Collector(const PhysicalMemory& memory, CrashBundle& bundle)
      : state_(bundle.state), memory_(memory), bundle_(bundle) {}

  void collect() {
    const uint32_t code = state_.segment[kCs].base + state_.eip;
    if (const auto page = linear_page(code)) bundle_.code_page = *page;
    const uint32_t stack = state_.segment[kSs].base + state_.gpr[kEsp];
    for (const uint32_t linear : {code + kPageSize, stack, stack - kPageSize, state_.gdtr.base,
                                  state_.idtr.base, state_.ldtr.base, state_.tr.base})
      linear_page(linear);
    for (const uint32_t gpr : state_.gpr) linear_page(gpr);
  }

 private:
  std::optional<uint64_t> frame(uint64_t address) {
    const uint64_t start = address & ~uint64_t{kPageMask};
    if (!memory_.is_ram({start}, kPageSize)) return std::nullopt;
    for (const CrashBundle::Page& page : bundle_.pages)
      if (page.address == start) return start;
    bundle_.pages.push_back({start, {}});
    memory_.read({start}, bundle_.pages.back().bytes);
    return start;
  }

  uint64_t entry(uint64_t address, uint32_t size) {
    frame(address);
    uint64_t value = 0;
    memory_.read({address}, std::as_writable_bytes(std::span(&value, 1)).first(size));
    return value;
  }

  /// With the tables that lead there. Its frame, when there is one.
  std::optional<uint64_t> linear_page(uint32_t linear) {
    constexpr uint64_t kPresent = 1, kLarge = 0x80, kAddress = 0xffffff000;
    if (!state_.paging()) return frame(linear);
    const bool pae = state_.pae();
    const uint32_t size = pae ? 8 : 4;
    const uint32_t bits = pae ? 9 : 10;
    const uint32_t mask = (1u << bits) - 1;
    const uint64_t root = pae ? state_.pdpte[linear >> 30] : state_.cr3 | kPresent;
    if (!(root & kPresent)) return std::nullopt;
    const uint64_t directory =
        entry((root & kAddress) + (linear >> (kPageShift + bits) & mask) * size, size);
    if (!(directory & kPresent)) return std::nullopt;
    if ((directory & kLarge) && (pae || (state_.cr4 & cr4::kPse))) {
      const uint64_t large = uint64_t{1} << (kPageShift + bits);
      return frame((directory & kAddress & ~(large - 1)) + (linear & (large - 1)));
    }
    const uint64_t table =
        entry((directory & kAddress) + (linear >> kPageShift & mask) * size, size);
    return table & kPresent ? frame(table & kAddress) : std::nullopt;
  }

  const CpuState& state_;
  const PhysicalMemory& memory_;
  CrashBundle& bundle_;
};

}  // namespace

std::span<const std::byte> CrashBundle::code() const {
  const uint32_t offset = (state.segment[kCs].base + state.eip) & kPageMask;
  for (const Page& page : pages)
    if (page.address == code_page) return std::span(page.bytes).subspan(offset);
  return {};
}

std::string to_text(const CrashBundle& bundle) {
  const MachineOptions& options = bundle.options;
  std::ostringstream out;
  out << kHeading << "\nreason " << bundle.reason << "\ncpu " << options.cpu->name << "\nmemory "
      << options.memory_bytes << "\ncode-cache " << options.code_cache_bytes << "\nclock "
      << (options.clock == TimeSource::kInstructions) << "\nmutation "
      << static_cast<int>(options.mutation) << "\ncode-page " << bundle.code_page << "\n";
  for (const SwitchName& name : switch_names())
    out << "switch " << name.name << (options.switches.*name.member ? " on\n" : " off\n");
  out << "state " << hex(std::as_bytes(std::span(&bundle.state, 1))) << "\n";
  for (const CrashBundle::Page& page : bundle.pages)
    out << "page " << std::hex << page.address << " " << hex(page.bytes) << "\n";
  return out.str();
}

Result<CrashBundle> parse_bundle(const std::string& text) {
  std::istringstream in(text);
  std::string line;
  if (!std::getline(in, line) || line != kHeading)
    return Error{ExitStatus::kBadInput, "the file is no crash bundle of this program"};
  CrashBundle bundle;
  bundle.options.cpu = &CpuModel::max();
  while (std::getline(in, line))
    if (!take_line(line, bundle)) return broken(line);
  return bundle;
}

Result<CrashBundle> read_bundle(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return Error{ExitStatus::kBadInput, "cannot read " + path};
  return parse_bundle({std::istreambuf_iterator<char>(file), {}});
}

Result<std::string> write_bundle(const CrashBundle& bundle, const std::string& directory) {
  const std::string text = to_text(bundle);
  const std::string start = directory + "/trapline-crash-" + std::to_string(getpid());
  for (int attempt = 0; attempt < 100; ++attempt) {
    std::string path = start;
    if (attempt > 0) path.append(1, '-').append(std::to_string(attempt));
    path += ".txt";
    const int file = open(path.c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
    if (file < 0 && errno == EEXIST) continue;
    if (file < 0) break;
    const bool written = write(file, text.data(), text.size()) == static_cast<ssize_t>(text.size());
    if (close(file) == 0 && written) return path;
    break;
  }
  return Error{ExitStatus::kHost,
               "no crash bundle can be written to " + directory + ": " + std::strerror(errno)};
}

CrashBundle Engine::crash_bundle() {
  CrashBundle bundle;
  bundle.options = options_;
  bundle.options.cpu = &model_;
  bundle.options.ports = nullptr;
  bundle.options.crash_directory.clear();
  bundle.state = context_->cpu;
  const uint64_t from = context_->gate_from;
  if (const Block* block = from && cache_ ? cache_->block_at(from - 1) : nullptr) {
    const CodeRecord& record = cache_->record_at(*block, from - 1);
    bundle.state.eip = block->eip() + static_cast<uint32_t>(record.guest);
    bundle.state.gpr[kEsp] += static_cast<uint32_t>(int32_t{record.esp_pending});
  }
  Collector(*memory_, bundle).collect();
  return bundle;
}

void write_crash_bundle(void* context, const char* what) {
  auto& engine = *static_cast<Engine*>(context);
  if (engine.crash_directory().empty()) return;
  CrashBundle bundle = engine.crash_bundle();
  bundle.reason = what;
  const auto written = write_bundle(bundle, engine.crash_directory());
  if (written.ok())
    std::fprintf(stderr,
                 "trapline: what is known of it is in %s; 'trapline replay %s' runs it again\n",
                 written.value().c_str(), written.value().c_str());
  else
    std::fprintf(stderr, "trapline: %s\n", written.error().message.c_str());
}

Result<std::unique_ptr<Machine>> machine_of(const CrashBundle& bundle) {
  auto machine = Machine::create(bundle.options);
  if (!machine.ok()) return machine;
  for (const CrashBundle::Page& page : bundle.pages)
    machine.value()->write_memory({page.address}, page.bytes);
  machine.value()->set_state(bundle.state);
  return machine;
}

}  // namespace trapline
