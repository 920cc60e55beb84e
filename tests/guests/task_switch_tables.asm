; Task switches by the manual's tables: what JMP, CALL, INT, exceptions and IRET do to busy bits, NT and links; each
; condition that is checked before the switch or behind it, with its exception, and in whose context that comes; what is
; saved and loaded; T, TF, VM, CR3 and DR7 across a switch.
;
; expect: exit 33
; deviates: qemu "a gate to the ldt": #GP with the selector (SDM volume 2, CALL); QEMU raises #TS.
; deviates: qemu "ldt: *", "cs: *", "ss: *": #TS, #NP or #SS in the new task (volume 3, table 7-1); QEMU is left with a
;   CPL that is not the new one's, and divides by zero later.
; deviates: qemu "ds: *", "es: *", "fs: *", "gs: *", "eip beyond the limit": the new task's EIP is there already (volume
;   3, 7.3); QEMU reports the old one's.
; deviates: qemu "ext in the error code": it is set where an exception caused the switch (volume 3, 6.13)
; deviates: qemu "t", "t: dr6", "dr7 loses its local bits": volume 3, 7.2.1 and 17.2.4
%include "include/guest.inc"
%include "include/tss.inc"

FIRST  equ SCRATCH                      ; TSSs
SECOND equ SCRATCH + 0x200
LOCAL  equ SCRATCH + 0x400              ; an LDT
STACKS equ SCRATCH + 0x8000             ; tops, 4 KiB each
FIRST_TOP  equ STACKS + 0x1000
SECOND_TOP equ STACKS + 0x2000
INNER_TOP  equ STACKS + 0x3000

FIRST_SEL  equ SEL0
SECOND_SEL equ SEL1
GATE_SEL   equ SEL2
LOCAL_SEL  equ SEL3
BAD_SEL    equ SEL4
VECTOR     equ 0x55

; make_task TSS, selector, label, stack top: ring 0, flat, a link that is no selector, and a busy bit that is clear
%macro make_task 4
    push dword %4
    push dword %3
    push dword %1
    call fill_task
    set_descriptor %2, %1, 103, TSS_TYPE, 0
%endmacro
; set_task_gate selector, TSS, access / set_task_vector
%macro set_task_gate 3
    mov dword [gdt + (%1)], (%2) << 16
    mov dword [gdt + (%1) + 4], (%3) << 8
%endmacro
%macro set_task_vector 3
    mov dword [idt + 8 * (%1)], (%2) << 16
    mov dword [idt + 8 * (%1) + 4], (%3) << 8
%endmacro
%macro set_own_vector 1
    set_idt_gate %1, KCS, exception_stubs + (%1) * STUB_SIZE, INT_GATE
%endmacro
; descriptor's type byte
%macro expect_type 3                    ; "name", selector, type
    movzx eax, byte [gdt + (%2) + 5]
    expect_eq %1, eax, %3
%endmacro
%macro expect_tr 2
    str eax
    movzx eax, ax
    expect_eq %1, eax, %2
%endmacro
%macro expect_ts 2
    mov eax, cr0
    and eax, CR0_TS
    expect_eq %1, eax, %2
    clts
%endmacro
%macro expect_nt 2
    pushfd
    pop eax
    and eax, NT
    expect_eq %1, eax, %2
%endmacro

; refused "name", vector, error code, instruction: in the old task, with nothing done
%macro refused 4+
    clts
    expect_fault %1, %2, %3, %4
    %strcat %%tr %1, ": tr"
    expect_tr %%tr, TSS_SEL
    %strcat %%ts %1, ": ts"
    expect_ts %%ts, 0
%endmacro
; spoiled "name", vector, error code, TSS field, dword: a task of ring 3 with one wrong field; the exception comes at its
; first instruction, in its context
%macro spoiled 5
    call outer_task
    mov dword [FIRST + %4], %5
    clts
    try %%done
    jmp FIRST_SEL:0
