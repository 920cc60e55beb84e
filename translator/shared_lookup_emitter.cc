// Look-ups that accesses share (shared_lookups.h).
//
// Invariants:
//  S1  From its guard to its last access, the value register has what is added to the register and
//      to an access's distance, from it or from the first access, to get a host address: the
//      register stays, and a gate that comes back has removed nothing.
//  S2  A page whose entry was seen for reading only is looked up once more before the first write.
//  S3  Where the guard fails, nothing of the instruction has been done. The block of the variant
//      without sharing does it.
#include "translator/block_emitter.h"

namespace trapline {

namespace x86 = asmjit::x86;
using asmjit::imm;

/// nullptr when the access is like any other.
const SharedLookup* BlockEmitter::sharing(const Operand& operand, uint32_t size) const {
  if (careful_ || copy_.emitting || current_->shared < 0) return nullptr;
  const SharedLookup& shared = analysis_.shared.all[static_cast<size_t>(current_->shared)];
  // The block that would go on where the guard fails knows of no shadow that it has to end.
  return shared.holds(operand, size) && !ends_shadow() ? &shared : nullptr;
}

x86::Mem BlockEmitter::open_shared(const SharedLookup& shared, const Operand& operand,
                                   const Instruction& in, uint32_t size, AccessKind kind) {
  using Kind = SharedLookup::Kind;
  const auto at = static_cast<int32_t>(operand.value);
  const x86::Gp held = host::kValue;
  const bool write = kind != AccessKind::kRead;
  if (shared_.of == &shared && (shared_.writable || !write)) {
    const int32_t distance = at - shared_.origin;
    if (shared.kind == Kind::kConstant) return x86::Mem(held, distance, size);
    return x86::Mem(held, host::guest64(shared.base), 0, distance, size);
  }
  const bool near = shared.kind == Kind::kNear;
  if (!near) load_offset(operand, in);
  clobber_flags();
  const bool first = shared_.of != &shared;
  if (first && near)
    guard_page(shared, shared.low, host::guest64(shared.base));
  else if (first && shared.kind == Kind::kFar)
    guard_page(shared, shared.low - at, host::kAddress);
  const x86::Gp delta = look_up_shared(shared, at, size, kind);
  const x86::Mem access = near ? x86::Mem(delta, host::guest64(shared.base), 0, at, size)
                               : x86::Mem(host::kAddress, delta, 0, 0, size);
  if (!first) {
    shared_.writable = true;
    return access;
  }
  if (!near) a.lea(held, x86::ptr(host::kAddress, delta));
  if (shared.kind == Kind::kFar) a.sub(held, host::guest64(shared.base));
  shared_ = {&shared, near ? 0 : at, write || mutated(Mutation::kSharedForWriting)};
  return access;
}

/// Whether the accesses, which begin so far from the address, lie in one page.
void BlockEmitter::guard_page(const SharedLookup& shared, int32_t from, const x86::Gp& address) {
  if (mutated(Mutation::kSharedAcrossPages)) return;
  const x86::Gp offset = host::kDelta.r32();
  const int32_t span = shared.high - shared.low;
  const Cold& elsewhere = add_cold(Cold::Kind::kNoSharing);
  if (from == 0) {
    a.lea(offset, x86::ptr(address, span - 1));
    a.xor_(offset, address.r32());
    a.test(offset, kPageSize);
    a.jnz(elsewhere.entry);
    return;
  }
  a.lea(offset, x86::ptr(address, from));
  a.and_(offset, kPageMask);
  a.cmp(offset, static_cast<int32_t>(kPageSize) - span);
  a.ja(elsewhere.entry);
}

/// The entry of the page, in the value register if it is to stay there as it is. The address of the
/// access at that distance is in the address register, if it is not near.
x86::Gp BlockEmitter::look_up_shared(const SharedLookup& shared, int32_t at, uint32_t size,
                                     AccessKind kind) {
  AccessInfo info = describe(size, kind);
  // A store that C++ makes by itself leaves nothing for later accesses.
  if (index_ < shared.last) {
    info.stored = AccessInfo::Stored::kOther;
    info.shared = true;
  }
  const bool near = shared.kind == SharedLookup::Kind::kNear;
  Cold& cold = add_cold(Cold::Kind::kGate);
  cold.gate = Gate::kFill;
  cold.info = info.pack();
  if (near) {
    cold.address_register = shared.base;
    cold.offset = at;
  }
  cold.to_value = near && shared_.of != &shared;
  const x86::Gp delta = cold.to_value ? host::kValue : host::kDelta;
  load_delta(near ? host::guest64(shared.base) : host::kAddress, info.write, delta);
  a.test(delta, delta);
  a.jz(cold.entry);
  a.bind(cold.resume);
  return delta;
}

/// Cold code: goes on at the instruction in another block, by a branch that is linked to it.
void BlockEmitter::emit_no_sharing(const Cold& cold) {
  emit_comparison_flags(cold);
  const bool saved = cold.record.flags_saved;
  esp_pending_ = cold.record.esp_pending;
  flush_esp();
  if (request_.mode.has(mode::kCounted))
    a.add(host::context(TRAPLINE_CONTEXT_OFFSET(hot.budget), 8), block_size() - cold.record.index);
  const CodeLabel stub = a.new_label();
  a.jmp(stub);
  const uint32_t jump = offset() - 4;
  a.bind(stub);
  const uint32_t target = request_.eip + static_cast<uint32_t>(cold.record.guest);
  const auto number = request_.first_exit + static_cast<uint32_t>(out_.exits.size());
  out_.exits.push_back({target, jump, offset(), saved, Variant::kNoSharing});
  if (!saved) emit_save_flags();
  a.mov(host::kDelta.r32(), number);
  a.refer(Reference::To::kExit);
  a.jmp(imm(thunks_.system[static_cast<int>(SystemOp::kLink)]));
}

}  // namespace trapline
