#include "runtime/boot/linux_kernel.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <random>
#include <span>
#include <utility>

#include "runtime/boot/linux_header.h"
#include "runtime/boot/little_endian.h"
#include "runtime/machine.h"

namespace trapline {
namespace {

namespace field = linux_header;
using Bytes = std::vector<std::byte>;
constexpr uint64_t kMiB = 1 << 20;
constexpr uint64_t kRam = 64 * kMiB;

/// An image in the shape of Debian's kernels: 39 setup sectors, relocatable, unpacked at 16 MiB.
struct Image {
  uint8_t setup_sectors = 39;
  uint8_t jump_offset = 0x6a;
  uint16_t version = 0x20f;
  uint8_t load_flags = field::kLoadedHigh;
  uint32_t entry = 0x100000;
  uint32_t initrd_max = 0x7fffffff;
  uint32_t alignment = 0x1000000;
  bool relocatable = true;
  uint16_t more_load_flags = 4;
  uint32_t command_line_max = 2047;
  uint64_t preferred = 0x1000000;
  uint32_t init_size = 0x100c000;
  uint32_t kernel_bytes = 0x3000;
  uint32_t units = 0x300;

  Bytes bytes() const {
    const size_t kernel = size_t{512} * ((setup_sectors == 0 ? 4 : setup_sectors) + 1);
    Bytes file(kernel + kernel_bytes);
    for (size_t i = kernel; i < file.size(); ++i) file[i] = static_cast<std::byte>(i * 7);
    file[field::kSetupSectors] = std::byte{setup_sectors};
    store32(file, field::kSystemSize, units);
    store_little(file, field::kBootFlag, 0xaa55, 2);
    store_little(file, 0x1fa, 0xffff, 2);  // The video mode: a field that is only handed on.
    file[0x200] = std::byte{0xeb};
    file[field::kJumpOffset] = std::byte{jump_offset};
    std::memcpy(file.data() + field::kMagic, "HdrS", 4);
    store_little(file, field::kVersion, version, 2);
    file[field::kLoadFlags] = std::byte{load_flags};
    store32(file, field::kEntry, entry);
    store32(file, field::kInitrdMax, initrd_max);
    store32(file, field::kAlignment, alignment);
    file[field::kRelocatable] = std::byte{relocatable};
    store_little(file, field::kMoreLoadFlags, more_load_flags, 2);
    store32(file, field::kCommandLineMax, command_line_max);
    store64(file, field::kPreferred, preferred);
    store32(file, field::kInitSize, init_size);
    return file;
  }
};

/// RAM as the image leaves it, looked at piece by piece.
class LoadedRam {
 public:
  explicit LoadedRam(const BootImage& image) : image_(image) {}

  Bytes at(uint64_t address, size_t size) const {
    Bytes out(size);
    for (const BootPiece& piece : image_.pieces) {
      const uint64_t start = std::max(address, piece.address.value);
      const uint64_t end =
          std::min<uint64_t>(address + size, piece.address.value + piece.content.size());
      if (start < end)
        std::copy_n(piece.content.begin() + static_cast<ptrdiff_t>(start - piece.address.value),
                    end - start, out.begin() + static_cast<ptrdiff_t>(start - address));
    }
    return out;
  }
  uint64_t number(uint64_t address, size_t size) const {
    return load_little(at(address, size), 0, size);
  }
  std::string text(uint64_t address) const {
    return reinterpret_cast<const char*>(at(address, 4096).data());
  }

 private:
  const BootImage& image_;
};

class LinuxKernel : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = ::testing::TempDir() + "linux." + std::to_string(getpid());
    ASSERT_EQ(mkdir(folder_.c_str(), 0700), 0);
  }
  void TearDown() override {
    for (const char* name : {"kernel", "initrd"}) std::remove((folder_ + "/" + name).c_str());
    rmdir(folder_.c_str());
  }

  std::string write(const std::string& name, const Bytes& content) {
    const std::string path = folder_ + "/" + name;
    std::remove(path.c_str());
    std::ofstream(path, std::ios::binary)
        .write(reinterpret_cast<const char*>(content.data()),
               static_cast<std::streamsize>(content.size()));
    return path;
  }

  Result<BootImage> load(const Bytes& kernel, LinuxRequest request = {}, uint64_t ram = kRam) {
    request.kernel_path = write("kernel", kernel);
    return load_linux(request, ram);
  }
  Result<BootImage> load_with_initrd(const Image& image, size_t bytes, uint64_t ram = kRam,
                                     std::vector<MemoryRange> special = {}) {
    LinuxRequest request;
    request.initrd_path = write("initrd", Bytes(bytes, std::byte{0x5a}));
    request.special = std::move(special);
    return load(image.bytes(), request, ram);
  }