%%done:
    expect_exception %1, %2, %3, outer_code
    %strcat %%tr %1, ": tr"
    expect_tr %%tr, FIRST_SEL
    %strcat %%ts %1, ": ts"
    expect_ts %%ts, CR0_TS
    mov dword [tss + T_EIP], %%home
    jmp TSS_SEL:0
%%home:
%endmacro

main:
    ; --- JMP ---
    make_task FIRST, FIRST_SEL, jumped_to, FIRST_TOP
    mov dword [FIRST + T_EAX], 0xa1a2a3a4
    mov dword [FIRST + T_ECX], 0xc1c2c3c4
    mov dword [FIRST + T_EDX], 0xd1d2d3d4
    mov dword [FIRST + T_EBX], 0xb1b2b3b4
    mov dword [FIRST + T_EBP], 0xe1e2e3e4
    mov dword [FIRST + T_ESI], 0xf1f2f3f4
    mov dword [FIRST + T_EDI], 0x91929394
    mov dword [FIRST + T_EFLAGS], 2 | CF | DF | OF
    mov dword [FIRST + T_GS], 0
    clts
    mov eax, 1
    mov ecx, 2
    mov edx, 3
    mov ebx, 4
    mov ebp, 5
    mov esi, 6
    mov edi, 7
    push dword 2 | ZF | SF
    popfd
    jmp FIRST_SEL:0x12345678            ; the offset means nothing
.from_first:
    expect_flags "jmp: flags are back", ARITHMETIC | DF, ZF | SF
    expect_eq "jmp: eax is back", eax, 1
    expect_eq "jmp: ecx is back", ecx, 2
    expect_eq "jmp: edx is back", edx, 3
    expect_eq "jmp: ebx is back", ebx, 4
    expect_eq "jmp: ebp is back", ebp, 5
    expect_eq "jmp: esi is back", esi, 6
    expect_eq "jmp: edi is back", edi, 7
    expect_eq "jmp: saved eip", [tss + T_EIP], .from_first
    expect_eq "jmp: saved esp", [tss + T_ESP], esp
    expect_eq "jmp: saved edi", [tss + T_EDI], 7
    mov eax, [tss + T_EFLAGS]
    and eax, ARITHMETIC | DF | NT
    expect_eq "jmp: saved flags", eax, ZF | SF
    movzx eax, word [tss + T_CS]
    expect_eq "jmp: saved cs", eax, KCS
    expect_eq "jmp: the other's saved eip", [FIRST + T_EIP], jumped_to.end
    expect_type "jmp: the one left is free", FIRST_SEL, TSS_TYPE
    expect_type "jmp: the one entered is busy", TSS_SEL, TSS_BUSY
    expect_tr "jmp: tr is back", TSS_SEL

    ; --- CALL and IRET ---
    make_task FIRST, FIRST_SEL, called, FIRST_TOP
    mov word [tss + T_LINK], 0x7777
    call FIRST_SEL:0
.returned:
    expect_eq "call: saved eip", [tss + T_EIP], .returned
    expect_nt "call: nt of the caller", 0
    expect_type "call: the callee is free", FIRST_SEL, TSS_TYPE
    expect_type "call: the caller is busy", TSS_SEL, TSS_BUSY
    mov eax, [FIRST + T_EFLAGS]
    and eax, NT
    expect_eq "iret clears nt in what it saves", eax, 0
    movzx eax, word [tss + T_LINK]
    expect_eq "call: the caller's link stays", eax, 0x7777
    expect_eq "iret: saved eip", [FIRST + T_EIP], called.end
    ; the same task goes on behind its IRET
    call FIRST_SEL:0
    expect_eq "the callee goes on", [FIRST + T_EIP], called.second_end
    ; NT of the caller stays with it
    make_task FIRST, FIRST_SEL, just_return, FIRST_TOP
    push dword 2 | NT
    popfd
    call FIRST_SEL:0
    expect_nt "call: nt of the caller, set", NT
    push dword 2
    popfd
    ; a loaded EFLAGS brings its NT along: JMP
    make_task FIRST, FIRST_SEL, with_nt, FIRST_TOP
    mov dword [FIRST + T_EFLAGS], 2 | NT
    jmp FIRST_SEL:0

