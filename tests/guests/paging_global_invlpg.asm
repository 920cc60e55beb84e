; What empties the TLB: MOV CR3, INVLPG, changes of CR4.PGE and CR0.PG; global pages stay across MOV
; CR3 where the program relies on it being allowed only, not required.
;
; expect: exit 33
%include "include/guest.inc"

AREA equ 0x800000
PTE equ PAGE_TABLES + (AREA >> 12) * 4

%macro reload_cr3 0
    push eax
    mov eax, cr3
    mov cr3, eax
    pop eax
%endmacro
; A page that the CPU has surely seen, then remapped.
%macro remap 1
    mov eax, [AREA]
    mov dword [PTE], %1
%endmacro
%macro value_is 2
    mov eax, [AREA]
    expect_eq %1, eax, %2
%endmacro

main:
    mov dword [0x800000], 0x80
    mov dword [0x801000], 0x81
    mov dword [0x802000], 0x82
    call paging_identity
    change_cr4 0, CR4_PGE
    change_cr0 0, CR0_PG

    remap 0x801000 | P | W
    invlpg [AREA]
    value_is "invlpg", 0x81
    remap 0x802000 | P | W
    reload_cr3
    value_is "mov cr3", 0x82
    remap 0x800000 | P | W | G
    invlpg [AREA + 0xabc]
    value_is "invlpg of any byte in the page", 0x80
    ; global: INVLPG drops it too
    remap 0x801000 | P | W | G
    invlpg [AREA]
    value_is "invlpg of a global page", 0x81
    ; global: MOV CR3 may keep it, so both answers are right until it is dropped in earnest
    remap 0x802000 | P | W | G
    reload_cr3
    mov eax, [AREA]
    cmp eax, 0x81
    je .allowed
    expect_eq "a global page across mov cr3 is old or new", eax, 0x82
.allowed:
    change_cr4 CR4_PGE, 0
    value_is "clearing PGE drops global pages", 0x82
    remap 0x800000 | P | W | G
    change_cr4 0, CR4_PGE
    value_is "setting PGE drops all", 0x80
    remap 0x801000 | P | W
    change_cr0 CR0_PG, 0
    value_is "paging off: identity", 0x80
    change_cr0 0, CR0_PG
    value_is "paging on again", 0x81
    remap 0x802000 | P | W
    change_cr4 0, CR4_PSE
    value_is "a change of PSE", 0x82
    change_cr4 CR4_PSE, 0

    ; absent to present needs no invalidation: absence is not cached
    mov dword [PTE], 0
    invlpg [AREA]
    expect_page_fault "absent", 0, AREA, mov eax, [AREA]
    mov dword [PTE], 0x801000 | P | W
    value_is "present without invalidation", 0x81
    ; more rights need none either, because a fault is checked against the tables: the repaired
    ; access goes on
    change_cr0 0, CR0_WP
    mov dword [PTE], 0x801000 | P
    invlpg [AREA]
    hook give_write
    mov dword [AREA], 0x8181
    hook 0
    value_is "read-only to writable in a handler", 0x8181
    change_cr0 CR0_WP, 0
    ; fewer rights: with INVLPG at once
    mov [AREA], eax
    mov dword [PTE], 0x801000 | P
    invlpg [AREA]
    change_cr0 0, CR0_WP
    expect_page_fault "writable to read-only", PFE_P | PFE_W, AREA, mov [AREA], eax
    change_cr0 CR0_WP, 0

    ; a directory entry's change, with MOV CR3 and with INVLPG
    mov eax, [AREA]
    mov esi, PAGE_TABLES + 0x2000
    mov edi, SCRATCH
    mov ecx, 1024
    rep movsd
    mov dword [SCRATCH], 0x802000 | P | W
    mov dword [PAGE_DIRECTORY + 2 * 4], SCRATCH | P | W | U
    invlpg [AREA]
    value_is "another table, invlpg", 0x82
    mov dword [PAGE_DIRECTORY + 2 * 4], PAGE_TABLES + 0x2000 + (P | W | U)
    reload_cr3
    value_is "the old table, mov cr3", 0x8181
    ; another directory
    mov esi, PAGE_DIRECTORY
    mov edi, SCRATCH + 0x1000
    mov ecx, 1024
    rep movsd
    mov dword [SCRATCH + 0x1000 + 2 * 4], SCRATCH | P | W | U
    mov ecx, 50
.switch:
    mov eax, SCRATCH + 0x1000
    mov cr3, eax
    value_is "one directory", 0x82
    mov eax, PAGE_DIRECTORY
    mov cr3, eax
    value_is "the other directory", 0x8181
    dec ecx
    jnz .switch
    ; INVLPG of what is not mapped, and with segments: no fault
    expect_no_fault "invlpg of nothing", invlpg [0xdeadb000]
    set_descriptor SEL0, 0, 0xfff, DATA_RO, BIG
    load_segment fs, SEL0
    expect_no_fault "invlpg beyond a limit", invlpg [fs:AREA]
    change_cr0 CR0_PG, 0
    finish

give_write:
    mov dword [PTE], 0x801000 | P | W
    ret
