; Shifts, rotates, multiplication and division with their flags; the divide error and its restart.
;
; expect: exit 33
; deviates: qemu "flags image has RF": faults push EFLAGS with RF set (SDM volume 3, 18.3.1.1,
;   "Instruction-Breakpoint Exception Condition"); QEMU pushes RF as it was.
%include "include/guest.inc"

; shift "name", instruction, value, count, result, mask of defined flags, flags
%macro shift 7
    mov eax, %3
    mov ecx, %4
    %2 eax, cl
    expect_flags %1, %6, %7
    expect_eq %1, eax, %5
%endmacro

main:
    shift "shl by 1", shl, 0xc0000001, 1, 0x80000002, ARITHMETIC & ~AF, CF | SF
    shift "shl overflow", shl, 0x40000000, 1, 0x80000000, ARITHMETIC & ~AF, SF | OF | PF
    shift "shl by 31", shl, 3, 31, 0x80000000, ARITHMETIC & ~(AF | OF), CF | SF | PF
    shift "shr by 4", shr, 0x80000018, 4, 0x08000001, ARITHMETIC & ~(AF | OF), CF
    shift "shr by 1 sets OF to the sign", shr, 0x80000000, 1, 0x40000000, ARITHMETIC & ~AF, OF | PF
    shift "sar", sar, 0x80000010, 5, 0xfc000000, ARITHMETIC & ~(AF | OF), CF | SF | PF
    stc
    shift "count 0 keeps the flags", shl, 5, 0, 5, CF, CF
    stc
    shift "count 32 is count 0", shr, 0xffffffff, 32, 0xffffffff, CF, CF
    shift "rol", rol, 0x80000001, 4, 0x00000018, CF, 0
    shift "ror", ror, 0x00000018, 4, 0x80000001, CF, CF
    stc
    shift "rcl", rcl, 0x80000000, 1, 1, CF | OF, CF | OF
    stc
    shift "rcr by 2", rcr, 0x00000001, 2, 0xc0000000, CF, 0

    mov eax, 0x12348001
    stc
    rcl al, 9                           ; nine bits rotate by nine: unchanged
    expect_eq "rcl of a byte by 9", eax, 0x12348001
    expect_flags "rcl of a byte by 9", CF, CF
    rcr ax, 17
    expect_eq "rcr of a word by 17", eax, 0x12348001
    shl ah, 1
    expect_eq "shl ah", eax, 0x12340001
    expect_flags "shl ah", CF | ZF | OF, CF | ZF | OF
    mov eax, 0x12345678
    mov edx, 0x9abcdef0
    mov cl, 8
    shld eax, edx, cl
    expect_eq "shld", eax, 0x3456789a
    shrd eax, edx, 4
    expect_eq "shrd", eax, 0x03456789
    mov dword [SCRATCH], 0x80000000
    sar dword [SCRATCH], 31
    expect_eq "sar memory", [SCRATCH], 0xffffffff

    mov eax, 0xffffffff
    mov edx, eax
    mul edx
    expect_flags "mul", CF | OF, CF | OF
    expect_eq "mul low", eax, 1
    expect_eq "mul high", edx, 0xfffffffe
    mov eax, -5
    mov edx, 7
    imul edx
    expect_flags "imul fits", CF | OF, 0
    expect_eq "imul low", eax, -35
    expect_eq "imul high", edx, -1
    mov ecx, 0x10000
    imul ecx, ecx, 0x8000
    expect_flags "imul of three overflows", CF | OF, CF | OF
    expect_eq "imul of three", ecx, 0x80000000
    mov eax, 0x12340080
    mov cl, 2
    mul cl
    expect_eq "mul of bytes", eax, 0x12340100
    mov eax, 0x7fff0010
    imul al
    expect_eq "imul of bytes", eax, 0x7fff0100

    mov edx, 1
    mov eax, 5
    mov ecx, 3
    div ecx
    expect_eq "div", eax, 0x55555557
    expect_eq "div remainder", edx, 0
    mov eax, -7
    cdq
    mov ecx, 2
    idiv ecx
    expect_eq "idiv rounds to zero", eax, -3
    expect_eq "idiv remainder", edx, -1
    mov eax, 0x00ff
    mov cl, 16
    div cl
    expect_eq "div of bytes", eax, 0x0f0f

    ; divide errors: nothing changes, EIP at the instruction
    mov eax, 1
    mov edx, 2
    xor ecx, ecx
    expect_fault "div by zero", DE, 0, div ecx
    expect_eq "eax kept", eax, 1
    expect_eq "edx kept", edx, 2
    mov ecx, 2
    expect_fault "div overflow", DE, 0, div ecx
    mov eax, 0x80000000
    cdq
    mov ecx, -1
    expect_fault "idiv overflow", DE, 0, idiv ecx
    mov dword [SCRATCH], 0
    expect_fault "div by zero memory", DE, 0, div byte [SCRATCH]
    expect_fault "aam 0", DE, 0, aam 0

    ; a handler that repairs the divisor and goes on
    hook .repair
    mov eax, 100
    xor edx, edx
    xor ecx, ecx
    div ecx
    hook 0
    expect_eq "restarted div", eax, 10
    expect_eq "one fault", [exc_vector], DE
    expect_eq "flags image has RF", [.rf], RF
    finish

.repair:
    mov dword [ebp + FRAME_ECX], 10
    mov eax, [ebp + FRAME_EFLAGS]
    and eax, RF
    mov [.rf], eax
    ret
.rf: dd 0
