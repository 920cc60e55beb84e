#include "runtime/boot/multiboot.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <random>

#include "runtime/boot/little_endian.h"

namespace trapline {
namespace {

using Bytes = std::vector<std::byte>;
constexpr uint32_t kMagic = 0x1badb002;
constexpr uint64_t kRam = 16 << 20;

struct ElfSegment {
  uint32_t type = 1;
  uint32_t offset = 0x1000;
  uint32_t virtual_address = 0x100000;
  uint32_t address = 0x100000;
  uint32_t file_bytes = 0x100;
  uint32_t memory_bytes = 0x2000;
};

/// A header at `at`, with a right checksum.
void put_header(Bytes& file, size_t at, uint32_t flags) {
  store32(file, at, kMagic);
  store32(file, at + 4, flags);
  store32(file, at + 8, 0 - kMagic - flags);
}

Bytes elf(std::vector<ElfSegment> segments = {ElfSegment{}}, uint32_t entry = 0x100010,
          uint32_t flags = 0) {
  Bytes file(0x1100);
  const unsigned char ident[] = {0x7f, 'E', 'L', 'F', 1, 1, 1};
  std::memcpy(file.data(), ident, sizeof ident);
  store_little(file, 16, 2, 2);
  store_little(file, 18, 3, 2);
  store32(file, 24, entry);
  store32(file, 28, 52);
  store_little(file, 42, 32, 2);
  store_little(file, 44, segments.size(), 2);
  for (size_t i = 0; i < segments.size(); ++i) {
    const ElfSegment& s = segments[i];
    const uint32_t fields[] = {
        s.type, s.offset, s.virtual_address, s.address, s.file_bytes, s.memory_bytes, 7, 0x1000};
    for (size_t f = 0; f < 8; ++f) store32(file, 52 + 32 * i + 4 * f, fields[f]);
  }
  put_header(file, 0x800, flags);
  for (size_t i = 0x1000; i < file.size(); ++i) file[i] = static_cast<std::byte>(i * 7);
  return file;
}

struct Addresses {
  uint32_t header = 0x100010;
  uint32_t load = 0x100000;
  uint32_t load_end = 0;
  uint32_t bss_end = 0;
  uint32_t entry = 0x100040;
};

/// A flat image with its header at offset 16.
Bytes flat(const Addresses& addresses = {}, uint32_t more_flags = 0) {
  Bytes file(0x300);
  for (size_t i = 0; i < file.size(); ++i) file[i] = static_cast<std::byte>(i * 3);
  put_header(file, 16, 1u << 16 | more_flags);
  const uint32_t fields[] = {addresses.header,
                             addresses.load,
                             addresses.load_end,
                             addresses.bss_end,
                             addresses.entry,
                             1,
                             80,
                             25,
                             0};
  for (size_t f = 0; f < 9; ++f) store32(file, 28 + 4 * f, fields[f]);
  return file;
}

class Multiboot : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = ::testing::TempDir() + "multiboot." + std::to_string(getpid());
    ASSERT_EQ(mkdir(folder_.c_str(), 0700), 0);
  }
  void TearDown() override {
    for (const std::string& file : files_) std::remove(file.c_str());
    rmdir(folder_.c_str());
  }

  std::string write(const std::string& name, const Bytes& content) {
    const std::string path = folder_ + "/" + name;
    std::remove(path.c_str());  // Much faster than overwriting.
    std::ofstream(path, std::ios::binary)
        .write(reinterpret_cast<const char*>(content.data()),
               static_cast<std::streamsize>(content.size()));
    files_.push_back(path);
    return path;
  }

  Result<BootImage> load(const Bytes& kernel, uint64_t ram = kRam) {
    return load_multiboot({.kernel_path = write("kernel", kernel), .append = "", .modules = {}},
                          ram);
  }

  /// The kernel is refused with one sentence that holds `word`.
  void expect_refused(const Bytes& kernel, const std::string& word, uint64_t ram = kRam) {
    expect_error(load(kernel, ram), word);
  }

