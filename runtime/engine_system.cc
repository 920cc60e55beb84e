// The C++ side of system operations: what ends a block. Each sees complete state and says where to
// go on.
#include "runtime/engine.h"
#include "runtime/engine_entries.h"
#include "vcpu/assert.h"

namespace trapline {

struct SystemOps {
  static Engine& enter(Context* context) {
    auto& e = *static_cast<Engine*>(context->engine);
    e.import_flags();
    e.note_entry();
    return e;
  }

  /// Where the operation completes an instruction: a shadow from the one before it ends.
  static Engine& enter_instruction(Context* context) {
    context->cpu.shadow = InterruptShadow::kNone;
    return enter(context);
  }

  static uint32_t length(uint32_t payload) { return payload >> 24; }
  /// The budget was charged for the whole block: gives back what did not run.
  static void refund(Engine& e, uint32_t payload, bool retired) {
    if (!e.counted_) return;
    const int64_t from_here = payload >> 16 & 0xff;
    e.context_->hot.budget += from_here - (retired ? 1 : 0);
  }

  /// Gives it back at once: for what asks for the time. The payload to go on with.
  static uint32_t settle(Engine& e, uint32_t payload) {
    refund(e, payload, false);
    return payload & ~0xff0000u;
  }

  static uint64_t faulted(Engine& e, uint32_t payload, const Fault& fault) {
    refund(e, payload, false);
    return e.raise(fault);
  }

  /// After an instruction that does not set EIP itself.
  static uint64_t next(Engine& e, uint32_t payload) {
    refund(e, payload, true);
    e.context_->cpu.eip += length(payload);
    e.ask_for_attention_if_due();
    return e.resume_after();
  }

  static uint64_t finish(Engine& e, uint32_t payload, const OrFault<void>& result) {
    return result.ok() ? next(e, payload) : faulted(e, payload, result.fault());
  }

  /// After an instruction that set EIP.
  static uint64_t transferred(Engine& e, uint32_t payload, const OrFault<void>& result) {
    if (!result.ok()) return faulted(e, payload, result.fault());
    refund(e, payload, true);
    e.ask_for_attention_if_due();
    return e.resume_after();
  }

  static uint64_t link(Context* context, uint32_t, uint32_t number) {
    Engine& e = enter(context);
    CodeExit& exit = e.cache_->exit(number);
    const uint64_t generation = e.cache_->counters().flushes;
    context->cpu.eip = exit.target();
    if (context->hot.attention) return e.attend();
    const Block* from = exit.from;
    const OrFault<Block*> target = e.find_block(static_cast<Variant>(exit.variant));
    if (!target.ok()) return e.raise(target.fault());
    // A page that was remapped between translation and now has another table.
    if (generation == e.cache_->counters().flushes && !from->dead &&
        from->table == (*target)->table)
      e.cache_->link(number, **target);
    e.export_flags();
    return (*target)->saved_entry;
  }

  static uint64_t lookup(Context* context, uint32_t linear, uint32_t) {
    Engine& e = enter(context);
    ++e.counters_.dispatches;
    context->cpu.eip = linear - context->cpu.segment[kCs].base;
    return e.resume();
  }

  static uint64_t straddle(Context* context, uint32_t, uint32_t payload) {
    Engine& e = enter(context);
    e.refresh_mode();  // Emitted code may have changed CS.
    // The slot of the second page is empty, or the page is another one than it was.
    const Linear here{context->cpu.eip + context->cpu.segment[kCs].base};
    const Linear next{(here.value | kPageMask) + 1};
    const auto first = e.resolve_code(here);
    if (!first.ok()) return e.raise(first.fault());
    const auto second = e.resolve_code(next);
    if (!second.ok()) return e.raise(second.fault());
    // If the slot is what it should be, the second page has another table than it had.
    const bool other_table = !e.set_slot(next.page(), second->address.frame());
    EntryTable& table = e.cache_->table(first->address.frame(), here.page(), e.mode_id_);
    for (int variant = 0; variant < kVariantCount; ++variant)
      if (Block* block = e.cache_->find(table, static_cast<uint16_t>(here.offset()),
                                        static_cast<uint8_t>(variant)))
        if (block->second.frame != second->address.frame() || other_table) e.cache_->kill(*block);
    // Where the instruction is run by itself, what comes between two of them has been looked at.
    switch (static_cast<Variant>(payload)) {
      case Variant::kSingle:
        return e.enter_block(Variant::kSingle);
      case Variant::kCareful:
        return e.resume_careful();
      default:
        return e.resume();
    }
  }