back_by_iret:                           ; from with_nt, whose link led here
    expect_tr "iret through a link that was written: tr", TSS_SEL

    ; --- nested ---
    make_task FIRST, FIRST_SEL, calls_second, FIRST_TOP
    make_task SECOND, SECOND_SEL, innermost, SECOND_TOP
    call FIRST_SEL:0
    expect_type "nested: first is free", FIRST_SEL, TSS_TYPE
    expect_type "nested: second is free", SECOND_SEL, TSS_TYPE

    ; --- gates ---
    make_task FIRST, FIRST_SEL, just_return, FIRST_TOP
    set_task_gate GATE_SEL, FIRST_SEL, TASK_GATE
    call GATE_SEL:0
    expect_eq "call of a gate", [FIRST + T_EIP], just_return.end
    set_task_vector VECTOR, FIRST_SEL, TASK_GATE | DPL3
    mov dword [FIRST + T_EIP], just_return
    int VECTOR
    expect_eq "int n", [FIRST + T_EIP], just_return.end
    ; from ring 3: the gate's DPL counts, not the TSS's
    set_task_gate GATE_SEL, FIRST_SEL, TASK_GATE | DPL3
    expect_ring_ok 3, "call of a gate in ring 3", {call GATE_SEL | 3:0}
    expect_ring_ok 3, "int n in ring 3", int VECTOR
    expect_ring_fault 3, "call of a tss in ring 3", GP, FIRST_SEL, call FIRST_SEL:0
    expect_ring_fault 3, "jmp to a tss in ring 3", GP, FIRST_SEL, jmp FIRST_SEL:0
    set_task_gate GATE_SEL, FIRST_SEL, TASK_GATE
    expect_ring_fault 3, "call of an inner gate", GP, GATE_SEL, call GATE_SEL:0
    set_task_gate GATE_SEL, FIRST_SEL, TASK_GATE | DPL2
    refused "an outer rpl", GP, GATE_SEL, call GATE_SEL | 3:0
    set_task_vector VECTOR, FIRST_SEL, TASK_GATE
    expect_ring_fault 3, "int n of an inner gate", GP, VECTOR * 8 + 2, int VECTOR
    set_task_gate GATE_SEL, FIRST_SEL, TASK_GATE ^ NOT_PRESENT
    refused "call of an absent gate", NP, GATE_SEL, call GATE_SEL:0
    set_task_vector VECTOR, FIRST_SEL, TASK_GATE ^ NOT_PRESENT
    refused "int n of an absent gate", NP, VECTOR * 8 + 2, int VECTOR
    set_task_gate GATE_SEL, KDS, TASK_GATE
    refused "a gate to no tss", GP, KDS, call GATE_SEL:0
    set_task_gate GATE_SEL, FIRST_SEL | 4, TASK_GATE
    refused "a gate to the ldt", GP, FIRST_SEL | 4, call GATE_SEL:0

    ; --- an exception with an error code; the task behind the gate mends what was wrong ---
    make_task FIRST, FIRST_SEL, mends, FIRST_TOP
    set_task_vector NP, FIRST_SEL, TASK_GATE
    set_descriptor BAD_SEL, 0, 0xfffff, DATA_RW ^ NOT_PRESENT, BIG | PAGES
    mov ecx, BAD_SEL
