; Single-step traps (TF): after which instruction they come, DR6.BS, the saved flags, what IRET,
; POPF, REP, INT n and faults do to them; the shadow after MOV SS and POP SS.
;
; expect: exit 33
%include "include/guest.inc"

main:
    ; POPF sets TF: the trap comes after the next instruction
    hook step
    mov eax, 0
    call clear_log
    pushfd
    or dword [esp], TF
    popfd
    inc eax
.one:
    inc eax
.two:
    inc eax
.three:
    pushfd
.four:
    and dword [esp], ~TF
.five:
    popfd
.six:
    inc eax
    hook 0
    expect_eq "eax", eax, 4
    expect_eq "traps", [steps], 6
    expect_eq "first", [log], .one
    expect_eq "second", [log + 4], .two
    expect_eq "third", [log + 8], .three
    expect_eq "fourth", [log + 12], .four
    expect_eq "fifth", [log + 16], .five
    expect_eq "after the popfd that clears TF", [log + 20], .six
    expect_eq "the last one's saved flags are without TF", [saved_flags], 0
    mov eax, dr6
    and eax, 0xe00f
    expect_eq "dr6.bs", eax, 0x4000

    ; MOV SS and POP SS hold the trap back for one instruction
    call clear_log
    hook step
    mov ecx, ss
    push ss
    pushfd
    or dword [esp], TF
    popfd
    nop
.s1:
    mov ss, ecx
.s2:
    nop
.s3:
    pop ss
.s4:
    nop
.s5:
    pushfd
    and dword [esp], ~TF
    popfd
    hook 0
    expect_eq "before mov ss", [log], .s1
    expect_eq "mov ss holds it back", [log + 4], .s3
    expect_eq "pop ss holds it back", [log + 8], .s5

    ; REP: a trap after each iteration, EIP at the instruction until the last
    call clear_log
    mov ecx, 3
    mov edi, SCRATCH
    hook step
    pushfd
    or dword [esp], TF
    popfd
.rep:
    rep stosb
.rep_end:
    pushfd
    and dword [esp], ~TF
    popfd
    hook 0
    expect_eq "rep 1", [log], .rep
    expect_eq "rep 2", [log + 4], .rep
    expect_eq "rep 3", [log + 8], .rep_end
    ; also when there are many
    call clear_log
    mov ecx, 12
    mov esi, SCRATCH + 64
    mov edi, SCRATCH
    hook step
    pushfd
    or dword [esp], TF
    popfd
.long_rep:
    rep movsd
.long_rep_end:
    pushfd
    and dword [esp], ~TF
    popfd
    hook 0
    expect_eq "long rep: first", [log], .long_rep
    expect_eq "long rep: before the last", [log + 10 * 4], .long_rep
    expect_eq "long rep: last", [log + 11 * 4], .long_rep_end

    ; jumps, calls: EIP is the target
    call clear_log
    hook step
    pushfd
    or dword [esp], TF
    popfd
    jmp .target
    nop
.target:
    call .callee
.returned:
    pushfd
    and dword [esp], ~TF
    popfd
    hook 0
    expect_eq "after jmp", [log], .target
    expect_eq "after call", [log + 4], .callee
    expect_eq "after ret", [log + 8], .returned
    jmp .interrupts
.callee:
    ret

    ; INT n clears TF for its handler, and IRET brings it back: the instruction after IRET's target
    ; is trapped
.interrupts:
    call clear_log
    set_idt_gate 0x60, KCS, .handler, INT_GATE
    hook step
    pushfd
    or dword [esp], TF
    popfd
    int 0x60
.after_int:
    nop
.after_nop:
    pushfd
    and dword [esp], ~TF
    popfd
    hook 0
    expect_eq "int n: the handler is not stepped", [log], .after_nop
    jmp .faults
.handler:
    nop
    nop
    iretd

    ; a fault's handler runs without TF, and the saved flags have it
.faults:
    call clear_log
    hook step_or_fault
    pushfd
    or dword [esp], TF
    popfd
.fault:
    ud2
.after_fault:
    nop
.fault_done:
    pushfd
    and dword [esp], ~TF
    popfd
    hook 0
    expect_eq "fault under TF", [log], .fault
    expect_eq "goes on stepping", [log + 4], .fault_done
    ; IRET that sets TF
    call clear_log
    hook step
    pushfd
    or dword [esp], TF
    push cs
    push dword .iret_target
    iretd
.iret_target:
    nop
.iret_next:
    pushfd
    and dword [esp], ~TF
    popfd
    hook 0
    expect_eq "iret with TF", [log], .iret_next
    ; in ring 3
    call clear_log
    mov dword [user_eflags], 2 | TF
    try .user_done
    enter_ring 3, .user
.user:
    nop
.user_next:
    nop
.user_done:
    expect_exception "ring 3 step", DB_, 0, .user_next
    expect_eq "ring 3 step: cs", [exc_cs], UCS
    finish

; Logs each trap's EIP.
step:
    mov eax, [steps]
    mov ecx, [exc_eip]
    cmp eax, 16
    jae .full
    mov [log + eax * 4], ecx
.full:
    inc dword [steps]
    mov eax, [exc_eflags]
    and eax, TF
    mov [saved_flags], eax
    cmp dword [exc_vector], DB_
    jne stray_exception
    ret
step_or_fault:
    cmp dword [exc_vector], UD
    jne step
    mov ecx, [exc_eip]
    mov [log], ecx
    mov dword [steps], 1
    add dword [ebp + FRAME_EIP], 2
    ret
clear_log:
    mov dword [steps], 0
    xor edx, edx
    mov dr6, edx
    ret

section .data
align 4
steps: dd 0
saved_flags: dd 0
log: times 16 dd 0
