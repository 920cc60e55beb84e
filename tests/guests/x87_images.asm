; What FNSTENV, FNSAVE, FLDENV and FRSTOR put where, in all four layouts: fields, sizes, tags from the registers' contents,
; masks and emptiness afterwards, images of one layout loaded and stored in another, pending errors that an image brings,
; and images at the ends of pages and segments.
;
; expect: exit 33
; host: x87 pointers
; deviates: bochs "frstor that faults: tags": a fault leaves the state as it was (SDM volume 3, 6.5); Bochs has loaded some
;   registers.
; deviates: qemu "#MF", "#MF by wait", "16 bits beyond a limit", "control instructions do not count", "env32: all is
;   masked", "env32: the last two bytes", "es and b are made", "es and b of an image with masked errors", "fnsave
;   beyond a limit", "fnstenv beyond a limit", "from 16 to 32 bits: fip", "from 16 to 32 bits: tags", "frstor that
;   faults: tags", "real: 32 bits, loaded fdp, high", "real: 32 bits, loaded fip, high", "real: 32 bits, loaded fip,
;   low", "real: env16: control", "real: env16: status", "real: env16: tags", "real: env32: tags", "real: fnsave at
;   the segment's end", "real: fnsave at the segment's end: ip", "real: fnstenv at the segment's end", "real:
;   fnstenv at the segment's end: ip", "real: loaded fdp, high", "real: loaded fip, high", "real: loaded fip, low",
;   "save16: fdp", "save16: fip", "save16: tags", "save32: st0's exponent", "save32: tags", "tags are made of
;   contents", "the state is as before", "virtual-8086: env16: tags", "virtual-8086: env32: fip, high",
;   "virtual-8086: env32: fip, low", "virtual-8086: env32: tags", "whatever an image says", "which masks it: status
;   keeps the flag": an unmasked exception keeps operands and stack (SDM volume 1, 8.5); environments load FIP and
;   FDP, mask all errors, and set ES by what is unmasked (volume 2, FLDENV, FNSTENV); QEMU does none of it, checks
;   no segment limits, and has its own FIP in virtual-8086 mode.
%include "include/guest.inc"
%include "include/real_mode.inc"

SAVED equ SCRATCH + 0x100
OTHER equ SCRATCH + 0x300
FILL equ 0xa5
V86_CODE equ 0xffff
%define V86_AT(label) ((label) - image + 0x10)

; filled address, count: with FILL
%macro filled 2
    mov edi, %1
    mov ecx, %2
    mov al, FILL
    rep stosb
%endmacro
%macro expect_word 3
    movzx eax, word [%2]
    expect_eq %1, eax, %3
%endmacro
%macro expect_filled 2                  ; "name", address: not written
    movzx eax, byte [%2]
    expect_eq %1, eax, FILL
%endmacro

; ST0 is 0, ST1 infinity, ST2 a denormal, ST3 1.0; TOP is 4
%macro some_state 0
    fninit
    fld1
    fld tword [denormal]
    fld tword [infinity]
    fldz
    fldcw [control]
%endmacro
; tags: of registers 4 (zero 01), 5 and 6 (special 10), 7 (valid 00), the others empty
TAGS equ 0x28ff | 1 << 8
CONTROL equ 0xf7b                       ; ZM is clear
TOP4 equ 4 << 11
ERROR equ 0x8084                       ; ES, B and ZE

main:
    change_cr0 CR0_EM | CR0_TS, CR0_NE | CR0_MP
    ; --- 32 bits, protected mode ---
    some_state
.last32:
    fld dword [one]
    fstp st0
    filled SAVED, 128
    fnstenv [SAVED]
    expect_word "env32: control", SAVED, CONTROL
    expect_word "env32: status", SAVED + 4, TOP4
    expect_word "env32: tags", SAVED + 8, TAGS
    expect_eq "env32: fip is the last that counts", [SAVED + 12], .last32 + 6
    expect_word "env32: the last two bytes", SAVED + 26, 0xffff
    expect_filled "env32: 28 bytes", SAVED + 28
    fnstcw [OTHER]
    expect_word "env32: all is masked", OTHER, CONTROL | 0x3f
    fnstsw ax
    movzx eax, ax
    expect_eq "env32: the stack stays", eax, TOP4
    ; control instructions do not count