  static uint64_t interpret_one(Context* context, uint32_t, uint32_t payload) {
    Engine& e = enter_instruction(context);
    return e.interpret_instruction(payload);
  }

  static uint64_t raise(Context* context, uint32_t error, uint32_t payload) {
    Engine& e = enter(context);
    Fault fault = Fault::plain(static_cast<Vector>(payload & 0xff));
    if (payload & 0x100) fault = Fault::with_error(fault.vector, error);
    if (fault.vector == Vector::kGeneralProtection && (context->cpu.fpu.status & 0x80) &&
        e.waits_for_x87()) {
      refund(e, payload, false);
      return e.raise_x87();
    }
    return faulted(e, payload, fault);
  }

  static uint64_t breakpoint(Context* context, uint32_t, uint32_t payload) {
    Engine& e = enter(context);
    refund(e, payload, false);
    Exit exit;
    exit.kind = Exit::Kind::kBreakpoint;
    return e.leave_with(std::move(exit));
  }

  static uint64_t guest_breakpoint(Context* context, uint32_t, uint32_t payload) {
    Engine& e = enter(context);
    const auto fault = e.execution_breakpoint();
    TRAPLINE_ASSERT(fault.has_value());
    return faulted(e, payload, *fault);
  }

  static uint64_t budget(Context* context, uint32_t, uint32_t) {
    Engine& e = enter(context);
    if (context->hot.budget > 0) return e.resume_variant(Variant::kSingle);
    Exit exit;
    exit.kind = Exit::Kind::kInstructions;
    return e.leave_with(std::move(exit));
  }

  static uint64_t halt(Context* context, uint32_t, uint32_t payload) {
    Engine& e = enter_instruction(context);
    TRAPLINE_ASSERT(e.options_.mutation != Mutation::kBrokenInvariant);
    refund(e, payload, true);
    context->cpu.eip += length(payload);
    context->cpu.halted = true;
    context->cpu.shadow = InterruptShadow::kNone;
    Exit exit;
    exit.kind = Exit::Kind::kHalt;
    return e.leave_with(std::move(exit));
  }

  static uint64_t interrupt(Context* context, uint32_t, uint32_t payload) {
    Engine& e = enter_instruction(context);
    CpuState& state = context->cpu;
    const uint32_t next_eip = state.eip + length(payload);
    const auto vector = static_cast<uint8_t>(payload);
    const auto form = static_cast<InterruptForm>(payload >> 8 & 0xff);
    if (form == InterruptForm::kInto && !(state.eflags & eflags::kOf)) return next(e, payload);
    ++e.counters_.software_interrupts;
    if (form != InterruptForm::kIntN && (e.options_.exit_on_exceptions >> vector & 1)) {
      refund(e, payload, true);
      state.eip = next_eip;
      return e.raise(Fault::plain(static_cast<Vector>(vector)));
    }
    return transferred(e, payload,
                       software_interrupt(e.cpu_, vector, next_eip, software_form(form)));
  }

  static SoftwareInterrupt software_form(InterruptForm form) {
    switch (form) {
      case InterruptForm::kInt1:
        return SoftwareInterrupt::kInt1;
      case InterruptForm::kInt3:
        return SoftwareInterrupt::kInt3;
      case InterruptForm::kInto:
        return SoftwareInterrupt::kInto;
      default:
        return SoftwareInterrupt::kIntN;
    }
  }

  static OperandSize operand_size(uint32_t payload) {
    return (payload & 0xff) == 2 ? OperandSize::k16 : OperandSize::k32;
  }

  static uint64_t iret(Context* context, uint32_t, uint32_t payload) {
    Engine& e = enter_instruction(context);
    const uint32_t next_eip = context->cpu.eip + length(payload);
    return transferred(e, payload, trapline::iret(e.cpu_, operand_size(payload), next_eip));
  }

  static uint64_t far_jump(Context* context, uint32_t offset, uint32_t payload) {
    Engine& e = enter_instruction(context);
    const auto selector = static_cast<uint16_t>(context->hot.scratch);
    return transferred(e, payload,
                       trapline::far_jump(e.cpu_, selector, offset, operand_size(payload),
                                          context->cpu.eip + length(payload)));
  }

