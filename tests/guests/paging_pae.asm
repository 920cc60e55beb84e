; PAE: three levels, PDPTEs as registers loaded by MOV CR3, 2 MiB pages, permissions, A and D,
; reserved bits in all levels.
;
; expect: exit 33
; deviates: qemu "2 MiB page: reserved*", "directory: reserved*", "table: *": a reserved bit is found in
;   present entries only, so P is set with RSVD (SDM volume 3, 4.7); QEMU leaves it clear.
; deviates: qemu "pdpte in memory", "pdpte not reloaded": the PDPTEs are registers that MOV to CR3
;   loads (SDM volume 3, 4.4.1); QEMU reads memory.
; deviates: qemu "reserved bit in a pdpte*": #GP(0) (SDM volume 3, 4.4.1); QEMU loads
;   nothing, and so finds nothing.
%include "include/guest.inc"

AREA equ 0x800000
%define PDE(x) (PAE_DIRECTORIES + ((x) >> 21) * 8)

main:
    call paging_identity_pae
    change_cr0 0, CR0_PG | CR0_WP
    mov dword [AREA], 0x600df00d
    expect_eq "identity", [AREA], 0x600df00d
    mov eax, [PAE_TABLES + (AREA >> 12) * 8]
    and eax, A | D
    expect_eq "A and D", eax, A | D
    mov eax, [PDE(AREA)]
    and eax, A | D
    expect_eq "directory's A", eax, A

    ; remapping
    mov dword [0x900000], 0x12345678
    set_pae_pte AREA, 0x900000 | P | W, 0
    invlpg [AREA]
    mov eax, [AREA]
    expect_eq "remapped", eax, 0x12345678
    set_pae_pte AREA, 0, 0
    invlpg [AREA]
    expect_page_fault "absent", 0, AREA, mov eax, [AREA]
    set_pae_pte AREA, AREA | P | U, 0
    invlpg [AREA]
    expect_page_fault "read-only", PFE_P | PFE_W, AREA, mov [AREA], eax
    expect_ring_page_fault 3, "user write", PFE_P | PFE_W | PFE_U, AREA, mov [AREA], eax
    set_pae_pte AREA, AREA | P | W, 0
    invlpg [AREA]
    expect_ring_page_fault 3, "supervisor page", PFE_P | PFE_U, AREA, mov eax, [AREA]

    ; 2 MiB pages, without CR4.PSE
    mov dword [PDE(0x40000000)], 0x800000 | P | W | PS
    mov dword [0x9ffffc], 0x2222
    mov eax, [0x401ffffc]
    expect_eq "2 MiB page: last dword", eax, 0x2222
    expect_page_fault "the next 2 MiB", 0, 0x40200000, mov eax, [0x40200000]
    mov eax, [PDE(0x40000000)]
    and eax, A | D
    expect_eq "2 MiB page: A", eax, A
    mov dword [0x40000010], 5
    mov eax, [PDE(0x40000000)]
    and eax, A | D
    expect_eq "2 MiB page: D", eax, A | D
    mov dword [PDE(0x40000000)], 0x800000 | 1 << 20 | P | W | PS
    invlpg [0x40000000]
    expect_page_fault "2 MiB page: reserved bit 20", PFE_P | PFE_R, 0x40000000, mov eax, [0x40000000]
    mov dword [PDE(0x40000000)], 0x800000 | 1 << 13 | P | W | PS
    invlpg [0x40000000]
    expect_page_fault "2 MiB page: reserved bit 13", PFE_P | PFE_R | PFE_W, 0x40000000, mov [0x40000000], eax

    ; reserved high bits: physical addresses have 36 to 52 bits, bits 52 to 62 are always reserved
    mov dword [PDE(0x40000000)], PAE_TABLES + 0x4000 + (P | W)
    mov dword [PDE(0x40000000) + 4], 0x00100000
    invlpg [0x40000000]
    expect_page_fault "directory: reserved bit 52", PFE_P | PFE_R, 0x40000000, mov eax, [0x40000000]
    mov dword [PDE(0x40000000) + 4], 0
    invlpg [0x40000000]
    expect_no_fault "and without", mov eax, [0x40000000]
    set_pae_pte AREA, AREA | P | W, 0x40000000
    invlpg [AREA]
    expect_page_fault "table: reserved bit 62", PFE_P | PFE_R, AREA, mov eax, [AREA]
    ; without EFER.NXE bit 63 is reserved as well
    set_pae_pte AREA, AREA | P | W, 0x80000000
    invlpg [AREA]
    expect_page_fault "table: bit 63 without NXE", PFE_P | PFE_R, AREA, mov eax, [AREA]
    set_pae_pte AREA, AREA | P | W, 0
    invlpg [AREA]

    ; PDPTEs are registers: a change in memory counts at the next MOV CR3 only
    mov dword [PDE(0xc0000000)], 0x800000 | P | W | PS
    mov eax, [0xc0000000]
    mov dword [PAE_POINTERS + 3 * 8], 0
    invlpg [0xc0000000]
    expect_no_fault "pdpte in memory", mov eax, [0xc0000000]
    mov eax, cr3
    mov cr3, eax
    expect_page_fault "pdpte reloaded", 0, 0xc0000000, mov eax, [0xc0000000]
    ; one that points elsewhere
    mov dword [PAE_POINTERS + 3 * 8], PAE_DIRECTORIES + P
    expect_page_fault "pdpte not reloaded", 0, 0xc0000000, mov eax, [0xc0000000]
    mov eax, cr3
    mov cr3, eax
    mov dword [0x12340], 0x77777777
    mov eax, [0xc0012340]
    expect_eq "pdpte elsewhere", eax, 0x77777777
    ; reserved bits in a PDPTE: #GP(0) at MOV CR3, nothing changes
    mov dword [PAE_POINTERS + 3 * 8], PAE_DIRECTORIES + (P | W)
    mov eax, cr3
    expect_fault "reserved bit in a pdpte", GP, 0, mov cr3, eax
    mov eax, [0xc0012340]
    expect_eq "the old ones stay", eax, 0x77777777
    mov dword [PAE_POINTERS + 3 * 8], W ; absent: its bits do not count
    mov eax, cr3
    expect_no_fault "absent pdpte with reserved bits", mov cr3, eax
    ; CR3 has 27 bits of address: another pointer table 32 bytes further
    mov esi, PAE_POINTERS
    mov edi, PAE_POINTERS + 32
    mov ecx, 8
    rep movsd
    mov dword [PAE_POINTERS + 32 + 3 * 8], PAE_DIRECTORIES + P
    mov eax, PAE_POINTERS + 32
    mov cr3, eax
    mov ebx, [0xc0012340]
    expect_eq "pointers at a multiple of 32", ebx, 0x77777777
    mov ebx, cr3
    expect_eq "cr3 reads back", ebx, PAE_POINTERS + 32

    ; changes of CR0 and CR4 load them as well
    mov dword [PAE_POINTERS + 32 + 3 * 8], 0
    change_cr4 0, CR4_PGE
    expect_page_fault "pdpte reloaded by cr4", 0, 0xc0012340, mov eax, [0xc0012340]
    change_cr0 CR0_PG | CR0_WP, 0
    skip_on_qemu "reserved bit in a pdpte when paging goes on", .end
    mov dword [PAE_POINTERS + 32 + 3 * 8], PAE_DIRECTORIES + (P | W)
    mov eax, cr0
    or eax, CR0_PG
    expect_fault "reserved bit in a pdpte when paging goes on", GP, 0, mov cr0, eax
    mov eax, cr0
    and eax, CR0_PG
    expect_eq "paging stays off", eax, 0
    change_cr4 CR4_PAE | CR4_PGE, 0
.end:
    finish