.counts:
    fld dword [one]
    fstp st0
    fnstsw ax
    fnclex
    fldcw [control]
    fnstcw [OTHER]
    wait
    fnstenv [OTHER]
    mov eax, [OTHER + 12]
    sub eax, .counts
    expect_eq "control instructions do not count", eax, 6
    some_state
    fld dword [one]
.saved32:
    fdiv dword [zero]                   ; newer processors move FDP by errors that are not masked alone
    filled SAVED, 128
    fnsave [SAVED]
    expect_word "save32: control", SAVED, CONTROL
    expect_word "save32: status", SAVED + 4, ERROR | 3 << 11
    expect_word "save32: tags", SAVED + 8, TAGS & ~0xc0
    expect_eq "save32: fip", [SAVED + 12], .saved32
    expect_eq "save32: fdp", [SAVED + 20], zero
    expect_eq "save32: st0", [SAVED + 28 + 4], 0x80000000
    expect_word "save32: st0's exponent", SAVED + 28 + 8, 0x3fff
    expect_word "save32: st1's exponent", SAVED + 38 + 8, 0
    expect_word "save32: st2's exponent", SAVED + 48 + 8, 0x7fff
    expect_eq "save32: st3", [SAVED + 58], 1
    expect_filled "save32: 108 bytes", SAVED + 108
    fnstenv [OTHER]
    expect_word "save32: as after fninit, control", OTHER, 0x37f
    expect_word "save32: as after fninit, status", OTHER + 4, 0
    expect_word "save32: as after fninit, tags", OTHER + 8, 0xffff
    expect_eq "save32: as after fninit, fip", [OTHER + 12], 0
    expect_eq "save32: as after fninit, fdp", [OTHER + 20], 0

    ; --- 16 bits, protected mode, of the same state ---
    and word [SAVED + 4], ~ERROR
    frstor [SAVED]
    filled OTHER, 128
    o16 fnsave [OTHER]
    expect_word "save16: control", OTHER, CONTROL
    expect_word "save16: status", OTHER + 2, 3 << 11
    expect_word "save16: tags", OTHER + 4, TAGS & ~0xc0
    expect_word "save16: fip", OTHER + 6, ADDRESS(main.saved32) & 0xffff
    expect_word "save16: fdp", OTHER + 10, ADDRESS(zero) & 0xffff
    expect_bytes "save16: registers", OTHER + 14, SAVED + 28, 80
    expect_filled "save16: 94 bytes", OTHER + 94
    o16 frstor [OTHER]
    filled SCRATCH + 0x500, 128
    o16 fnstenv [SCRATCH + 0x500]
    expect_bytes "env16: what was restored", SCRATCH + 0x500, OTHER, 14
    expect_filled "env16: 14 bytes", SCRATCH + 0x500 + 14
    o16 fldenv [OTHER]
    fnsave [SCRATCH + 0x500]
    expect_word "from 16 to 32 bits: control", SCRATCH + 0x500, CONTROL
    expect_word "from 16 to 32 bits: tags", SCRATCH + 0x508, TAGS & ~0xc0
    expect_word "from 16 to 32 bits: fip", SCRATCH + 0x50c, ADDRESS(main.saved32) & 0xffff
    expect_bytes "from 16 to 32 bits: registers", SCRATCH + 0x500 + 28, SAVED + 28, 80

    ; --- tags: loaded as empty or not, stored by contents ---
    frstor [SAVED]
    fnstenv [OTHER]
    mov dword [OTHER + 8], 0xffff0000   ; none is empty
    fldenv [OTHER]
    fnstenv [OTHER]
    movzx eax, word [OTHER + 8]
    and eax, 0xffc0
    expect_eq "tags are made of contents", eax, TAGS & 0xff00
    mov dword [OTHER + 8], 0xffffaaaa
    fldenv [OTHER]
    fnstenv [OTHER]
    movzx eax, word [OTHER + 8]
    and eax, 0xffc0
    expect_eq "whatever an image says", eax, TAGS & 0xff00
    mov dword [OTHER + 8], 0xffffffff
    fldenv [OTHER]
    fnstenv [OTHER]
    expect_word "but for empty ones", OTHER + 8, 0xffff
    fxam
    fnstsw ax
    and eax, 0x4500
    expect_eq "and they are empty", eax, 0x4100
    ; each class of contents
    mov esi, classes
