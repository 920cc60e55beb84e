; Tasks that hand the processor round by JMP, among them one with a 286's TSS and one in ring 3; calls
; of tasks inside each other and back by IRET; a task that an interrupt runs again and again.
;
; expect: exit 33
%include "include/guest.inc"

ROUNDS  equ 200

; Selectors, and where the TSSs are.
TASK_A  equ SEL0
TASK_B  equ SEL1                        ; 286
TASK_C  equ SEL2                        ; ring 3
TASK_D  equ SEL3                        ; called, and calls
TASK_E  equ SEL4                        ; called by it
TASK_F  equ SEL5                        ; for an interrupt
CODE16  equ SEL6
STACK16 equ SEL7
TSSS    equ 0x60000
%define TSS_OF(selector) (TSSS + ((selector) - SEL0) * 0x20)

; What lies where in a TSS: 32 bits, 16 bits
EIP_AT    equ 32
EFLAGS_AT equ 36
EBX_AT    equ 52
ESI_AT    equ 64
IP16_AT   equ 14
BX16_AT   equ 24

AVAILABLE16 equ 0x81
FOR_RING3   equ 0x60

; task selector, entry, cs, data segments, stack: a task of 32 bits
%macro task 5
    set_descriptor %1, TSS_OF(%1), 103, TSS_TYPE, 0
    mov edi, TSS_OF(%1)
    call clear_tss
    mov dword [edi + EIP_AT], %2
    mov dword [edi + EFLAGS_AT], 2
    mov dword [edi + 56], %5
    mov dword [edi + 72], %4
    mov dword [edi + 76], %3
    mov dword [edi + 80], %4
    mov dword [edi + 84], %4
    mov word [edi + 102], 104
%endmacro

main:
    task TASK_A, task_a, KCS, KDS, 0x68000
    task TASK_C, task_c, UCS, UDS, 0x69000
    task TASK_D, task_d, KCS, KDS, 0x6a000
    task TASK_E, task_e, KCS, KDS, 0x6b000
    task TASK_F, task_f, KCS, KDS, 0x6c000
    set_descriptor CODE16, IMAGE_BASE, 0xffff, CODE_RX, 0
    set_descriptor STACK16, 0x70000, 0xffff, DATA_RW, 0
    set_descriptor TASK_B, TSS_OF(TASK_B), 43, AVAILABLE16, 0
    mov edi, TSS_OF(TASK_B)
    call clear_tss
    mov word [edi + IP16_AT], ADDRESS(task_b) - IMAGE_BASE
    mov word [edi + 16], 2
    mov word [edi + 26], 0x1000
    mov word [edi + 34], KDS
    mov word [edi + 36], CODE16
    mov word [edi + 38], STACK16
    mov word [edi + 40], KDS
    or byte [gdt + TSS_SEL + 5], FOR_RING3

    ; --- round and round ---
    mov edx, ROUNDS
    mov ebx, 0x12345678
    clts
.round:
    jmp TASK_A:0
    mov eax, cr0
    shr eax, 3
    and eax, 1
    add [ts_seen], eax
    clts
    dec edx
    jnz .round
    expect_eq "task a ran", [count_a], ROUNDS
    expect_eq "task b ran", [count_b], ROUNDS
    expect_eq "task c ran", [count_c], ROUNDS
    expect_eq "each switch set cr0.ts", [ts_seen], ROUNDS
    expect_eq "own registers", ebx, 0x12345678
    expect_eq "task a's ebx", [TSS_OF(TASK_A) + EBX_AT], 3 * ROUNDS
    movzx eax, word [TSS_OF(TASK_B) + BX16_AT]
    expect_eq "task b's bx", eax, 5 * ROUNDS
    expect_eq "task c's esi", [TSS_OF(TASK_C) + ESI_AT], 7 * ROUNDS
    movzx eax, word [TSS_OF(TASK_A)]
    expect_eq "jmp writes no back link", eax, 0
    mov al, [gdt + TASK_A + 5]
    mov ah, [gdt + TASK_B + 5]
    movzx eax, ax
    expect_eq "jmp leaves tasks available", eax, AVAILABLE16 << 8 | TSS_TYPE
    movzx eax, byte [gdt + TSS_SEL + 5]
    expect_eq "the running task is busy", eax, TSS_BUSY | FOR_RING3
    pushfd
    pop eax
    and eax, NT
    expect_eq "no nt after jmp", eax, 0
    str eax
    and eax, 0xffff
    expect_eq "task register", eax, TSS_SEL

    ; --- calls ---
    mov edx, 2
