; Protected mode as the 286 has it: 16-bit segments in all rings, call gates with words as parameters, interrupt and trap gates
; of 16 bits, returns between rings, the 286's TSS with its stacks, and where the upper halves of registers matter.
;
; expect: exit 33
; deviates: qemu "a 32-bit address in 16-bit code", "a gate beyond the limit", "a push at sp 1", "no room on the
;   inner stack", "the limit of 16-bit data": segments have limits (SDM volume 3, 5.3), gates' targets and inner
;   stacks too (volume 2, CALL); QEMU checks hardly any.
%include "include/guest.inc"

GATE16     equ 0x84
INT_GATE16 equ 0x86
TRAP_GATE16 equ 0x87
TSS16      equ 0x81
TSS16_BUSY equ 0x83

CODE0 equ SEL0                          ; 16-bit code of each ring at the image's base
CODE1 equ SEL1 | 1
CODE3 equ SEL2 | 3
STACK0 equ SEL3                         ; 16-bit stacks
STACK1 equ SEL4 | 1
STACK3 equ SEL5 | 3
DATA3 equ SEL6 | 3
GATE  equ SEL7
TASK_SEL equ SEL8

STACKS equ SCRATCH + 0x10000            ; 64 KiB for each ring
TASK   equ SCRATCH
MEMORY equ SCRATCH + 0x1000             ; DATA3's base

%define AT(label) ((label) - image)

; gate16 selector, target, label, parameters, type
%macro gate16 5
    mov dword [gdt + ((%1) & ~7)], (%2) << 16 | AT(%3)
    mov dword [gdt + ((%1) & ~7) + 4], (%5) << 8 | (%4)
%endmacro
%macro vector16 4                       ; vector, target, label, type
    mov dword [idt + 8 * (%1)], (%2) << 16 | AT(%3)
    mov dword [idt + 8 * (%1) + 4], (%4) << 8
%endmacro
; in16 code, stack, SP, data: what follows, up to out16, runs there with 16 bits
%macro in16 4
    %push in16
    try %$back
    push dword %2
    push dword %3
    push dword 2
    push dword %1
    push dword AT(%$code)
    load_segment ds, %4
    load_segment es, %4
    iretd
bits 16
%$code:
%endmacro
%macro out16 0
%$out:
    int SYS
%$end:
bits 32
%$back:
%endmacro
; through "name": it got to out16
%macro through 1
    expect_exception %1, SYS, 0, AT(%$end)
    %pop
%endmacro
%macro fails_at 4                       ; "name", vector, error code, label
    expect_exception %1, %2, %3, AT(%4)
    %pop
%endmacro

main:
    set_descriptor CODE0, IMAGE_BASE, 0xffff, CODE_RX, 0
    set_descriptor CODE1, IMAGE_BASE, 0xffff, CODE_RX | DPL1, 0
    set_descriptor CODE3, IMAGE_BASE, 0xffff, CODE_RX | DPL3, 0
    set_descriptor STACK0, STACKS, 0xffff, DATA_RW, BIG     ; what ESP's upper half is on a small one differs
    set_descriptor STACK1, STACKS + 0x10000, 0xffff, DATA_RW | DPL1, 0
    set_descriptor STACK3, STACKS + 0x20000, 0xffff, DATA_RW | DPL3, 0
    set_descriptor DATA3, MEMORY, 0xfff, DATA_RW | DPL3, 0
    ; the TSS is a 286's, with stacks in 16-bit segments
    mov word [TASK + 2], 0x8000
    mov word [TASK + 4], STACK0
    mov word [TASK + 6], 0x9000
    mov word [TASK + 8], STACK1
    set_descriptor TASK_SEL, TASK, 43, TSS16, 0
    mov eax, TASK_SEL
    ltr ax
    movzx eax, byte [gdt + TASK_SEL + 5]
    expect_eq "ltr makes it busy", eax, TSS16_BUSY

    ; --- a call gate to ring 0, with three words ---
    gate16 GATE, CODE0, called, 3, GATE16 | DPL3
    in16 CODE3, STACK3, 0x400, DATA3
    push word 0x1111
    push word 0x2222
    push word 0x3333
    call GATE | 3:0xbeef
after_call:
    mov [0x20], sp
    mov [0x22], ss
    mov [0x24], cs
    out16
    through "a call gate"
    expect_eq "inside: ip and cs", [MEMORY], (CODE3 << 16) | AT(after_call)
    expect_eq "inside: the third and the second word", [MEMORY + 4], 0x22223333
    movzx eax, word [MEMORY + 8]
    expect_eq "inside: the first word", eax, 0x1111
    expect_eq "inside: sp and ss of ring 3", [MEMORY + 10], (STACK3 << 16) | (0x400 - 6)
    expect_eq "inside: sp and ss", [MEMORY + 14], (STACK0 << 16) | (0x8000 - 14)
    expect_eq "behind: sp and ss", [MEMORY + 0x20], (STACK3 << 16) | 0x400
    movzx eax, word [MEMORY + 0x24]
    expect_eq "behind: cs", eax, CODE3
    ; to ring 1, from ring 3, without parameters
    gate16 GATE, CODE1 & ~3, called_in1, 0, GATE16 | DPL3
    in16 CODE3, STACK3, 0x400, DATA3
    call GATE:0
    out16
    through "to ring 1"
    expect_eq "in ring 1: cs and ss", [MEMORY + 0x30], (STACK1 << 16) | CODE1
    movzx eax, word [MEMORY + 0x34]
    expect_eq "in ring 1: sp", eax, 0x9000 - 8
    ; the same ring: no switch, words on the stack
    gate16 GATE, CODE3 & ~3, called_in3, 0, GATE16 | DPL3
    in16 CODE3, STACK3, 0x400, DATA3
    call GATE:0
