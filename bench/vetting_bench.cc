// What a look at a page of code costs, before it may run natively: over the code of Debian's i386
// programs, or of the ELF files that are named. A Google Benchmark program.
#include <benchmark/benchmark.h>
#include <elf.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "bench/code_corpus.h"
#include "runtime/native/vetting.h"

namespace trapline {
namespace {

/// What user code has in its address space, each page with what lies around it.
struct Code {
  std::string name;
  std::vector<uint8_t> text;                   ///< Whole pages.
  std::vector<std::vector<uint16_t>> entries;  ///< By page: where instructions follow a branch.

  size_t pages() const { return entries.size(); }
  std::span<const uint8_t> page(size_t index) const {
    return std::span(text).subspan(index * kPageSize, kPageSize);
  }
};

/// A branch or the end of a function, after which something else begins that is branched to.
bool ends_block(uint8_t opcode) {
  return opcode == 0xc3 || opcode == 0xe9 || opcode == 0xeb || (opcode >= 0x70 && opcode < 0x80) ||
         opcode == 0xe8;
}

void find_entries(Code& code) {
  code.entries.resize(code.text.size() / kPageSize);
  const std::span<const uint8_t> text(code.text);
  for (size_t at = 0; at < text.size();) {
    const uint8_t length =
        InstructionLengths::ask(text.subspan(at, std::min<size_t>(15, text.size() - at)));
    const bool invalid = length == InstructionLengths::kNone;
    const bool ends = !invalid && ends_block(text[at]);
    at += invalid ? 1 : length;
    if (ends && at < text.size() && text[at] != 0x90 && text[at] != 0x8d && text[at] != 0x66)
      code.entries[at / kPageSize].push_back(static_cast<uint16_t>(at % kPageSize));
  }
}

/// The executable segment of a 32-bit ELF file.
std::optional<Code> read_code(const std::string& path) {
  const std::vector<std::byte> file = read_file(path);
  Elf32_Ehdr header;
  if (file.size() < sizeof header) return std::nullopt;
  std::memcpy(&header, file.data(), sizeof header);
  if (std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 || header.e_machine != EM_386)
    return std::nullopt;
  for (size_t i = 0; i < header.e_phnum; ++i) {
    Elf32_Phdr segment;
    const size_t at = header.e_phoff + i * header.e_phentsize;
    if (at + sizeof segment > file.size()) return std::nullopt;
    std::memcpy(&segment, file.data() + at, sizeof segment);
    if (segment.p_type != PT_LOAD || !(segment.p_flags & PF_X)) continue;
    if (uint64_t{segment.p_offset} + segment.p_filesz > file.size()) return std::nullopt;
    Code code;
    code.name = path.substr(path.rfind('/') + 1);
    const auto* begin = reinterpret_cast<const uint8_t*>(file.data()) + segment.p_offset;
    code.text.assign(begin, begin + segment.p_filesz);
    code.text.resize((code.text.size() + kPageSize - 1) & ~size_t{kPageSize - 1});
    find_entries(code);
    return code;
  }
  return std::nullopt;
}

/// Each page of the code once, with so many entries, by a vetter that has seen none of it.
void look(benchmark::State& state, const Code& code) {
  const auto most = static_cast<size_t>(state.range(0));
  std::array<size_t, 4> verdicts{};
  auto fastest = std::chrono::steady_clock::duration::max();
  std::vector<uint16_t> entries;
  for (auto _ : state) {
    const auto vetter = std::make_unique<PageVetter>(CpuModel::max());
    vetter->watch();
    vetter->let_patch();
    verdicts = {};
    const auto begin = std::chrono::steady_clock::now();
    for (size_t i = 0; i < code.pages(); ++i) {
      const auto& all = code.entries[i];
      entries.clear();
      const size_t count = std::min(most, all.size());
      for (size_t e = 0; e < count; ++e) entries.push_back(all[e * all.size() / count]);
      const Vetted vetted =
          vetter->vet({.bytes = code.page(i),
                       .head = i > 0 ? code.page(i - 1) : std::span<const uint8_t>(),
                       .tail = i + 1 < code.pages() ? code.page(i + 1) : std::span<const uint8_t>(),
                       .entries = entries,
                       .sse = true,
                       .loads_are_noticed = true});
      ++verdicts[static_cast<size_t>(vetted)];
    }
    const auto took = std::chrono::steady_clock::now() - begin;
    fastest = std::min(fastest, took);
    state.SetIterationTime(std::chrono::duration<double>(took).count());
  }
  const std::chrono::duration<double, std::nano> nanoseconds = fastest;
  state.counters["ns/page"] = nanoseconds.count() / static_cast<double>(code.pages());
  state.counters["fine"] = static_cast<double>(verdicts[static_cast<size_t>(Vetted::kFine)]);
  state.counters["sensitive"] =
      static_cast<double>(verdicts[static_cast<size_t>(Vetted::kSensitive)]);
  state.counters["unexplored"] =
      static_cast<double>(verdicts[static_cast<size_t>(Vetted::kUnexplored)]);
  state.counters["patched"] = static_cast<double>(verdicts[static_cast<size_t>(Vetted::kPatched)]);
}

}  // namespace
}  // namespace trapline

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  std::vector<std::string> paths(argv + 1, argv + argc);
  if (paths.empty()) {
    const char* cache = std::getenv("TRAPLINE_GUESTS");
    const std::string loads = std::string(cache ? cache : TRAPLINE_GUESTS_CACHE) + "/loads/";
    for (const char* program :
         {"usr/bin/perl", "usr/bin/xz", "usr/bin/7zz", "lib/i386-linux-gnu/libc.so.6"})
      paths.push_back(loads + program);
  }
  static std::vector<trapline::Code> codes;
  for (const std::string& path : paths) {
    auto code = trapline::read_code(path);
    if (!code) {
      std::fprintf(stderr, "%s is no 32-bit ELF file with code\n", path.c_str());
      return 1;
    }
    codes.push_back(std::move(*code));
  }
  for (const trapline::Code& code : codes)
    benchmark::RegisterBenchmark(("look/" + code.name).c_str(),
                                 [&code](benchmark::State& state) { trapline::look(state, code); })
        ->ArgName("entries")
        ->Arg(0)
        ->Arg(4)
        ->Arg(32)
        ->Unit(benchmark::kMillisecond)
        ->UseManualTime();
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