  static uint64_t far_call(Context* context, uint32_t offset, uint32_t payload) {
    Engine& e = enter_instruction(context);
    const auto selector = static_cast<uint16_t>(context->hot.scratch);
    return transferred(e, payload,
                       trapline::far_call(e.cpu_, selector, offset, operand_size(payload),
                                          context->cpu.eip + length(payload)));
  }

  static uint64_t far_return(Context* context, uint32_t release, uint32_t payload) {
    Engine& e = enter_instruction(context);
    return transferred(
        e, payload,
        trapline::far_return(e.cpu_, operand_size(payload), static_cast<uint16_t>(release)));
  }

  static uint64_t load_segment(Context* context, uint32_t selector, uint32_t payload) {
    Engine& e = enter_instruction(context);
    const auto name = static_cast<SegmentName>(payload & 7);
    const uint32_t word = ModeKey::from(context->cpu, e.counted_).word;
    const uint64_t table = context->hot.exec_table;
    const auto result = trapline::load_segment(e.cpu_, name, static_cast<uint16_t>(selector));
    if (!result.ok()) return faulted(e, payload, result.fault());
    if (name == kSs) context->cpu.shadow = InterruptShadow::kMovSs;
    note_segment_load(e, name);
    e.remember_class(name, word, table);
    return next(e, payload);
  }

  static uint64_t load_far_pointer(Context* context, uint32_t selector, uint32_t payload) {
    Engine& e = enter_instruction(context);
    const auto name = static_cast<SegmentName>(payload & 7);
    const auto result = trapline::load_segment(e.cpu_, name, static_cast<uint16_t>(selector));
    if (!result.ok()) return faulted(e, payload, result.fault());
    const uint32_t mask = (payload >> 8 & 0xff) == 2 ? 0xffffu : ~0u;
    uint32_t& to = context->cpu.gpr[payload >> 3 & 7];
    to = (to & ~mask) | (static_cast<uint32_t>(context->hot.scratch) & mask);
    note_segment_load(e, name);  // Behind LSS no interrupt waits.
    return next(e, payload);
  }

  static void note_segment_load(Engine& e, SegmentName name) {
    if (name == kSs)
      e.drop_window();
    else
      e.remember_segment(name);
  }

  static uint64_t pop_segment(Context* context, uint32_t, uint32_t payload) {
    Engine& e = enter_instruction(context);
    CpuState& state = context->cpu;
    const auto name = static_cast<SegmentName>(payload & 7);
    const uint32_t size = payload >> 8 & 0xff;
    const bool wide = state.segment[kSs].big();
    const uint32_t offset = wide ? state.gpr[kEsp] : state.gpr[kEsp] & 0xffff;
    const auto address = check_segment(state, kSs, offset, size, SegmentAccess::kRead, size);
    if (!address.ok()) return faulted(e, payload, address.fault());
    const auto value = e.read(*address, size, Privilege::kCurrent);
    if (!value.ok()) return faulted(e, payload, value.fault());
    const uint32_t word = ModeKey::from(state, e.counted_).word;
    const uint64_t table = context->hot.exec_table;
    const auto result = trapline::load_segment(e.cpu_, name, static_cast<uint16_t>(*value));
    if (!result.ok()) return faulted(e, payload, result.fault());
    if (wide)
      state.gpr[kEsp] += size;
    else
      state.gpr[kEsp] = (state.gpr[kEsp] & 0xffff0000u) | ((offset + size) & 0xffff);
    if (name == kSs) context->cpu.shadow = InterruptShadow::kMovSs;
    note_segment_load(e, name);
    e.remember_class(name, word, table);
    return next(e, payload);
  }

  static uint64_t in(Context* context, uint32_t port, uint32_t payload) {
    Engine& e = enter_instruction(context);
    payload = settle(e, payload);
    const uint32_t size = payload & 0xff;
    const auto value = port_in(e.cpu_, static_cast<uint16_t>(port), size);
    if (!value.ok()) return faulted(e, payload, value.fault());
    if (e.port_exit_) return port_exit(e, payload);
    uint32_t& eax = context->cpu.gpr[kEax];
    eax = size == 4   ? *value
          : size == 2 ? (eax & 0xffff0000u) | (*value & 0xffff)
                      : (eax & 0xffffff00u) | (*value & 0xff);
    return next(e, payload);
  }