  static void expect_error(const Result<BootImage>& result, const std::string& word) {
    ASSERT_FALSE(result.ok()) << word;
    const std::string& message = result.error().message;
    EXPECT_EQ(result.error().status, ExitStatus::kBadInput);
    EXPECT_NE(message.find(word), std::string::npos) << message;
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
    EXPECT_NE(message.back(), '.') << message;
  }

  std::string folder_;
  std::vector<std::string> files_;
};

/// RAM as the image leaves it; what no piece covers is zero.
Bytes ram_of(const BootImage& image) {
  Bytes ram(kRam);
  for (const BootPiece& piece : image.pieces)
    std::ranges::copy(piece.content, ram.begin() + static_cast<long>(piece.address.value));
  return ram;
}

std::string text_at(const Bytes& ram, uint32_t address) {
  return reinterpret_cast<const char*>(ram.data() + address);
}

TEST_F(Multiboot, PutsElfSegmentsWhereTheyBelong) {
  auto result = load(elf(
      {{.file_bytes = 0x80},
       {.type = 4},
       {.offset = 0x1080, .virtual_address = 0x200000, .address = 0x200000, .file_bytes = 0x80}}));
  ASSERT_TRUE(result.ok()) << result.error().message;
  const Bytes ram = ram_of(result.value());
  EXPECT_EQ(ram[0x100001], static_cast<std::byte>(7));
  EXPECT_EQ(ram[0x100080], std::byte{0});
  EXPECT_EQ(ram[0x200001], static_cast<std::byte>(0x1081 * 7));
  EXPECT_EQ(result.value().state.eip, 0x100010u);
}

TEST_F(Multiboot, TheEntryOfAHighKernelIsTurnedIntoAPhysicalAddress) {
  auto result = load(elf({{.virtual_address = 0xc0100000}}, 0xc0100020));
  ASSERT_TRUE(result.ok()) << result.error().message;
  EXPECT_EQ(result.value().state.eip, 0x100020u);
  result = load(elf({{.virtual_address = 0xc0100000}}, 0x100020));
  ASSERT_TRUE(result.ok()) << result.error().message;
  EXPECT_EQ(result.value().state.eip, 0x100020u);
}

TEST_F(Multiboot, TheMachineStateIsTheSpecifications) {
  auto result = load(flat());
  ASSERT_TRUE(result.ok()) << result.error().message;
  const CpuState& state = result.value().state;
  EXPECT_EQ(state.gpr[kEax], 0x2badb002u);
  EXPECT_EQ(state.gpr[kEbx], 0x101000u);
  EXPECT_EQ(state.eip, 0x100040u);
  EXPECT_EQ(state.cr0 & (cr0::kPe | cr0::kPg), cr0::kPe);
  EXPECT_EQ(state.eflags & (eflags::kIf | eflags::kVm), 0u);
  EXPECT_EQ(state.cpl, 0);
  for (const Segment& segment : state.segment) {
    EXPECT_EQ(segment.base, 0u);
    EXPECT_EQ(segment.limit, 0xffffffffu);
    EXPECT_TRUE(segment.present() && segment.big());
  }
  EXPECT_TRUE(state.segment[kCs].code() && state.segment[kCs].readable());
  EXPECT_TRUE(state.segment[kSs].writable());
}

TEST_F(Multiboot, AddressFieldsSayWhatIsLoaded) {
  auto result = load(flat({.load_end = 0x100200, .bss_end = 0x108000}));
  ASSERT_TRUE(result.ok()) << result.error().message;
  const Bytes ram = ram_of(result.value());
  EXPECT_EQ(ram[0x1001ff], static_cast<std::byte>(0x1ff * 3));
  EXPECT_EQ(ram[0x100200], std::byte{0});
  EXPECT_EQ(result.value().state.gpr[kEbx], 0x108000u);

  // The header may stand behind the first loaded byte, or the load may begin at the header.
  result = load(flat({.load = 0x100010}));
  ASSERT_TRUE(result.ok()) << result.error().message;
  EXPECT_EQ(load32(ram_of(result.value()), 0x100010), kMagic);
}