  static void expect_error(const Result<BootImage>& result, const std::string& word) {
    ASSERT_FALSE(result.ok()) << word;
    const std::string& message = result.error().message;
    EXPECT_EQ(result.error().status, ExitStatus::kBadInput);
    EXPECT_NE(message.find(word), std::string::npos) << message;
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
    EXPECT_NE(message.back(), '.') << message;
  }
  void expect_refused(const Bytes& kernel, const std::string& word, uint64_t ram = kRam) {
    expect_error(load(kernel, {}, ram), word);
  }

  std::string folder_;
};

TEST_F(LinuxKernel, IsEnteredAsTheProtocolSays) {
  auto result = load(Image{}.bytes());
  ASSERT_TRUE(result.ok()) << result.error().message;
  const CpuState& state = result.value().state;
  const LoadedRam ram(result.value());
  EXPECT_EQ(state.eip, 0x100000u);
  EXPECT_EQ(state.cr0, cr0::kPe | cr0::kEt);
  EXPECT_EQ(state.eflags, eflags::kFixed1);
  EXPECT_EQ(state.segment[kCs].selector, 0x10);
  for (const SegmentName name : {kDs, kEs, kSs}) EXPECT_EQ(state.segment[name].selector, 0x18);
  EXPECT_TRUE(state.segment[kCs].code());
  for (const Segment& segment : state.segment) EXPECT_EQ(segment.read_end, uint64_t{1} << 32);
  EXPECT_EQ(ram.number(state.gpr[kEsi] + 0x202, 4), 0x53726448u);  // "HdrS"
  for (const Gpr name : {kEbp, kEdi, kEbx}) EXPECT_EQ(state.gpr[name], 0u);
  // The selectors can be loaded again: the GDT is there.
  EXPECT_EQ(state.gdtr.limit, 0x1f);
  EXPECT_EQ(ram.number(state.gdtr.base + 0x10, 8), 0x00cf9b000000ffffu);
  EXPECT_EQ(ram.number(state.gdtr.base + 0x18, 8), 0x00cf93000000ffffu);
}

TEST_F(LinuxKernel, LoadsAtOneMebibyteWhatTheHeaderNames) {
  Image image;
  image.kernel_bytes = 0x3000 + 0x123;  // A signature behind the kernel stays out.
  auto result = load(image.bytes());
  ASSERT_TRUE(result.ok()) << result.error().message;
  const LoadedRam ram(result.value());
  const Bytes file = image.bytes();
  EXPECT_EQ(ram.at(0x100000, 0x3000),
            Bytes(file.begin() + 512 * 40, file.begin() + 512 * 40 + 0x3000));
  EXPECT_EQ(ram.number(0x103000, 8), 0u);
}

TEST_F(LinuxKernel, FindsItsHeaderAndTheMemoryMapInTheZeroPage) {
  LinuxRequest request;
  request.command_line = "console=ttyS0 quiet";
  request.special = {{63 * kMiB, kMiB, MemoryKind::kAcpiData}};
  request.acpi_rsdp = 0xf1230;
  auto result = load(Image{}.bytes(), request);
  ASSERT_TRUE(result.ok()) << result.error().message;
  const LoadedRam ram(result.value());
  const uint64_t page = result.value().state.gpr[kEsi];
  EXPECT_EQ(ram.number(page + 0x1fa, 2), 0xffffu);  // Copied.
  EXPECT_EQ(ram.number(page + 0x206, 2), 0x20fu);
  EXPECT_EQ(ram.number(page + 0x210, 1), 0xffu);
  EXPECT_EQ(ram.number(page + 0x218, 8), 0u);  // No initrd.
  EXPECT_EQ(ram.text(ram.number(page + 0x228, 4)), "console=ttyS0 quiet");
  EXPECT_EQ(ram.number(page + 0x070, 8), 0xf1230u);
  EXPECT_EQ(ram.number(page + 0x1e0, 4), 63u * 1024);
  EXPECT_EQ(ram.number(page + 0x002, 2), 63u * 1024);
  EXPECT_EQ(ram.number(page + 0x00e, 2), 0u);  // No screen: no columns, no rows.
  EXPECT_EQ(ram.number(page + 0x1ef, 1), 0u);  // The sentinel says that the page was zeroed.
  EXPECT_EQ(ram.number(page + 0x000, 2), 0u);

  const auto expected = MemoryMap(RamLayout{kRam}, request.special).ranges();
  ASSERT_EQ(ram.number(page + 0x1e8, 1), expected.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    const uint64_t at = page + 0x2d0 + 20 * i;
    EXPECT_EQ(ram.number(at, 8), expected[i].address);
    EXPECT_EQ(ram.number(at + 8, 8), expected[i].bytes);
    EXPECT_EQ(ram.number(at + 16, 4), static_cast<uint32_t>(expected[i].kind));
  }
}