  static uint64_t out(Context* context, uint32_t port, uint32_t payload) {
    Engine& e = enter_instruction(context);
    payload = settle(e, payload);
    const uint32_t size = payload & 0xff;
    const uint32_t eax = context->cpu.gpr[kEax];
    const uint32_t value = size == 4 ? eax : size == 2 ? eax & 0xffff : eax & 0xff;
    const auto result = port_out(e.cpu_, static_cast<uint16_t>(port), size, value);
    if (!result.ok()) return faulted(e, payload, result.fault());
    if (e.port_exit_) {
      context->cpu.eip += length(payload);
      refund(e, payload, true);
      return port_exit(e, 0);
    }
    return next(e, payload);
  }

  using StringFunction = OrFault<StringStep> (*)(Cpu&, const StringPort&);

  /// Element by element, for as long as nothing has come up that is looked at between two of them.
  static uint64_t string_port(Context* context, uint32_t payload, StringFunction function) {
    Engine& e = enter_instruction(context);
    CpuState& state = context->cpu;
    payload = settle(e, payload);
    const StringPort string = StringPortInfo::unpack(payload & 0xffff);
    const uint64_t code_writes = e.counters_.code_writes;
    const uint64_t removals = e.mmu_->removals();
    const uint64_t mappings = e.mapping_epoch_;
    const uint64_t address_mask = e.address_mask_;
    for (;;) {
      if (!e.options_.ports) e.before_ports_ = state;
      const auto step = function(e.cpu_, string);
      if (!step.ok()) return faulted(e, payload, step.fault());
      if (e.port_exit_ && e.exit_.kind == Exit::Kind::kPortRead) {
        // Runs again when the value is there; what it stored is stored again.
        state = e.before_ports_;
        return port_exit(e, payload);
      }
      if (*step == StringStep::kThrough) {
        if (!e.port_exit_) return next(e, payload);
        refund(e, payload, true);
        state.eip += length(payload);
        return port_exit(e, 0);
      }
      // A REP that is not through has not retired.
      if (e.port_exit_) return port_exit(e, payload);
      e.ask_for_attention_if_due();
      const bool undisturbed = code_writes == e.counters_.code_writes &&
                               removals == e.mmu_->removals() && mappings == e.mapping_epoch_ &&
                               address_mask == e.address_mask_;
      if (context->hot.attention || (state.eflags & eflags::kTf) || !undisturbed) break;
    }
    state.eflags |= eflags::kRf;  // Its breakpoint has been passed.
    if (e.steps_on_over_breakpoint()) return e.resume_variant(Variant::kSingle);
    return e.resume_after();
  }

  static uint64_t input_string(Context* context, uint32_t, uint32_t payload) {
    return string_port(context, payload, trapline::input_string);
  }

  static uint64_t output_string(Context* context, uint32_t, uint32_t payload) {
    return string_port(context, payload, trapline::output_string);
  }

  static uint64_t enter_frame(Context* context, uint32_t bytes, uint32_t payload) {
    Engine& e = enter_instruction(context);
    return finish(e, payload,
                  trapline::enter_frame(e.cpu_, bytes, payload >> 8 & 0xff, operand_size(payload)));
  }

  static uint64_t push_all(Context* context, uint32_t, uint32_t payload) {
    Engine& e = enter_instruction(context);
    return finish(e, payload, trapline::push_all(e.cpu_, operand_size(payload)));
  }

  static uint64_t pop_all(Context* context, uint32_t, uint32_t payload) {
    Engine& e = enter_instruction(context);
    return finish(e, payload, trapline::pop_all(e.cpu_, operand_size(payload)));
  }

  static uint64_t store_table(Context* context, uint32_t offset, uint32_t payload) {
    Engine& e = enter_instruction(context);
    const TableRegister& table = payload & 1 ? context->cpu.idtr : context->cpu.gdtr;
    return finish(e, payload,
                  trapline::store_table(e.cpu_, table, static_cast<SegmentName>(payload >> 4 & 7),
                                        offset, static_cast<AddressSize>(payload >> 8 & 0xff)));
  }