TEST_F(Multiboot, TellsTheKernelWhatItAskedFor) {
  const std::string kernel = write("kernel", flat({}, 3));
  const std::string first = write("first", Bytes(5000, std::byte{1}));
  const std::string empty = write("empty", {});
  const std::string last = write("last", Bytes(3, std::byte{3}));
  auto result = load_multiboot({.kernel_path = kernel,
                                .append = "root=ram quiet",
                                .modules = {first + " one two", empty, last}},
                               kRam);
  ASSERT_TRUE(result.ok()) << result.error().message;
  const Bytes ram = ram_of(result.value());
  const uint32_t info = result.value().state.gpr[kEbx];
  EXPECT_EQ(load32(ram, info) & 0x24d, 0x24du);
  EXPECT_EQ(load32(ram, info + 4), 640u);
  EXPECT_EQ(load32(ram, info + 8), 15u * 1024);
  EXPECT_EQ(text_at(ram, load32(ram, info + 16)), kernel + " root=ram quiet");
  EXPECT_EQ(text_at(ram, load32(ram, info + 64)), "Trapline");

  ASSERT_EQ(load32(ram, info + 20), 3u);
  const uint32_t list = load32(ram, info + 24);
  const uint32_t start = load32(ram, list);
  EXPECT_EQ(start % 4096, 0u);
  EXPECT_EQ(load32(ram, list + 4), start + 5000);
  EXPECT_EQ(ram[start + 4999], std::byte{1});
  EXPECT_EQ(text_at(ram, load32(ram, list + 8)), first + " one two");
  EXPECT_EQ(load32(ram, list + 16), load32(ram, list + 20));
  EXPECT_EQ(text_at(ram, load32(ram, list + 24)), empty);
  const uint32_t last_start = load32(ram, list + 32);
  EXPECT_EQ(last_start, start + 8192);
  EXPECT_EQ(load32(ram, list + 36), last_start + 3);
  EXPECT_EQ(ram[last_start + 2], std::byte{3});
}

TEST_F(Multiboot, TheMemoryMapCoversAllRam) {
  auto result = load(flat(), uint64_t{5} << 30);
  ASSERT_TRUE(result.ok()) << result.error().message;
  const BootPiece& block = result.value().pieces.back();
  ASSERT_EQ(block.address.value, result.value().state.gpr[kEbx]);
  const uint32_t map = load32(block.content, 48) - static_cast<uint32_t>(block.address.value);
  ASSERT_EQ(load32(block.content, 44), 4u * 24);
  const uint64_t expected[4][3] = {{0, 0xa0000, 1},
                                   {0xa0000, 0x60000, 2},
                                   {0x100000, 0xbff00000, 1},
                                   {uint64_t{4} << 30, uint64_t{2} << 30, 1}};
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(load32(block.content, map + 24 * i), 20u);
    EXPECT_EQ(load_little(block.content, map + 24 * i + 4, 8), expected[i][0]);
    EXPECT_EQ(load_little(block.content, map + 24 * i + 12, 8), expected[i][1]);
    EXPECT_EQ(load32(block.content, map + 24 * i + 20), expected[i][2]);
  }
}

TEST_F(Multiboot, AKernelInLowMemoryLeavesTheRestAbove) {
  auto result = load(flat({.header = 0x8010, .load = 0x8000, .entry = 0x8040}));
  ASSERT_TRUE(result.ok()) << result.error().message;
  EXPECT_EQ(result.value().state.gpr[kEbx], 0x100000u);
}

TEST_F(Multiboot, AcceptsTextModeAndRefusesGraphics) {
  EXPECT_TRUE(load(flat({}, 4)).ok());
  Bytes graphics = flat({}, 4);
  store32(graphics, 16 + 32, 0);
  expect_refused(graphics, "graphics mode");
  expect_refused(flat({}, 8), "requires Multiboot features");
}

