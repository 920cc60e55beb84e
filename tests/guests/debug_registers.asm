; Debug registers: breakpoints for execution, data and ports, what they leave in DR6, RF, general
; detect, together with single steps, in the middle of REP, behind MOV SS; INT1.
;
; expect: exit 33
; deviates: qemu "rep is met once": RF is set in what is pushed between iterations, so that they do not
;   meet the breakpoint again (volume 3, 17.3.1.1)
; deviates: qemu "rep movsb, the last one", "with a step: eip": a trap comes behind the instruction that
;   met the breakpoint, whether or not it is the last iteration (volume 3, 17.3.1.2)
; deviates: qemu "mov ss delays": a debug exception of MOV SS comes behind the next instruction
;   (volume 3, 6.8.3)
; deviates: qemu "a fault": its TCG checks no segment limits
; deviates: qemu "without cr4.de": type 2 is undefined without CR4.DE (volume 3, 17.2.4)
; deviates: qemu "general detect", "general detect: dr6", "general detect: dr7": DR7.GD makes any access
;   to a debug register a #DB and is cleared by it (volume 3, 17.2.4)
; deviates: qemu "int1": INT1 is an instruction (volume 2, INT n/INTO/INT3/INT1)
; deviates: qemu "dr6 fixed bits": bit 12 of DR6 is 0 (volume 3, figure 17-1)
%include "include/guest.inc"

WATCHED equ SCRATCH + 0x100

; arm number, kind (0 execute, 1 write, 2 port, 3 access), bytes, address; others are disarmed
%macro arm 4
    mov eax, %4
    mov dr%1, eax
    mov eax, 0x400 | (2 << (2 * %1)) | ((%2 | ((%3) - 1) << 2) << (16 + 4 * %1))
    mov dr7, eax
    xor eax, eax
    mov dr6, eax
%endmacro
%macro disarm 0
    mov [saved_eax], eax
    mov eax, 0x400
    mov dr7, eax
    mov eax, [saved_eax]
%endmacro
; expect_stack_trap "name", {instruction}: with ESP right above a breakpoint
%macro expect_stack_trap 2+
    arm 0, 1, 4, SCRATCH + 0x800
    try %%done
    mov esp, SCRATCH + 0x804
    %2
%%done:
    expect_exception %1, DB_, 0, %%done
%endmacro
; expect_hit "name", bits of DR6: after a debug exception
%macro expect_hit 2
    push eax
    mov eax, dr6
    and eax, 0xe00f
    expect_eq %1, eax, %2
    disarm
    pop eax
%endmacro

main:
    mov dword [count], 0
    ; --- execution ---
    arm 0, 0, 1, .e1
    try .e0
.e1:
    nop
.e0:
    expect_exception "execution", DB_, 0, .e1
    expect_hit "execution: dr6", 1
    mov eax, [exc_eflags]
    and eax, RF
    expect_eq "execution: no RF", eax, 0

    arm 3, 0, 1, .e2
    mov ecx, 5
    xor edx, edx
    hook pass
.again:
    inc edx
.e2:
    cmp ecx, 3
    adc edx, 0
    loop .again
    hook 0
    expect_hit "in a loop: dr6", 8
    expect_eq "in a loop", [count], 5
    expect_eq "in a loop: nothing is lost", edx, 5 + 2
    ; flags that only the handler looks at
    mov dword [count], 0
    arm 1, 0, 1, .e3
    hook pass
    mov eax, 5
    sub eax, 6
.e3:
    xor eax, eax
    hook 0
    expect_hit "flags: dr6", 2
    mov eax, [exc_eflags]
    and eax, ARITHMETIC
    expect_eq "flags at a breakpoint", eax, CF | PF | AF | SF
    ; IRET without RF comes again
    mov dword [count], 0
    arm 0, 0, 1, .e4
    hook pass_second
.e4:
    nop
    hook 0
    expect_eq "without RF", [count], 2
    ; a REP instruction is met once
    mov dword [count], 0
    arm 0, 0, 1, .e5
    hook pass
    mov edi, SCRATCH
    mov ecx, 3
    mov al, 1
.e5:
    rep stosb
    hook 0
    expect_hit "rep: dr6", 1
    expect_eq "rep is met once", [count], 1
    expect_eq "rep: through", ecx, 0
    ; an instruction with RF that faults has it in its frame, and one behind it does not
    arm 0, 0, 1, .e6
    try .e7
    pushfd
    or dword [esp], RF
    push dword KCS
    push dword .e6
    iretd
.e6:
    ud2
