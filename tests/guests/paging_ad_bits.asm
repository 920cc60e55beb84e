; Accessed and dirty bits: set by the access that needs them in directory and table, not before, not
; by faulting ones; by fetches, by the CPU's own accesses, under a TLB that knows the page already.
;
; expect: exit 33
%include "include/guest.inc"

AREA equ 0x800000
OTHER equ 0xc00000                      ; under another directory entry
%define PDE(x) (PAGE_DIRECTORY + ((x) >> 22) * 4)
%define PTE(x) (PAGE_TABLES + ((x) >> 12) * 4)

; bits "name", address, expected of the PDE, expected of the PTE: A and D
%macro bits_are 4
    mov eax, [PDE(%2)]
    and eax, A | D
    %strcat %%pde %1, ": directory"
    expect_eq %%pde, eax, %3
    mov eax, [PTE(%2)]
    and eax, A | D
    %strcat %%pte %1, ": table"
    expect_eq %%pte, eax, %4
%endmacro
; fresh address: A and D cleared in both, TLB emptied
%macro fresh 1
    and dword [PDE(%1)], ~(A | D)
    and dword [PTE(%1)], ~(A | D)
    mov eax, cr3
    mov cr3, eax
%endmacro

main:
    call paging_identity
    change_cr0 0, CR0_PG
    bits_are "untouched", AREA, 0, 0
    mov eax, [AREA]
    bits_are "read", AREA, A, A
    mov [AREA], eax
    bits_are "write after a read", AREA, A, A | D
    fresh AREA
    mov [AREA], eax
    bits_are "write", AREA, A, A | D
    fresh AREA
    mov byte [AREA], 0xc3
    fresh AREA
    call AREA
    bits_are "fetch", AREA, A, A
    fresh AREA
    add dword [AREA], 0
    bits_are "read-modify-write", AREA, A, A | D
    fresh AREA
    cmp dword [AREA], 0
    bits_are "cmp reads", AREA, A, A
    fresh AREA
    push dword [AREA]
    pop eax
    bits_are "push reads", AREA, A, A
    fresh AREA
    push eax
    pop dword [AREA]
    bits_are "pop writes", AREA, A, A | D

    ; D cleared alone, INVLPG: the next write sets it again
    and dword [PTE(AREA)], ~D
    invlpg [AREA]
    mov eax, [AREA]
    bits_are "read keeps D clear", AREA, A, A
    mov [AREA], eax
    bits_are "write sets D again", AREA, A, A | D
    ; A cleared alone
    and dword [PTE(AREA)], ~A
    invlpg [AREA]
    mov eax, [AREA]
    bits_are "A again, D stays", AREA, A, A | D
    ; a loop of writes with D cleared by another alias each time
    mov ecx, 20
.loop:
    and dword [PTE(AREA)], ~D
    invlpg [AREA]
    mov [AREA + ecx * 4], ecx
    bits_are "in a loop", AREA, A, A | D
    dec ecx
    jnz .loop

    ; accesses that fault: no D; a page that is not present gets neither
    mov dword [PTE(AREA)], AREA | P
    change_cr0 0, CR0_WP
    fresh AREA
    expect_page_fault "write to a read-only page", PFE_P | PFE_W, AREA, mov [AREA], eax
    mov eax, [PTE(AREA)]
    and eax, D
    expect_eq "it sets no D", eax, 0
    change_cr0 CR0_WP, 0
    fresh AREA
    mov [AREA], eax
    bits_are "supervisor write to a read-only page without WP", AREA, A, A | D
    mov dword [PTE(AREA)], AREA | W
    fresh AREA
    expect_page_fault "absent", PFE_W, AREA, mov [AREA], eax
    mov eax, [PTE(AREA)]
    and eax, A | D
    expect_eq "an absent page keeps its bits", eax, 0
    mov dword [PTE(AREA)], AREA | P | W | U

    ; pages crossed: both
    fresh AREA
    fresh AREA + 0x1000
    mov [AREA + 0xffe], eax
    bits_are "crossing write, first", AREA, A, A | D
    bits_are "crossing write, second", AREA + 0x1000, A, A | D
    fresh AREA
    fresh AREA + 0x1000
    mov eax, [AREA + 0xfff]
    bits_are "crossing read, second", AREA + 0x1000, A, A

    ; a directory's A is set by its first use only; another directory entry is untouched
    fresh AREA
    fresh OTHER
    mov eax, [AREA]
    bits_are "another directory entry", OTHER, 0, 0
    ; strings
    fresh AREA
    fresh OTHER
    mov esi, AREA
    mov edi, OTHER
    mov ecx, 10
    rep movsd
    bits_are "movs: source", AREA, A, A
    bits_are "movs: destination", OTHER, A, A | D
    fresh OTHER
    mov edi, OTHER
    mov ecx, 0
    rep stosd
    bits_are "rep stos of zero", OTHER, 0, 0

    ; the CPU's own accesses: a GDT there
    mov esi, gdt
    mov edi, AREA
    mov ecx, GDT_ENTRIES * 2
    rep movsd
    sgdt [SCRATCH]
    mov dword [SCRATCH + 2], AREA
    lgdt [SCRATCH]
    fresh AREA
    mov eax, KDS
    mov es, eax                         ; accessed already: only read
    lgdt [gdt_pointer]
    bits_are "descriptor load", AREA, A, A
    lgdt [SCRATCH]
    and byte [AREA + UDS / 8 * 8 + 5], ~ACCESSED
    fresh AREA
    mov eax, UDS
    mov es, eax                         ; sets the accessed bit: a write
    lgdt [gdt_pointer]
    bits_are "descriptor load that marks it", AREA, A, A | D
    load_segment es, KDS
    ; an interrupt's frame on a fresh stack page
    mov dword [tss_esp0], OTHER + 0x1000
    fresh OTHER
    expect_ring_ok 3, "frame", nop
    bits_are "frame", OTHER, A, A | D
    mov dword [tss_esp0], RING0_STACK
    ; a page table that maps itself: A and D of its own entry
    mov dword [PTE(AREA)], (PAGE_TABLES + (AREA >> 22) * 0x1000) | P | W
    fresh AREA
    mov dword [AREA + 0x3f0 * 4], 0
    bits_are "a page table through itself", AREA, A, A | D
    change_cr0 CR0_PG, 0
    finish
