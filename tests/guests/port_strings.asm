; Repeated INS and OUTS: pages, directions, addresses and counts of 16 bits, segments, and faults in
; the middle, which show how far it came.
;
; expect: exit 33
; expect: output "straight on"
; expect: output "and down"
; expect: output "around 64K"
; deviates: qemu "beyond*": its TCG checks no segment limits
%include "include/guest.inc"

NOBODY  equ 0x5678                      ; reads as ones
CONSOLE equ 0xe9
PAGE    equ 0x800000

; expect_ones "name", from, to: that dwords are, and the bytes around them are not
%macro expect_ones 3
    mov esi, %2
    mov ebx, -1
%%next:
    and ebx, [esi]
    add esi, 4
    cmp esi, %3
    jb %%next
    expect_eq %1, ebx, -1
    %strcat %%before %1, ": before"
    movzx eax, byte [(%2) - 1]
    expect_eq %%before, eax, 0
    %strcat %%after %1, ": after"
    movzx eax, byte [%3]
    expect_eq %%after, eax, 0
%endmacro

main:
    mov edx, NOBODY
    mov edi, SCRATCH + 0xff0
    mov ecx, 0x2020
    rep insb
    expect_ones "over pages", SCRATCH + 0xff0, SCRATCH + 0x3010
    expect_eq "over pages: edi", edi, SCRATCH + 0x3010
    expect_eq "over pages: ecx", ecx, 0
    std
    mov edi, SCRATCH + 0x5010 - 2
    mov ecx, 0x20
    rep insw
    cld
    expect_ones "down over a page", SCRATCH + 0x4fd0, SCRATCH + 0x5010
    expect_eq "down over a page: edi", edi, SCRATCH + 0x4fce
    mov edi, SCRATCH + 0x6ffe
    mov ecx, 0x400
    repne insd
    expect_ones "misaligned dwords, REPNE", SCRATCH + 0x6ffe, SCRATCH + 0x7ffe
    mov edi, SCRATCH + 0x9000
    xor ecx, ecx
    rep insd
    expect_eq "none: edi", edi, SCRATCH + 0x9000
    expect_eq "none", [edi], 0
    insd
    expect_eq "one", [SCRATCH + 0x9000], -1
    expect_eq "one: edi", edi, SCRATCH + 0x9004
    ; flags stay
    stc
    mov ecx, 4
    rep insb
    expect_flags "flags", CF, CF

    ; addresses and counts of 16 bits
    set_descriptor SEL0, SCRATCH + 0x10000, 0xfffff, DATA_RW, BIG | PAGES
    load_segment es, SEL0
    mov edi, 0x7777fffc
    mov ecx, 0x00050008
    a16 rep insb
    load_segment es, KDS
    expect_eq "around 64 KiB: the end", [SCRATCH + 0x1fffc], -1
    expect_eq "around 64 KiB: the begin", [SCRATCH + 0x10000], -1
    expect_eq "around 64 KiB: not on", [SCRATCH + 0x20000], 0
    expect_eq "around 64 KiB: edi", edi, 0x77770004
    expect_eq "around 64 KiB: ecx", ecx, 0x00050000

    ; beyond a limit: the elements before it are done
    set_descriptor SEL1, SCRATCH + 0x30000, 0x0f, DATA_RW, BIG
    load_segment es, SEL1
    mov edi, 7
    mov ecx, 6
    expect_fault "beyond, up", GP, 0, rep insw
    load_segment es, KDS
    expect_eq "beyond, up: edi", edi, 15
    expect_eq "beyond, up: ecx", ecx, 2
    expect_ones "beyond, up: what was stored", SCRATCH + 0x30007, SCRATCH + 0x3000f
    load_segment es, SEL1
    mov edi, 4
    mov ecx, 3
    std
    expect_fault "beyond, down", GP, 0, rep insd
    cld
    load_segment es, KDS
    expect_eq "beyond, down: edi", edi, -4
    expect_eq "beyond, down: ecx", ecx, 1

    ; an absent page: so far at the fault, then on from there
    call paging_identity
    change_cr0 0, CR0_PG
    mov dword [PAGE - 4], 0
    mov dword [PAGE], 0
    set_pte PAGE, 0
    invlpg [PAGE]
    mov edi, PAGE - 3
    mov ecx, 7
    expect_page_fault "absent", PFE_W, PAGE, rep insb
    expect_eq "absent: edi", edi, PAGE
    expect_eq "absent: ecx", ecx, 4
    expect_eq "absent: what was stored", [PAGE - 4], 0xffffff00
    hook give
    rep insb
    hook 0
    expect_eq "given: edi", edi, PAGE + 4
    expect_eq "given", [PAGE], -1
    set_pte PAGE, 0
    invlpg [PAGE]
    mov esi, PAGE - 2
    mov ecx, 3
    expect_page_fault "absent source", 0, PAGE, rep outsb
    expect_eq "absent source: esi", esi, PAGE
    expect_eq "absent source: ecx", ecx, 1
    change_cr0 CR0_PG, 0

    ; OUTS: text in every way
    mov edx, CONSOLE
    mov esi, straight
    mov ecx, straight_end - straight
    rep outsb
    std
    mov esi, down_end - 1
    mov ecx, down_end - down
    rep outsb
    cld
    expect_eq "down: esi", esi, down - 1
    mov esi, around
    mov edi, SCRATCH + 0x1fffa
    movsd
    movsw
    mov edi, SCRATCH + 0x10000
    movsd
    movsb
    load_segment fs, SEL0
    mov esi, 0xfffa
    mov ecx, 0xabcd000b
    a16 fs rep outsb
    expect_eq "around: esi", esi, 5
    expect_eq "around: ecx", ecx, 0xabcd0000
    finish

give:
    set_pte PAGE, PAGE | P | W
    invlpg [PAGE]
    ret

section .data
straight: db "straight on", 10
straight_end:
down: db 10, "nwod dna"
down_end:
around: db "around 64K", 10
