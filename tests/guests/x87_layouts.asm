; FNSTENV, FLDENV, FNSAVE and FRSTOR in the layouts of protected mode with 16-bit operands and of
; real mode with both sizes: what each field holds, that pointers and the opcode that were loaded
; come back, and how many bytes are written.
;
; expect: exit 33
; host: x87 pointers
; deviates: qemu "protected 16: fldenv, instruction", "protected 16: fldenv, operand", "protected 32
;   after 16: instruction", "protected 32 after 16: operand", "from real mode: instruction", "from
;   real mode: operand", "from real mode: opcode", "real 16: fldenv, instruction", "real 16: fldenv,
;   instruction and opcode", "real 16: fldenv, operand", "real 16: fldenv, upper operand", "real 16:
;   fnsave, instruction and opcode", "real 16: frstor, instruction", "real 32: fldenv, instruction",
;   "real 32: fldenv, instruction and opcode", "real 32: fldenv, operand", "real 32: fldenv, upper
;   operand", "real 16 after 32: instruction and opcode", "real 16 after 32: upper operand", "real
;   32: frstor, instruction and opcode": FLDENV and FRSTOR load the pointers and the opcode (SDM
;   volume 1, 8.1.8 and 8.1.10); QEMU ignores them
%include "include/guest.inc"
%include "include/real_mode.inc"

main:
    ; --- protected mode, 16 bits: offsets of 16 bits, selectors, no opcode ---
    fninit
    fldpi
    fld1
    mov dword [SCRATCH + 14], 0x77777777
    o16 fnstenv [SCRATCH]
    expect_eq "protected 16: control and status", [SCRATCH], 0x3000037f
    movzx eax, word [SCRATCH + 4]
    expect_eq "protected 16: tags", eax, 0x0fff
    expect_eq "protected 16: 14 bytes", [SCRATCH + 14], 0x77777777
    mov word [SCRATCH], 0x27f
    mov word [SCRATCH + 6], 0x5678
    mov word [SCRATCH + 10], 0x4321
    o16 fldenv [SCRATCH]
    o16 fnstenv [SCRATCH + 0x20]
    movzx eax, word [SCRATCH + 0x20]
    expect_eq "protected 16: fldenv, control", eax, 0x27f
    movzx eax, word [SCRATCH + 0x20 + 6]
    expect_eq "protected 16: fldenv, instruction", eax, 0x5678
    movzx eax, word [SCRATCH + 0x20 + 10]
    expect_eq "protected 16: fldenv, operand", eax, 0x4321
    fnstenv [SCRATCH + 0x40]
    expect_eq "protected 32 after 16: instruction", [SCRATCH + 0x40 + 12], 0x5678
    expect_eq "protected 32 after 16: operand", [SCRATCH + 0x40 + 20], 0x4321
    mov eax, [SCRATCH + 0x40 + 16]
    shr eax, 16
    expect_eq "protected 32 after 16: opcode", eax, 0
    mov dword [SCRATCH + 0x80 + 94], 0x77777777
    o16 fnsave [SCRATCH + 0x80]
    expect_eq "protected 16: 94 bytes", [SCRATCH + 0x80 + 94], 0x77777777
    expect_eq "protected 16: st0", [SCRATCH + 0x80 + 14 + 6], 0x3fff8000
    fnstsw ax
    movzx eax, ax
    expect_eq "protected 16: fnsave initialises", eax, 0

    call prepare_real
    fninit
    run_real layouts16
    run_real layouts32
    ; what real mode loaded, in the layout of protected mode
    fnstenv [SCRATCH]
    expect_eq "from real mode: instruction", [SCRATCH + 12], 0x12345678
    expect_eq "from real mode: operand", [SCRATCH + 20], 0x9abcdef0
    mov eax, [SCRATCH + 16]
    shr eax, 16
    expect_eq "from real mode: opcode", eax, 0x6cd
    call check_notes
    finish

real_begin
real_support

; 20 bits of linear addresses, and the opcode beside the instruction's upper four
layouts16:
    fldpi