.e7:
    expect_exception "RF passes, the fault comes", UD, 0, .e6
    mov eax, [exc_eflags]
    and eax, RF
    expect_eq "a fault's frame has RF", eax, RF
    try .e9
    pushfd
    or dword [esp], RF
    push dword KCS
    push dword .e8
    iretd
.e8:
    nop
    int3
.e9:
    expect_exception "RF is gone after an instruction", BP_, 0, .e9
    mov eax, [exc_eflags]
    and eax, RF
    expect_eq "a trap's frame has no RF", eax, 0
    ; another breakpoint of the wrong kind or disabled
    mov eax, .e10
    mov dr2, eax
    mov eax, 0x400
    mov dr7, eax
    try .e11
.e10:
    nop
.e11:
    expect_exception "disabled", NO_EXCEPTION, 0, 0

    ; --- data ---
    arm 0, 1, 4, WATCHED
    expect_no_fault "a read of a breakpoint for writes", mov eax, [WATCHED]
    expect_trap "a write", DB_, 0, mov [WATCHED], eax
    expect_hit "a write: dr6", 1
    arm 2, 3, 4, WATCHED
    expect_trap "a read", DB_, 0, mov eax, [WATCHED]
    expect_hit "a read: dr6", 4
    arm 2, 3, 4, WATCHED
    expect_trap "a byte of it", DB_, 0, cmp byte [WATCHED + 3], 0
    arm 2, 3, 4, WATCHED
    expect_no_fault "a byte behind it", mov al, [WATCHED + 4]
    expect_trap "from before it", DB_, 0, mov eax, [WATCHED - 3]
    arm 2, 3, 4, WATCHED
    expect_no_fault "before it", mov eax, [WATCHED - 4]
    arm 1, 3, 2, WATCHED + 2
    expect_no_fault "below a breakpoint of 2", mov ax, [WATCHED]
    expect_trap "a breakpoint of 2", DB_, 0, mov al, [WATCHED + 3]
    arm 1, 1, 1, WATCHED + 1
    expect_no_fault "beside a breakpoint of 1", mov byte [WATCHED], 1
    expect_trap "a breakpoint of 1", DB_, 0, inc dword [WATCHED]
    expect_hit "inc: dr6", 2
    expect_stack_trap "push", push eax
    expect_stack_trap "pushf", pushfd
    expect_stack_trap "pushad", pushad
    arm 0, 1, 4, SCRATCH + 0x800
    try .d1
    mov esp, SCRATCH + 0x804
    call .callee
    nop
.callee:
    nop
.d1:
    expect_exception "call", DB_, 0, .callee
    arm 0, 3, 4, WATCHED
    expect_trap "push of memory", DB_, 0, push dword [WATCHED]
    arm 0, 3, 4, WATCHED
    push eax
    expect_trap "pop to memory", DB_, 0, pop dword [WATCHED]
    disarm
    mov dword [WATCHED], .d2
    arm 0, 3, 4, WATCHED
    try .d2
    jmp [WATCHED]
    nop
.d2:
    expect_exception "jump through it", DB_, 0, .d2
    arm 0, 3, 4, WATCHED
    mov edx, 0
    mov ebx, 0
    try .d3
    fld qword [WATCHED]
.d4:
    inc ebx
.d3:
    expect_exception "fld", DB_, 0, .d4
    fninit
    arm 0, 3, 4, WATCHED + 8
    expect_trap "the upper half of 8 bytes", DB_, 0, fst qword [WATCHED + 4]
    arm 0, 3, 4, WATCHED
    expect_trap "sidt", DB_, 0, sidt [WATCHED]
    arm 0, 1, 4, WATCHED
    expect_trap "xchg", DB_, 0, xchg eax, [WATCHED]
    disarm
    mov ecx, -1
    mov dword [WATCHED], 0
    arm 0, 1, 4, WATCHED
    expect_trap "cmpxchg that fails writes too", DB_, 0, cmpxchg [WATCHED], ecx
    ; many accesses
    mov dword [count], 0
    arm 0, 1, 4, WATCHED
    hook go_on
    mov ecx, 100
.d5:
    add [WATCHED], ecx
    mov [WATCHED + 4], ecx
    loop .d5
    hook 0
    expect_eq "many", [count], 100
    disarm

    ; --- REP ---
    arm 0, 1, 1, WATCHED + 2
    mov edi, WATCHED
    mov ecx, 8
    mov al, 7
    try .r1
.r2:
    rep stosb