TEST_F(LinuxKernel, OfAnOldProtocolIsNotToldOfAcpi) {
  Image image;
  image.version = 0x20d;
  LinuxRequest request;
  request.acpi_rsdp = 0xf1230;
  auto result = load(image.bytes(), request);
  ASSERT_TRUE(result.ok()) << result.error().message;
  EXPECT_EQ(LoadedRam(result.value()).number(result.value().state.gpr[kEsi] + 0x70, 8), 0u);
}

TEST_F(LinuxKernel, GetsOtherRandomBytesEachTime) {
  const Result<BootImage> result = load(Image{}.bytes());
  ASSERT_TRUE(result.ok()) << result.error().message;
  MachineOptions options;
  options.memory_bytes = kRam;
  const auto machine = Machine::create(options).take();
  const auto number = [&](uint64_t address, size_t bytes) {
    uint64_t value = 0;
    machine->read_memory({address}, std::as_writable_bytes(std::span(&value, 1)).first(bytes));
    return value;
  };
  uint64_t before = 0;
  for (int i = 0; i < 2; ++i) {
    place_boot_image(result.value(), *machine);
    const uint64_t seed = number(machine->state().gpr[kEsi] + field::kSetupData, 8);
    ASSERT_NE(seed, 0u);
    EXPECT_EQ(number(seed, 8), 0u);  // The list's last.
    EXPECT_EQ(number(seed + 8, 4), 9u);
    EXPECT_EQ(number(seed + 12, 4), 32u);
    for (uint64_t at = seed + 16; at < seed + 48; at += 8) EXPECT_NE(number(at, 8), 0u);
    EXPECT_NE(number(seed + 16, 8), before);
    before = number(seed + 16, 8);
  }
}

TEST_F(LinuxKernel, GetsNoRandomBytesThatItIsNotToHaveOrCannotBeToldOf) {
  Image old;
  old.version = 0x208;
  for (const auto& [image, wanted] : {std::pair{Image{}, false}, std::pair{old, true}}) {
    LinuxRequest request;
    request.random_seed = wanted;
    const Result<BootImage> result = load(image.bytes(), request);
    ASSERT_TRUE(result.ok()) << result.error().message;
    const LoadedRam ram(result.value());
    EXPECT_EQ(ram.number(result.value().state.gpr[kEsi] + field::kSetupData, 8), 0u);
    for (const BootPiece& piece : result.value().pieces) EXPECT_EQ(piece.random_bytes, 0u);
  }
}

TEST_F(LinuxKernel, GetsItsInitrdAsHighAsItMayLie) {
  const struct {
    uint64_t ram;
    uint32_t limit;
    std::vector<MemoryRange> special;
    uint64_t address;
  } cases[] = {
      {kRam, 0x7fffffff, {}, kRam - 0x2000},
      {kRam, 0x2ffffff, {}, 0x2ffe000},
      {kRam, 0x2fffabc, {}, 0x2ffd000},
      {uint64_t{5} << 30, 0xffffffff, {}, RamLayout::kHoleStart - 0x2000},
      {kRam, 0x7fffffff, {{60 * kMiB, 4 * kMiB, MemoryKind::kAcpiData}}, 60 * kMiB - 0x2000},
  };
  for (const auto& one : cases) {
    Image image;
    image.initrd_max = one.limit;
    auto result = load_with_initrd(image, 0x1801, one.ram, one.special);
    ASSERT_TRUE(result.ok()) << result.error().message;
    const LoadedRam ram(result.value());
    const uint64_t page = result.value().state.gpr[kEsi];
    EXPECT_EQ(ram.number(page + 0x218, 4), one.address);
    EXPECT_EQ(ram.number(page + 0x21c, 4), 0x1801u);
    EXPECT_EQ(ram.at(one.address, 0x1801), Bytes(0x1801, std::byte{0x5a}));
  }
}