.class:
    fninit
    fld tword [esi]
    fnstenv [OTHER]
    movzx eax, word [OTHER + 8]
    shr eax, 14
    movzx edx, byte [esi + 10]
    expect_eq "the tag of each class", eax, edx
    add esi, 11
    cmp esi, classes_end
    jb .class

    ; --- an image with an error that is not masked ---
    fninit
    fnstenv [OTHER]
    mov word [OTHER], 0x37b
    mov word [OTHER + 4], 4
    fldenv [OTHER]
    fnstsw ax
    and eax, 0x80ff
    expect_eq "es and b are made", eax, 0x8084
    expect_fault "#MF", MF, 0, fld1
    expect_fault "#MF by wait", MF, 0, wait
    expect_no_fault "none by fnstenv", fnstenv [OTHER]
    expect_word "which masks it: status keeps the flag", OTHER + 4, 0x8084
    expect_no_fault "which masks it", fld1
    fnstsw ax
    and eax, 0x80ff
    expect_eq "which masks it: es and b", eax, 4
    fninit
    fnstenv [OTHER]
    mov word [OTHER + 4], 0x80ff        ; masked: they do not stay
    fldenv [OTHER]
    fnstsw ax
    and eax, 0x80ff
    expect_eq "es and b of an image with masked errors", eax, 0x7f
    ; TOP from an image, and nothing moves
    frstor [SAVED]
    fnstenv [OTHER]
    mov word [OTHER + 4], 7 << 11
    fldenv [OTHER]
    fst qword [SCRATCH]
    expect_eq "top: another register is st0", [SCRATCH + 4], 0x3ff00000

    ; --- the ends of pages and segments ---
    call paging_identity
    change_cr0 0, CR0_PG
    frstor [SAVED]
    set_pte SCRATCH + 0x11000, 0
    filled SCRATCH + 0x10f00, 0x100
    expect_page_fault "fnsave into an absent page", PFE_W, SCRATCH + 0x11000, fnsave [SCRATCH + 0x10f00 + 0xc0]
    fnstenv [OTHER]
    expect_word "the state is as before", OTHER + 8, TAGS & ~0xc0
    frstor [SAVED]
    expect_page_fault "fnstenv into an absent page", PFE_W, SCRATCH + 0x11000, fnstenv [SCRATCH + 0x10ff0]
    fnstcw [SCRATCH]
    expect_word "nothing is masked", SCRATCH, CONTROL
    expect_page_fault "frstor from an absent page", 0, SCRATCH + 0x11000, frstor [SCRATCH + 0x10fc0]
    fnstcw [SCRATCH]
    expect_word "frstor that faults: control", SCRATCH, CONTROL
    fnstenv [OTHER]
    expect_word "frstor that faults: tags", OTHER + 8, TAGS & ~0xc0
    change_cr0 CR0_PG, 0
    set_descriptor SEL0, SCRATCH, 107, DATA_RW, 0
    load_segment fs, SEL0
    frstor [SAVED]
    expect_fault "fnsave beyond a limit", GP, 0, fnsave [fs:1]
    expect_no_fault "fnsave up to a limit", fnsave [fs:0]
    expect_fault "fnstenv beyond a limit", GP, 0, fnstenv [fs:81]
    expect_no_fault "fnstenv up to a limit", fnstenv [fs:80]
    expect_fault "16 bits beyond a limit", GP, 0, o16 fnstenv [fs:95]
    expect_no_fault "16 bits up to a limit", o16 fnstenv [fs:94]

    ; --- real mode and virtual-8086 mode ---
    frstor [SAVED]
    call prepare_real
    run_real in_real
    call check_notes
    fninit
    fldcw [control]
    mov dword [0x40000], 0
    push dword 0x4000                   ; gs, fs, ds, es
    push dword 0x4000
    push dword 0x4000
    push dword 0x4000
    push dword 0x3000
    push dword 0x1000
    push dword VM | 2
    push dword V86_CODE
    push dword V86_AT(in_v86)
    try after_v86
    iretd
bits 16
in_v86:
    fld1
v86_last:
    fdiv dword [0]
    o32 fnstenv [0x100]
    fnstenv [0x200]
v86_end:
    hlt
bits 32
after_v86:
    expect_exception "virtual-8086", GP, 0, V86_AT(v86_end)
    expect_word "virtual-8086: env32: tags", 0x40108, 0x3fff
    expect_word "virtual-8086: env32: fip, low", 0x4010c, (v86_last - image) & 0xffff
    mov eax, [0x40110]
    shr eax, 12
    expect_eq "virtual-8086: env32: fip, high", eax, 0x10
    mov eax, [0x40118]
    shr eax, 12
    expect_eq "virtual-8086: env32: fdp, high", eax, 4
    expect_word "virtual-8086: env16: tags", 0x40204, 0x3fff
    expect_word "virtual-8086: env16: fdp, low", 0x4020a, 0
    expect_word "virtual-8086: env16: fdp, high", 0x4020c, 4 << 12
    finish

