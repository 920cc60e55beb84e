; Code segment limits: near and far branches beyond the limit, running into it, an instruction
; across it, and a code segment with a base.
;
; expect: exit 33
; deviates: qemu "running*": fetching beyond the limit of CS is #GP(0) (SDM volume 3, 5.3 and 6.15,
;   "Interrupt 13"); QEMU compares only the targets of far transfers with it.
; deviates: qemu "far call to the limit + 1": the error code is 0 (SDM volume 2, CALL); QEMU gives
;   the selector.
; deviates: qemu "near*": so is a near branch beyond it, with EIP at the branch (SDM volume 2, JMP,
;   CALL, RET, Jcc).
%include "include/guest.inc"

CODE equ SCRATCH + 0x20000
LIMIT equ 0x1ff

; in_segment offset, vector, EIP: far jump there, an exception comes back
%macro in_segment 4                     ; "name", offset, vector, EIP
    try %%done
    jmp SEL0:%2
%%done:
    expect_exception %1, %3, 0, %4
%endmacro

; code offset, bytes...
%macro code 2-*
    %assign %%at CODE + %1
    %rep %0 - 1
    %rotate 1
    mov byte [%%at], %1
    %assign %%at %%at + 1
    %endrep
%endmacro

main:
    mov edi, CODE - 0x100
    mov ecx, 0x500
    mov al, 0xcc                        ; INT3 wherever nothing else is
    rep stosb
    set_descriptor SEL0, CODE, LIMIT, CODE_RX, BIG

    ; far transfers beyond the limit: #GP(0) at the jump
    expect_fault "far jmp to the limit + 1", GP, 0, jmp SEL0:LIMIT + 1
    expect_fault "far call to the limit + 1", GP, 0, call SEL0:LIMIT + 1
    code 0x000, 0x90, 0xcd, SYS
    in_segment "in a based segment", 0, SYS, 3

    ; near branches beyond the limit
    code 0x010, 0xe9, 0xeb, 0x01, 0, 0  ; jmp 0x200
    in_segment "near jmp", 0x10, GP, 0x10
    code 0x020, 0xe8, 0xdb, 0x01, 0, 0  ; call 0x200
    in_segment "near call", 0x20, GP, 0x20
    expect_eq "near call pushes nothing", [exc_esp], [resume_esp]
    code 0x030, 0x31, 0xc0, 0x0f, 0x84, 0xc8, 0x01, 0, 0        ; xor eax, eax; jz
    in_segment "near jcc", 0x30, GP, 0x32
    code 0x040, 0xff, 0xe0              ; jmp eax
    mov eax, LIMIT + 1
    in_segment "near jmp register", 0x40, GP, 0x40
    code 0x048, 0x50, 0xc3              ; push eax; ret
    in_segment "near ret", 0x48, GP, 0x49
    code 0x050, 0xeb, 0xae              ; jmp short to 0
    in_segment "branch back inside", 0x50, SYS, 3
    code 0x060, 0xeb, 0x90              ; jmp short to -14: wraps to far beyond
    in_segment "near jmp below zero", 0x60, GP, 0x60
    mov eax, LIMIT
    code LIMIT, 0xf4                    ; hlt: runs at the very last byte
    code LIMIT - 2, 0xcd, SYS
    code 0x070, 0xff, 0xe0
    mov eax, LIMIT - 2
    in_segment "branch to the last instructions", 0x70, SYS, LIMIT

    ; running over the end: EIP is that of the instruction that does not fit
    code LIMIT - 3, 0x90, 0x90, 0x90, 0x90
    code LIMIT + 1, 0xcd, SYS
    in_segment "running off the end", LIMIT - 3, GP, LIMIT + 1
    code LIMIT - 1, 0x90, 0xb8, 0, 0, 0, 0, 0xcd, SYS
    in_segment "running into an instruction across the end", LIMIT - 3, GP, LIMIT
    code LIMIT - 1, 0xcd, SYS, 0xcd, SYS + 1
    in_segment "the last instruction fits", LIMIT - 3, SYS, LIMIT + 1

    ; a limit of pages, and code that reads itself through CS
    set_descriptor SEL0, CODE, 0, CODE_RX, BIG | PAGES
    code 0x100, 0x2e, 0xa1, 0x00, 0x01, 0x00, 0x00, 0xcd, SYS   ; mov eax, [cs:0x100]
    in_segment "based code reads itself", 0x100, SYS, 0x108
    expect_eq "what it reads", [exc_eax], 0x0100a12e

    ; the same linear code in two segments with other offsets: EIPs differ
    set_descriptor SEL1, CODE - 0x1000, 0xfffff, CODE_RX, BIG | PAGES
    code 0x110, 0xe8, 0, 0, 0, 0, 0x58, 0xcd, SYS               ; call next; pop eax
    in_segment "eip in one", 0x110, SYS, 0x118
    expect_eq "return address in one", [exc_eax], 0x115
    try .other
    jmp SEL1:0x1110
.other:
    expect_exception "eip in the other", SYS, 0, 0x1118
    expect_eq "return address in the other", [exc_eax], 0x1115
    finish
