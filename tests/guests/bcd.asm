; DAA, DAS, AAA, AAS, AAM, AAD: results and defined flags; DAA and DAS over all of AL, CF and AF
; against their definition.
;
; expect: exit 33
%include "include/guest.inc"

main:
    mov eax, 0x79
    add al, 0x35
    daa
    expect_eq "daa", eax, 0x14
    expect_flags "daa", CF | AF, CF | AF
    mov eax, 0x35
    sub al, 0x47
    das
    expect_eq "das", eax, 0x88
    expect_flags "das", CF | AF | SF, CF | AF | SF
    mov eax, 0x0105
    add al, 0x09                        ; 5 + 9
    aaa
    expect_eq "aaa", eax, 0x0204
    expect_flags "aaa", CF | AF, CF | AF
    mov eax, 0x0f0f
    clc
    or al, 0
    aaa
    expect_eq "aaa carries into ah", eax, 0x1005
    mov eax, 0x0102
    add al, 3
    aaa
    expect_eq "aaa without carry", eax, 0x0105
    expect_flags "aaa without carry", CF | AF, 0
    mov eax, 0x0203
    sub al, 7
    aas
    expect_eq "aas", eax, 0x0106
    expect_flags "aas", CF | AF, CF | AF
    mov eax, 0x12340063
    aam
    expect_eq "aam", eax, 0x12340909
    expect_flags "aam", ZF | SF | PF, PF
    aad
    expect_eq "aad", eax, 0x12340063
    mov eax, 0xff
    aam 16
    expect_eq "aam 16", eax, 0x0f0f
    mov eax, 0x0203
    aad 7
    expect_eq "aad 7", eax, 0x11
    mov eax, 0xff01
    aad 1
    expect_flags "aad to zero", ZF | PF | SF, ZF | PF

    ; all of AL with all of CF and AF
    xor ebx, ebx                        ; BL: AL; BH bit 0: CF, bit 1: AF
.next:
    call reference_daa
    mov esi, eax
    call load_flags
    movzx eax, bl
    daa
    call gather
    cmp eax, esi
    je .das
    mov [SCRATCH], eax
    expect_eq "daa for all values: case", ebx, -1
    expect_eq "daa for all values", [SCRATCH], esi
.das:
    call reference_das
    mov esi, eax
    call load_flags
    movzx eax, bl
    das
    call gather
    cmp eax, esi
    je .same
    mov [SCRATCH], eax
    expect_eq "das for all values: case", ebx, -1
    expect_eq "das for all values", [SCRATCH], esi
.same:
    inc ebx
    cmp ebx, 0x400
    jne .next
    finish

; EBX's flags into EFLAGS.
load_flags:
    xor eax, eax
    test bh, 1
    jz .no_carry
    or eax, CF
.no_carry:
    test bh, 2
    jz .no_adjust
    or eax, AF
.no_adjust:
    or eax, 2
    push eax
    popfd
    ret

; EAX: the result in AL, and CF, PF, AF, ZF, SF above it.
gather:
    pushfd
    pop ecx
    and ecx, CF | PF | AF | ZF | SF
    shl ecx, 8
    movzx eax, al
    or eax, ecx
    ret

; The manual's definitions, on EBX; EAX is what gather would give.
%macro reference 1                      ; add or sub
    movzx eax, bl
    mov edx, eax                        ; the old AL
    xor ecx, ecx                        ; new flags
    mov ebp, eax
    and ebp, 15
    cmp ebp, 9
    ja %%adjust
    test bh, 2
    jz %%high
%%adjust:
    %1 al, 6
    jnc %%no_borrow
    or ecx, CF
%%no_borrow:
    or ecx, AF
%%high:
    cmp dl, 0x99
    ja %%high_adjust
    test bh, 1
    jz %%flags
%%high_adjust:
    %1 al, 0x60
    or ecx, CF
    jmp %%done
%%flags:
%%done:
    movzx eax, al
    test al, al
    pushfd
    pop edx
    and edx, PF | ZF | SF
    or ecx, edx
    shl ecx, 8
    or eax, ecx
    ret
%endmacro
; DAA's first step sets CF from the addition or the old CF; the second step decides it in the end.
reference_daa:
    reference add
reference_das:
    reference sub
