; CMPXCHG8B: both outcomes, ZF alone, LOCK, faults that change nothing, pages crossed.
;
; expect: exit 33
%include "include/guest.inc"

main:
    mov dword [SCRATCH], 0x11111111
    mov dword [SCRATCH + 4], 0x22222222
    mov eax, 0x11111111
    mov edx, 0x22222222
    mov ebx, 0x33333333
    mov ecx, 0x44444444
    push dword ARITHMETIC & ~ZF | 2
    popfd
    cmpxchg8b [SCRATCH]
    expect_flags "equal", ARITHMETIC, ARITHMETIC
    expect_eq "equal: low", [SCRATCH], 0x33333333
    expect_eq "equal: high", [SCRATCH + 4], 0x44444444
    expect_eq "equal: eax stays", eax, 0x11111111
    push dword ARITHMETIC | 2
    popfd
    lock cmpxchg8b [SCRATCH]
    expect_flags "unequal", ARITHMETIC, ARITHMETIC & ~ZF
    expect_eq "unequal: eax", eax, 0x33333333
    expect_eq "unequal: edx", edx, 0x44444444
    expect_eq "unequal: memory stays", [SCRATCH], 0x33333333
    ; only one half differs
    inc edx
    cmpxchg8b [SCRATCH]
    expect_flags "high half differs", ZF, 0
    expect_eq "high half differs: edx", edx, 0x44444444
    ; addresses made from its registers
    mov ebx, SCRATCH
    cmpxchg8b [ebx]
    expect_eq "ebx as address and value", [SCRATCH], SCRATCH
    ; across a page, and with faults
    call paging_identity
    change_cr0 0, CR0_PG | CR0_WP
    mov dword [SCRATCH + 0xffc], 1
    mov dword [SCRATCH + 0x1000], 2
    mov eax, 1
    mov edx, 2
    mov ebx, 3
    mov ecx, 4
    lock cmpxchg8b [SCRATCH + 0xffc]
    expect_flags "across a page", ZF, ZF
    expect_eq "across a page: low", [SCRATCH + 0xffc], 3
    expect_eq "across a page: high", [SCRATCH + 0x1000], 4
    set_pte SCRATCH + 0x1000, (SCRATCH + 0x1000) | P
    invlpg [SCRATCH + 0x1000]
    expect_page_fault "second page read-only", PFE_P | PFE_W, SCRATCH + 0x1000, cmpxchg8b [SCRATCH + 0xffc]
    expect_eq "second page read-only: eax", eax, 1
    expect_eq "second page read-only: low", [SCRATCH + 0xffc], 3
    ; it writes even when unequal: a read-only page faults either way
    expect_page_fault "unequal still wants to write", PFE_P | PFE_W, SCRATCH + 0x1008, cmpxchg8b [SCRATCH + 0x1008]
    mov eax, 0
    mov edx, 0
    expect_page_fault "and equal", PFE_P | PFE_W, SCRATCH + 0x1010, cmpxchg8b [SCRATCH + 0x1010]
    change_cr0 CR0_PG | CR0_WP, 0
    finish
