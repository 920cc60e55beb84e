; LLDT and segments from the LDT: loads, limit, presence, privilege, errors, SLDT, gates in the LDT.
;
; expect: exit 33
%include "include/guest.inc"

LDT equ SCRATCH + 0x8000
; set_ldt index, base, limit, access, flags
%macro set_ldt 5
    mov dword [LDT + (%1) * 8], (((%2) & 0xffff) << 16) | ((%3) & 0xffff)
    mov dword [LDT + (%1) * 8 + 4], ((%2) & 0xff000000) | ((%5) << 20) | ((%3) & 0xf0000) | ((%4) << 8) | (((%2) >> 16) & 0xff)
%endmacro

main:
    set_descriptor SEL0, LDT, 8 * 8 - 1, LDT_TYPE, 0
    set_ldt 0, SCRATCH, 0xfffff, DATA_RW, BIG | PAGES
    set_ldt 1, SCRATCH + 0x1000, 0xfffff, DATA_RW | DPL3, BIG | PAGES
    set_ldt 2, 0, 0xfffff, CODE_RX, BIG | PAGES
    set_ldt 3, 0, 0xfffff, CODE_RX | DPL3, BIG | PAGES
    set_ldt 4, 0, 0xfffff, DATA_RW | DPL3, BIG | PAGES
    set_ldt 5, 0, 0xfffff, DATA_RW ^ NOT_PRESENT, BIG | PAGES
    set_ldt 6, SCRATCH, 0xff, LDT_TYPE, 0
    mov dword [SCRATCH], 0x11111111
    mov dword [SCRATCH + 0x1000], 0x22222222

    ; without an LDT nothing can be loaded from it
    mov eax, 0x0f
    expect_fault "no LDT", GP, 0x0c, mov fs, eax
    sldt eax
    expect_eq "sldt of none", eax, 0
    mov eax, SEL0
    expect_no_fault "lldt", lldt ax
    mov eax, -1
    sldt ax
    expect_eq "sldt to 16 bits", eax, 0xffff0000 | SEL0
    sldt [SCRATCH + 0x100]
    expect_eq "sldt to memory", [SCRATCH + 0x100], SEL0

    ; index 0 of the LDT is no null selector
    load_segment fs, 4
    mov eax, [fs:0]
    expect_eq "index 0", eax, 0x11111111
    load_segment gs, 0x0f
    mov eax, [gs:0]
    expect_eq "index 1", eax, 0x22222222
    test byte [LDT + 5], ACCESSED
    expect_flags "accessed bit in the LDT", ZF, 0
    mov eax, 5 * 8 + 4
    expect_fault "absent", NP, 5 * 8 + 4, mov fs, eax
    mov eax, 6 * 8 + 4
    expect_fault "an LDT in the LDT", GP, 6 * 8 + 4, mov fs, eax
    mov eax, 8 * 8 + 4
    expect_fault "beyond the limit", GP, 8 * 8 + 4, mov fs, eax
    mov eax, 7 * 8 + 7
    expect_fault "an empty entry", GP, 7 * 8 + 4, mov fs, eax
    mov eax, 7
    expect_fault "RPL above DPL", GP, 4, mov fs, eax

    ; code and a ring 3 stack from the LDT
    jmp 2 * 8 + 4:.in_ldt
.in_ldt:
    mov eax, cs
    expect_eq "cs from the LDT", eax, 2 * 8 + 4
    jmp KCS:.back
.back:
    try .done
    push dword 4 * 8 + 7
    push dword USER_STACK
    push dword 2
    push dword 3 * 8 + 7
    push dword .user
    iretd
.user:
    push dword 0x44
    pop eax
    mov ebx, cs
    mov ecx, ss
    int SYS
.done:
    expect_exception "ring 3 from the LDT", SYS, 0, .done
    expect_eq "its cs", ebx, 3 * 8 + 7
    expect_eq "its ss", ecx, 4 * 8 + 7

    ; a call gate in the LDT
    mov dword [LDT + 7 * 8], KCS << 16 | (ADDRESS(.service) & 0xffff)
    mov dword [LDT + 7 * 8 + 4], (ADDRESS(.service) & 0xffff0000) | (CALL_GATE | DPL3) << 8
    try .called
    enter_ring 3, .caller
.caller:
    call (7 * 8 + 7):0
    int SYS
.service:
    mov eax, cs
    retf
.called:
    expect_eq "gate in the LDT", eax, KCS
    expect_eq "and back", [exc_cs], UCS

    ; LLDT's errors
    mov eax, KDS
    expect_fault "lldt of data", GP, KDS, lldt ax
    mov eax, 4
    expect_fault "lldt from the LDT", GP, 4, lldt ax
    mov eax, GDT_ENTRIES * 8
    expect_fault "lldt beyond the GDT", GP, GDT_ENTRIES * 8, lldt ax
    set_descriptor SEL1, LDT, 8 * 8 - 1, LDT_TYPE ^ NOT_PRESENT, 0
    mov eax, SEL1
    expect_fault "lldt of an absent one", NP, SEL1, lldt ax
    mov [SCRATCH + 0x200], eax
    expect_fault "lldt from memory", NP, SEL1, lldt [SCRATCH + 0x200]
    sldt eax
    expect_eq "errors keep the LDT", eax, SEL0

    ; another LDT: loaded segments stay as they were (the way through ring 3 has emptied FS)
    load_segment fs, 4
    set_descriptor SEL2, LDT + 8, 8 * 8 - 1, LDT_TYPE, 0
    mov eax, SEL2
    lldt ax
    mov eax, [fs:0]
    expect_eq "cached from the old LDT", eax, 0x11111111
    load_segment fs, 4
    mov eax, [fs:0]
    expect_eq "reloaded from the new LDT", eax, 0x22222222
    xor eax, eax
    lldt ax
    mov eax, [fs:0]
    expect_eq "cached without an LDT", eax, 0x22222222
    mov eax, 4
    expect_fault "null LDT again", GP, 4, mov fs, eax
    finish