.r1:
    expect_exception "rep stosb", DB_, 0, .r2
    expect_eq "rep stosb: after the element", ecx, 5
    expect_hit "rep stosb: dr6", 1
    arm 0, 3, 1, WATCHED + 2
    mov esi, WATCHED
    mov edi, WATCHED + 16
    mov ecx, 2
    expect_no_fault "rep movsb before it", rep movsb
    mov ecx, 1
    expect_trap "rep movsb, the last one", DB_, 0, rep movsb
    arm 0, 3, 1, WATCHED + 2
    mov edi, WATCHED
    mov ecx, 8
    mov al, 7
    try .r3
.r4:
    repe scasb
.r3:
    expect_exception "repe scasb", DB_, 0, .r4
    expect_eq "repe scasb: ecx", ecx, 5
    disarm

    ; --- single steps, MOV SS ---
    arm 0, 1, 4, WATCHED
    hook step
    mov dword [count], 0
    pushfd
    or dword [esp], TF
    popfd
    mov [WATCHED], eax
.s1:
    pushfd
    and dword [esp], ~TF
    popfd
    hook 0
    expect_eq "with a step: dr6", [first_dr6], 0x4001
    expect_eq "with a step: eip", [first_eip], .s1
    disarm
    disarm
    mov dword [WATCHED], KDS
    arm 0, 3, 2, WATCHED
    try .s2
    mov ss, [WATCHED]
    mov esp, KERNEL_STACK
.s3:
    nop
.s2:
    expect_exception "mov ss delays", DB_, 0, .s3
    expect_hit "mov ss delays: dr6", 1

    ; --- a fault drops what was met ---
    arm 0, 3, 4, WATCHED
    mov esi, WATCHED
    mov dword [gdt + SEL0], 0
    set_descriptor SEL0, 0, 0, DATA_RW, 0
    load_segment fs, SEL0
    mov eax, 0
    mov dr6, eax
    try .f1
.f2:
    push dword [fs:16]
.f1:
    expect_exception "a fault", GP, 0, .f2
    mov eax, dr6
    and eax, 15
    expect_eq "a fault: dr6", eax, 0
    disarm

    ; --- ports ---
    change_cr4 0, CR4_DE
    arm 1, 2, 1, 0xed
    expect_trap "out", DB_, 0, out 0xed, al
    expect_hit "out: dr6", 2
    arm 1, 2, 1, 0xed
    expect_trap "in", DB_, 0, in al, 0xed
    arm 1, 2, 1, 0xed
    expect_no_fault "another port", out 0xee, al
    expect_trap "a wide one", DB_, 0, in ax, 0xec
    change_cr4 CR4_DE, 0
    arm 1, 2, 1, 0xed
    expect_no_fault "without cr4.de", out 0xed, al
    disarm

    ; --- general detect ---
    mov eax, 0x2400
    mov dr7, eax
    xor eax, eax
    expect_fault "general detect", DB_, 0, mov ecx, dr3
    mov eax, dr6
    and eax, 0xe00f
    expect_eq "general detect: dr6", eax, 0x2000
    mov eax, dr7
    expect_eq "general detect: dr7", eax, 0x400
    expect_no_fault "dr4 is dr6", mov eax, dr4
    change_cr4 0, CR4_DE
    expect_fault "dr4 with cr4.de", UD, 0, mov eax, dr4
    change_cr4 CR4_DE, 0
    expect_ring_fault 3, "in ring 3", GP, 0, mov eax, dr0

    ; --- INT1 ---
    xor eax, eax
    mov dr6, eax
    expect_trap "int1", DB_, 0, db 0xf1
    mov eax, dr6
    expect_eq "int1: dr6", eax, 0xffff0ff0
    mov eax, -1
    mov dr6, eax
    mov dr0, eax
    mov eax, dr6
    expect_eq "dr6 fixed bits", eax, 0xffffefff
    mov eax, dr0
    expect_eq "dr0", eax, -1
    finish

pass:                                   ; with RF
    inc dword [count]
    or dword [ebp + FRAME_EFLAGS], RF
    ret
pass_second:
    inc dword [count]
    cmp dword [count], 2
    je pass_now
    ret
pass_now:
    or dword [ebp + FRAME_EFLAGS], RF
    ret
go_on:
    inc dword [count]
    ret
step:
    inc dword [count]
    cmp dword [count], 1
    jne .not_first
    mov eax, dr6
    and eax, 0xe00f
    mov [first_dr6], eax
    mov eax, [exc_eip]
    mov [first_eip], eax
.not_first:
    ret

section .data
saved_eax: dd 0
count:     dd 0
first_dr6: dd 0
first_eip: dd 0
