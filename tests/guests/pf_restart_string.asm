; REP string instructions that fault in the middle: ECX, ESI and EDI say how far they came, EIP and
; the flags let them go on; both directions, both operands, many faults in one instruction.
;
; expect: exit 33
%include "include/guest.inc"

SOURCE equ 0x800000
TARGET equ 0x900000
LENGTH equ 0x8000                       ; eight pages

%macro take_all 1                       ; all pages of an area become absent
    mov edi, PAGE_TABLES + ((%1) >> 12) * 4
    mov ecx, LENGTH / 4096
    xor eax, eax
    rep stosd
    mov eax, cr3
    mov cr3, eax
%endmacro
%macro give_all 1
    mov edi, PAGE_TABLES + ((%1) >> 12) * 4
    mov ecx, LENGTH / 4096
    mov eax, (%1) | P | W | U
%%next:
    stosd
    add eax, 4096
    loop %%next
    mov eax, cr3
    mov cr3, eax
%endmacro

main:
    call paging_identity
    change_cr0 0, CR0_PG
    mov edi, SOURCE
    mov ecx, LENGTH / 4
    mov eax, 0x01234567
.fill:
    stosd
    imul eax, eax, 1664525
    add eax, 1013904223
    loop .fill

    ; where it stops
    set_pte TARGET + 0x2000, 0
    invlpg [TARGET + 0x2000]
    mov esi, SOURCE
    mov edi, TARGET
    mov ecx, LENGTH / 4
    expect_page_fault "movsd: target", PFE_W, TARGET + 0x2000, rep movsd
    expect_eq "movsd: ecx", ecx, (LENGTH - 0x2000) / 4
    expect_eq "movsd: esi", esi, SOURCE + 0x2000
    expect_eq "movsd: edi", edi, TARGET + 0x2000
    expect_bytes "movsd: what was moved", TARGET, SOURCE, 0x2000
    ; across the edge: the element that crosses is not written
    mov dword [TARGET + 0x1ffc], 0
    mov esi, SOURCE
    mov edi, TARGET + 0x1ff1
    mov ecx, 10
    expect_page_fault "movsd across", PFE_W, TARGET + 0x2000, rep movsd
    expect_eq "movsd across: edi", edi, TARGET + 0x1ffd
    expect_eq "movsd across: ecx", ecx, 7
    movzx eax, byte [TARGET + 0x1ffd]
    expect_eq "movsd across: nothing of it", eax, 0
    ; downwards
    std
    mov esi, SOURCE + LENGTH - 1
    mov edi, TARGET + LENGTH - 1
    mov ecx, LENGTH
    expect_page_fault "down movsb", PFE_W, TARGET + 0x2fff, rep movsb
    expect_eq "down movsb: ecx", ecx, 0x3000
    expect_eq "down movsb: edi", edi, TARGET + 0x2fff
    mov eax, [exc_eflags]
    and eax, DF
    expect_eq "down movsb: DF in the saved flags", eax, DF
    cld
    ; the source absent
    set_pte TARGET + 0x2000, (TARGET + 0x2000) | P | W | U
    set_pte SOURCE + 0x1000, 0
    invlpg [SOURCE + 0x1000]
    mov esi, SOURCE + 0x800
    mov edi, TARGET
    mov ecx, 0x800
    expect_page_fault "movsw: source", 0, SOURCE + 0x1000, rep movsw
    expect_eq "movsw: source: ecx", ecx, 0x400
    mov esi, SOURCE
    mov ecx, 0x2000
    expect_page_fault "lodsb", 0, SOURCE + 0x1000, rep lodsb
    expect_eq "lodsb: ecx", ecx, 0x1000
    mov edi, SOURCE + 0xff0
    mov ecx, 100
    mov eax, 0xffffffff
    expect_page_fault "scasd", 0, SOURCE + 0x1000, repne scasd
    expect_eq "scasd: ecx", ecx, 96
    ; CMPS
    set_pte SOURCE + 0x1000, (SOURCE + 0x1000) | P | W | U
    mov esi, SOURCE
    mov edi, TARGET
    mov ecx, LENGTH / 4
    rep movsd
    set_pte SOURCE + 0x1000, 0
    invlpg [SOURCE + 0x1000]
    mov esi, SOURCE
    mov edi, TARGET
    mov ecx, LENGTH
    expect_page_fault "cmpsb", 0, SOURCE + 0x1000, repe cmpsb
    expect_eq "cmpsb: ecx", ecx, LENGTH - 0x1000
    ; the flags that are pushed are those from before the instruction, also when an element in
    ; between crossed from one page to the next
    mov esi, SOURCE + 0xff0
    mov edi, TARGET + 0xff0 - 0x900
    mov ecx, 100
    or eax, 1
    stc
    expect_page_fault "cmpsd again", 0, SOURCE + 0x1000, repne cmpsd
    mov eax, [exc_eflags]
    and eax, CF | ZF
    expect_eq "flags before: cmpsd", eax, CF
    mov esi, TARGET + 0xfe1
    mov edi, SOURCE + 0xfe1 - 0x800
    mov ecx, 0x800
    mov eax, esi
    cmp eax, edi
    expect_page_fault "cmpsd across", 0, SOURCE + 0x1000, repne cmpsd
    mov eax, [exc_eflags]
    and eax, CF | ZF
    expect_eq "flags before: cmpsd across", eax, 0
    mov edi, TARGET + 0xfe1
    mov ecx, LENGTH
    mov eax, 0x12345678
    set_pte TARGET + 0x2000, 0
    invlpg [TARGET + 0x2000]
    or eax, eax
    stc
    expect_page_fault "scasd across", 0, TARGET + 0x2000, repne scasd
    mov eax, [exc_eflags]
    and eax, CF | ZF
    expect_eq "flags before: scasd across", eax, CF
    mov edi, TARGET + 0x1ff0
    set_pte TARGET + 0x2000, (TARGET + 0x2000) | P
    change_cr0 0, CR0_WP
    invlpg [TARGET + 0x2000]
    mov eax, 5
    mov ecx, 8
    expect_page_fault "stosd into read-only", PFE_P | PFE_W, TARGET + 0x2000, rep stosd
    expect_eq "stosd into read-only: ecx", ecx, 4
    change_cr0 CR0_WP, 0
    give_all SOURCE
    give_all TARGET

    ; on demand: every page faults once, in ring 0 and in ring 3, and all arrives
    hook give
    take_all TARGET
    mov dword [faults], 0
    mov esi, SOURCE
    mov edi, TARGET
    mov ecx, LENGTH
    rep movsb
    expect_eq "demand: faults", [faults], LENGTH / 4096
    expect_bytes "demand: all arrived", TARGET, SOURCE, LENGTH
    take_all TARGET
    take_all SOURCE
    mov dword [faults], 0
    mov esi, SOURCE
    mov edi, TARGET
    mov ecx, LENGTH / 4
    repe cmpsd
    expect_flags "demand: equal", ZF, ZF
    expect_eq "demand: cmps faults", [faults], 2 * LENGTH / 4096
    expect_eq "demand: cmps ecx", ecx, 0
    take_all TARGET
    std
    mov dword [faults], 0
    mov edi, TARGET + LENGTH - 4
    mov ecx, LENGTH / 4
    mov eax, 0x13572468
    rep stosd
    cld
    expect_eq "demand: down faults", [faults], LENGTH / 4096
    expect_eq "demand: down first", [TARGET], 0x13572468
    take_all TARGET
    mov dword [faults], 0
    mov [resume_esp], esp
    mov esi, SOURCE + 3
    mov edi, TARGET + 1
    mov ecx, (LENGTH - 4) / 4
    enter_ring 3, .user
.user:
    rep movsd
    int SYS
.user_done:
    hook 0
    expect_eq "demand: ring 3 faults", [faults], LENGTH / 4096
    expect_bytes "demand: ring 3", TARGET + 1, SOURCE + 3, LENGTH - 4
    change_cr0 CR0_PG, 0
    finish

give:
    cmp dword [exc_vector], SYS
    jne .page
    mov esp, [resume_esp]
    jmp main.user_done
.page:
    inc dword [faults]
    mov eax, [exc_cr2]
    shr eax, 12
    mov ecx, eax
    shl ecx, 12
    or ecx, P | W | U
    mov [PAGE_TABLES + eax * 4], ecx
    ret

section .data
faults: dd 0