.call:
    call TASK_D:0
    dec edx
    jnz .call
    expect_eq "calls came back", [back_d], 2
    expect_eq "nt in the called task", [flags_e], NT
    expect_eq "busy inside", [busy_inside], (TSS_BUSY | FOR_RING3) << 16 | TSS_BUSY << 8 | TSS_BUSY
    movzx eax, word [TSS_OF(TASK_D)]
    expect_eq "back link of the first", eax, TSS_SEL
    movzx eax, word [TSS_OF(TASK_E)]
    expect_eq "back link of the second", eax, TASK_D
    mov al, [gdt + TASK_D + 5]
    mov ah, [gdt + TASK_E + 5]
    movzx eax, ax
    expect_eq "iret leaves them available", eax, TSS_TYPE << 8 | TSS_TYPE
    mov eax, [TSS_OF(TASK_E) + EFLAGS_AT]
    and eax, NT
    expect_eq "iret clears nt in what it saves", eax, 0
    expect_eq "and goes on behind it next time", [TSS_OF(TASK_E) + EIP_AT], task_e.again

    ; --- an interrupt ---
    mov dword [idt + 8 * 0x70], TASK_F << 16
    mov dword [idt + 8 * 0x70 + 4], TASK_GATE << 8
    mov ecx, 3
    stc
.interrupt:
    int 0x70
    loop .interrupt
    expect_flags "flags across the task", CF, CF
    expect_eq "the interrupt's task ran", [count_f], 3
    movzx eax, word [TSS_OF(TASK_F)]
    expect_eq "its back link", eax, TSS_SEL
    expect_fault "call of the running task", GP, TSS_SEL, call TSS_SEL:0
    mov byte [gdt + TASK_A + 5], TSS_TYPE & 0x7f
    expect_fault "an absent one", NP, TASK_A, jmp TASK_A:0
    mov byte [gdt + TASK_A + 5], TSS_TYPE
    mov word [gdt + TASK_A], 102
    expect_fault "a short one", TS_, TASK_A, jmp TASK_A:0
    finish

clear_tss:
    push edi
    mov ecx, 26
    xor eax, eax
    rep stosd
    pop edi
    ret

task_a:
    inc dword [count_a]
    add ebx, 3
    jmp TASK_B:0
    jmp task_a

bits 16
task_b:
    inc dword [dword count_b]
    add bx, 5
    jmp TASK_C:0
    jmp task_b
bits 32

task_c:
    inc dword [count_c]
    add esi, 7
    jmp TSS_SEL:0
    jmp task_c

task_d:
    call TASK_E:0
    inc dword [back_d]
    iretd
    jmp task_d

task_e:
    pushfd
    pop eax
    and eax, NT
    mov [flags_e], eax
    mov al, [gdt + TASK_D + 5]
    mov ah, [gdt + TASK_E + 5]
    mov [busy_inside], ax
    movzx eax, byte [gdt + TSS_SEL + 5]
    mov [busy_inside + 2], ax
    expect_fault "call of the caller", GP, TASK_D, call TASK_D:0
    expect_fault "jmp to itself", GP, TASK_E, jmp TASK_E:0
    pushfd                              ; the checks have cleared it
    or dword [esp], NT
    popfd
    iretd
.again:
    jmp task_e

task_f:
    inc dword [count_f]
    clc
    iretd
    jmp task_f

section .data
align 4
count_a: dd 0
count_b: dd 0
count_c: dd 0
count_f: dd 0
ts_seen: dd 0
back_d: dd 0
flags_e: dd 0
busy_inside: dd 0
