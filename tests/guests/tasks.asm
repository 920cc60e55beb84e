; Hardware task switches: JMP, CALL, INT and faults through task gates, IRET, nested, 32-bit and
; 16-bit; what is saved and loaded, back links, busy bits, NT, CR0.TS, the T bit, debug registers,
; CR3 and LDT, and the faults before and after the switch.
;
; expect: exit 33
; deviates: qemu "a fault's rf": a fault's frame has RF set (volume 3, 17.3.1.1)
; deviates: qemu "t bit", "t bit: dr6", "t bit: in the new task", "t bit after a double fault", "t bit
;   after a double fault: dr6": a TSS with its T bit set ends in #DB (volume 3, 17.3.1.5)
%include "include/guest.inc"
%include "include/tss.inc"

; task_handles vector, task: until old_handler vector.
%macro task_handles 2
    push dword [idt + 8 * (%1)]
    pop dword [old_gate]
    push dword [idt + 8 * (%1) + 4]
    pop dword [old_gate + 4]
    mov dword [idt + 8 * (%1)], %2 << 16
    mov dword [idt + 8 * (%1) + 4], TASK_GATE << 8
%endmacro
%macro old_handler 1
    push dword [old_gate]
    pop dword [idt + 8 * (%1)]
    push dword [old_gate + 4]
    pop dword [idt + 8 * (%1) + 4]
%endmacro

TASK1   equ SEL0                        ; 32-bit TSSs
TASK2   equ SEL1
TASK16  equ SEL2
GATE    equ SEL3                        ; a task gate to TASK1
LDT1    equ SEL4
CODE16  equ SEL5                        ; 16-bit code and data over the image
DATA16  equ SEL6
TSS1    equ SCRATCH + 0x1000
TSS2    equ SCRATCH + 0x2000
TSS16   equ SCRATCH + 0x3000
STACK1  equ SCRATCH + 0x5000
STACK2  equ SCRATCH + 0x6000

main:
    call fresh

    ; --- CALL and IRET ---
    mov dword [TSS1 + T_EIP], .sub
    mov ecx, 0x11111111
    mov edx, 0x22222222
    mov esi, 0x66666666
    call TASK1:0
.called:
    expect_eq "back: ecx", ecx, 0x11111111
    expect_eq "back: esi", esi, 0x66666666
    expect_eq "it ran", [seen_eax], 0xaaaa0001
    expect_eq "it ran with its stack", [seen_esp], STACK1
    expect_eq "its flags have nt", [seen_flags], NT | 2
    expect_eq "link", [seen_link], TSS_SEL
    expect_eq "both busy", [seen_busy], TSS_BUSY << 8 | TSS_BUSY
    expect_eq "cr0.ts", [seen_ts], CR0_TS
    expect_eq "caller's saved eip", [tss + T_EIP], .called
    expect_eq "caller's saved edx", [tss + T_EDX], 0x22222222
    expect_eq "caller's saved esp", [tss + T_ESP], KERNEL_STACK
    movzx eax, word [tss + T_CS]
    expect_eq "caller's saved cs", eax, KCS
    movzx eax, byte [gdt + TASK1 + 5]
    expect_eq "not busy after iret", eax, TSS_TYPE
    movzx eax, byte [gdt + TSS_SEL + 5]
    expect_eq "the caller is busy", eax, TSS_BUSY
    expect_eq "its eip is behind the iret", [TSS1 + T_EIP], .sub_after
    mov eax, [TSS1 + T_EFLAGS]
    and eax, NT
    expect_eq "iret clears nt in what is saved", eax, 0
    str ax
    movzx eax, ax
    expect_eq "tr", eax, TSS_SEL
    mov eax, cr0
    and eax, CR0_TS
    expect_eq "ts after iret", eax, CR0_TS
    clts
    ; the task goes on where it was
    call TASK1:0
    expect_eq "it goes on behind its iret", [seen_eax], 0xaaaa0002
    clts
    jmp .gates
.sub:
    mov [seen_eax], eax
    mov [seen_esp], esp
    pushfd
    pop dword [seen_flags]
    movzx eax, word [TSS1 + T_LINK]
    mov [seen_link], eax
    mov al, [gdt + TASK1 + 5]
    mov ah, [gdt + TSS_SEL + 5]
    movzx eax, ax
    mov [seen_busy], eax
    mov eax, cr0
    and eax, CR0_TS
    mov [seen_ts], eax
    mov ecx, -1
    mov esi, -1
    iretd