after_same:
    out16
    through "the same ring"
    expect_eq "the same ring: ip and cs", [STACKS + 0x20000 + 0x3fc], (CODE3 << 16) | AT(after_same)
    ; JMP through it, in the same ring
    in16 CODE3, STACK3, 0x400, DATA3
    push cs
    push word AT(after_jump)
    jmp GATE:0
after_jump:
    out16
    through "jmp by a gate"
    gate16 GATE, CODE0, called, 3, GATE16 | DPL3
    in16 CODE3, STACK3, 0x400, DATA3
jump_inward:
    jmp GATE:0
    out16
    fails_at "jmp to an inner ring", GP, CODE0, jump_inward
    ; a 32-bit caller: words, and so the upper half of its EIP is lost
    gate16 GATE, CODE0, called_from32, 1, GATE16
    mov edi, esp
    push dword 0xaaaabbbb
    call GATE:0
behind32:
back32:
    mov eax, edi
    sub eax, 4
    expect_eq "from 32 bits: esp", esp, eax
    mov esp, edi
    expect_eq "from 32 bits: ip and cs", [MEMORY + 0x38], (KCS << 16) | (ADDRESS(behind32) & 0xffff)

    ; --- interrupts ---
    vector16 0x41, CODE0, interrupted, INT_GATE16 | DPL3
    vector16 0x42, CODE0, interrupted, TRAP_GATE16 | DPL3
    in16 CODE3, STACK3, 0x400, DATA3
    stc
    int 0x41
after_int:
    mov [0x50], sp
    out16
    through "an interrupt gate"
    expect_eq "frame: ip and cs", [MEMORY + 0x40], (CODE3 << 16) | AT(after_int)
    movzx eax, word [MEMORY + 0x44]
    expect_eq "frame: flags", eax, 2 | CF
    expect_eq "frame: sp and ss", [MEMORY + 0x46], (STACK3 << 16) | 0x400
    movzx eax, word [MEMORY + 0x4a]
    expect_eq "ring 0's sp", eax, 0x8000 - 10
    movzx eax, word [MEMORY + 0x50]
    expect_eq "sp is back", eax, 0x400
    ; IF in the handler
    lea edx, [esp - 8]                  ; no stack is popped
    movzx edx, dx
    in16 CODE0, STACK0, 0x400, DATA3
    sti
    int 0x41
    cli
    mov ax, [0x4c]
    mov [0x4e], ax
    sti
    int 0x42
    cli
    mov [0x50], sp
    out16
    through "from ring 0"
    movzx eax, word [MEMORY + 0x4e]
    and eax, IF
    expect_eq "an interrupt gate clears if", eax, 0
    movzx eax, word [MEMORY + 0x4c]
    and eax, IF
    expect_eq "a trap gate does not", eax, IF
    movzx eax, word [MEMORY + 0x50]
    expect_eq "the way back in ring 0", eax, edx
    ; an error code is a word
    vector16 GP, CODE0, with_error, INT_GATE16
    in16 CODE3, STACK3, 0x400, DATA3
faulting:
    mov ax, KDS
    mov ds, ax
fault_after:
    out16
    through "an error code"
    expect_eq "error code and ip", [MEMORY + 0x60], (AT(faulting) + 3) << 16 | KDS
    set_idt_gate GP, KCS, exception_stubs + GP * STUB_SIZE, INT_GATE
    ; IRET of 16 bits to ring 3 keeps the upper half of nothing it loads
    mov edi, esp
    try .returned
    push word STACK3
    push word 0x200
    push word 2 | CF
    push word CODE3
    push word AT(returned_to)
    o16 iret
.returned:
    mov esp, edi
    expect_exception "iret of words to ring 3", SYS, 0, AT(returned_end)
    movzx eax, word [exc_esp]
    expect_eq "iret of words: sp", eax, 0x200
    mov eax, [exc_eflags]
    and eax, CF | IOPL | NT
    expect_eq "iret of words: flags", eax, CF
    ; RETF with words that it drops on both stacks
    try .dropped
    push word STACK3
    push word 0x200
    push word 0
    push word 0
    push word CODE3
    push word AT(returned_to)
    o16 retf 4
