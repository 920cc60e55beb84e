; NX: EFER.NXE, fetch faults by table, directory and 2 MiB entry, the I bit of the error code with
; and without NXE, data accesses unaffected.
;
; expect: exit 33
%include "include/guest.inc"

AREA equ 0x800000
NX equ 0x80000000
%define PDE(x) (PAE_DIRECTORIES + ((x) >> 21) * 8)

; fetch_fault "name", ring, error code
%macro fetch_fault 3
    try %%done
    %if (%2) != 0
    enter_ring %2, AREA
    %else
    jmp AREA
    %endif
%%done:
    expect_exception %1, PF_, %3, AREA
    %strcat %%cr2 %1, ": cr2"
    expect_eq %%cr2, [exc_cr2], AREA
%endmacro
%macro fetch_ok 2
    try %%done
    %if (%2) != 0
    enter_ring %2, AREA
    %else
    jmp AREA
    %endif
%%done:
    expect_exception %1, SYS, 0, AREA + 2
%endmacro

main:
    call paging_identity_pae
    mov dword [AREA], 0xcd | SYS << 8   ; int 0x80
    change_cr0 0, CR0_PG | CR0_WP
    ; without NXE: no I bit in error codes
    set_pae_pte AREA, 0, 0
    invlpg [AREA]
    fetch_fault "absent, without NXE", 0, 0
    ; EFER
    mov ecx, 0xc0000080
    rdmsr
    and eax, 1 << 11
    expect_eq "NXE is off", eax, 0
    rdmsr
    or eax, 1 << 11
    wrmsr
    rdmsr
    and eax, 1 << 11
    expect_eq "NXE is on", eax, 1 << 11

    fetch_fault "absent", 0, PFE_I
    fetch_fault "absent, ring 3", 3, PFE_I | PFE_U
    set_pae_pte AREA, AREA | P | W | U, NX
    invlpg [AREA]
    fetch_fault "table", 0, PFE_P | PFE_I
    fetch_fault "table, ring 3", 3, PFE_P | PFE_I | PFE_U
    expect_no_fault "reads", mov eax, [AREA]
    expect_no_fault "writes", mov [AREA], eax
    expect_ring_ok 3, "user reads", mov eax, [AREA]
    set_pae_pte AREA, AREA | P | W | U, 0
    invlpg [AREA]
    fetch_ok "without NX", 0
    fetch_ok "without NX, ring 3", 3
    ; executed, then NX again: INVLPG makes it count
    set_pae_pte AREA, AREA | P | W | U, NX
    invlpg [AREA]
    fetch_fault "NX after execution", 0, PFE_P | PFE_I
    set_pae_pte AREA, AREA | P | W | U, 0
    mov dword [PDE(AREA) + 4], NX
    mov eax, cr3
    mov cr3, eax
    fetch_fault "directory", 0, PFE_P | PFE_I
    mov dword [PDE(AREA) + 4], 0
    mov dword [PDE(AREA)], AREA | P | W | U | PS
    mov eax, cr3
    mov cr3, eax
    fetch_ok "2 MiB page", 3
    mov dword [PDE(AREA) + 4], NX
    mov eax, cr3
    mov cr3, eax
    fetch_fault "2 MiB page with NX", 3, PFE_P | PFE_I | PFE_U
    mov dword [PDE(AREA) + 4], 0
    mov dword [PDE(AREA)], PAE_TABLES + (AREA >> 21) * 0x1000 + (P | W | U)
    mov eax, cr3
    mov cr3, eax

    ; an instruction that begins in an executable page and ends in one that is not
    set_pae_pte AREA + 0x1000, (AREA + 0x1000) | P | W | U, NX
    mov byte [AREA + 0xfff], 0xb8       ; mov eax, imm32
    invlpg [AREA + 0x1000]
    try .crossing
    jmp AREA + 0xfff
.crossing:
    expect_exception "across into NX", PF_, PFE_P | PFE_I, AREA + 0xfff
    expect_eq "across into NX: cr2", [exc_cr2], AREA + 0x1000
    ; running into it
    mov byte [AREA + 0xfff], 0x90
    try .running
    jmp AREA + 0xfff
.running:
    expect_exception "running into NX", PF_, PFE_P | PFE_I, AREA + 0x1000

    ; supervisor code in a user page is fine, user code in a supervisor page not
    set_pae_pte AREA, AREA | P | W, 0
    invlpg [AREA]
    fetch_ok "supervisor page", 0
    fetch_fault "supervisor page, ring 3", 3, PFE_P | PFE_I | PFE_U
    change_cr0 CR0_PG | CR0_WP, 0
    finish
