; LDS, LES, LFS, LGS and LSS in protected mode, again and again, as old programs use them: from the
; GDT and the LDT, in ring 0 and ring 3, with descriptors that change, with addresses made of what
; is loaded.
;
; expect: exit 33
; deviates: qemu "null: use": a null selector can be loaded, but an access with it is #GP(0) (SDM
;   volume 2, LDS); QEMU makes it
%include "include/guest.inc"

LDT   equ SCRATCH + 0x8000
FIRST equ SCRATCH + 0x1000              ; where the segments begin
OTHER equ SCRATCH + 0x2000
PAGE  equ 0x800000

; pointer at, selector, offset
%macro pointer 3
    mov dword [%1], %3
    mov word [(%1) + 4], %2
%endmacro
; in_ldt index, base, access
%macro in_ldt 3
    mov dword [LDT + (%1) * 8], (((%2) & 0xffff) << 16) | 0xffff
    mov dword [LDT + (%1) * 8 + 4], ((%2) & 0xff000000) | 0xcf0000 | ((%3) << 8) | (((%2) >> 16) & 0xff)
%endmacro

main:
    set_descriptor SEL0, FIRST, 0xfffff, DATA_RW | DPL3, BIG | PAGES
    set_descriptor SEL1, LDT, 8 * 8 - 1, LDT_TYPE, 0
    in_ldt 1, OTHER, DATA_RW | DPL3
    in_ldt 2, OTHER, DATA_RW
    in_ldt 3, OTHER, (DATA_RW | DPL3) ^ NOT_PRESENT
    mov eax, SEL1
    lldt ax
    mov dword [FIRST + 8], 0x11111111
    mov dword [OTHER + 8], 0x22222222
    pointer SCRATCH, SEL0, 8
    pointer SCRATCH + 0x10, 0x0f, 8
    pointer SCRATCH + 0x20, 0x17, 8
    pointer SCRATCH + 0x30, 0x1f, 8
    pointer SCRATCH + 0x40, 3, 0x12345678
    pointer SCRATCH + 0x50, KDS, 0xabcd

    ; two segments in turn, in every register but SS
    mov ecx, 4
    xor edx, edx
.turns:
    les ebx, [SCRATCH]
    add edx, [es:ebx]
    les ebx, [SCRATCH + 0x10]
    add edx, [es:ebx]
    lfs esi, [SCRATCH]
    add edx, [fs:esi]
    lfs esi, [SCRATCH + 0x10]
    add edx, [fs:esi]
    lgs edi, [SCRATCH + 0x10]
    add edx, [gs:edi]
    lds ebp, [SCRATCH]
    add edx, [ds:ebp]
    lds ebp, [ss:SCRATCH + 0x10]
    add edx, [ds:ebp]
    lds eax, [ss:SCRATCH + 0x50]
    dec ecx
    jnz .turns
    load_segment es, KDS
    expect_eq "in turn", edx, (3 * 0x11111111 + 4 * 0x22222222) * 4 & 0xffffffff
    expect_eq "in turn: offset", eax, 0xabcd
    mov eax, fs
    expect_eq "in turn: selector", eax, 0x0f

    ; 16 bits: a word, and the rest stays
    mov dword [SCRATCH + 0x60], SEL0 << 16 | 0x8008
    mov eax, 0x77777777
    o16 lgs ax, [SCRATCH + 0x60]
    expect_eq "16 bits", eax, 0x77778008
    mov eax, gs
    expect_eq "16 bits: selector", eax, SEL0

    ; the register is part of the address; null selectors load
    mov esi, SCRATCH
    lgs esi, [esi]
    expect_eq "its own address", esi, 8
    mov esi, SCRATCH
    mov ebx, 0x40 / 8
    lgs ebx, [esi + ebx * 8]
    expect_eq "null: offset", ebx, 0x12345678
    mov eax, gs
    expect_eq "null: selector", eax, 3
    expect_fault "null: use", GP, 0, mov eax, [gs:ebx]
    expect_fault "null into ss", GP, 0, lss esp, [SCRATCH + 0x40]

    ; the descriptor is looked at each time
    mov ecx, 3
    xor edx, edx
.moves:
    les ebx, [SCRATCH]
    add edx, [es:ebx]
    xor dword [gdt + SEL0], (FIRST ^ OTHER) << 16
    dec ecx
    jnz .moves
    load_segment es, KDS
    expect_eq "a descriptor that moves", edx, 2 * 0x11111111 + 0x22222222
    mov byte [gdt + SEL0 + 5], (DATA_RW | DPL3) ^ NOT_PRESENT
    mov ebx, 7
    expect_fault "absent", NP, SEL0, les ebx, [SCRATCH]
    expect_eq "absent: register", ebx, 7
    mov eax, es
    expect_eq "absent: segment", eax, KDS
    set_descriptor SEL0, FIRST, 0xfffff, DATA_RW | DPL3, BIG | PAGES
    expect_fault "absent, in the LDT", NP, 0x1c, les ebx, [SCRATCH + 0x30]

    ; ring 3
    expect_ring_ok 3, "ring 3", les ebx, [SCRATCH]
    expect_eq "ring 3: offset", ebx, 8
    expect_ring_ok 3, "ring 3, again", les ebx, [SCRATCH]
    mov ebx, 7
    expect_ring_ok 3, "ring 3, LDT", lfs ebx, [SCRATCH + 0x10]
    expect_eq "ring 3, LDT: offset", ebx, 8
    mov ebx, 7
    expect_ring_fault 3, "ring 3, of ring 0", GP, KDS, lfs ebx, [SCRATCH + 0x50]
    expect_ring_fault 3, "ring 3, of ring 0 in the LDT", GP, 0x14, les ebx, [SCRATCH + 0x20]
    expect_eq "ring 3: register", ebx, 7

    ; LSS: both halves of a stack
    mov edi, esp
    pointer SCRATCH + 0x70, KDS, KERNEL_STACK - 0x400
    lss esp, [SCRATCH + 0x70]
    push dword 0x5555
    lss ebp, [SCRATCH + 0x70]
    expect_eq "lss: pushed", [ebp - 4], 0x5555
    mov esp, edi
    set_descriptor SEL2, SCRATCH + 0x3000, 0xfff, DATA_RW, 0
    pointer SCRATCH + 0x80, SEL2, 0x77770800
    pointer SCRATCH + 0x90, KDS, KERNEL_STACK - 0x400
    lss esp, [SCRATCH + 0x80]
    push ax
    mov ecx, esp
    lss esp, [SCRATCH + 0x90]
    mov esp, edi
    expect_eq "lss: a stack of 16 bits", ecx, 0x777707fe

    ; memory that faults in its second half
    call paging_identity
    change_cr0 0, CR0_PG
    set_pte PAGE, 0
    invlpg [PAGE]
    mov dword [PAGE - 4], 8
    mov ebx, 7
    expect_page_fault "second half", 0, PAGE, les ebx, [PAGE - 4]
    expect_eq "second half: register", ebx, 7
    set_pte PAGE, PAGE | P | W
    invlpg [PAGE]
    mov word [PAGE], SEL0
    mov word [PAGE + 2], SEL0
    les ebx, [PAGE - 4]
    mov eax, es
    load_segment es, KDS
    expect_eq "across pages", ebx, 8
    expect_eq "across pages: selector", eax, SEL0
    mov dword [PAGE - 2], 0x00080000
    mov word [PAGE + 2], SEL0
    lfs ebx, [PAGE - 2]
    expect_eq "offset across pages", ebx, 0x80000
    finish
