; Double fault: which pairs of exceptions make one, error code 0, handling through an interrupt
; gate, and pairs that are handled one after the other.
;
; expect: exit 33
; deviates: qemu "contributory*": the error code of an exception met while another is delivered has
;   EXT set (SDM volume 3, 6.13); QEMU leaves it out.
%include "include/guest.inc"

; A broken gate for a vector: absent, so that its delivery raises #NP.
%macro break_gate 1
    xor byte [idt + 8 * (%1) + 5], NOT_PRESENT
%endmacro

main:
    ; two contributory exceptions: #GP whose gate is absent (#NP)
    break_gate GP
    mov eax, TSS_SEL
    try .df1
.mov:
    mov gs, eax                         ; #GP
.df1:
    expect_exception "#GP then #NP", DF_, 0, .mov
    expect_eq "eax stays", eax, TSS_SEL
    expect_eq "its stack", [exc_esp], KERNEL_STACK
    expect_eq "its frame", [exc_frame], KERNEL_STACK - 16
    xor ecx, ecx
    break_gate DE
    expect_fault "#DE then #NP", DF_, 0, div ecx
    break_gate DE
    break_gate SS_
    mov eax, SEL0
    set_descriptor SEL0, 0, 0xfffff, DATA_RW ^ NOT_PRESENT, BIG | PAGES
    expect_fault "#SS then #NP", DF_, 0, mov ss, eax
    break_gate SS_
    break_gate NP
    expect_fault "#NP then #NP", DF_, 0, mov fs, eax
    break_gate NP
    break_gate GP

    ; benign first: the second is handled, with EXT in its error code
    break_gate UD
    expect_fault "contributory: #UD then #NP", NP, UD * 8 + 3, ud2
    break_gate UD
    break_gate BR
    mov dword [SCRATCH], 0
    mov dword [SCRATCH + 4], 1
    mov eax, 5
    expect_fault "contributory: #BR then #NP", NP, BR * 8 + 3, bound eax, [SCRATCH]
    break_gate BR
    ; INT n is benign as well, and its second fault has no EXT
    break_gate 0x60
    expect_fault "int n then #NP", NP, 0x60 * 8 + 2, int 0x60
    break_gate 0x60

    ; pages: #PF then #PF, #PF then contributory: double; contributory then #PF: #PF
    call paging_identity
    mov esi, idt                        ; the IDT moves to a page of its own
    mov edi, SCRATCH
    mov ecx, 512
    rep movsd
    mov word [SCRATCH + 0x1000], 256 * 8 - 1
    mov dword [SCRATCH + 0x1002], SCRATCH
    lidt [SCRATCH + 0x1000]
    change_cr0 0, CR0_PG
    set_pte FREE_FRAMES, 0
    invlpg [FREE_FRAMES]

    xor byte [SCRATCH + PF_ * 8 + 5], NOT_PRESENT
    expect_fault "#PF then #NP", DF_, 0, mov eax, [FREE_FRAMES]
    expect_eq "cr2 of the first", [exc_cr2], FREE_FRAMES
    xor byte [SCRATCH + PF_ * 8 + 5], NOT_PRESENT
    expect_page_fault "no double fault left over", 0, FREE_FRAMES + 4, mov eax, [FREE_FRAMES + 4]

    ; a handler's stack that faults: the ring 0 stack is absent when ring 3 faults
    ; #DF goes to ring 0 too, so it needs the same stack: its gate leads to ring 1
    mov eax, .in_ring1
    mov word [SCRATCH + DF_ * 8], ax
    shr eax, 16
    mov word [SCRATCH + DF_ * 8 + 6], ax
    mov word [SCRATCH + DF_ * 8 + 2], RING1_CS & ~3
    set_pte RING0_STACK - 0x1000, 0
    invlpg [RING0_STACK - 0x1000]
    mov dword [.ring1_error], -1
    push dword UDS
    push dword USER_STACK
    push dword 2 | IOPL
    push dword UCS
    push dword .user
    load_segment ds, UDS
    load_segment es, UDS
    iretd
.user:
    mov eax, [FREE_FRAMES]              ; #PF, then #PF for ring 0's stack, then #DF in ring 1
.in_ring1:
    mov esi, esp
    mov eax, [esp]
    mov [.ring1_error], eax
    mov eax, [esp + 4]
    mov [.ring1_eip], eax
    ; back: the ring 0 stack is given again, in the tables that ring 1 can write; CR2 and INVLPG are
    ; ring 0's, so a plain absent-to-present change must do
    mov dword [PAGE_TABLES + ((RING0_STACK - 0x1000) >> 12) * 4], RING0_STACK - 0x1000 + (P | W | U)
    mov dword [resume_esp], KERNEL_STACK
    mov dword [resume_eip], .back
    int SYS
.back:
    expect_eq "#PF then #PF: error code", [.ring1_error], 0
    expect_eq "#PF then #PF: eip", [.ring1_eip], .user
    expect_eq "ring 1's stack", esi, RING1_STACK - 24
    expect_eq "cr2 is that of the second", [exc_cr2], RING0_STACK - 4
    change_cr0 CR0_PG, 0
    finish
.ring1_error: dd 0
.ring1_eip: dd 0