TEST_F(Multiboot, RefusesFilesThatAreNone) {
  const auto load_path = [](std::string path) {
    return load_multiboot({.kernel_path = std::move(path), .append = "", .modules = {}}, kRam);
  };
  expect_error(load_path(folder_ + "/missing"), "No such file");
  expect_error(load_path(folder_), "is a directory");
  expect_error(load_path("/dev/null"), "not a regular file");
  expect_error(load_path(""), "cannot be opened");
  const std::string fifo = folder_ + "/fifo";
  ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
  files_.push_back(fifo);
  expect_error(load_path(fifo), "not a regular file");
  if (geteuid() != 0) {
    const std::string secret = write("secret", flat());
    chmod(secret.c_str(), 0);
    expect_error(load_path(secret), "Permission denied");
  }
}

TEST_F(Multiboot, RefusesBadHeaders) {
  expect_refused({}, "is empty");
  expect_refused(Bytes(100), "no Multiboot header");
  expect_refused(Bytes(3), "no Multiboot header");
  Bytes late(20000);
  put_header(late, 8192 - 8, 0);
  expect_refused(late, "no Multiboot header");
  Bytes checksum = flat();
  store32(checksum, 24, 1);
  expect_refused(checksum, "wrong checksum");
  Bytes unaligned(100);
  put_header(unaligned, 18, 0);
  expect_refused(unaligned, "no Multiboot header");
  Bytes second(100);
  store32(second, 0, 0xe85250d6);
  expect_refused(second, "Multiboot 2");
  Bytes linux_image(0x400);
  std::memcpy(linux_image.data() + 0x202, "HdrS", 4);
  expect_refused(linux_image, "Linux kernel");
  Bytes neither(100);
  put_header(neither, 0, 0);
  expect_refused(neither, "not an ELF file");
  Bytes cut = flat();
  cut.resize(16 + 20);
  expect_refused(cut, "truncated");
}

TEST_F(Multiboot, RefusesBadAddressFields) {
  expect_refused(flat({.load = 0x100014}), "senseless");
  expect_refused(flat({.load = 0x0fffff}), "senseless");
  expect_refused(flat({.load_end = 0x100000}), "senseless");
  expect_refused(flat({.bss_end = 0x100100}), "senseless");
  expect_refused(flat({.load_end = 0x110000}), "truncated");
  expect_refused(flat({.load_end = 0xffffffff}), "truncated");
  expect_refused(flat({.bss_end = 0xffffffff}), "no RAM");
  expect_refused(flat({.entry = 0x0}), "entry");
  expect_refused(flat({.entry = 0x100300}), "entry");
  expect_refused(flat({.header = 0x9ff10, .load = 0x9ff00, .entry = 0x9ff40}), "no RAM");
  expect_refused(flat({.header = 0xfffffff0, .load = 0xffffffe0, .entry = 0xfffffff0}), "no RAM");
  expect_refused(flat(), "no RAM", 1 << 20);
  expect_refused(flat(), "does not fit", (1 << 20) + 4096);
}

TEST_F(Multiboot, RefusesBadElfFiles) {
  const auto changed = [](size_t at, uint32_t value, size_t size) {
    Bytes file = elf();
    store_little(file, at, value, size);
    return file;
  };
  expect_refused(changed(4, 2, 1), "64-bit");
  expect_refused(changed(5, 2, 1), "big-endian");
  expect_refused(changed(16, 1, 2), "not a linked executable");
  expect_refused(changed(18, 62, 2), "another processor");
  expect_refused(changed(28, 0xffffffff, 4), "truncated");
  expect_refused(changed(42, 56, 2), "program headers of 56");
  expect_refused(changed(44, 0, 2), "no program headers");
  expect_refused(changed(44, 0xffff, 2), "truncated");
}