.sub_after:
    mov dword [seen_eax], 0xaaaa0002
    iretd

.gates:
    ; --- a task gate, by CALL, JMP and INT ---
    call fresh
    mov dword [gdt + GATE], TASK1 << 16
    mov dword [gdt + GATE + 4], TASK_GATE << 8
    mov dword [TSS1 + T_EIP], .counted
    mov dword [seen_eax], 0
    mov ecx, 100
.many:
    call GATE:0x1234
    loop .many
    expect_eq "a hundred calls by a gate", [seen_eax], 100
    mov dword [idt + 8 * 0x90], TASK1 << 16
    mov dword [idt + 8 * 0x90 + 4], TASK_GATE << 8
    int 0x90
    expect_eq "int by a gate", [seen_eax], 101
    mov dword [TSS1 + T_EIP], .jumps_back
    jmp GATE:0
    expect_eq "jmp there and back", [seen_eax], 102
    movzx eax, byte [gdt + TASK1 + 5]
    expect_eq "jmp leaves it not busy", eax, TSS_TYPE
    mov eax, [TSS1 + T_EFLAGS]
    and eax, NT
    expect_eq "jmp does not set nt", eax, 0
    jmp .faults
.counted:
    inc dword [seen_eax]
    iretd
    jmp .counted
.jumps_back:
    inc dword [seen_eax]
    jmp TSS_SEL:0

.faults:
    clts
    ; --- an exception with an error code, handled by a task ---
    call fresh
    mov dword [TSS1 + T_EIP], .handles
    task_handles GP, TASK1
    mov eax, 0x1234
    mov ecx, 0x55
.faulting:
    mov fs, eax
.behind:
    old_handler GP
    expect_eq "a fault's error code", [seen_eax], 0x1234 & ~3
    expect_eq "a fault's eip", [seen_link], .faulting
    mov eax, [seen_flags]
    and eax, RF
    expect_eq "a fault's rf", eax, RF
    jmp .nested
.handles:
    pop dword [seen_eax]
    mov eax, [tss + T_EIP]
    mov [seen_link], eax
    mov eax, [tss + T_EFLAGS]
    mov [seen_flags], eax
    mov dword [tss + T_EIP], .behind
    iretd

.nested:
    clts
    ; --- nested: this, 1, 2, and back ---
    call fresh
    mov dword [TSS1 + T_EIP], .outer
    mov dword [TSS2 + T_EIP], .inner
    mov dword [seen_eax], 0
    call TASK1:0
    expect_eq "nested", [seen_eax], 0x321
    expect_eq "nested: link", [seen_link], TASK1
    jmp .sixteen
.outer:
    or dword [seen_eax], 0x1
    call TASK2:0
    or dword [seen_eax], 0x300
    iretd
.inner:
    or dword [seen_eax], 0x20
    movzx eax, word [TSS2 + T_LINK]
    mov [seen_link], eax
    iretd

.sixteen:
    clts
    ; --- a 16-bit TSS, and 16-bit code in it ---
    call fresh
    mov word [TSS16 + 14], .code16 - image
    mov word [TSS16 + 16], 2            ; flags
    mov word [TSS16 + 18], 0x1111       ; ax, cx, dx, bx
    mov word [TSS16 + 20], 0x2222
    mov word [TSS16 + 22], 0x3333
    mov word [TSS16 + 24], 0x4444
    mov word [TSS16 + 26], 0x8000       ; sp, bp, si, di
    mov word [TSS16 + 28], 0x5555
    mov word [TSS16 + 30], 0x6666
    mov word [TSS16 + 32], 0x7777
    mov word [TSS16 + 34], DATA16       ; es, cs, ss, ds, ldt
    mov word [TSS16 + 36], CODE16
    mov word [TSS16 + 38], DATA16
    mov word [TSS16 + 40], KDS
    mov word [TSS16 + 42], 0
    mov esi, 0x12345678
    call TASK16:0
    clts
    expect_eq "16 bits: back", esi, 0x12345678
    mov eax, [seen_eax]
    and eax, 0xffff
    expect_eq "16 bits: ax", eax, 0x1111
    mov eax, [seen_esp]
    and eax, 0xffff
    expect_eq "16 bits: di", eax, 0x7777
    movzx eax, word [TSS16 + 18]
    expect_eq "16 bits: ax that was saved", eax, 0x9999
    movzx eax, word [TSS16 + 14]
    expect_eq "16 bits: ip that was saved", eax, .code16_after - image
    movzx eax, word [TSS16]
    expect_eq "16 bits: link", eax, TSS_SEL
    movzx eax, byte [gdt + TASK16 + 5]
    expect_eq "16 bits: not busy", eax, 0x81
    jmp .checks
