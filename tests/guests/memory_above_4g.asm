; RAM above 4 GiB through PAE tables: data, code, A and D, aliases, and tables that lie there
; themselves; then through PSE-36's large pages.
;
; expect: exit 33
; options: --memory 3200M
; qemu: options -m 5G
; deviates: qemu "tables above 4 GiB": tables lie anywhere below the physical limit (SDM volume 3,
;   4.4.2); qemu-system-i386 computes their addresses in 32 bits.
; bochs: skip it is given 64 MiB
%include "include/guest.inc"

AREA    equ 0x800000                    ; linear pages that are mapped as the program likes
AREA2   equ 0x801000
TABLE_W equ 0x802000                    ; windows to the tables above
DIR_W   equ 0x803000
LARGE_W equ 0x804000
CODE    equ 0x805000
CODE_W  equ 0x806000
DISTANT equ 0x40000000                  ; mapped by a table above 4 GiB
HIGH    equ 1                           ; the high dword of all addresses here
%define PDE(x) (PAE_DIRECTORIES + ((x) >> 21) * 8)
%define PTE(x) (PAE_TABLES + ((x) >> 12) * 8)

main:
    mov dword [0x1000], 0x10101010      ; what an address that lost its bit 32 would hit
    mov dword [0x20000], 0x20202020
    call paging_identity_pae
    set_pae_pte AREA, 0x00001000 | P | W, HIGH
    set_pae_pte AREA2, 0x07fff000 | P | W, HIGH
    change_cr0 0, CR0_PG | CR0_WP

    ; data, and A and D
    mov eax, [AREA]
    mov eax, [PTE(AREA)]
    and eax, A | D
    expect_eq "A after a read", eax, A
    mov dword [AREA], 0x600df00d
    mov dword [AREA2 + 0xffc], 0x0badcafe
    mov eax, [PTE(AREA)]
    and eax, A | D
    expect_eq "A and D after a write", eax, A | D
    expect_eq "the high half is as it was", [PTE(AREA) + 4], HIGH
    expect_eq "what was written", [AREA], 0x600df00d
    expect_eq "the last frame", [AREA2 + 0xffc], 0x0badcafe
    expect_eq "not 4 GiB lower", [0x1000], 0x10101010
    mov dword [AREA + 0xffe], 0x44332211  ; across the end of one frame into another
    movzx eax, word [AREA2]
    expect_eq "across a page end", eax, 0x4433

    ; another linear page for the same frame
    set_pae_pte AREA2, 0x00001000 | P | W, HIGH
    invlpg [AREA2]
    expect_eq "an alias", [AREA2], 0x600df00d
    inc dword [AREA2]
    expect_eq "written through the alias", [AREA], 0x600df00e

    ; the frame changes while the low half of the entry stays
    mov dword [PTE(AREA2) + 4], 0
    invlpg [AREA2]
    expect_eq "the entry without its high half", [AREA2], 0x10101010
    mov dword [PTE(AREA2) + 4], HIGH
    invlpg [AREA2]
    expect_eq "and with it", [AREA2], 0x600df00e

    ; code
    set_pae_pte CODE, 0x00002000 | P, HIGH
    set_pae_pte CODE_W, 0x00002000 | P | W, HIGH
    mov dword [CODE_W], 0x000011b8      ; mov eax, 0x11
    mov dword [CODE_W + 4], 0x0000c300  ; ret
    mov eax, CODE
    call eax
    expect_eq "code", eax, 0x11
    mov byte [CODE_W + 1], 0x22
    mov eax, CODE
    call eax
    expect_eq "changed code", eax, 0x22

    set_pae_pte LARGE_W, 0x00212000 | P | W, HIGH
    skip_on_qemu "tables above 4 GiB", .large
    ; a page table
    set_pae_pte TABLE_W, 0x00010000 | P | W, HIGH
    mov edi, TABLE_W
    mov ecx, 1024
    xor eax, eax
    cld
    rep stosd
    mov dword [TABLE_W], 0x00001000 | P | W
    mov dword [TABLE_W + 4], HIGH
    mov dword [TABLE_W + 8], 0x00020000 | P | W
    mov dword [TABLE_W + 12], 0
    mov dword [PDE(DISTANT)], 0x00010000 | P | W
    mov dword [PDE(DISTANT) + 4], HIGH
    expect_eq "through a table above", [DISTANT], 0x600df00e
    expect_eq "and below again", [DISTANT + 0x1000], 0x20202020
    mov eax, [TABLE_W]
    and eax, A | D
    expect_eq "A in a table above", eax, A
    mov dword [DISTANT], 5
    mov eax, [TABLE_W]
    and eax, A | D
    expect_eq "A and D in a table above", eax, A | D
    mov dword [TABLE_W], 0x00020000 | P | W
    mov dword [TABLE_W + 4], 0
    invlpg [DISTANT]
    expect_eq "a table above that changed", [DISTANT], 0x20202020
    mov dword [TABLE_W], 0
    invlpg [DISTANT]
    expect_page_fault "absent in a table above", PFE_W, DISTANT, mov [DISTANT], eax

    ; a directory, and a large page
    set_pae_pte DIR_W, 0x00011000 | P | W, HIGH
    mov edi, DIR_W
    mov ecx, 1024
    xor eax, eax
    rep stosd
    mov dword [LARGE_W + 0x10], 0x1a46e000
    mov dword [DIR_W], 0x00200000 | P | W | PS
    mov dword [DIR_W + 4], HIGH
    mov dword [PAE_POINTERS + 3 * 8], 0x00011000 | P
    mov dword [PAE_POINTERS + 3 * 8 + 4], HIGH
    mov eax, cr3
    mov cr3, eax
    expect_eq "2 MiB", [0xc0012010], 0x1a46e000
    inc dword [0xc0012010]
    expect_eq "written through 2 MiB", [LARGE_W + 0x10], 0x1a46e001
    mov eax, [DIR_W]
    and eax, A | D
    expect_eq "A and D in a directory above", eax, A | D

.large:
    ; PSE-36: bits 13 to 16 of a 4 MiB page's entry are bits 32 to 35 of its address
    mov dword [LARGE_W + 0x10], 0x1a46e002
    change_cr0 CR0_PG | CR0_WP, 0
    change_cr4 CR4_PAE, CR4_PSE
    call paging_identity
    mov dword [PAGE_DIRECTORY + (DISTANT >> 22) * 4], HIGH << 13 | P | W | PS
    change_cr0 0, CR0_PG
    expect_eq "4 MiB", [DISTANT + 0x212010], 0x1a46e002
    mov dword [DISTANT + 0x1000], 0x36363636
    expect_eq "nothing 4 GiB lower", [0x1000], 0x10101010
    change_cr0 CR0_PG, 0
    finish