  static uint64_t load_system_segment(Context* context, uint32_t value, uint32_t payload) {
    Engine& e = enter_instruction(context);
    const auto selector = static_cast<uint16_t>(value);
    return finish(e, payload,
                  payload & 1 ? load_tr(e.cpu_, selector) : load_ldtr(e.cpu_, selector));
  }

  static uint64_t load_status_word(Context* context, uint32_t value, uint32_t payload) {
    Engine& e = enter_instruction(context);
    return finish(e, payload, trapline::load_status_word(e.cpu_, value));
  }

  static uint64_t query_selector(Context* context, uint32_t value, uint32_t payload) {
    Engine& e = enter_instruction(context);
    CpuState& state = context->cpu;
    const auto selector = static_cast<uint16_t>(value);
    const auto answer =
        payload & 1 ? segment_limit(e.cpu_, selector) : access_rights(e.cpu_, selector);
    if (!answer.ok()) return faulted(e, payload, answer.fault());
    state.eflags &= ~eflags::kZf;
    if (*answer) {
      state.eflags |= eflags::kZf;
      const uint32_t mask = (payload >> 8 & 0xff) == 2 ? 0xffffu : ~0u;
      uint32_t& to = state.gpr[payload >> 4 & 7];
      to = (to & ~mask) | (**answer & mask);
    }
    return next(e, payload);
  }

  static uint64_t move_debug(Context* context, uint32_t, uint32_t payload) {
    Engine& e = enter_instruction(context);
    const int number = static_cast<int>(payload & 15);
    uint32_t& general = context->cpu.gpr[payload >> 4 & 7];
    if (payload & 0x80) return finish(e, payload, write_debug(e.cpu_, number, general));
    const auto value = read_debug(e.cpu_, number);
    if (!value.ok()) return faulted(e, payload, value.fault());
    general = *value;
    return next(e, payload);
  }

  static uint64_t clear_task_switched(Context* context, uint32_t, uint32_t payload) {
    Engine& e = enter_instruction(context);
    context->cpu.cr0 &= ~cr0::kTs;
    return next(e, payload);
  }

  static uint64_t identify(Context* context, uint32_t, uint32_t payload) {
    Engine& e = enter_instruction(context);
    trapline::identify(e.cpu_);
    return next(e, payload);
  }

  static uint64_t read_msr(Context* context, uint32_t, uint32_t payload) {
    Engine& e = enter_instruction(context);
    payload = settle(e, payload);  // One of them is the time.
    CpuState& state = context->cpu;
    const auto value = trapline::read_msr(e.cpu_, state.gpr[kEcx]);
    if (!value.ok()) return faulted(e, payload, value.fault());
    state.gpr[kEax] = static_cast<uint32_t>(*value);
    state.gpr[kEdx] = static_cast<uint32_t>(*value >> 32);
    return next(e, payload);
  }

  static uint64_t write_msr(Context* context, uint32_t, uint32_t payload) {
    Engine& e = enter_instruction(context);
    payload = settle(e, payload);
    const auto& gpr = context->cpu.gpr;
    const uint64_t value = gpr[kEax] | uint64_t{gpr[kEdx]} << 32;
    return finish(e, payload, trapline::write_msr(e.cpu_, gpr[kEcx], value));
  }

  static uint64_t read_counter(Context* context, uint32_t, uint32_t payload) {
    Engine& e = enter_instruction(context);
    return finish(e, payload, trapline::read_counter(e.cpu_));
  }

  static uint64_t fpu_state(Context* context, uint32_t offset, uint32_t payload) {
    Engine& e = enter_instruction(context);
    const FpuStateInfo info = FpuStateInfo::unpack(payload & 0xffff);
    e.sync_fpu_pointers();
    const auto result = move_fpu_state(e.cpu_, info.op, info.segment, offset, info.size);
    e.note_fpu_pointers();
    if (!result.ok() && result.fault().vector == Vector::kX87) {
      refund(e, payload, false);
      return e.raise_x87();
    }
    return finish(e, payload, result);
  }

  /// Reads leave EIP in place: the instruction runs again when the value is there.
  static uint64_t port_exit(Engine& e, uint32_t payload) {
    refund(e, payload, false);
    e.port_exit_ = false;
    return e.leave(Leave::kExit);
  }