.faults:
    mov fs, cx
    mov ecx, fs
    expect_eq "the instruction is restarted", ecx, BAD_SEL
    expect_eq "eip of an exception", [seen_eip], .faults
    expect_eq "error code of an exception", [seen_error], BAD_SEL
    expect_eq "it is a dword", [seen_esp], FIRST_TOP - 4
    set_own_vector NP
    ; from ring 3 on its own stack
    make_task FIRST, FIRST_SEL, looks_back, FIRST_TOP
    set_task_vector UD, FIRST_SEL, TASK_GATE
    expect_ring_ok 3, "an exception in ring 3", ud2
    movzx eax, word [tss + T_CS]
    expect_eq "its cs", eax, UCS
    set_own_vector UD

    ; --- refused before the switch ---
    make_task FIRST, FIRST_SEL, just_return, FIRST_TOP
    refused "jmp to itself", GP, TSS_SEL, jmp TSS_SEL:0
    refused "call of itself", GP, TSS_SEL, call TSS_SEL:0
    set_descriptor FIRST_SEL, FIRST, 103, TSS_BUSY, 0
    refused "jmp to a busy one", GP, FIRST_SEL, jmp FIRST_SEL:0
    refused "call of a busy one", GP, FIRST_SEL, call FIRST_SEL:0
    set_task_vector VECTOR, FIRST_SEL, TASK_GATE
    refused "int n to a busy one", GP, FIRST_SEL, int VECTOR
    set_descriptor FIRST_SEL, FIRST, 103, TSS_TYPE ^ NOT_PRESENT, 0
    refused "jmp to an absent one", NP, FIRST_SEL, jmp FIRST_SEL:0
    refused "int n to an absent one", NP, FIRST_SEL, int VECTOR
    set_descriptor FIRST_SEL, FIRST, 102, TSS_TYPE, 0
    refused "jmp to a short one", TS_, FIRST_SEL, jmp FIRST_SEL:0
    refused "call of a short one", TS_, FIRST_SEL, call FIRST_SEL:0
    set_descriptor FIRST_SEL, FIRST, 42, TSS_TYPE & ~8, 0
    refused "jmp to a short 286 one", TS_, FIRST_SEL, jmp FIRST_SEL:0
    refused "beyond the gdt", GP, GDT_ENTRIES * 8, call GDT_ENTRIES * 8:0
    set_descriptor FIRST_SEL, FIRST, 103, TSS_TYPE, 0
    mov word [tss + T_LINK], 0
    push dword 2 | NT
    popfd
    refused "iret by a null link", TS_, 0, iretd
    mov word [tss + T_LINK], FIRST_SEL
    push dword 2 | NT
    popfd
    refused "iret to one that is not busy", TS_, FIRST_SEL, iretd
    mov word [tss + T_LINK], KDS
    push dword 2 | NT
    popfd
    refused "iret to no tss", TS_, KDS, iretd
    mov word [tss + T_LINK], GDT_ENTRIES * 8
    push dword 2 | NT
    popfd
    refused "iret beyond the gdt", TS_, GDT_ENTRIES * 8, iretd
    mov word [tss + T_LINK], FIRST_SEL | 4
    push dword 2 | NT
    popfd
    refused "iret to the ldt", TS_, FIRST_SEL | 4, iretd
    set_descriptor FIRST_SEL, FIRST, 103, TSS_BUSY ^ NOT_PRESENT, 0
    mov word [tss + T_LINK], FIRST_SEL
    push dword 2 | NT
    popfd
    refused "iret to an absent one", NP, FIRST_SEL, iretd
    push dword 2
    popfd

    ; --- found behind the switch ---
    set_descriptor BAD_SEL, 0, 0xfffff, DATA_RW | DPL3, BIG | PAGES
    spoiled "ldt: data", TS_, BAD_SEL, T_LDT, BAD_SEL
    spoiled "ldt: in the ldt", TS_, BAD_SEL | 4, T_LDT, BAD_SEL | 4
    set_descriptor BAD_SEL, LOCAL, 15, LDT_TYPE ^ NOT_PRESENT, 0
    spoiled "ldt: absent", TS_, BAD_SEL, T_LDT, BAD_SEL
    spoiled "cs: null", TS_, 0, T_CS, 3
    spoiled "cs: data", TS_, UDS & ~3, T_CS, UDS
    spoiled "cs: another dpl", TS_, KCS, T_CS, KCS | 3
    set_descriptor BAD_SEL, 0, 0xfffff, (CODE_RX | DPL3) ^ NOT_PRESENT, BIG | PAGES
    spoiled "cs: absent", NP, BAD_SEL, T_CS, BAD_SEL | 3
    spoiled "cs: beyond the gdt", TS_, GDT_ENTRIES * 8, T_CS, GDT_ENTRIES * 8 | 3
    spoiled "ss: null", TS_, 0, T_SS, 0
    spoiled "ss: code", TS_, UCS & ~3, T_SS, UCS
    spoiled "ss: another rpl", TS_, UDS & ~3, T_SS, UDS & ~3
    spoiled "ss: another dpl", TS_, KDS, T_SS, KDS | 3
    set_descriptor BAD_SEL, 0, 0xfffff, DATA_RO | DPL3, BIG | PAGES
    spoiled "ss: read-only", TS_, BAD_SEL, T_SS, BAD_SEL | 3
    set_descriptor BAD_SEL, 0, 0xfffff, (DATA_RW | DPL3) ^ NOT_PRESENT, BIG | PAGES
    spoiled "ss: absent", SS_, BAD_SEL, T_SS, BAD_SEL | 3
    spoiled "ds: absent", NP, BAD_SEL, T_DS, BAD_SEL | 3
    spoiled "gs: absent", NP, BAD_SEL, T_GS, BAD_SEL | 3
    spoiled "es: inner", TS_, KDS, T_ES, KDS
    spoiled "fs: a tss", TS_, TSS_SEL, T_FS, TSS_SEL
    set_descriptor BAD_SEL, 0, 0xfffff, CODE_XO | DPL3, BIG | PAGES
    spoiled "gs: execute-only", TS_, BAD_SEL, T_GS, BAD_SEL | 3
    spoiled "ds: beyond the gdt", TS_, GDT_ENTRIES * 8, T_DS, GDT_ENTRIES * 8 | 3
    ; an exception as the cause sets EXT
    call outer_task
    mov dword [FIRST + T_DS], KDS
    set_task_vector UD, FIRST_SEL, TASK_GATE
    try .ext
    ud2
