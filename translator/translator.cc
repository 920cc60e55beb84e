#include "translator/translator.h"

#include <Zydis/Mnemonic.h>

#include <algorithm>

#include "translator/block_emitter.h"
#include "translator/decode_memo.h"
#include "translator/instruction_table.h"
#include "translator/lower.h"
#include "vcpu/address.h"
#include "vcpu/assert.h"

namespace trapline {

namespace {

constexpr size_t kMaxInstructions = 80;
constexpr int kMaxBranches = 3;     ///< Conditional branches that a block goes on after.
constexpr int kMaxJumps = 2;        ///< Direct jumps that it follows.
constexpr size_t kJumpsUntil = 32;  ///< Instructions after which it follows none.

/// Rows for what cannot be decoded: the block then consists of the fault alone.
void lower_too_long(BlockEmitter& e, const Instruction& in) {
  e.raise(Vector::kGeneralProtection, true, 0, in);
}
void lower_breakpoint(BlockEmitter& e, const Instruction& in) {
  e.system(SystemOp::kBreakpoint, 0, in);
}
void lower_guest_breakpoint(BlockEmitter& e, const Instruction& in) {
  e.system(SystemOp::kGuestBreakpoint, 0, in);
}
constexpr InstructionRow fault_row(LoweringFunction lower) {
  return {0, lower, BlockEffect::kEnd, FpuUse::kNone, OracleUse::kUser, 0};
}
constexpr InstructionRow kInvalidRow = fault_row(lower_undefined);
constexpr InstructionRow kTooLongRow = fault_row(lower_too_long);
constexpr InstructionRow kBreakpointRow = fault_row(lower_breakpoint);
constexpr InstructionRow kGuestBreakpointRow = fault_row(lower_guest_breakpoint);

Instruction pseudo_instruction(const InstructionRow& row, uint32_t eip) {
  Instruction in;
  in.row = &row;
  in.eip = eip;
  in.length = 1;
  return in;
}

bool one_instruction(const TranslationRequest& request, const Switches& switches) {
  return request.variant == Variant::kCareful || request.variant == Variant::kSingle ||
         switches.single_instruction || !switches.inline_memory ||
         request.mode.has(mode::kEachAccess);
}

}  // namespace

struct Translator::Workspace : BlockEmitter::Workspace {};

Translator::Translator(const CpuModel& model, const Switches& switches, const Thunks& thunks)
    : memo_(std::make_unique<DecodeMemo>(model)),
      switches_(switches),
      thunks_(thunks),
      workspace_(std::make_unique<Workspace>()) {
  decoded_.resize(kMaxInstructions);
  switches_.shrx = switches_.shrx && asmjit::CpuInfo::host().features().x86().hasBMI2();
  if (!switches_.lazy_flags) switches_.exact_flags = true;
}

Translator::~Translator() = default;

Translation::Status Translator::decode_block(const TranslationRequest& request) {
  count_ = 0;
  translation_.basic_blocks = 1;
  translation_.straddles = false;
  const size_t limit = one_instruction(request, switches_) ? 1 : kMaxInstructions;
  const auto size = request.mode.code32() ? CodeSize::k32 : CodeSize::k16;
  int branches = 0;
  int jumps = 0;
  uint32_t stretch = request.eip;  ///< Where the present stretch of bytes begins.
  const auto end_stretch = [&](uint32_t end) {
    if (end == stretch) return;
    if (jumps == 0)
      translation_.guest_bytes = end - stretch;
    else
      translation_.lookahead.push_back(
          {static_cast<int32_t>(stretch - request.eip), end - stretch});
  };
  uint32_t eip = request.eip;
  size_t at = request.linear & kPageMask;
  while (count_ < limit && at < kPageSize) {
    const uint64_t used = jumps ? 0 : eip - request.eip;
    if (request.is_breakpoint && request.is_breakpoint(request.linear + (eip - request.eip))) {
      if (count_ == 0) decoded_[count_++] = pseudo_instruction(kBreakpointRow, eip);
      break;
    }
    if (std::ranges::count(request.guest_breakpoints, request.linear + (eip - request.eip))) {
      if (count_) break;
      if (request.variant == Variant::kNormal) {
        decoded_[count_++] = pseudo_instruction(kGuestBreakpointRow, eip);
        break;
      }
    }
    const uint64_t limit_left = request.limit_left > used ? request.limit_left - used : 0;
    const auto rest = request.page.subspan(at);
    const auto bytes = rest.first(std::min<uint64_t>(rest.size(), limit_left));
    Instruction& in = decoded_[count_];
    Decoded result = memo_->decode(bytes, size, eip, in);
    if (result == Decoded::kMoreBytes) {
      if (count_) break;
      if (limit_left <= rest.size()) return Translation::Status::kPastLimit;
      if (request.page.size() == kPageSize) return Translation::Status::kNeedsNextPage;
      result = Decoded::kTooLong;
    }
    if (result != Decoded::kOk) {
      if (count_ == 0)
        decoded_[count_++] =
            pseudo_instruction(result == Decoded::kInvalid ? kInvalidRow : kTooLongRow, eip);
      break;
    }
    if (at + in.length > kPageSize) {
      if (count_) break;
      translation_.straddles = true;
      ++count_;
      break;
    }
    ++count_;
    at += in.length;
    eip += in.length;
    if (in.mnemonic == ZYDIS_MNEMONIC_JMP && jumps < kMaxJumps) {
      if (const auto target = followed_jump(request, in)) {
        end_stretch(eip);
        ++translation_.basic_blocks;
        ++jumps;
        stretch = eip = *target;
        at = (request.linear + (eip - request.eip)) & kPageMask;
        continue;
      }
    }
    if (in.row->effect == BlockEffect::kEnd) break;
    // A budget is charged for whole blocks, so those have no exit in the middle.
    if (in.row->effect == BlockEffect::kBranch &&
        (request.mode.has(mode::kCounted) || !switches_.extended_blocks ||
         ++branches > kMaxBranches))
      break;
    if (in.row->effect == BlockEffect::kBranch) ++translation_.basic_blocks;
  }
  const Instruction& last = instructions().back();
  end_stretch(last.eip == eip ? last.next_eip() : eip);
  return Translation::Status::kOk;
}

/// Where the block goes on after a direct jump. Not at an instruction that it has already: that
/// is a loop, whose branch is to be the block's end.
std::optional<uint32_t> Translator::followed_jump(const TranslationRequest& request,
                                                  const Instruction& in) const {
  if (!switches_.follow_jumps || in.operand_size != 4 ||
      in.operand[0].kind != Operand::Kind::kRelative || !request.mode.has(mode::kFlatCode) ||
      !request.mode.code32() || count_ > kJumpsUntil || one_instruction(request, switches_))
    return std::nullopt;
  const uint32_t target = in.target();
  if (target >> kPageShift != request.eip >> kPageShift) return std::nullopt;
  const bool seen = std::ranges::any_of(
      instructions(), [target](const Instruction& other) { return other.eip == target; });
  if (seen) return std::nullopt;
  return target;
}

/// Whether the block would be the same in another linear page, but for what its references tell.
bool Translator::movable(const TranslationRequest& request) const {
  const auto narrow = [](const Instruction& in) {
    return in.row->effect != BlockEffect::kNone && in.operand_size == 2;  // EIP wraps earlier.
  };
  return request.mode.has(mode::kFlatCode) && request.mode.code32() && !translation_.straddles &&
         request.mode.breakpoints == 0 && !request.is_breakpoint &&
         std::ranges::none_of(instructions(), narrow);
}

void Translator::emit(const TranslationRequest& request) {
  const bool normal = request.variant == Variant::kNormal;
  const bool framed = normal || request.variant == Variant::kNoSharing;
  const bool usual = framed || request.variant == Variant::kNoFrame;
  const bool several = !one_instruction(request, switches_);
  // Where a shared look-up cannot be had, a link leads to the block without.
  const Windows windows{
      .stack = switches_.stack_window && usual && several,
      .frame = switches_.frame_window && framed,
      .others = switches_.share_lookups && switches_.link_blocks && normal && several};
  // What comes next may be a breakpoint's handler, which looks at the flags.
  const bool looks_ahead =
      switches_.flag_lookahead && !switches_.exact_flags && request.guest_breakpoints.empty();
  FlagLookahead lookahead(request, looks_ahead, *memo_, translation_.lookahead);
  const bool loops = switches_.page_loops && usual && !request.mode.has(mode::kCounted) &&
                     request.mode.code32() && !translation_.straddles && several;
  analyse(instructions(), request.mode, switches_, windows, loops,
          request.mutation == Mutation::kFlagsDieEarly, lookahead, analysis_);
  BlockEmitter emitter(*workspace_, thunks_, switches_, request, analysis_, translation_);
  emitter.emit_block(instructions());
}

const Translation& Translator::translate(const TranslationRequest& request) {
  translation_.records.clear();
  translation_.exits.clear();
  translation_.lookahead.clear();
  translation_.code = {};
  translation_.guest_bytes = 0;
  translation_.status = decode_block(request);
  if (translation_.status != Translation::Status::kOk) return translation_;
  const uint32_t bytes = translation_.guest_bytes;
  translation_.movable = movable(request);
  emit(request);
  translation_.guest_bytes = bytes;  // The emitter has used it for where it was.
  translation_.instructions = static_cast<uint32_t>(count_);
  return translation_;
}

}  // namespace trapline
