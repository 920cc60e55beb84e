; Two-level paging with faults that a handler repairs: demand pages, CR2, error codes, and the
; instruction done again.
;
; expect: exit 33
; deviates: qemu "read-modify-write says write": the access asks for a write (SDM volume 3, 4.7,
;   W/R); processors check that before they read, QEMU reads first.
%include "include/guest.inc"

AREA equ 0x500000                       ; 64 pages that start absent
PAGES_IN_AREA equ 64

main:
    call paging_identity
    mov edi, PAGE_TABLES + (AREA >> 12) * 4
    mov ecx, PAGES_IN_AREA
    xor eax, eax
    rep stosd
    change_cr0 0, CR0_PG

    ; without repair
    expect_page_fault "read of an absent page", 0, AREA + 8, mov eax, [AREA + 8]
    expect_page_fault "write to an absent page", PFE_W, AREA + 0x1ffc, mov [AREA + 0x1ffc], eax
    expect_page_fault "read-modify-write says write", PFE_W, AREA, inc byte [AREA]
    expect_page_fault "absent directory entry", 0, 0xc0000000, mov al, [0xc0000000]
    try .fetched
    jmp AREA + 0x123
.fetched:
    expect_exception "fetch", PF_, 0, AREA + 0x123
    expect_eq "fetch: cr2", [exc_cr2], AREA + 0x123
    expect_ring_page_fault 3, "user read", PFE_U, AREA, mov eax, [AREA]
    expect_ring_page_fault 3, "user write", PFE_U | PFE_W, AREA, mov [AREA], eax

    ; with repair: every page is given on demand
    hook give_page
    mov dword [faults], 0
    mov edi, AREA
    mov ecx, PAGES_IN_AREA * 1024
    mov eax, 0x31415926
    rep stosd
    expect_eq "one fault a page", [faults], PAGES_IN_AREA
    expect_eq "ecx", ecx, 0
    expect_eq "edi", edi, AREA + PAGES_IN_AREA * 4096
    mov esi, AREA
    mov ecx, PAGES_IN_AREA * 1024
    xor ebx, ebx
.sum:
    lodsd
    add ebx, eax
    loop .sum
    expect_eq "sum", ebx, (0x31415926 * PAGES_IN_AREA * 1024) & 0xffffffff
    expect_eq "no more faults", [faults], PAGES_IN_AREA

    ; take one away again: INVLPG, then the next access faults
    mov dword [faults], 0
    set_pte AREA + 0x3000, 0
    invlpg [AREA + 0x3000]
    mov eax, [AREA + 0x3000]
    expect_eq "a read done again", eax, 0x31415926
    expect_eq "one fault", [faults], 1
    set_pte AREA + 0x3000, 0
    invlpg [AREA + 0x3000]
    mov ecx, 3
    add [AREA + 0x3004], ecx
    expect_eq "an add done again", [AREA + 0x3004], 0x31415929
    set_pte AREA + 0x3000, 0
    invlpg [AREA + 0x3000]
    stc
    adc dword [AREA + 0x3008], 0
    expect_eq "an adc done again with its carry", [AREA + 0x3008], 0x31415927
    expect_eq "three faults", [faults], 3
    ; a thousand faults at one instruction
    mov dword [faults], 0
    mov ecx, 1000
    xor eax, eax
.again:
    set_pte AREA + 0x5000, 0
    invlpg [AREA + 0x5000]
    add eax, [AREA + 0x5000]
    loop .again
    expect_eq "a thousand faults", [faults], 1000
    expect_eq "a thousand sums", eax, (0x31415926 * 1000) & 0xffffffff
    hook 0
    change_cr0 CR0_PG, 0
    finish

; Maps the page of CR2 at itself.
give_page:
    cmp dword [exc_vector], PF_
    jne stray_exception
    inc dword [faults]
    mov eax, [exc_cr2]
    shr eax, 12
    mov ecx, eax
    shl ecx, 12
    or ecx, P | W
    mov [PAGE_TABLES + eax * 4], ecx
    ret

section .data
faults: dd 0
