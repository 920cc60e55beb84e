; 4 MiB pages: CR4.PSE, offsets, permissions, A and D, reserved bits, mixed with small pages, PS
; ignored without PSE.
;
; expect: exit 33
; qemu: options -cpu pentium3,-pse36
; deviates: qemu "reserved bits*": bits 21 to 13 (or more) of a 4 MiB entry are reserved (SDM volume 3,
;   4.3, table 4-4); QEMU checks them only with PSE-36.
%include "include/guest.inc"

BIG_ONE equ 0x40000000                  ; linear; its entry is 0x100
PDE equ PAGE_DIRECTORY + (BIG_ONE >> 22) * 4

main:
    call paging_identity
    mov dword [0x800000], 0x11111111
    mov dword [0xbffffc], 0x22222222
    mov dword [0xc00000], 0x33333333
    mov dword [PDE], 0x800000 | P | W | PS
    change_cr4 0, CR4_PSE
    change_cr0 0, CR0_PG
    mov eax, [BIG_ONE]
    expect_eq "first dword", eax, 0x11111111
    mov eax, [BIG_ONE + 0x3ffffc]
    expect_eq "last dword", eax, 0x22222222
    mov eax, [PDE]
    and eax, A | D
    expect_eq "A", eax, A
    mov dword [BIG_ONE + 0x123458], 0x44444444
    expect_eq "write through", [0x923458], 0x44444444
    mov eax, [PDE]
    and eax, A | D
    expect_eq "A and D", eax, A | D
    expect_page_fault "next entry is absent", 0, BIG_ONE + 0x400000, mov eax, [BIG_ONE + 0x400000]
    expect_page_fault "across its end", 0, BIG_ONE + 0x400000, mov eax, [BIG_ONE + 0x3ffffd]
    expect_ring_page_fault 3, "supervisor only", PFE_P | PFE_U, BIG_ONE, mov eax, [BIG_ONE]

    ; read-only, user
    mov dword [PDE], 0x800000 | P | U | PS
    invlpg [BIG_ONE]
    change_cr0 0, CR0_WP
    expect_page_fault "read-only", PFE_P | PFE_W, BIG_ONE + 0x300000, mov [BIG_ONE + 0x300000], eax
    expect_ring_ok 3, "user read", mov eax, [BIG_ONE + 0x3ffffc]
    expect_eq "user read: value", eax, 0x22222222
    expect_ring_page_fault 3, "user write", PFE_P | PFE_W | PFE_U, BIG_ONE, mov [BIG_ONE], eax
    change_cr0 CR0_WP, 0

    ; one INVLPG does for the whole page, at any address in it
    mov eax, [BIG_ONE]
    mov eax, [BIG_ONE + 0x200000]
    mov dword [PDE], 0xc00000 | P | W | PS
    invlpg [BIG_ONE + 0x300000]
    mov eax, [BIG_ONE]
    expect_eq "after one invlpg", eax, 0x33333333
    ; code in it
    mov dword [0xc00100], 0x90c3c033    ; xor eax, eax; ret
    mov eax, 5
    call BIG_ONE + 0x100
    expect_eq "code in a big page", eax, 0

    ; from big to small: the same linear page by a table
    mov dword [PDE], PAGE_TABLES + 0x2000 + (P | W)     ; 8 to 12 MiB
    invlpg [BIG_ONE]
    mov eax, [BIG_ONE]
    expect_eq "small now", eax, 0x11111111
    mov dword [PAGE_TABLES + 0x2000], 0x801000 | P | W
    invlpg [BIG_ONE]
    mov dword [0x801000], 0x55555555
    mov eax, [BIG_ONE]
    expect_eq "small and elsewhere", eax, 0x55555555
    mov dword [PDE], 0x800000 | P | W | PS
    invlpg [BIG_ONE]
    mov eax, [BIG_ONE + 0x1000]
    expect_eq "big again", eax, 0x55555555

    ; reserved bits: P and RSVD
    mov dword [PDE], 0x800000 | 1 << 21 | P | W | PS
    invlpg [BIG_ONE]
    expect_page_fault "reserved bits: 21, read", PFE_P | PFE_R, BIG_ONE, mov eax, [BIG_ONE]
    expect_ring_page_fault 3, "reserved bits: 21, user write", PFE_P | PFE_R | PFE_W | PFE_U, BIG_ONE, mov [BIG_ONE], eax
    mov dword [PDE], 0x800000 | 1 << 21 | W | PS
    invlpg [BIG_ONE]
    expect_page_fault "absent has no reserved bits", 0, BIG_ONE, mov eax, [BIG_ONE]
    ; bit 12 is PAT, no reserved bit, where the model has it
    mov dword [PDE], 0x800000 | 1 << 12 | P | W | PS
    invlpg [BIG_ONE]
    expect_no_fault "bit 12", mov eax, [BIG_ONE]

    ; without CR4.PSE the bit is ignored: the entry points to a table
    mov dword [0xc00000], 0x801000 | P | W
    mov dword [PDE], 0xc00000 | P | W | PS
    change_cr4 CR4_PSE, 0
    mov eax, [BIG_ONE]
    expect_eq "PS without PSE", eax, 0x55555555
    change_cr4 0, CR4_PSE               ; a change of PSE empties the TLB
    mov eax, [BIG_ONE]
    expect_eq "with PSE again", eax, 0x801023
    change_cr0 CR0_PG, 0
    change_cr4 CR4_PSE, 0
    finish