TEST_F(Multiboot, RefusesBadElfSegments) {
  expect_refused(elf({{.type = 2}}), "nothing to load");
  expect_refused(elf({{.memory_bytes = 0x10}}), "more bytes in the file");
  expect_refused(elf({{.file_bytes = 0x101}}), "truncated");
  expect_refused(elf({{.offset = 0xffffff00}}), "truncated");
  expect_refused(elf({{.file_bytes = 0xffffffff, .memory_bytes = 0xffffffff}}), "truncated");
  expect_refused(elf({{.memory_bytes = 0xffffffff}}), "no RAM");
  expect_refused(elf({{.address = 0xfffff000}}), "no RAM");
  expect_refused(elf({{.address = 0x1000000}}), "no RAM");
  expect_refused(elf({{.address = 0x9f000}}), "no RAM");
  expect_refused(elf({{}, {.address = 0x101fff}}), "both cover 0x101fff");
  expect_refused(elf({{.address = 0x101fff}, {}}), "both cover 0x101fff");
  expect_refused(elf({{}}, 0x102000), "outside of what is loaded");
}

TEST_F(Multiboot, RefusesBadModules) {
  const std::string kernel = write("kernel", flat());
  const auto with = [&](std::vector<std::string> modules) {
    return load_multiboot({.kernel_path = kernel, .append = "", .modules = std::move(modules)},
                          kRam);
  };
  expect_error(with({folder_ + "/none arguments"}), "module");
  expect_error(with({""}), "module");
  expect_error(with({folder_}), "is a directory");
  const std::string half = write("half", Bytes(8 << 20));
  EXPECT_TRUE(with({half}).ok());
  expect_error(with({half, half}), "does not fit");
  const std::string sparse = write("sparse", {});
  ASSERT_EQ(truncate(sparse.c_str(), off_t{1} << 40), 0);
  expect_error(with({sparse}), "does not fit");
}

/// Whatever the bytes are, loading ends in an image whose pieces lie in RAM, or in one sentence.
/// Returns whether it is an image.
bool expect_sane(const Result<BootImage>& result) {
  if (!result.ok()) {
    EXPECT_FALSE(result.error().message.empty());
    return false;
  }
  for (const BootPiece& piece : result.value().pieces) {
    EXPECT_LE(piece.address.value, kRam);
    EXPECT_LE(piece.content.size(), kRam - piece.address.value);
  }
  return true;
}

TEST_F(Multiboot, SurvivesEveryTruncation) {
  for (const Bytes& whole : {elf(), flat()}) {
    for (size_t length = 0; length < whole.size(); length += length < 64 ? 1 : 13) {
      Bytes cut(whole.begin(), whole.begin() + static_cast<long>(length));
      expect_sane(load(cut));
    }
  }
}

TEST_F(Multiboot, SurvivesRandomDamage) {
  std::mt19937 random(2);
  const uint32_t interesting[] = {0, 1, 0x7fffffff, 0x80000000, 0xffffffff, 0xfffff000, 0x100000};
  int loaded = 0;
  for (int round = 0; round < 4000; ++round) {
    Bytes file = round % 2 ? elf({{}, {.address = 0x200000}}, 0x100010) : flat();
    const size_t end = round % 2 ? 52 + 64 : 64;
    for (int change = 0; change < 3; ++change) {
      const size_t at = random() % (end - 4);
      if (random() % 2)
        store32(file, at & ~size_t{3}, interesting[random() % std::size(interesting)]);
      else
        file[at] = static_cast<std::byte>(random());
    }
    if (round % 2 == 0) {  // Keep the checksum right, or nothing else would be looked at.
      store32(file, 16, kMagic);
      store32(file, 24, 0 - kMagic - load32(file, 20));
    }
    loaded += expect_sane(load(file));
  }
  EXPECT_GT(loaded, 400);
  EXPECT_LT(loaded, 3600);
}

}  // namespace
}  // namespace trapline
