; Page permissions: U/S and R/W of directory and table together, for supervisor and user reads,
; writes and fetches, with and without CR0.WP; error codes.
;
; expect: exit 33
%include "include/guest.inc"

AREA equ 0x800000                       ; its directory entry is the third
PDE equ PAGE_DIRECTORY + (AREA >> 22) * 4
PTE equ PAGE_TABLES + (AREA >> 12) * 4

main:
    call paging_identity
    mov byte [AREA], 0xc3               ; ret, for fetches
    change_cr0 0, CR0_PG

    ; all sixteen combinations of two bits in two levels, both rings, both values of WP
    xor ebx, ebx                        ; bits 0-1: PDE's W and U; 2-3: the PTE's; 4: WP
.combination:
    mov eax, ebx
    and eax, 3
    shl eax, 1
    or eax, PAGE_TABLES + (AREA >> 22) * 0x1000 + P
    mov [PDE], eax
    mov eax, ebx
    shr eax, 1
    and eax, 6
    or eax, AREA | P
    mov [PTE], eax
    change_cr0 CR0_WP, 0
    test ebx, 16
    jz .without_wp
    change_cr0 0, CR0_WP
.without_wp:
    mov eax, cr3
    mov cr3, eax
    ; what is allowed: ESI user, EDI writable
    mov eax, ebx
    shr eax, 2
    and eax, ebx
    mov esi, eax
    shr esi, 1
    and esi, 1                          ; both U
    mov edi, eax
    and edi, 1                          ; both W

    ; supervisor: reads always, writes unless WP and read-only
    mov ebp, ebx
    mov ecx, NO_EXCEPTION
    try .sr
    mov al, [AREA]
.sr:
    expect_eq "supervisor read", [exc_vector], NO_EXCEPTION
    try .sw
.sw_at:
    mov byte [AREA], 0xc3
.sw:
    mov dword [resume_eip], 0
    test ebx, 16
    jz .sw_fine
    test edi, edi
    jnz .sw_fine
    expect_exception "supervisor write", PF_, PFE_P | PFE_W, .sw_at
    jmp .sw_done
.sw_fine:
    expect_eq "supervisor write is fine", [exc_vector], NO_EXCEPTION
.sw_done:
    try .sx
    call AREA
.sx:
    expect_eq "supervisor fetch", [exc_vector], NO_EXCEPTION
    mov esp, KERNEL_STACK

    ; user: U for all, W for writes
    try .ur
    enter_ring 3, .ur_at
.ur_at:
    mov al, [AREA]
    int SYS
.ur:
    test esi, esi
    jz .ur_denied
    expect_exception "user read", SYS, 0, .ur
    jmp .ur_done
.ur_denied:
    expect_exception "user read denied", PF_, PFE_P | PFE_U, .ur_at
    expect_eq "user read denied: cr2", [exc_cr2], AREA
.ur_done:
    try .uw
    enter_ring 3, .uw_at
.uw_at:
    mov byte [AREA], 0xc3
    int SYS
.uw:
    mov eax, esi
    and eax, edi
    jz .uw_denied
    expect_exception "user write", SYS, 0, .uw
    jmp .uw_done
.uw_denied:
    expect_exception "user write denied", PF_, PFE_P | PFE_W | PFE_U, .uw_at
.uw_done:
    try .ux
    enter_ring 3, .ux_at
.ux_at:
    call AREA
    int SYS
.ux:
    test esi, esi
    jz .ux_denied
    expect_exception "user fetch", SYS, 0, .ux
    jmp .ux_done
.ux_denied:
    expect_exception "user fetch denied", PF_, PFE_P | PFE_U, AREA
.ux_done:
    mov ebx, ebp
    inc ebx
    cmp ebx, 32
    jne .combination

    ; rings 1 and 2 are supervisors
    mov dword [PTE], AREA | P | W
    invlpg [AREA]
    expect_ring_ok 1, "ring 1 reads a supervisor page", mov eax, [AREA]
    expect_ring_ok 2, "ring 2 writes a supervisor page", mov byte [AREA], 0xc3
    expect_ring_page_fault 3, "ring 3 does not", PFE_P | PFE_U, AREA, mov eax, [AREA]
    ; absent: P clear, whatever the other bits
    mov dword [PTE], 0xfffffffe
    invlpg [AREA]
    expect_page_fault "absent", PFE_W, AREA + 4, mov [AREA + 4], eax
    mov dword [PDE], 0xfffffffe
    invlpg [AREA]
    expect_ring_page_fault 3, "absent directory entry", PFE_U, AREA, mov eax, [AREA]
    ; the CPU's own accesses are supervisor ones even from ring 3: GDT and TSS in supervisor pages
    mov dword [PDE], PAGE_TABLES + (AREA >> 22) * 0x1000 + (P | W | U)
    mov dword [PTE], AREA | P | W
    invlpg [AREA]
    mov esi, gdt
    mov edi, AREA
    mov ecx, GDT_ENTRIES * 2
    rep movsd
    sgdt [SCRATCH]
    mov dword [SCRATCH + 2], AREA
    lgdt [SCRATCH]
    mov eax, UDS
    expect_ring_ok 3, "a GDT in a supervisor page", mov es, eax
    lgdt [gdt_pointer]
    change_cr0 CR0_PG | CR0_WP, 0
    finish