.dropped:
    mov esp, edi
    expect_exception "retf n of words to ring 3", SYS, 0, AT(returned_end)
    movzx eax, word [exc_esp]
    expect_eq "retf n: sp", eax, 0x204

    ; --- addresses and limits ---
    in16 CODE3, STACK3, 0x400, DATA3
    mov bx, 0x0fff
    mov al, [bx]
    mov si, 2
    mov al, [bx + si - 2]
    mov bx, 0xffff
    mov al, [bx + si]                   ; offset 1: it wraps
limit:
    mov ax, [bx + si + 0xffe]           ; 0xfff: one too far
    out16
    fails_at "the limit of 16-bit data", GP, 0, limit
    in16 CODE3, STACK3, 0x400, DATA3
    mov ecx, 0x12340000
    mov si, 0
    mov cx, 2
    cld
    rep lodsb
    mov [0x70], ecx
    mov ebx, 0x10000
    mov ax, [bx]                        ; BX alone counts
beyond32:
    mov al, [ebx]
    out16
    fails_at "a 32-bit address in 16-bit code", GP, 0, beyond32
    expect_eq "rep counts by cx", [MEMORY + 0x70], 0x12340000
    ; SP alone moves, and wraps
    in16 CODE3, STACK3, 0x10002, DATA3
    push word 0x1234
    push word 0x5678
    mov [0x74], esp
    pop ax
    pop cx
    mov [0x78], cx
    mov [0x7a], ax
    out16
    through "sp"
    movzx eax, word [MEMORY + 0x74]
    expect_eq "sp wraps", eax, 0xfffe
    expect_eq "what was pushed", [MEMORY + 0x78], 0x56781234
    movzx eax, word [STACKS + 0x20000 + 0xfffe]
    expect_eq "at the other end", eax, 0x5678
    in16 CODE3, STACK3, 1, DATA3
odd_push:
    push ax
    out16
    fails_at "a push at sp 1", SS_, 0, odd_push
    ; a gate's target beyond its segment's limit
    set_descriptor CODE1, IMAGE_BASE, 0xff, CODE_RX | DPL1, 0
    gate16 GATE, CODE1 & ~3, called_in1, 0, GATE16 | DPL3
    in16 CODE3, STACK3, 0x400, DATA3
gate_limit:
    call GATE:0
    out16
    fails_at "a gate beyond the limit", GP, 0, gate_limit
    ; no room for the frame, and no good stack
    set_descriptor CODE1, IMAGE_BASE, 0xffff, CODE_RX | DPL1, 0
    set_descriptor STACK1, STACKS + 0x10000, 0xff, DATA_RW | DPL1, 0
    mov word [TASK + 6], 0x108
    in16 CODE3, STACK3, 0x400, DATA3
no_room:
    call GATE:0
    out16
    fails_at "no room on the inner stack", SS_, STACK1 & ~3, no_room
    mov word [TASK + 8], STACK3
    in16 CODE3, STACK3, 0x400, DATA3
bad_stack:
    call GATE:0
    out16
    fails_at "an inner stack of another ring", TS_, STACK3 & ~3, bad_stack
    mov word [TASK + 8], 0
    in16 CODE3, STACK3, 0x400, DATA3
null_stack:
    call GATE:0
    out16
    fails_at "a null inner stack", TS_, 0, null_stack
    set_descriptor TASK_SEL, TASK, 5, TSS16, 0
    mov eax, TASK_SEL
    ltr ax
    in16 CODE3, STACK3, 0x400, DATA3
short_tss:
    call GATE:0
    out16
    fails_at "a tss without that stack", TS_, TASK_SEL, short_tss
    finish

bits 16
called:                                 ; in ring 0, DS is DATA3
    mov bp, sp
    mov eax, [bp]
    mov [0], eax
    mov eax, [bp + 4]
    mov [4], eax
    mov ax, [bp + 8]
    mov [8], ax
    mov eax, [bp + 10]
    mov [10], eax
    mov [14], sp
    mov [16], ss
    retf 6
called_in1:
    mov [0x30], cs
    mov [0x32], ss
    mov [0x34], sp
    retf
called_in3:
    retf
called_from32:
    push eax
    push ds
    mov ax, DATA3
    mov ds, ax
    mov eax, [esp + 6]
    mov [0x38], eax
    pop ds
    pop eax
    add esp, 4
    jmp dword KCS:ADDRESS(back32)
interrupted:
    push bp
    mov bp, sp
    push ds
    push eax
    mov ax, DATA3
    mov ds, ax
    mov eax, [bp + 2]
    mov [0x40], eax
    mov ax, [bp + 6]
    mov [0x44], ax
    mov eax, [bp + 8]
    mov [0x46], eax
    lea ax, [bp + 2]
    mov [0x4a], ax
    pushf
    pop ax
    mov [0x4c], ax
    pop eax
    pop ds
    pop bp
    iret
with_error:
    push bp
    mov bp, sp
    push ds
    push eax
    mov ax, DATA3
    mov ds, ax
    mov eax, [bp + 2]
    mov [0x60], eax
    mov word [bp + 4], AT(fault_after)
    pop eax
    pop ds
    pop bp
    add sp, 2
    iret
returned_to:
    int SYS
returned_end:
bits 32
