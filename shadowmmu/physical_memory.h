// Guest physical memory: frames that are looked up, never assumed to be base + address.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "vcpu/address.h"
#include "vcpu/result.h"

namespace trapline {

enum class FrameKind : uint8_t {
  kAbsent,  ///< Nothing answers: reads give all ones, writes are lost.
  kRam,
  kRom,   ///< Readable as RAM; writes are lost.
  kMmio,  ///< Every access goes to a handler.
};

/// Reasons why writes to a frame must take the slow path. Bit masks; a frame may have several.
namespace denial {
inline constexpr uint8_t kPageTable = 1u << 0;  ///< Shadow entries were derived from it.
inline constexpr uint8_t kCode = 1u << 1;       ///< Translations were made from it.
inline constexpr uint8_t kWatch = 1u << 2;      ///< Something wants to see every write.
inline constexpr uint8_t kNative = 1u << 3;     ///< Its code runs natively, as it was looked at.
}  // namespace denial

class MmioHandler {
 public:
  virtual ~MmioHandler() = default;
  /// Size 1, 2, 4 or 8, never crossing a page.
  virtual uint64_t mmio_read(Physical address, uint32_t size) = 0;
  virtual void mmio_write(Physical address, uint32_t size, uint64_t value) = 0;
};

struct Frame {
  std::byte* host = nullptr;  ///< RAM and ROM.
  MmioHandler* mmio = nullptr;
  FrameKind kind = FrameKind::kAbsent;
  uint8_t denials = 0;
};

/// No model has more bits of physical address; beyond them there is nothing.
inline constexpr uint32_t kPhysicalBits = 40;

/// RAM is one memfd; the frame table is sparse, so that holes and more than 4 GiB cost nothing.
/// Only the thread that owns the machine uses it.
class PhysicalMemory {
 public:
  static constexpr uint64_t kMaxRamBytes = uint64_t{64} << 30;

  /// `bytes` of RAM from physical 0 up to 3 GiB, the rest from 4 GiB. Whole pages. The host gives
  /// each page when it is first touched.
  static Result<std::unique_ptr<PhysicalMemory>> create(uint64_t bytes);
  ~PhysicalMemory();
  PhysicalMemory(const PhysicalMemory&) = delete;
  PhysicalMemory& operator=(const PhysicalMemory&) = delete;

  uint64_t ram_bytes() const;
  /// One past the highest RAM address.
  Physical ram_end() const;

  /// Never fails: a frame that nothing was put into is kAbsent.
  const Frame& frame(uint64_t number) const {
    if (number < kFrameLimit) [[likely]] {
      if (const Frame* chunk = chunks_[number / kChunkFrames]) [[likely]]
        return chunk[number % kChunkFrames];
    }
    return first_use(number);
  }
  /// RAM and ROM only; denials of anything else mean nothing and are not kept.
  void set_denial(uint64_t frame_number, uint8_t reason);
  void clear_denial(uint64_t frame_number, uint8_t reason);

  /// Whole frames, from a frame's start. ROM content is copied. What was there before is hidden,
  /// and shows again after unmap. Callers that change the map at run time must drop the views
  /// (ShadowMmu::map_changed).
  Result<void> map_rom(Physical start, std::span<const std::byte> content);
  Result<void> map_mmio(Physical start, uint64_t bytes, MmioHandler& handler);
  void unmap(Physical start, uint64_t bytes);

  /// Plain copies for the outside (loaders, tests), frame by frame; absent frames read as ones.
  /// These fire no traces: writes made while a guest may run go through ShadowMmu::store.
  void read(Physical address, std::span<std::byte> out) const;
  void write(Physical address, std::span<const std::byte> in);
  bool is_ram(Physical address, uint64_t bytes) const;
  /// RAM as other processes map it: the file, and where in it a frame lies. Nothing for frames that
  /// are not RAM.
  int ram_file() const;
  std::optional<uint64_t> ram_offset(uint64_t frame_number) const;
  std::optional<uint64_t> ram_offset_of(const std::byte* host) const;
  /// All RAM reads as zero again, and the host has its pages back. Fires no traces: whatever was
  /// derived from RAM must be gone.
  void clear();
  /// To be called now and then: has the host hold RAM that is in use in huge pages.
  void gather(uint64_t nanoseconds_now);

 private:
  static constexpr uint64_t kFrameLimit = uint64_t{1} << (kPhysicalBits - kPageShift);
  static constexpr uint64_t kChunkFrames = 512;

  PhysicalMemory();
  const Frame& first_use(uint64_t number) const;
  Frame* chunk_of(uint64_t number) const;
  Frame base_frame(uint64_t number) const;
  Frame* deniable(uint64_t number);
  void put(uint64_t number, const Frame& frame);
  void take_off(uint64_t number);

  struct Parts;
  std::unique_ptr<Parts> parts_;
  Frame** chunks_ = nullptr;  ///< Frame tables for 2 MiB each, null until something is looked up.
};

}  // namespace trapline