bits 16
.code16:
    mov [dword seen_eax], eax
    mov [dword seen_esp], edi
    mov ax, 0x9999
    iret
.code16_after:
bits 32

.checks:
    ; --- what faults before the switch, in the old task ---
    call fresh
    set_descriptor TASK1, TSS1, 102, TSS_TYPE, 0
    expect_fault "a tss that is too short", TS_, TASK1, call TASK1:0
    set_descriptor TASK1, TSS1, 103, TSS_BUSY, 0
    expect_fault "a busy task by call", GP, TASK1, call TASK1:0
    expect_fault "a busy task by jmp", GP, TASK1, jmp TASK1:0
    set_descriptor TASK1, TSS1, 103, TSS_TYPE ^ NOT_PRESENT, 0
    expect_fault "a task that is not present", NP, TASK1, call TASK1:0
    expect_fault "a task gate to it", NP, TASK1, call GATE:0
    set_descriptor TASK1, TSS1, 103, TSS_TYPE, 0
    mov byte [gdt + GATE + 5], TASK_GATE ^ NOT_PRESENT
    expect_fault "a gate that is not present", NP, GATE, call GATE:0
    mov byte [gdt + GATE + 5], TASK_GATE
    expect_ring_fault 3, "privilege of a tss", GP, TASK1, call TASK1:0
    expect_ring_fault 3, "privilege of a gate", GP, GATE, call GATE:0
    mov word [tss], TASK1
    try .not_busy
    pushfd
    or dword [esp], NT
    popfd
.iret_not_busy:
    iretd
.not_busy:
    expect_exception "iret to a task that is not busy", TS_, TASK1, .iret_not_busy
    push dword 2
    popfd
    movzx eax, word [gdt + TSS_SEL + 5]
    and eax, 0xff
    expect_eq "still this task", eax, TSS_BUSY

    ; --- what faults in the new task ---
    call fresh
    mov word [TSS1 + T_CS], KDS
    mov dword [TSS1 + T_EIP], .sub
    call in_new_task
    expect_eq "data as cs", [exc_vector], TS_
    expect_eq "data as cs: error", [exc_error], KDS
    call fresh
    mov word [TSS1 + T_SS], 0
    call in_new_task
    expect_eq "null ss", [exc_vector], TS_
    expect_eq "null ss: error", [exc_error], 0
    call fresh
    mov word [TSS1 + T_DS], KCS + 7 * 0 + TSS_SEL - KCS
    call in_new_task
    expect_eq "a tss as ds", [exc_vector], TS_
    expect_eq "a tss as ds: error", [exc_error], TSS_SEL
    call fresh
    mov word [TSS1 + T_LDT], KDS
    call in_new_task
    expect_eq "data as ldt", [exc_vector], TS_
    expect_eq "data as ldt: error", [exc_error], KDS

    ; --- LDT, CR3 ---
    call fresh
    set_descriptor LDT1, SCRATCH + 0x8000, 15, LDT_TYPE, 0
    mov dword [SCRATCH + 0x8008], 0x3000ffff     ; base SCRATCH
    mov dword [SCRATCH + 0x800c], 0x00409230
    mov word [TSS1 + T_LDT], LDT1
    mov word [TSS1 + T_FS], 8 + 4
    mov dword [TSS1 + T_EIP], .reads_fs
    mov dword [SCRATCH + 0x3000 + 0x20], 0
    call TASK1:0
    clts
    sldt ax
    movzx eax, ax
    expect_eq "ldt after return", eax, 0
    jmp .trap
.reads_fs:
    mov ax, fs
    movzx eax, ax
    mov [seen_eax], eax
    iretd

.trap:
    expect_eq "a segment of its ldt", [seen_eax], 12
    ; --- the T bit ---
    call fresh
    mov word [TSS1 + T_TRAP], 1
    mov dword [TSS1 + T_EIP], .trapped
    xor eax, eax
    mov dr6, eax
    try .t1
    call TASK1:0
