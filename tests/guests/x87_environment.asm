; The x87 environment: instruction and data pointers of the last instruction in both formats, tag
; words, what FNINIT, FLDENV, FRSTOR, FXSAVE and FXRSTOR do with them; never addresses of the host.
;
; expect: exit 33
; host: x87 pointers
; deviates: qemu "fip", "fxsave: fip", "fldenv: fip", "fldenv: fdp", "fxrstor:
;   fip": the pointers are those of the last non-control instruction, and FLDENV, FXSAVE and
;   FXRSTOR carry them (SDM volume 1, 8.1.8 and 10.5); QEMU keeps them badly.
%include "include/guest.inc"

%macro tags_are 2
    fnstenv [SCRATCH + 0x200]
    fldenv [SCRATCH + 0x200]
    movzx eax, word [SCRATCH + 0x208]
    expect_eq %1, eax, %2
%endmacro

main:
    change_cr4 0, CR4_OSFXSR
    fninit
    fnstenv [SCRATCH]
    expect_eq "fninit: fip", [SCRATCH + 12], 0
    expect_eq "fninit: fdp", [SCRATCH + 20], 0
    ; the last instruction that is no control instruction
    fld1
.load:
    fld qword [one_and_half]
    fnstcw [SCRATCH + 100]
    fnstsw ax
    fnstenv [SCRATCH]
    expect_eq "fip", [SCRATCH + 12], .load
    movzx eax, word [SCRATCH + 16]
    test eax, eax
    jz .no_selectors                    ; newer processors save zeros
    expect_eq "fcs", eax, KCS
    movzx eax, word [SCRATCH + 24]
    expect_eq "fds", eax, KDS
.no_selectors:
    fxsave [SCRATCH + 0x100]
    expect_eq "fxsave: fip", [SCRATCH + 0x108], .load
    ; with another base in front: offsets, not linear addresses
    set_descriptor SEL0, SCRATCH, 0xfffff, DATA_RW, BIG | PAGES
    load_segment fs, SEL0
    mov dword [SCRATCH + 0x40], 0x3f800000
.based:
    fadd dword [fs:0x40]
    fnstenv [SCRATCH]
    expect_eq "based: fip", [SCRATCH + 12], .based
    ; FLDENV loads what it is given
    mov dword [SCRATCH + 12], 0x11223344
    mov dword [SCRATCH + 20], 0x55667788
    fldenv [SCRATCH]
    fnstenv [SCRATCH + 0x40]
    expect_eq "fldenv: fip", [SCRATCH + 0x40 + 12], 0x11223344
    expect_eq "fldenv: fdp", [SCRATCH + 0x40 + 20], 0x55667788
    fxsave [SCRATCH + 0x100]
    fninit
    fxrstor [SCRATCH + 0x100]
    fnstenv [SCRATCH + 0x40]
    expect_eq "fxrstor: fip", [SCRATCH + 0x40 + 12], 0x11223344

    ; tags: valid, zero, special, empty
    fninit
    tags_are "all empty", 0xffff
    fldz
    fld1
    fld dword [infinity]
    fld tword [denormal]
    tags_are "zero, valid, two special", 0x4aff
    fstp st0
    tags_are "one popped", 0x4bff
    ffree st0
    tags_are "one freed", 0x4fff
    fninit
    fnsave [SCRATCH]
    ; through FXSAVE's abridged tags and back
    fldz
    fld1
    fxsave [SCRATCH + 0x100]
    movzx eax, byte [SCRATCH + 0x104]
    expect_eq "abridged", eax, 0xc0
    mov byte [SCRATCH + 0x104], 0x80
    fxrstor [SCRATCH + 0x100]
    tags_are "abridged and back", 0x7fff

    ; the 16-bit formats
    fninit
    fldpi
    fld1
    o16 fnstenv [SCRATCH]
    movzx eax, word [SCRATCH]
    expect_eq "16-bit: control", eax, 0x37f
    movzx eax, word [SCRATCH + 2]
    expect_eq "16-bit: status", eax, 0x3000
    movzx eax, word [SCRATCH + 4]
    expect_eq "16-bit: tags", eax, 0x0fff
    o16 fnsave [SCRATCH]
    mov eax, [SCRATCH + 14 + 4]
    expect_eq "16-bit fnsave: st0", eax, 0x80000000
    mov eax, [SCRATCH + 14 + 10]
    expect_eq "16-bit fnsave: st1", eax, 0x2168c235
    o16 frstor [SCRATCH]
    faddp
    fistp dword [SCRATCH]
    expect_eq "16-bit frstor", [SCRATCH], 4

    ; each ring's, each time: two contexts by FNSAVE and FRSTOR
    fninit
    fldpi
    fnsave [SCRATCH + 0x400]
    fld1
    fld1
    fnsave [SCRATCH + 0x500]
    mov ecx, 100
.contexts:
    frstor [SCRATCH + 0x400]
    fld1
    faddp
    fnsave [SCRATCH + 0x400]
    frstor [SCRATCH + 0x500]
    fadd st0, st1
    fnsave [SCRATCH + 0x500]
    loop .contexts
    frstor [SCRATCH + 0x400]
    fistp dword [SCRATCH]
    expect_eq "first context", [SCRATCH], 103
    frstor [SCRATCH + 0x500]
    fistp dword [SCRATCH]
    expect_eq "second context", [SCRATCH], 101
    finish

section .data
align 8
one_and_half: dq 1.5
infinity: dd 0x7f800000
denormal: dd 1, 0x10000000
          dw 0