TEST_F(LinuxKernel, SaysHowMuchMemoryItNeeds) {
  expect_refused(Image{}.bytes(), "give --memory 33M or more", 32 * kMiB);
  EXPECT_TRUE(load(Image{}.bytes(), {}, 33 * kMiB).ok());
  Image fixed;  // Loaded where it runs: memtest86+ is like that.
  fixed.relocatable = false;
  fixed.preferred = 0x100000;
  fixed.init_size = 0x687f8;
  EXPECT_TRUE(load(fixed.bytes(), {}, 2 * kMiB).ok());
  expect_refused(fixed.bytes(), "1024 KiB of RAM; give --memory 2M or more", kMiB);
  Image old;
  old.version = 0x209;
  expect_refused(old.bytes(), "give --memory 2M or more", 0x102000);
  EXPECT_TRUE(load(old.bytes(), {}, 2 * kMiB).ok());
  Image huge;
  huge.preferred = UINT64_MAX - 5;
  expect_refused(huge.bytes(), "more than a PC has in one piece");
  huge.preferred = 0x100000;
  huge.alignment = 0xffffffff;
  expect_refused(huge.bytes(), "more than a PC has in one piece");
}

TEST_F(LinuxKernel, SaysHowMuchMemoryTheInitrdNeeds) {
  const std::vector<MemoryRange> tables{{39 * kMiB, kMiB, MemoryKind::kAcpiData}};
  expect_error(load_with_initrd({}, 8 * kMiB, 40 * kMiB, tables), "give --memory 48M or more");
  const std::vector<MemoryRange> moved{{47 * kMiB, kMiB, MemoryKind::kAcpiData}};
  EXPECT_TRUE(load_with_initrd({}, 8 * kMiB, 48 * kMiB, moved).ok());
  expect_error(load_with_initrd({}, 8 * kMiB, 36 * kMiB), "give --memory 44M or more");
  EXPECT_TRUE(load_with_initrd({}, 8 * kMiB, 44 * kMiB).ok());
  Image low;
  low.initrd_max = 0x22fffff;
  expect_error(load_with_initrd(low, 8 * kMiB), "must lie between the kernel and 35M");
}

TEST_F(LinuxKernel, RefusesAnInitrdThatIsNoneToRead) {
  LinuxRequest request;
  request.initrd_path = folder_ + "/missing";
  expect_error(load(Image{}.bytes(), request), "cannot be opened");
  request.initrd_path = folder_;
  expect_error(load(Image{}.bytes(), request), "initrd '" + folder_ + "' is a directory");
  expect_error(load_with_initrd({}, 0), "is empty");
}

TEST_F(LinuxKernel, LimitsTheCommandLine) {
  LinuxRequest request;
  request.command_line = std::string(2047, 'a');
  auto result = load(Image{}.bytes(), request);
  ASSERT_TRUE(result.ok()) << result.error().message;
  const LoadedRam ram(result.value());
  EXPECT_EQ(ram.text(ram.number(result.value().state.gpr[kEsi] + 0x228, 4)), request.command_line);
  request.command_line += 'b';
  expect_error(load(Image{}.bytes(), request), "at most 2047 bytes, and --append has 2048");
  Image old;
  old.version = 0x205;
  request.command_line = std::string(256, 'a');
  expect_error(load(old.bytes(), request), "at most 255");
  Image boundless;
  boundless.command_line_max = UINT32_MAX;
  request.command_line = std::string(1 << 16, 'a');
  expect_error(load(boundless.bytes(), request), "at most 28671");
}

TEST_F(LinuxKernel, RefusesWhatIsNoImage) {
  expect_refused({}, "is empty");
  expect_refused(Bytes(100), "not a Linux kernel image");
  expect_refused(Bytes(100000), "not a Linux kernel image");
  const auto starting = [](std::string_view text) {
    Bytes file(4096);
    std::memcpy(file.data(), text.data(), text.size());
    return file;
  };
  expect_refused(starting("\177ELF"), "is an ELF file");
  expect_refused(starting("\x1f\x8b"), "is a compressed file");
  expect_refused(starting("070701"), "cpio archive");
  Bytes no_flag = Image{}.bytes();
  no_flag[field::kBootFlag] = std::byte{0};
  expect_refused(no_flag, "not a Linux kernel image");
}

TEST_F(LinuxKernel, RefusesKernelsForOtherMachines) {
  Image image;
  image.more_load_flags = 1;
  expect_refused(image.bytes(), "is a 64-bit kernel");
  image.version = 0x20b;  // The field did not exist.
  EXPECT_TRUE(load(image.bytes()).ok());
  image.version = 0x201;
  expect_refused(image.bytes(), "boot protocol 2.01, which is too old");
  image = {};
  image.load_flags = 0;
  expect_refused(image.bytes(), "is a zImage");
}

