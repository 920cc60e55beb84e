; Conditional jumps, SETcc and CMOVcc for all sixteen conditions; LOOP and JECXZ with both address
; sizes; EIP's wrap to 16 bits with a 16-bit operand size.
;
; expect: exit 33
%include "include/guest.inc"

; For the flags in EBX: which of the sixteen conditions are true, as bits of EAX, found by Jcc,
; SETcc and CMOVcc.
%macro each_condition 1
    %1 o, 0
    %1 no, 1
    %1 b, 2
    %1 ae, 3
    %1 z, 4
    %1 nz, 5
    %1 be, 6
    %1 a, 7
    %1 s, 8
    %1 ns, 9
    %1 p, 10
    %1 np, 11
    %1 l, 12
    %1 ge, 13
    %1 le, 14
    %1 g, 15
%endmacro
%macro by_jump 2
    push ebx
    popfd
    j%1 %%taken
    jmp short %%next
%%taken:
    or eax, 1 << %2
%%next:
%endmacro
%macro by_near_jump 2
    push ebx
    popfd
    j%1 near %%taken
    jmp near %%next
%%taken:
    or eax, 1 << %2
%%next:
%endmacro
%macro by_set 2
    push ebx
    popfd
    set%1 dl
    movzx edx, dl
    shl edx, %2
    or eax, edx
%endmacro
%macro by_cmov 2
    xor edx, edx
    mov ecx, 1 << %2
    push ebx
    popfd
    cmov%1 edx, ecx
    or eax, edx
%endmacro
%macro conditions 3                     ; "name", flags, the true conditions
    mov ebx, (%2) | 2
    xor eax, eax
    each_condition by_jump
    expect_eq %1, eax, %3
    xor eax, eax
    each_condition by_near_jump
    expect_eq %1, eax, %3
    xor eax, eax
    each_condition by_set
    expect_eq %1, eax, %3
    xor eax, eax
    each_condition by_cmov
    expect_eq %1, eax, %3
%endmacro

main:
    conditions "no flags", 0, 0xaaaa
    conditions "CF", CF, 0xaa66
    conditions "ZF", ZF, 0x6a5a
    conditions "SF", SF, 0x59aa
    conditions "OF", OF, 0x5aa9
    conditions "SF and OF", SF | OF, 0xa9a9
    conditions "PF", PF, 0xa6aa
    conditions "all", ARITHMETIC, 0x6555

    ; LOOP: ECX or CX
    mov ecx, 5
    xor eax, eax
.loop1:
    inc eax
    loop .loop1
    expect_eq "loop", eax, 5
    mov ecx, 0x10002
    xor eax, eax
.loop2:
    inc eax
    loop .loop2, cx
    expect_eq "loop with CX", eax, 2
    expect_eq "loop with CX keeps the upper half", ecx, 0x10000
    mov ecx, 10
    mov eax, 3
.loop3:
    dec eax
    loopnz .loop3
    expect_eq "loopnz ends by ZF", ecx, 7
    mov ecx, 4
    xor eax, eax
.loop4:
    cmp eax, eax
    loopz .loop4
    expect_eq "loopz ends by ECX", ecx, 0
    mov ecx, 0
    mov eax, 0
    jecxz .zero
    mov eax, 1
.zero:
    expect_eq "jecxz", eax, 0
    mov ecx, 0xffff0000
    mov eax, 1
    jcxz .zero16
    mov eax, 2
.zero16:
    expect_eq "jcxz", eax, 1
    mov eax, 1
    jecxz .not_zero
    mov eax, 2
.not_zero:
    expect_eq "jecxz looks at all of ECX", eax, 2
    ; LOOP and JECXZ touch no flags
    stc
    mov ecx, 2
.loop5:
    loop .loop5
    expect_flags "loop keeps flags", CF, CF

    ; jumps with a 16-bit operand size cut EIP to 16 bits
    mov eax, 0xc3eb89                   ; mov ebx, ebp; ret
    mov [0x8000], eax
    mov ebp, 0x1234
    xor ebx, ebx
    push dword .back
    mov ax, 0x8000
    jmp ax
.back:
    expect_eq "jmp ax", ebx, 0x1234
    ; a backward and a forward jump over many bytes
    jmp .far_ahead
.behind:
    expect_eq "jumps forth and back", eax, 77
    finish
    times 4096 nop
.far_ahead:
    mov eax, 77
    jmp .behind