  static uint64_t flags_push(Context* context, uint32_t, uint32_t payload) {
    Engine& e = enter_instruction(context);
    CpuState& state = context->cpu;
    const uint32_t size = payload & 0xff;
    const auto image = read_flags(e.cpu_, operand_size(payload));
    if (!image.ok()) return faulted(e, payload, image.fault());
    const bool wide = state.segment[kSs].big();
    const uint32_t offset = wide ? state.gpr[kEsp] - size : (state.gpr[kEsp] - size) & 0xffff;
    const auto address = check_segment(state, kSs, offset, size, SegmentAccess::kWrite, size);
    if (!address.ok()) return faulted(e, payload, address.fault());
    const auto written = e.write(*address, size, *image, Privilege::kCurrent);
    if (!written.ok()) return faulted(e, payload, written.fault());
    set_stack_pointer(state, offset);
    return next(e, payload);
  }

  static uint64_t flags_pop(Context* context, uint32_t, uint32_t payload) {
    Engine& e = enter_instruction(context);
    CpuState& state = context->cpu;
    const uint32_t size = payload & 0xff;
    const bool wide = state.segment[kSs].big();
    const uint32_t offset = wide ? state.gpr[kEsp] : state.gpr[kEsp] & 0xffff;
    const auto address = check_segment(state, kSs, offset, size, SegmentAccess::kRead, size);
    if (!address.ok()) return faulted(e, payload, address.fault());
    const auto image = e.read(*address, size, Privilege::kCurrent);
    if (!image.ok()) return faulted(e, payload, image.fault());
    const auto result = write_flags(e.cpu_, static_cast<uint32_t>(*image), operand_size(payload));
    if (!result.ok()) return faulted(e, payload, result.fault());
    set_stack_pointer(state, offset + size);
    return next(e, payload);
  }

  static void set_stack_pointer(CpuState& state, uint32_t offset) {
    uint32_t& esp = state.gpr[kEsp];
    esp = state.segment[kSs].big() ? offset : (esp & 0xffff0000u) | (offset & 0xffff);
  }

  static uint64_t cli(Context* context, uint32_t, uint32_t payload) {
    Engine& e = enter_instruction(context);
    return finish(e, payload, trapline::cli(e.cpu_));
  }

  static uint64_t sti(Context* context, uint32_t, uint32_t payload) {
    Engine& e = enter_instruction(context);
    return finish(e, payload, trapline::sti(e.cpu_));
  }

  static uint64_t direction(Context* context, uint32_t down, uint32_t payload) {
    Engine& e = enter_instruction(context);
    uint32_t& flags = context->cpu.eflags;
    flags = down ? flags | eflags::kDf : flags & ~eflags::kDf;
    return next(e, payload);
  }

  static uint64_t move_to_cr(Context* context, uint32_t value, uint32_t payload) {
    Engine& e = enter_instruction(context);
    switch (payload & 7) {
      case 0:
        return finish(e, payload, write_cr0(e.cpu_, value));
      case 2:
        context->cpu.cr2 = value;
        return next(e, payload);
      case 3:
        return finish(e, payload, write_cr3(e.cpu_, value));
      default:
        if (!e.model_.cr4_mask) return faulted(e, payload, Fault::invalid_opcode());
        return finish(e, payload, write_cr4(e.cpu_, value));
    }
  }

  static uint64_t move_from_cr4(Context* context, uint32_t, uint32_t payload) {
    Engine& e = enter_instruction(context);
    if (!e.model_.cr4_mask) return faulted(e, payload, Fault::invalid_opcode());
    context->cpu.gpr[payload & 7] = context->cpu.cr4;
    return next(e, payload);
  }

  static uint64_t read_tsc(Context* context, uint32_t, uint32_t payload) {
    Engine& e = enter_instruction(context);
    payload = settle(e, payload);
    CpuState& state = context->cpu;
    if ((state.cr4 & cr4::kTsd) && state.cpl != 0)
      return faulted(e, payload, Fault::general_protection());
    const uint64_t value = e.time_stamp() + state.tsc_offset;
    state.gpr[kEax] = static_cast<uint32_t>(value);
    state.gpr[kEdx] = static_cast<uint32_t>(value >> 32);
    return next(e, payload);
  }

  static uint64_t sysenter(Context* context, uint32_t, uint32_t payload) {
    Engine& e = enter_instruction(context);
    ++e.counters_.fast_system_calls;
    return transferred(e, payload, trapline::sysenter(e.cpu_));
  }