TEST_F(LinuxKernel, ThatIsTruncatedIsRefusedAtEveryLength) {
  const Bytes whole = Image{}.bytes();
  ASSERT_EQ(whole.size(), 512u * 40 + 0x3000);
  for (const size_t size : {whole.size() - 16, whole.size() - 0x1000, size_t{512} * 40 + 1,
                            size_t{512} * 40, size_t{512} * 30, size_t{1023}, size_t{600}})
    expect_refused(Bytes(whole.begin(), whole.begin() + static_cast<ptrdiff_t>(size)), "truncated");
  // The size is rounded up to units of 16 bytes.
  EXPECT_TRUE(load(Bytes(whole.begin(), whole.end() - 15)).ok());
}

TEST_F(LinuxKernel, MayLeaveItsNumberOfSetupSectorsOut) {
  Image image;
  image.setup_sectors = 0;
  auto result = load(image.bytes());
  ASSERT_TRUE(result.ok()) << result.error().message;
  const Bytes file = image.bytes();
  EXPECT_EQ(LoadedRam(result.value()).at(0x100000, 16),
            Bytes(file.begin() + 512 * 5, file.begin() + 512 * 5 + 16));
}

TEST_F(LinuxKernel, RefusesSenselessHeaders) {
  Image image;
  image.entry = 0x103000;
  expect_refused(image.bytes(), "its entry outside");
  image.entry = 0x1000;
  expect_refused(image.bytes(), "its entry outside");
  image = {};
  image.jump_offset = 0xf0;
  expect_refused(image.bytes(), "senseless length");
  image.jump_offset = 0x10;
  expect_refused(image.bytes(), "senseless length");
}

TEST_F(LinuxKernel, WithoutA32BitEntryStartsInRealMode) {
  Image image;
  image.version = 0x207;
  image.setup_sectors = 5;
  image.entry = 0;
  LinuxRequest request;
  request.command_line = "shell";
  request.initrd_path = write("initrd", Bytes(100, std::byte{0x5a}));
  auto result = load(image.bytes(), request);
  ASSERT_TRUE(result.ok()) << result.error().message;
  const CpuState& state = result.value().state;
  const LoadedRam ram(result.value());
  EXPECT_FALSE(state.protected_mode());
  EXPECT_EQ(state.eflags & eflags::kIf, 0u);
  const uint32_t setup = state.segment[kDs].base;
  EXPECT_EQ(state.segment[kCs].base, setup + 0x200);
  EXPECT_EQ(state.segment[kSs].base, setup);
  EXPECT_EQ(state.eip, 0u);
  EXPECT_EQ(ram.number(setup + 0x200, 1), 0xebu);
  EXPECT_EQ(ram.number(setup + 0x210, 1), 0xffu);
  EXPECT_TRUE(ram.number(setup + 0x211, 1) & field::kCanUseHeap);
  EXPECT_EQ(ram.number(setup + 0x224, 2) + 0x200, state.gpr[kEsp]);
  EXPECT_EQ(ram.number(setup + 0x218, 4), kRam - 0x1000);
  EXPECT_EQ(ram.text(ram.number(setup + 0x228, 4)), "shell");
  image.setup_sectors = 255;
  expect_refused(image.bytes(), "more setup code than fits");
}

/// No header, however damaged, makes a piece that lies outside of RAM or on another.
TEST_F(LinuxKernel, IsLoadedSanelyOrRefusedWhateverItsHeaderSays) {
  std::mt19937 random(3);
  const uint32_t interesting[] = {0, 1, 0x7fffffff, 0x80000000, 0xffffffff, 0x100000, 0x1000};
  int loaded = 0;
  for (int round = 0; round < 3000; ++round) {
    Bytes file = Image{}.bytes();
    for (int change = 0; change < 3; ++change) {
      const size_t at = field::kStart + random() % 0x78;
      if (random() % 2)
        store32(file, at & ~size_t{3}, interesting[random() % std::size(interesting)]);
      else
        file[at] = static_cast<std::byte>(random());
    }
    auto result = load(file);
    if (!result.ok()) {
      EXPECT_EQ(result.error().status, ExitStatus::kBadInput);
      continue;
    }
    ++loaded;
    auto pieces = std::move(result.value().pieces);
    std::ranges::sort(pieces, {}, [](const BootPiece& piece) { return piece.address.value; });
    uint64_t end = 0;
    for (const BootPiece& piece : pieces) {
      EXPECT_GE(piece.address.value, end);
      end = piece.address.value + piece.content.size();
      EXPECT_TRUE(RamLayout{kRam}.usable(piece.address.value, piece.content.size()));
    }
  }
  EXPECT_GT(loaded, 300);
  EXPECT_LT(loaded, 2700);
}

}  // namespace
}  // namespace trapline