.t1:
    expect_exception "t bit", DB_, 0, .trapped
    mov eax, dr6
    and eax, 0xe00f
    expect_eq "t bit: dr6", eax, 0x8000
    str ax
    movzx eax, ax
    expect_eq "t bit: in the new task", eax, TASK1
    clts
    call leave_task
    ; of the task that a double fault leads to
    call fresh
    mov word [TSS1 + T_TRAP], 1
    mov dword [TSS1 + T_EIP], .doubled
    task_handles DF_, TASK1
    xor byte [idt + 8 * GP + 5], NOT_PRESENT
    xor eax, eax
    mov dr6, eax
    mov eax, TSS_SEL
    try .t2
    mov gs, eax                         ; #GP, then #NP
.doubled:
    mov esp, [resume_esp]
.t2:
    expect_exception "t bit after a double fault", DB_, 0, .doubled
    mov eax, dr6
    and eax, 0xe00f
    expect_eq "t bit after a double fault: dr6", eax, 0x8000
    str ax
    movzx eax, ax
    expect_eq "its task", eax, TASK1
    xor byte [idt + 8 * GP + 5], NOT_PRESENT
    old_handler DF_
    clts
    call leave_task
    ; --- local breakpoints ---
    call fresh
    mov eax, 0x455
    mov dr7, eax
    mov eax, -1
    mov dr0, eax
    mov dr1, eax
    mov dr2, eax
    mov dr3, eax
    mov dword [TSS1 + T_EIP], .debug
    call TASK1:0
    clts
    expect_eq "local breakpoints are off", [seen_eax], 0x400
    finish
.trapped:
    nop
.debug:
    mov eax, dr7
    mov [seen_eax], eax
    iretd

; A call of TASK1 that raises #TS in it. A task handles that, as the new one has no good stack yet;
; then this is the task again, with EAX as it was, and what came in exc_vector and exc_error.
in_new_task:
    task_handles TS_, TASK2
    mov dword [TSS2 + T_EIP], .handler
    mov dword [exc_vector], NO_EXCEPTION
    mov [resume_esp], esp
    call TASK1:0
    clts
    jmp .restore
.handler:
    mov dword [exc_vector], TS_
    pop dword [exc_error]
    mov esp, [resume_esp]
    movzx eax, word [TSS2 + T_LINK]
    expect_eq "the fault is the new task's", eax, TASK1
    clts
    call leave_task
.restore:
    old_handler TS_
    ret

; From TASK1 to the program's own task, without a switch.
leave_task:
    mov byte [gdt + TSS_SEL + 5], TSS_TYPE
    mov eax, TSS_SEL
    ltr ax
    push dword 2
    popfd
    xor eax, eax
    lldt ax
    ret

; All TSSs and descriptors anew.
fresh:
    pushad
    cld
    mov edi, TSS1
    xor eax, eax
    mov ecx, 0x3000 / 4
    rep stosd
    set_descriptor TASK1, TSS1, 103, TSS_TYPE, 0
    set_descriptor TASK2, TSS2, 103, TSS_TYPE, 0
    set_descriptor TASK16, TSS16, 43, 0x81, 0
    set_descriptor CODE16, IMAGE_BASE, 0xffff, CODE_RX, 0
    set_descriptor DATA16, SCRATCH, 0xffff, DATA_RW, 0
    mov dword [gdt + GATE], TASK1 << 16
    mov dword [gdt + GATE + 4], TASK_GATE << 8
    mov eax, cr3
    mov edi, TSS1
    mov edx, STACK1
.task:
    mov [edi + T_CR3], eax
    mov dword [edi + T_EFLAGS], 2
    mov dword [edi + T_EAX], 0xaaaa0001
    mov [edi + T_ESP], edx
    mov word [edi + T_CS], KCS
    mov word [edi + T_SS], KDS
    mov word [edi + T_DS], KDS
    mov word [edi + T_ES], KDS
    mov word [edi + T_FS], KDS
    mov word [edi + T_GS], 0
    mov dword [edi + T_TRAP], 104 << 16
    add edi, TSS2 - TSS1
    add edx, STACK2 - STACK1
    cmp edi, TSS2
    jbe .task
    mov eax, cr3
    mov [tss + T_CR3], eax
    popad
    ret

section .data
align 8
seen_eax:   dd 0
seen_esp:   dd 0
seen_flags: dd 0
seen_link:  dd 0
seen_busy:  dd 0
seen_ts:    dd 0
old_gate:   dd 0, 0