  static uint64_t sysexit(Context* context, uint32_t, uint32_t payload) {
    Engine& e = enter_instruction(context);
    return transferred(e, payload, trapline::sysexit(e.cpu_));
  }

  static uint64_t safepoint(Context* context, uint32_t flags, uint32_t payload) {
    Engine& e = enter(context);
    if (payload & 1) e.keep_flags_before_compare(flags);
    context->cpu.eflags |= eflags::kRf;  // Its breakpoint has been passed.
    if (e.steps_on_over_breakpoint()) {
      refund(e, payload, false);
      return e.resume_variant(Variant::kSingle);
    }
    refund(e, payload, false);
    return e.resume();
  }

  static uint64_t never(Context*, uint32_t, uint32_t) {
    TRAPLINE_ASSERT(!"a system operation that nothing emits");
    return 0;
  }
};

void fill_system_entries(ThunkTargets& targets) {
  targets.system.fill(SystemOps::never);
  const auto set = [&](SystemOp op, SystemFunction function) {
    targets.system[static_cast<size_t>(op)] = function;
  };
  set(SystemOp::kLink, SystemOps::link);
  set(SystemOp::kLookup, SystemOps::lookup);
  set(SystemOp::kStraddle, SystemOps::straddle);
  set(SystemOp::kInterpret, SystemOps::interpret_one);
  set(SystemOp::kRaise, SystemOps::raise);
  set(SystemOp::kBreakpoint, SystemOps::breakpoint);
  set(SystemOp::kGuestBreakpoint, SystemOps::guest_breakpoint);
  set(SystemOp::kBudget, SystemOps::budget);
  set(SystemOp::kHalt, SystemOps::halt);
  set(SystemOp::kInterrupt, SystemOps::interrupt);
  set(SystemOp::kIret, SystemOps::iret);
  set(SystemOp::kFarJump, SystemOps::far_jump);
  set(SystemOp::kFarCall, SystemOps::far_call);
  set(SystemOp::kFarReturn, SystemOps::far_return);
  set(SystemOp::kLoadSegment, SystemOps::load_segment);
  set(SystemOp::kPopSegment, SystemOps::pop_segment);
  set(SystemOp::kLoadFarPointer, SystemOps::load_far_pointer);
  set(SystemOp::kInputString, SystemOps::input_string);
  set(SystemOp::kOutputString, SystemOps::output_string);
  set(SystemOp::kEnter, SystemOps::enter_frame);
  set(SystemOp::kFpuState, SystemOps::fpu_state);
  set(SystemOp::kPushAll, SystemOps::push_all);
  set(SystemOp::kPopAll, SystemOps::pop_all);
  set(SystemOp::kStoreTable, SystemOps::store_table);
  set(SystemOp::kLoadSystemSegment, SystemOps::load_system_segment);
  set(SystemOp::kLoadStatusWord, SystemOps::load_status_word);
  set(SystemOp::kQuerySelector, SystemOps::query_selector);
  set(SystemOp::kMoveDebug, SystemOps::move_debug);
  set(SystemOp::kClearTaskSwitched, SystemOps::clear_task_switched);
  set(SystemOp::kIdentify, SystemOps::identify);
  set(SystemOp::kReadMsr, SystemOps::read_msr);
  set(SystemOp::kWriteMsr, SystemOps::write_msr);
  set(SystemOp::kReadCounter, SystemOps::read_counter);
  set(SystemOp::kIn, SystemOps::in);
  set(SystemOp::kOut, SystemOps::out);
  set(SystemOp::kFlagsPush, SystemOps::flags_push);
  set(SystemOp::kFlagsPop, SystemOps::flags_pop);
  set(SystemOp::kCli, SystemOps::cli);
  set(SystemOp::kSti, SystemOps::sti);
  set(SystemOp::kDirection, SystemOps::direction);
  set(SystemOp::kMoveToCr, SystemOps::move_to_cr);
  set(SystemOp::kMoveFromCr4, SystemOps::move_from_cr4);
  set(SystemOp::kReadTsc, SystemOps::read_tsc);
  set(SystemOp::kSysenter, SystemOps::sysenter);
  set(SystemOp::kSysexit, SystemOps::sysexit);
  set(SystemOp::kSafepoint, SystemOps::safepoint);
}

}  // namespace trapline