.last:
    fld1
    mov dword [14], 0x77777777
    fnstenv [0]
    note16 "real 16: instruction", [6], (REAL_SEGMENT * 16 + AT(.last)) & 0xffff
    mov ax, [8]
    shr ax, 12
    note16 "real 16: instruction, upper bits", ax, (REAL_SEGMENT * 16 + AT(.last)) >> 16
    call REAL_SEGMENT + 0x10:AT(store_elsewhere) - 0x100
    note16 "real 16: instruction of another segment", [0x36], (REAL_SEGMENT * 16 + AT(.last)) & 0xffff
    note "real 16: control and status", [0], 0x3000037f
    note16 "real 16: tags", [4], 0x0fff
    note "real 16: 14 bytes", [14], 0x77777777
    mov word [0], 0x27f
    mov word [4], 0x4fff
    mov word [6], 0x5678
    mov word [8], 0x9345
    mov word [10], 0x4321
    mov word [12], 0xa000
    fldenv [0]
    fnstenv [0x20]
    note16 "real 16: fldenv, control", [0x20], 0x27f
    note16 "real 16: fldenv, tags from the registers", [0x24], 0x0fff
    note16 "real 16: fldenv, instruction", [0x26], 0x5678
    note16 "real 16: fldenv, instruction and opcode", [0x28], 0x9345
    note16 "real 16: fldenv, operand", [0x2a], 0x4321
    note16 "real 16: fldenv, upper operand", [0x2c], 0xa000
    mov dword [0x40 + 94], 0x77777777
    fnsave [0x40]
    note "real 16: 94 bytes", [0x40 + 94], 0x77777777
    note16 "real 16: fnsave, instruction and opcode", [0x40 + 8], 0x9345
    note "real 16: st0", [0x40 + 14 + 6], 0x3fff8000
    note "real 16: st1", [0x40 + 14 + 10], 0x2168c235
    fnstenv [0]
    note16 "real 16: fnsave initialises, tags", [4], 0xffff
    note16 "real 16: fnsave initialises, instruction", [6], 0
    frstor [0x40]
    fnstenv [0x20]
    note16 "real 16: frstor, instruction", [0x26], 0x5678
    note16 "real 16: frstor, tags", [0x24], 0x0fff
    faddp
    fistp word [0]
    note16 "real 16: frstor, sum", [0], 4
    real_done

store_elsewhere:
    fnstenv [0x30]
    fldenv [0x30]
    retf

; 32 bits of linear addresses in two parts
layouts32:
    fninit
    fldpi
.last:
    fld1
    mov dword [28], 0x77777777
    o32 fnstenv [0]
    note16 "real 32: control", [0], 0x37f
    note16 "real 32: status", [4], 0x3000
    note16 "real 32: tags", [8], 0x0fff
    note "real 32: 28 bytes", [28], 0x77777777
    note16 "real 32: instruction", [12], (REAL_SEGMENT * 16 + AT(.last)) & 0xffff
    mov eax, [16]
    shr eax, 12
    note "real 32: instruction, upper bits", eax, (REAL_SEGMENT * 16 + AT(.last)) >> 16
    mov eax, [24]
    and eax, 0xf0000fff
    note "real 32: fixed bits of the operand's upper part", eax, 0
    mov word [4], 0x3000
    mov dword [12], 0xffff5678
    mov dword [16], 0x012346cd
    mov dword [20], 0x0000def0
    mov dword [24], 0x09abc000
    o32 fldenv [0]
    mov dword [0x80 + 108], 0x77777777
    o32 fnstenv [0x40]
    note16 "real 32: fldenv, instruction", [0x4c], 0x5678
    note "real 32: fldenv, instruction and opcode", [0x50], 0x012346cd
    note16 "real 32: fldenv, operand", [0x54], 0xdef0
    note "real 32: fldenv, upper operand", [0x58], 0x09abc000
    ; the 16-bit layout has room for 20 bits of them
    fnstenv [0x40]
    note16 "real 16 after 32: instruction and opcode", [0x48], 0x46cd
    note16 "real 16 after 32: upper operand", [0x4c], 0xc000
    o32 fnsave [0x80]
    note "real 32: 108 bytes", [0x80 + 108], 0x77777777
    note "real 32: st1", [0x80 + 28 + 10], 0x2168c235
    o32 frstor [0x80]
    ; a guest that looks at the first bytes only sees the same with both sizes
    note16 "real 32: frstor keeps the image", [0x80], 0x37f
    o32 fnstenv [0x40]
    note "real 32: frstor, instruction and opcode", [0x50], 0x012346cd
    real_done

real_end