.ext:
    expect_exception "ext in the error code", TS_, KDS | 1, outer_code
    set_own_vector UD
    expect_tr "ext: tr", FIRST_SEL
    movzx eax, word [FIRST + T_LINK]
    expect_eq "ext: the link is there", eax, TSS_SEL
    and byte [gdt + TSS_SEL + 5], ~2
    mov dword [tss + T_EIP], .home
    jmp TSS_SEL:0
.home:
    ; EIP beyond the limit
    call outer_task
    set_descriptor BAD_SEL, 0, 0xfff, CODE_RX | DPL3, BIG
    mov dword [FIRST + T_CS], BAD_SEL | 3
    try .limit
    jmp FIRST_SEL:0
.limit:
    expect_exception "eip beyond the limit", GP, 0, outer_code
    expect_tr "eip beyond the limit: tr", FIRST_SEL
    mov dword [tss + T_EIP], .home2
    jmp TSS_SEL:0
.home2:

    ; --- T, TF, VM, DR7, the LDT, CR3 ---
    call outer_task
    mov word [FIRST + T_TRAP], 1
    xor eax, eax
    mov dr6, eax
    try .trapped
    jmp FIRST_SEL:0
.trapped:
    expect_exception "t", DB_, 0, outer_code
    mov eax, dr6
    and eax, 0xe00f
    expect_eq "t: dr6", eax, 0x8000
    expect_tr "t: tr", FIRST_SEL
    mov dword [tss + T_EIP], .home3
    jmp TSS_SEL:0
.home3:
    call outer_task
    mov dword [FIRST + T_EFLAGS], 2 | TF
    xor eax, eax
    mov dr6, eax
    try .stepped
    jmp FIRST_SEL:0
.stepped:
    expect_exception "tf", DB_, 0, outer_code.second
    mov eax, dr6
    and eax, 0xe00f
    expect_eq "tf: dr6", eax, 0x4000
    mov dword [tss + T_EIP], .home4
    jmp TSS_SEL:0
