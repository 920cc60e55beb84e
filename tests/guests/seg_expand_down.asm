; Expand-down data segments: offsets above the limit are good, up to 4 GiB or 64 KiB by the B bit;
; also as a stack.
;
; expect: exit 33
; deviates: qemu "outside*": offsets up to the limit are #GP(0), #SS(0) for SS (SDM volume 3, 5.3,
;   "Limit Checking"); QEMU compares no data access with a limit.
%include "include/guest.inc"

main:
    ; base such that offsets just above the limit fall into memory
    set_descriptor SEL0, SCRATCH, 0xfff, DATA_RW_DOWN, BIG
    load_segment fs, SEL0
    expect_fault "outside: limit", GP, 0, mov al, [fs:0xfff]
    expect_fault "outside: zero", GP, 0, mov al, [fs:0]
    expect_fault "outside: dword across the limit", GP, 0, mov eax, [fs:0xffd]
    expect_no_fault "inside: first byte", mov al, [fs:0x1000]
    expect_no_fault "inside: dword", mov eax, [fs:0x1000]
    expect_no_fault "inside: store", mov [fs:0x1001], eax
    expect_no_fault "inside: far above", mov al, [fs:0x10000]
    mov ebx, -8
    expect_no_fault "inside: near the top", mov eax, [fs:ebx]

    ; pages
    set_descriptor SEL0, SCRATCH, 1, DATA_RW_DOWN, BIG | PAGES
    load_segment fs, SEL0
    expect_fault "outside: page limit", GP, 0, mov al, [fs:0x1fff]
    expect_no_fault "inside: above the page limit", mov al, [fs:0x2000]

    ; without B the upper bound is 64 KiB
    set_descriptor SEL0, SCRATCH, 0xfff, DATA_RW_DOWN, 0
    load_segment fs, SEL0
    expect_no_fault "inside: 64 KiB end", mov al, [fs:0xffff]
    expect_no_fault "inside: 64 KiB end, dword", mov eax, [fs:0xfffc]
    expect_fault "outside: above 64 KiB", GP, 0, mov al, [fs:0x10000]
    expect_fault "outside: across 64 KiB", GP, 0, mov eax, [fs:0xfffd]
    expect_fault "outside: limit without B", GP, 0, mov al, [fs:0xfff]

    ; read-only expand-down
    set_descriptor SEL1, SCRATCH, 0xfff, DATA_RO_DOWN, BIG
    load_segment gs, SEL1
    expect_no_fault "inside: read-only load", mov al, [gs:0x1000]
    expect_fault "outside: read-only store", GP, 0, mov [gs:0x1000], al

    ; a whole segment: limit 0xffffffff leaves nothing
    set_descriptor SEL1, 0, 0xfffff, DATA_RW_DOWN, BIG | PAGES
    load_segment gs, SEL1
    expect_fault "outside: nothing is inside", GP, 0, mov al, [gs:SCRATCH]

    ; as a ring 3 stack: pushes down to the limit, then #SS(0)
    set_descriptor SEL2, SCRATCH, 0x7fff, DATA_RW_DOWN | DPL3, BIG
    try .pushed
    push dword SEL2 | 3
    push dword 0x8008
    push dword 2
    push dword UCS
    push dword .push
    iretd
.push:
    push eax
    push ebx
.third:
    push ecx
    int SYS
.pushed:
    expect_exception "outside: third push", SS_, 0, .third
    expect_eq "esp stays", [exc_ss], SEL2 | 3
    finish