align 4
one: dd 1.0
zero: dd 0

real_begin
real_support
in_real:
    fninit
    fldcw [cs:AT(real_control)]
    fld1
real_last:
    fdiv dword [0x2340]
    o32 fnstenv [0x100]
    fnstenv [0x200]
    note16 "real: env32: tags", [0x108], 0x3fff
    note16 "real: env32: status", [0x104], ERROR | 7 << 11
    note16 "real: env32: fip, low", [0x10c], AT(real_last)
    mov eax, [0x110]
    and eax, 0xfffff800
    note "real: env32: fip, high", eax, 1 << 12
    note16 "real: env32: fdp, low", [0x114], 0x2340
    note "real: env32: fdp, high", [0x118], 3 << 12
    note16 "real: env16: control", [0x200], 0x37f
    note16 "real: env16: status", [0x202], 4 | 7 << 11
    note16 "real: env16: tags", [0x204], 0x3fff
    note16 "real: env16: fip, low", [0x206], AT(real_last)
    mov ax, [0x208]
    and ax, 0xf800
    note16 "real: env16: fip, high", ax, 1 << 12
    note16 "real: env16: fdp, low", [0x20a], 0x2340
    note16 "real: env16: fdp, high", [0x20c], 3 << 12
    ; pointers from images, other bits than those of the segments
    mov word [0x206], 0x1111
    mov word [0x208], 0xa123
    mov word [0x20a], 0x2222
    mov word [0x20c], 0xb000
    fldenv [0x200]
    o32 fnstenv [0x100]
    mov ax, [0x10c]
    note16 "real: loaded fip, low", ax, 0x1111
    mov eax, [0x110]
    shr eax, 12
    note "real: loaded fip, high", eax, 0xa
    mov eax, [0x118]
    shr eax, 12
    note "real: loaded fdp, high", eax, 0xb
    mov dword [0x10c], 0x3333
    mov dword [0x110], 0x5555000        ; 32 bits of address
    mov dword [0x114], 0x4444
    mov dword [0x118], 0x6666000
    o32 fldenv [0x100]
    o32 fnstenv [0x140]
    mov ax, [0x14c]
    note16 "real: 32 bits, loaded fip, low", ax, 0x3333
    mov eax, [0x150]
    shr eax, 12
    note "real: 32 bits, loaded fip, high", eax, 0x5555
    mov eax, [0x158]
    note "real: 32 bits, loaded fdp, high", eax, 0x6666000
    fninit
    fldpi
    fldz
    o32 fnsave [0x400]
    o32 frstor [0x400]
    fnsave [0x500]
    note "real: registers of both sizes, low", [0x400 + 28 + 10], 0x2168c235
    note "real: registers of both sizes, low 16", [0x500 + 14 + 10], 0x2168c235
    note16 "real: the exponent", [0x500 + 14 + 18], 0x4000
    rfault "real: fnsave at the segment's end", GP, fnsave [0xffa3]
    rfault "real: fnstenv at the segment's end", GP, fnstenv [0xfff3]
    rok "real: up to the end", fnstenv [0xfff2]
    real_done
real_control: dw 0x37b
real_end

section .data
align 4
control: dw CONTROL
align 4
denormal: dd 1, 0
    dw 0
infinity: dd 0, 0x80000000
    dw 0x7fff
; ten bytes and the tag of each
classes:
    dd 0, 0
    dw 0
    db 1
    dd 0, 0
    dw 0x8000
    db 1
    dd 0, 0x80000000
    dw 0x3fff
    db 0
    dd -1, -1
    dw 0xfffe
    db 0
    dd 1, 0
    dw 0
    db 2
    dd 0, 0x80000000                    ; a pseudo-denormal
    dw 0
    db 2
    dd 0, 0x80000000
    dw 0x7fff
    db 2
    dd 0, 0xc0000000
    dw 0xffff
    db 2
    dd 1, 0x80000000                    ; a signalling NaN
    dw 0x7fff
    db 2
    dd 0, 0x40000000                    ; an unnormal
    dw 0x3fff
    db 2
    dd 0, 0                             ; a pseudo-infinity
    dw 0x7fff
    db 2
classes_end:
