// Runs inputs from a seed without libFuzzer, each batch in a child process, so that a crash or hang
// names its input and the rest still run.
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "tests/differential/random.h"
#include "tests/fuzz/fuzz_case.h"

namespace {

using namespace trapline::fuzz;
using Clock = std::chrono::steady_clock;

struct Options {
  uint64_t seed = 1;
  bool random_seed = false;
  uint64_t first = 0;
  uint64_t cases = ~uint64_t{0};
  double seconds = 8;
  std::string save;                ///< A file for the first input.
  std::vector<std::string> files;  ///< Inputs to run instead.
};

/// What parent and child share.
struct Progress {
  std::atomic<uint64_t> next{0};
  std::atomic<uint64_t> problems{0};
};

/// An instruction that is more often valid than random bytes are.
void append_instruction(trapline::differential::Random& random, std::vector<uint8_t>& out) {
  const auto byte = [&] { return static_cast<uint8_t>(random.next32()); };
  if (random.one_in(8)) {
    static constexpr uint8_t kPrefixes[] = {0x66, 0x67, 0xf2, 0xf3, 0xf0, 0x26,
                                            0x2e, 0x36, 0x3e, 0x64, 0x65};
    out.push_back(kPrefixes[random.below(sizeof kPrefixes)]);
  }
  if (random.one_in(4)) out.push_back(0x0f);
  out.push_back(byte());
  const uint8_t modrm = byte();
  out.push_back(random.one_in(2) ? modrm & 0x3f : modrm);
  const uint32_t more = random.below(6);
  for (uint32_t i = 0; i < more; ++i)
    out.push_back(random.one_in(2) ? static_cast<uint8_t>(random.below(8)) : byte());
}

/// One that turns the old mechanisms: transfers to where guest_setup.cc has put tasks and gates,
/// flags, interrupts, segments, debug registers, x87 environments, 16-bit oddities.
void append_legacy(trapline::differential::Random& random, bool code32, std::vector<uint8_t>& out) {
  using namespace std::string_view_literals;
  static constexpr std::string_view kOnes[] = {
      // IRET, PUSHF, POPF, CLI, STI, POP SS, POP DS, PUSHA, POPA, PUSH SP, RETF.
      "\xcf"sv, "\x9c"sv, "\x9d"sv, "\xfa"sv, "\xfb"sv, "\x17"sv, "\x1f"sv, "\x60"sv, "\x61"sv,
      "\x54"sv, "\xcb"sv,
      // INT1, INT3, INTO, SALC, AAM, AAD, HLT, ARPL, BOUND, ENTER, LEAVE, XLAT.
      "\xf1"sv, "\xcc"sv, "\xce"sv, "\xd6"sv, "\xd4\x0a"sv, "\xd5\x0a"sv, "\xf4"sv, "\x63\xc0"sv,
      "\x62\x07"sv, "\xc8\x08\x00\x01"sv, "\xc9"sv, "\xd7"sv,
      // CLTS, STR, LAR, MOV SS and DS, DR6, to DR7, CR0, SMSW, IN, OUT, OUTSB, STOSB, MOVS.
      "\x0f\x06"sv, "\x0f\x00\xc8"sv, "\x0f\x02\xc1"sv, "\x8e\xd0"sv, "\x8e\xd8"sv,
      "\x0f\x21\xf0"sv, "\x0f\x23\xf8"sv, "\x0f\x20\xc0"sv, "\x0f\x01\xe0"sv, "\xe4\x21"sv,
      "\xee"sv, "\x6e"sv, "\xaa"sv, "\xa5"sv,
      // WAIT, FNINIT, FLD1, FDIVP.
      "\x9b"sv, "\xdb\xe3"sv, "\xd9\xe8"sv, "\xde\xf9"sv};
  const auto byte = [&] { return static_cast<uint8_t>(random.next32()); };
  if (random.one_in(8)) out.push_back(0x66);
  if (random.one_in(8)) out.push_back(random.one_in(2) ? 0xf3 : 0x67);
  switch (random.below(6)) {
    case 0: {  // A far jump or call.
      out.push_back(random.one_in(2) ? 0xea : 0x9a);
      const auto offset = static_cast<uint16_t>(0x8000 + random.below(0x180));
      out.insert(out.end(), {static_cast<uint8_t>(offset), static_cast<uint8_t>(offset >> 8)});
      if (code32) out.insert(out.end(), {0, 0});
      const uint16_t selector = static_cast<uint16_t>(random.below(0x16) * 8 + random.below(4));
      out.insert(out.end(), {static_cast<uint8_t>(random.one_in(2) ? selector & ~7 : selector), 0});
      return;
    }
    case 1:
      out.insert(out.end(), {0xcd, static_cast<uint8_t>(random.below(64))});
      return;
    case 2: {  // An x87 environment.
      static constexpr uint8_t kWays[][2] = {{0xd9, 6}, {0xd9, 4}, {0xdd, 6}, {0xdd, 4}};
      const auto& way = kWays[random.below(4)];
      out.insert(out.end(), {way[0], static_cast<uint8_t>(way[1] << 3 | random.below(8))});
      return;
    }
    case 3:  // A selector into a segment register.
      out.insert(out.end(), {0x6a, static_cast<uint8_t>(random.below(0x80))});
      out.push_back(random.one_in(2) ? 0x07 : 0x1f);
      return;
    case 4:  // Flags, from the stack.
      out.insert(out.end(), {0x68, byte(), byte()});
      if (code32) out.insert(out.end(), {static_cast<uint8_t>(random.below(32)), 0});
      out.push_back(0x9d);
      return;
    default:
      for (const char one : kOnes[random.below(std::size(kOnes))])
        out.push_back(static_cast<uint8_t>(one));
  }
}

std::vector<uint8_t> make_input(uint64_t seed, uint64_t number) {
  trapline::differential::Random random(seed, number);
  std::vector<uint8_t> input;
  for (size_t i = 0; i < kHeaderBytes; ++i) input.push_back(static_cast<uint8_t>(random.next32()));
  const uint32_t instructions = 4 + random.below(100);
  const uint32_t legacy = random.one_in(2) ? 2 : 16;  // Every so many.
  const bool code32 = (input[0] & 3) == 3;
  for (uint32_t i = 0; i < instructions; ++i)
    if (random.one_in(legacy))
      append_legacy(random, code32, input);
    else
      append_instruction(random, input);
  return input;
}

void run_child(const Options& options, Progress& progress, Clock::time_point end) {
  while (progress.next < options.cases && Clock::now() < end) {
    const uint64_t number = options.first + progress.next;
    if (const auto problem = run_input(make_input(options.seed, number))) {
      ++progress.problems;
      std::printf("input %llu of seed %llu: %s\n", static_cast<unsigned long long>(number),
                  static_cast<unsigned long long>(options.seed), problem->c_str());
      std::fflush(stdout);
    }
    ++progress.next;
  }
  _exit(0);
}

/// Waits for the child; a child that makes no progress is ended. Its wait status.
int watch(pid_t child, const Progress& progress) {
  constexpr auto kPatience = std::chrono::seconds(30);
  uint64_t seen = progress.next;
  auto since = Clock::now();
  int status = 0;
  while (waitpid(child, &status, WNOHANG) == 0) {
    usleep(10'000);
    if (progress.next != seen) {
      seen = progress.next;
      since = Clock::now();
    } else if (Clock::now() - since > kPatience) {
      kill(child, SIGKILL);
    }
  }
  return status;
}

int run_generated(const Options& options) {
  void* page = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (page == MAP_FAILED) return 71;
  auto& progress = *new (page) Progress;
  const auto end =
      Clock::now() + std::chrono::milliseconds(static_cast<int64_t>(options.seconds * 1000));
  while (progress.next < options.cases && Clock::now() < end) {
    std::fflush(stdout);
    const pid_t child = fork();
    if (child < 0) return 71;
    if (child == 0) run_child(options, progress, end);
    const int status = watch(child, progress);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) continue;
    ++progress.problems;
    const char* how = WIFSIGNALED(status) ? strsignal(WTERMSIG(status)) : "an early exit";
    std::printf("input %llu of seed %llu: ended by %s\n",
                static_cast<unsigned long long>(options.first + progress.next),
                static_cast<unsigned long long>(options.seed), how);
    ++progress.next;
  }
  std::printf("seed %llu: %llu inputs, %llu problems\n",
              static_cast<unsigned long long>(options.seed),
              static_cast<unsigned long long>(progress.next.load()),
              static_cast<unsigned long long>(progress.problems.load()));
  return progress.problems == 0 ? 0 : 1;
}

int run_files(const std::vector<std::string>& files) {
  int status = 0;
  for (const std::string& name : files) {
    std::ifstream file(name, std::ios::binary);
    const std::vector<uint8_t> input{std::istreambuf_iterator<char>(file), {}};
    const auto problem = run_input(input);
    std::printf("%s: %s\n", name.c_str(), problem ? problem->c_str() : "no problem");
    if (problem) status = 1;
  }
  return status;
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app("Feeds random code and state to the engine.");
  app.add_option("--seed", options.seed, "Decides everything random")->capture_default_str();
  app.add_flag("--random-seed", options.random_seed, "Take a new seed and print it");
  app.add_option("--first", options.first, "Number of the first input");
  app.add_option("--cases", options.cases, "At most that many inputs");
  app.add_option("--seconds", options.seconds, "At most that long")->capture_default_str();
  app.add_option("--save", options.save, "Write the first input to a file and run none");
  app.add_option("inputs", options.files, "Files with inputs to run instead");
  CLI11_PARSE(app, argc, argv);
  if (options.random_seed) options.seed = std::random_device{}();
  if (!options.save.empty()) {
    const auto input = make_input(options.seed, options.first);
    std::ofstream(options.save, std::ios::binary)
        .write(reinterpret_cast<const char*>(input.data()), static_cast<long>(input.size()));
    return 0;
  }
  return options.files.empty() ? run_generated(options) : run_files(options.files);
}