.home4:
    make_task FIRST, FIRST_SEL, just_return, FIRST_TOP
    mov eax, 0x7ff                      ; all enabled, locally and globally
    mov ecx, FREE_FRAMES
    mov dr0, ecx
    mov dr1, ecx
    mov dr2, ecx
    mov dr3, ecx
    mov dr7, eax
    call FIRST_SEL:0
    mov eax, dr7
    expect_eq "dr7 loses its local bits", eax, 0x6aa
    mov eax, 0x400
    mov dr7, eax
    ; an LDT of its own
    make_task FIRST, FIRST_SEL, with_ldt, FIRST_TOP
    set_descriptor LOCAL_SEL, LOCAL, 15, LDT_TYPE, 0
    mov eax, [gdt + KDS]
    mov [LOCAL + 8], eax
    mov eax, [gdt + KDS + 4]
    mov [LOCAL + 12], eax
    mov dword [FIRST + T_LDT], LOCAL_SEL
    mov dword [FIRST + T_ES], 0xc
    call FIRST_SEL:0
    sldt eax
    movzx eax, ax
    expect_eq "the caller's ldt is back", eax, 0
    ; virtual-8086 code
    call outer_task
    mov dword [FIRST + T_EFLAGS], 2 | VM | IOPL
    mov dword [FIRST + T_CS], 0xffff
    mov dword [FIRST + T_EIP], 0x20
    mov dword [FIRST + T_SS], 0x3000
    mov dword [FIRST + T_ESP], 0x100
    mov dword [FIRST + T_DS], 0x1234
    mov dword [FIRST + T_ES], 0x5678
    mov dword [FIRST + T_FS], 0x9abc
    mov dword [FIRST + T_GS], 0xdef0
    mov dword [FIRST + T_EBX], 0x100
    mov byte [0x100010], 0xf4           ; hlt; 0xffff0 + 0x20
    try .virtual
    jmp FIRST_SEL:0
.virtual:
    expect_exception "virtual-8086: hlt", GP, 0, 0x20
    expect_eq "virtual-8086: cs", [exc_cs], 0xffff
    mov eax, [exc_eflags]
    and eax, VM
    expect_eq "virtual-8086: vm", eax, VM
    mov ecx, [exc_frame]
    expect_eq "virtual-8086: esp", [ecx + 16], 0x100
    movzx eax, word [ecx + 20]
    expect_eq "virtual-8086: ss", eax, 0x3000
    movzx eax, word [ecx + 24]
    expect_eq "virtual-8086: es", eax, 0x5678
    movzx eax, word [ecx + 28]
    expect_eq "virtual-8086: ds", eax, 0x1234
    movzx eax, word [ecx + 32]
    expect_eq "virtual-8086: fs", eax, 0x9abc
    movzx eax, word [ecx + 36]
    expect_eq "virtual-8086: gs", eax, 0xdef0
    mov dword [tss + T_EIP], .home5
    jmp TSS_SEL:0
.home5:
    ; page tables of its own
    call paging_identity
    mov esi, PAGE_DIRECTORY
    mov edi, PAGE_DIRECTORY + 0x8000
    mov ecx, 1024
    rep movsd
    mov dword [PAGE_DIRECTORY + 0x8008], PAGE_TABLES | P | W | U    ; 8 MiB is 0 there
    mov dword [FREE_FRAMES + 0x700000], 0x11111111
    mov dword [SCRATCH + 0x6000], 0x22222222
    make_task FIRST, FIRST_SEL, with_tables, FIRST_TOP
    mov dword [FIRST + T_CR3], PAGE_DIRECTORY + 0x8000
    mov dword [tss + T_CR3], PAGE_DIRECTORY
    change_cr0 0, CR0_PG
    mov ebp, 3
