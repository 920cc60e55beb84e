// The unchecked copy of a loop (page_loop.h). The block's own code does the first iteration, with
// its checks; its branch back goes to a guard, which looks at each stream once:
//
//   guard:  for each stream: its page's entry, and how far its register may go
//   head:   the body, each stream's operand relative to its base
//           not again: -> onward, behind the branch in the block's own code
//           beyond a limit: -> give_up
//           -> head
//   give_up: a direct branch to the block, as the loop's branch would be without a copy
//
// Invariants:
//  L1  While a moving register is not beyond its limit, all accesses of its streams in the next
//      iteration lie in the page that the guard has seen, and the register does not wrap.
//  L2  An entry that the guard has seen holds until the block is left: a gate that comes back has
//      removed nothing, and everything else leaves.
//  L3  What the copy needs of the block's own first iteration holds in the copy too: the stack
//      window was checked for the same ESP, and the FPU is the guest's.
//  L4  A kick ends the copy at its next branch, unless it comes while the guard is setting the
//      limits; then it ends at the end of a page, or with the next kick.
#include <algorithm>

#include "translator/block_emitter.h"
#include "translator/instruction_table.h"
#include "translator/lower.h"
#include "vcpu/assert.h"

namespace trapline {

namespace x86 = asmjit::x86;

namespace {

x86::Mem limit_field(int number, bool up) {
  const int32_t first =
      up ? TRAPLINE_CONTEXT_OFFSET(loop.up_limit) : TRAPLINE_CONTEXT_OFFSET(loop.down_limit);
  return host::context(first + number * 8, 8);
}

x86::Mem base_field(int number) {
  return host::context(TRAPLINE_CONTEXT_OFFSET(loop.base) + number * 8, 8);
}

uint32_t shift_of(const LoopStream& stream, uint8_t reg) {
  if (reg != stream.index) return 0;
  return stream.scale == 8 ? 3 : stream.scale == 4 ? 2 : stream.scale == 2 ? 1 : 0;
}

}  // namespace

/// The loop's branch, in the block itself and in the copy.
void BlockEmitter::enter_page_loop(std::optional<x86::CondCode> condition) {
  if (copy_.emitting) {
    emit_loop_end(condition);
    return;
  }
  copy_.guard = a.new_label();
  copy_.head = a.new_label();
  copy_.onward = a.new_label();
  copy_.give_up = a.new_label();
  copy_.entered = true;
  copy_.flags_in_host = flags_in_host_;
  if (!condition) {
    a.jmp(copy_.guard);
    return;
  }
  a.j(*condition, copy_.guard);
  a.bind(copy_.onward);
}

void BlockEmitter::emit_page_loop(std::span<const Instruction> instructions) {
  const PageLoop& loop = analysis_.loop;
  place_streams();
  const auto state_of_first = [&](bool flags_in_host) {
    index_ = 0;
    current_ = &analysis_.instruction[0];
    out_.guest_bytes = 0;
    esp_pending_ = 0;
    flags_in_host_ = flags_in_host;
    recompute_ = false;
    comparison_ = -1;
    add_record(offset());
  };
  state_of_first(copy_.flags_in_host);
  a.bind(copy_.guard);
  const bool live = analysis_.live_at_entry != 0;
  if (live) save_flags_for_exit();
  flags_in_host_ = !live;
  uint32_t limits_set = 0;
  for (int i = 0; i < loop.streams; ++i) {
    const LoopStream& stream = loop.stream[static_cast<size_t>(i)];
    emit_stream_guard(stream, i, !(limits_set >> stream.limit & 1));
    if (stream.moves()) limits_set |= 1u << stream.limit;
  }
  for (int i = 0; i < loop.streams; ++i)
    if (const x86::Gp& base = copy_.base[static_cast<size_t>(i)]; base.isValid())
      a.mov(base, base_field(i));
  a.align(asmjit::AlignMode::kCode, 32);
  a.bind(copy_.head);
  copy_.emitting = true;
  guarded_segment_ = analysis_.instruction[0].stack_segment;
  guarded_frame_ = -1;
  shared_ = {};
  continue_block();
  for (index_ = 0; index_ <= loop.back_edge; ++index_) {
    current_ = &analysis_.instruction[index_];
    emit_instruction(instructions[index_]);
  }
  copy_.emitting = false;
  state_of_first(!live);
  a.bind(copy_.give_up);
  branch_always(request_.eip);
  end_block();
}

/// Some processors decode a line of 32 bytes anew each time round when a branch ends in the next
/// one. A comparison counts as part of its branch.
void BlockEmitter::keep_branch_in_line(const Instruction& in) {
  constexpr uint32_t kLongestBranch = 6;
  constexpr uint32_t kPrefixes = 2;  // What an operand's host registers may add.
  if (index_ + 1 >= instructions_.size() || instructions_[index_ + 1].row->lower != lower_jcc)
    return;
  if (in.flags_written) pad_line(in.length + kPrefixes + kLongestBranch);
}

/// Makes room for so many bytes before the end of the line.
void BlockEmitter::pad_line(uint32_t bytes) {
  constexpr uint32_t kLine = 32;
  if (offset() % kLine + bytes >= kLine) a.align(asmjit::AlignMode::kCode, kLine);
}

/// Scratch registers hold the bases as long as there are any that the body leaves alone.
void BlockEmitter::place_streams() {
  const PageLoop& loop = analysis_.loop;
  std::vector<x86::Gp> free;
  if (!loop.uses_value) free.push_back(host::kValue);
  if (!loop.uses_address) free.push_back(host::kAddress);
  // Those that are in memory need the delta register for their way to the access.
  if (!loop.uses_delta && loop.streams <= static_cast<int>(free.size()) + 1)
    free.push_back(host::kDelta);
  const size_t placed = std::min(free.size(), static_cast<size_t>(loop.streams));
  for (size_t i = 0; i < placed; ++i) copy_.base[i] = free[i];
}

/// Sets the stream's base and limit, or gives up.
void BlockEmitter::emit_stream_guard(const LoopStream& stream, int number, bool first_of_limit) {
  const x86::Gp linear = host::kAddress;
  const x86::Gp wide = host::kDelta;  // The same sum in 64 bits, as the operand will make it.
  const x86::Gp base = host::kValue;
  const bool has_base = stream.base != Operand::kNoRegister;
  const bool has_index = stream.index != Operand::kNoRegister;
  const uint32_t shift = shift_of(stream, stream.index);
  if (has_base && has_index)
    a.lea(wide,
          x86::ptr(host::guest64(stream.base), host::guest64(stream.index), shift, stream.low));
  else if (has_base)
    a.lea(wide, x86::ptr(host::guest64(stream.base), stream.low));
  else if (has_index)
    a.lea(wide,
          x86::ptr(static_cast<uint64_t>(int64_t{stream.low}), host::guest64(stream.index), shift));
  else
    a.mov(wide, asmjit::imm(int64_t{stream.low}));
  a.mov(linear.r32(), wide.r32());
  const int32_t table = (stream.writes ? static_cast<int32_t>(kLinearPages * 8) : 0) -
                        static_cast<int32_t>(kPageShift);
  if (switches_.shrx) {
    a.shrx(base, linear, host::kTables);
  } else {
    a.mov(base.r32(), linear.r32());
    a.shr(base.r32(), kPageShift);
  }
  a.mov(base, x86::Mem(host::kTables, base, 3, table, 8));
  a.test(base, base);
  a.jz(copy_.give_up);
  a.add(base, linear);
  a.sub(base, wide);
  // Registers that stay are part of the base, so that one is left for the operand.
  if (has_base && stream.base != stream.moving) a.add(base, host::guest64(stream.base));
  if (has_index && stream.index != stream.moving)
    a.lea(base, x86::ptr(base, host::guest64(stream.index), shift));
  a.mov(base_field(number), base);
  emit_limit(stream, first_of_limit);
}

/// The linear address of the stream's first byte is in the address register.
void BlockEmitter::emit_limit(const LoopStream& stream, bool first_of_limit) {
  const x86::Gp room = host::kDelta;
  const x86::Gp bound = host::kValue;
  const int32_t span = stream.high - stream.low;
  // Bytes behind the stream's last one, in its page.
  a.mov(room.r32(), host::kAddress.r32());
  a.not_(room.r32());
  a.and_(room.r32(), kPageMask);
  a.sub(room.r32(), span - 1);
  a.j(x86::CondCode::kS, copy_.give_up);
  if (!stream.moves()) return;
  const x86::Gp moving = host::guest64(stream.moving);
  const uint32_t shift = shift_of(stream, stream.moving);
  const bool up = stream.step > 0;
  const x86::Mem limit = limit_field(stream.limit, up);
  if (up) {
    if (mutated(Mutation::kLoopTooLong)) a.add(room.r32(), 64);
    if (shift) a.shr(room.r32(), shift);
    a.add(room, moving);
    a.mov(bound.r32(), asmjit::imm(-1 - stream.reach));
    a.cmp(room, bound);
    a.cmova(room, bound);
  } else {
    a.mov(room.r32(), host::kAddress.r32());
    a.and_(room.r32(), kPageMask);
    if (shift) a.shr(room.r32(), shift);
    a.neg(room);
    a.add(room, moving);
    a.mov(bound.r32(), stream.reach);
    a.cmp(room, bound);
    a.cmovl(room, bound);
  }
  if (!first_of_limit) {
    a.cmp(room, limit);
    if (up)
      a.cmovg(room, limit);
    else
      a.cmovl(room, limit);
  }
  a.mov(limit, room);
  a.cmp(moving, room);
  if (up)
    a.jg(copy_.give_up);
  else
    a.j(x86::CondCode::kL, copy_.give_up);
}

void BlockEmitter::emit_loop_end(std::optional<x86::CondCode> again) {
  constexpr uint32_t kLimitBytes = 9;  // A comparison and its branch.
  const PageLoop& loop = analysis_.loop;
  if (again) {
    TRAPLINE_ASSERT(flags_in_host_ && copy_.flags_in_host);
    a.j(x86::negateCond(*again), copy_.onward);
  }
  const bool live = analysis_.live_at_entry != 0;
  if (live) save_flags_for_exit();
  flags_in_host_ = !live;
  recompute_ = false;
  comparison_ = -1;
  for (int i = 0; i < loop.limits; ++i) {
    const uint8_t reg = loop.limited[static_cast<size_t>(i)];
    const bool up = loop.goes_up[static_cast<size_t>(i)];
    pad_line(kLimitBytes);
    a.cmp(host::guest64(reg), limit_field(i, up));
    if (i + 1 < loop.limits)
      a.j(up ? x86::CondCode::kG : x86::CondCode::kL, copy_.give_up);
    else
      a.j(up ? x86::CondCode::kLE : x86::CondCode::kGE, copy_.head);
  }
}

x86::Mem BlockEmitter::stream_operand(const Operand& operand, uint32_t size) {
  aligned_ = false;  // The host checks that by itself, and a signal tells.
  const int number = analysis_.loop.stream_at(index_);
  const LoopStream& stream = analysis_.loop.stream[static_cast<size_t>(number)];
  x86::Gp base = copy_.base[static_cast<size_t>(number)];
  if (!base.isValid()) {
    base = host::kDelta;
    a.mov(base, base_field(number));
  }
  const auto displacement = static_cast<int32_t>(operand.value);
  if (!stream.moves()) return x86::Mem(base, displacement, size);
  return x86::Mem(base, host::guest64(stream.moving), shift_of(stream, stream.moving), displacement,
                  size);
}

}  // namespace trapline