.tables:
    mov dword [FIRST + T_EIP], with_tables
    expect_eq "through the old tables", [FREE_FRAMES + 0x700000], 0x11111111
    call FIRST_SEL:0
    mov eax, cr3
    expect_eq "cr3 is back", eax, PAGE_DIRECTORY
    expect_eq "the field is not written", [FIRST + T_CR3], PAGE_DIRECTORY + 0x8000
    dec ebp
    jnz .tables
    change_cr0 CR0_PG, 0

    ; --- a 286's TSS ---
    mov edi, SECOND                     ; link, three stacks, ip, flags, registers, es cs ss ds, ldt
    xor eax, eax
    mov ecx, 11
    rep stosd
    set_descriptor BAD_SEL, ADDRESS(small_code), 0xffff, CODE_RX, 0
    set_descriptor SEL5, STACKS, 0xffff, DATA_RW, 0
    mov word [SECOND + 16], 2 | CF      ; flags
    mov word [SECOND + 18], 0xa5a5      ; ax
    mov word [SECOND + 20], 0xc5c5
    mov word [SECOND + 32], 0x9595      ; di
    mov word [SECOND + 26], 0x2000      ; sp
    mov word [SECOND + 34], KDS
    mov word [SECOND + 36], BAD_SEL
    mov word [SECOND + 38], SEL5
    mov word [SECOND + 40], KDS
    set_descriptor SECOND_SEL, SECOND, 43, TSS_TYPE & ~8, 0
    clts
    call SECOND_SEL:0
    expect_eq "286: ax and cx", [SCRATCH + 0x7000], 0xc5c5a5a5
    expect_eq "286: sp and di", [SCRATCH + 0x7004], 0x95952000
    movzx eax, word [SCRATCH + 0x7008]
    and eax, ARITHMETIC | NT
    expect_eq "286: flags", eax, CF | NT
    movzx eax, word [SECOND]
    expect_eq "286: link", eax, TSS_SEL
    movzx eax, word [SECOND + 14]
    expect_eq "286: saved ip", eax, small_code.end - small_code
    movzx eax, word [SECOND + 20]
    expect_eq "286: saved cx", eax, 0xc5c6
    movzx eax, word [SECOND + 16]
    and eax, NT
    expect_eq "286: nt is cleared in what is saved", eax, 0
    expect_type "286: free again", SECOND_SEL, TSS_TYPE & ~8
    expect_ts "286: ts", CR0_TS
    finish

; What tasks run.
jumped_to:
    expect_flags "jmp: flags are loaded", ARITHMETIC | DF, CF | DF | OF
    expect_eq "jmp: eax is loaded", eax, 0xa1a2a3a4
    expect_eq "jmp: ecx is loaded", ecx, 0xc1c2c3c4
    expect_eq "jmp: edx is loaded", edx, 0xd1d2d3d4
    expect_eq "jmp: ebx is loaded", ebx, 0xb1b2b3b4
    expect_eq "jmp: ebp is loaded", ebp, 0xe1e2e3e4
    expect_eq "jmp: esi is loaded", esi, 0xf1f2f3f4
    expect_eq "jmp: edi is loaded", edi, 0x91929394
    expect_eq "jmp: esp is loaded", esp, FIRST_TOP
    mov eax, gs
    expect_eq "jmp: gs is loaded", eax, 0
    expect_ts "jmp: ts", CR0_TS
    expect_nt "jmp: nt", 0
    expect_tr "jmp: tr", FIRST_SEL
    movzx eax, word [FIRST + T_LINK]
    expect_eq "jmp: no link is written", eax, 0x5555
    expect_type "jmp: the old one is free", TSS_SEL, TSS_TYPE
    expect_type "jmp: the new one is busy", FIRST_SEL, TSS_BUSY
    jmp TSS_SEL:0
.end:

called:
    expect_nt "call: nt", NT
    expect_ts "call: ts", CR0_TS
    movzx eax, word [FIRST + T_LINK]
    expect_eq "call: link", eax, TSS_SEL
    expect_type "call: both are busy, the old one", TSS_SEL, TSS_BUSY
    expect_type "call: both are busy, the new one", FIRST_SEL, TSS_BUSY
    mov eax, [tss + T_EFLAGS]
    and eax, NT
    expect_eq "call: nt in what was saved", eax, 0
    iretd
.end:
    expect_nt "the callee, again: nt", NT
    expect_eq "the callee, again: esp", esp, FIRST_TOP
    iretd
.second_end:

just_return:
    iretd
.end:
    jmp just_return

with_nt:
    expect_nt "jmp brings nt along", NT
    or byte [gdt + TSS_SEL + 5], 2
    mov word [FIRST + T_LINK], TSS_SEL
    mov dword [tss + T_EIP], back_by_iret
    iretd

calls_second:
    call SECOND_SEL:0
.behind:
    expect_nt "nested: nt of first", NT
    movzx eax, word [FIRST + T_LINK]
    expect_eq "nested: link of first", eax, TSS_SEL
    iretd

innermost:
    movzx eax, word [SECOND + T_LINK]
    expect_eq "nested: link of second", eax, FIRST_SEL
    expect_type "nested: main is busy", TSS_SEL, TSS_BUSY
    expect_type "nested: first is busy", FIRST_SEL, TSS_BUSY
    expect_eq "nested: first's saved eip", [FIRST + T_EIP], calls_second.behind
    iretd

mends:
    mov [seen_esp], esp
    pop dword [seen_error]
    mov eax, [tss + T_EIP]
    mov [seen_eip], eax
    or byte [gdt + BAD_SEL + 5], 0x80
    iretd

looks_back:
    expect_eq "esp without an error code", esp, FIRST_TOP
    expect_eq "saved esp of ring 3", [tss + T_ESP], USER_STACK
    add dword [tss + T_EIP], 2
    iretd

outer_code:
    nop
.second:
    int SYS

with_ldt:
    sldt eax
    movzx eax, ax
    expect_eq "ldt is loaded", eax, LOCAL_SEL
    mov eax, es
    expect_eq "es from it", eax, 0xc
    expect_eq "and it works", [es:FIRST + T_LDT], LOCAL_SEL
    iretd

with_tables:
    mov eax, cr3
    expect_eq "cr3 is loaded", eax, PAGE_DIRECTORY + 0x8000
    expect_eq "through the new tables", [0x800000 + SCRATCH + 0x6000], 0x22222222
    iretd

bits 16
small_code:
    mov [dword SCRATCH + 0x7000], ax
    mov [dword SCRATCH + 0x7002], cx
    mov [dword SCRATCH + 0x7004], sp
    mov [dword SCRATCH + 0x7006], di
    pushf
    pop word [dword SCRATCH + 0x7008]
    mov cx, 0xc5c6
    iret
.end:
bits 32

; stack: TSS, entry, stack top
fill_task:
    pushad
    mov edi, [esp + 36]
    mov ebx, edi
    mov ecx, 26
    xor eax, eax
    cld
    rep stosd
    mov eax, [esp + 40]
    mov [ebx + T_EIP], eax
    mov eax, [esp + 44]
    mov [ebx + T_ESP], eax
    mov dword [ebx + T_EFLAGS], 2
    mov dword [ebx + T_ESP0], INNER_TOP
    mov dword [ebx + T_SS0], KDS
    mov dword [ebx + T_CS], KCS
    mov dword [ebx + T_SS], KDS
    mov dword [ebx + T_DS], KDS
    mov dword [ebx + T_ES], KDS
    mov dword [ebx + T_FS], KDS
    mov dword [ebx + T_GS], KDS
    mov word [ebx + T_LINK], 0x5555
    mov word [ebx + T_PORTS], 104
    popad
    ret 12

; FIRST as a task of ring 3.
outer_task:
    make_task FIRST, FIRST_SEL, outer_code, USER_STACK
    mov dword [FIRST + T_CS], UCS
    mov dword [FIRST + T_SS], UDS
    mov dword [FIRST + T_DS], UDS
    mov dword [FIRST + T_ES], UDS
    mov dword [FIRST + T_FS], UDS
    mov dword [FIRST + T_GS], UDS
    ret

section .data
align 4
seen_esp: dd 0
seen_eip: dd 0
seen_error: dd 0
