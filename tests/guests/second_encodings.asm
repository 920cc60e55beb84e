; Encodings that the manual leaves out or marks as reserved and that processors execute: the group at
; 82h, the sixth shift (SAL), the second TEST, AAM and AAD of any base, SALC, INT1, FFREEP and the
; second x87 exchanges, comparisons and stores. In 32-bit code, and in real mode.
;
; expect: exit 33
; deviates: qemu "test f6 /1", "test f7 /1", "test f7 /1, 16 bits", "16-bit: test f6 /1", "16-bit:
;   test f7 /1": #UD there; processors execute F6 /1 and F7 /1 as TEST, which the comparison with
;   the host's CPU shows
; deviates: qemu "16-bit: int1", "16-bit: int1: ip": #UD there; INT1 is vector 1 in real mode too (SDM
;   volume 2, INT1)
%include "include/guest.inc"
%include "include/real_mode.inc"

; Both have the same results and flags, from the same registers.
%macro same 3                           ; name, instruction, the one it stands for
    try %%unexpected
    call load_inputs
    %2
    jmp %%executed
%%unexpected:
    mov ebx, 0xbad
%%executed:
    mov dword [resume_eip], 0
    pushfd
    pop dword [SCRATCH]
    mov [SCRATCH + 4], eax
    mov [SCRATCH + 8], ebx
    call load_inputs
    %3
    pushfd
    pop ecx
    xor ecx, [SCRATCH]
    and ecx, ARITHMETIC
    xor eax, [SCRATCH + 4]
    xor ebx, [SCRATCH + 8]
    or ecx, eax
    or ecx, ebx
    expect_eq %1, ecx, 0
%endmacro

; The x87 registers and the status word are the same.
%macro same_x87 3
    call load_x87
    %2
    fnsave [SCRATCH]
    mov dword [SCRATCH + 12], 0
    mov dword [SCRATCH + 16], 0
    call load_x87
    %3
    fnsave [SCRATCH + 0x100]
    mov dword [SCRATCH + 0x100 + 12], 0
    mov dword [SCRATCH + 0x100 + 16], 0
    expect_bytes %1, SCRATCH, SCRATCH + 0x100, 108
%endmacro

main:
    ; --- the group at 82h ---
    same "add", {db 0x82, 0xc3, 0x91}, {add bl, 0x91}
    same "or", {db 0x82, 0xcb, 0x91}, {or bl, 0x91}
    same "adc", {db 0x82, 0xd3, 0x91}, {adc bl, 0x91}
    same "sbb", {db 0x82, 0xdb, 0x91}, {sbb bl, 0x91}
    same "and", {db 0x82, 0xe3, 0x91}, {and bl, 0x91}
    same "sub", {db 0x82, 0xeb, 0x91}, {sub bl, 0x91}
    same "xor", {db 0x82, 0xf3, 0x91}, {xor bl, 0x91}
    same "cmp", {db 0x82, 0xfb, 0x91}, {cmp bl, 0x91}
    same "add to a high byte", {db 0x82, 0xc7, 0x91}, {add bh, 0x91}
    mov dword [SCRATCH + 0x20], 0x11223344
    mov edi, SCRATCH + 0x20
    lock db 0x82, 0x07, 0x99
    expect_eq "lock add m8", [SCRATCH + 0x20], 0x112233dd
    db 0x82, 0x7f, 0x01, 0x33           ; cmp byte [edi + 1], 0x33
    expect_flags "cmp m8", ZF, ZF
    expect_fault "lock with a register", UD, 0, db 0xf0, 0x82, 0xc3, 0x91

    ; --- SAL ---
    same "sal by 1, 8 bits", {db 0xd0, 0xf3}, {shl bl, 1}
    same "sal by 1", {db 0xd1, 0xf3}, {shl ebx, 1}
    same "sal by 1, 16 bits", {db 0x66, 0xd1, 0xf3}, {shl bx, 1}
    same "sal by cl, 8 bits", {db 0xd2, 0xf3}, {shl bl, cl}
    same "sal by cl", {db 0xd3, 0xf3}, {shl ebx, cl}
    same "sal by 3, 8 bits", {db 0xc0, 0xf3, 3}, {shl bl, 3}
    same "sal by 3", {db 0xc1, 0xf3, 3}, {shl ebx, 3}
    same "sal by 0 keeps flags", {db 0xc1, 0xf3, 0x20}, {shl ebx, 0x20}
    mov dword [SCRATCH + 0x20], 0x81000001
    db 0xd1, 0x37                       ; sal dword [edi], 1
    expect_flags "sal m32, 1", CF, CF
    expect_eq "sal m32, 1", [SCRATCH + 0x20], 0x02000002

    ; --- TEST ---
    same "test f6 /1", {db 0xf6, 0xcb, 0x5a}, {test bl, 0x5a}
    same "test f7 /1", {db 0xf7, 0xcb, 0x11, 0x22, 0x33, 0x84}, {test ebx, 0x84332211}
    same "test f7 /1, 16 bits", {db 0x66, 0xf7, 0xcb, 0x11, 0x82}, {test bx, 0x8211}

    ; --- decimals ---
%macro decimals 1
    %defstr %%base %1
    %strcat %%m "aam ", %%base
    %strcat %%d "aad ", %%base
    mov eax, 0x765400e7
    db 0xd4, %1
    expect_eq %%m, eax, 0x76540000 | (0xe7 / %1) << 8 | 0xe7 % %1
    mov eax, 0x76541234
    db 0xd5, %1
    expect_eq %%d, eax, 0x76540000 | ((0x34 + 0x12 * %1) & 0xff)
%endmacro
    decimals 1
    decimals 2
    decimals 7
    decimals 10
    decimals 16
    decimals 100
    decimals 128
    decimals 255
    mov eax, 0x1234
    db 0xd5, 0
    expect_eq "aad 0", eax, 0x34
    expect_fault "aam 0", DE, 0, db 0xd4, 0
    mov eax, 0x80                       ; AAD's flags are those of an addition
    db 0xd5, 0x10
    expect_flags "aad: flags", ZF | SF | PF, SF

    ; --- SALC keeps all flags ---
    same "salc", {db 0xd6}, {mov al, 0xff}
    mov eax, 0x123456ff
    push dword ARITHMETIC & ~CF | 2
    popfd
    db 0xd6
    expect_flags "salc: flags", ARITHMETIC, ARITHMETIC & ~CF
    expect_eq "salc without carry", eax, 0x12345600

    ; --- x87 ---
    same_x87 "ffreep st0", {db 0xdf, 0xc0}, fstp st0
    same_x87 "ffreep st2", {db 0xdf, 0xc2}, call free_and_pop
    same_x87 "fcom, second", {db 0xdc, 0xd1}, fcom st1
    same_x87 "fcomp, second", {db 0xdc, 0xd9}, fcomp st1
    same_x87 "fcomp, third", {db 0xde, 0xd1}, fcomp st1
    same_x87 "fxch, second", {db 0xdd, 0xca}, fxch st2
    same_x87 "fxch, third", {db 0xdf, 0xca}, fxch st2
    same_x87 "fstp, second", {db 0xdf, 0xd2}, fstp st2
    same_x87 "fstp, third", {db 0xdf, 0xda}, fstp st2
    same_x87 "fstp, fourth", {db 0xd9, 0xda}, fstp st2

    call prepare_real
    run_real encodings16
    call check_notes
    finish

load_inputs:
    push dword CF | AF | 2
    popfd
    mov eax, 0x81c3a596
    mov ebx, 0x9234c5e7
    mov ecx, 0xffffff05
    ret

load_x87:
    fninit
    fld1
    fldpi
    fldl2e
    fldz
    ret

free_and_pop:
    ffree st2
    fstp st0
    ret

real_begin
real_support

%macro same16 3
    %strcat %%name "16-bit: ", %1
    rtry %%after
    call load_inputs16
    %2
%%after:
    mov word [fs:RN_RESUME], 0
    pushf
    pop word [0x20]
    mov [0x22], ax
    mov [0x24], bx
    call load_inputs16
    %3
    pushf
    pop cx
    xor cx, [0x20]
    and cx, ARITHMETIC
    xor ax, [0x22]
    xor bx, [0x24]
    or cx, ax
    or cx, bx
    cmp dword [fs:RN_VECTOR], NO_EXCEPTION
    je %%note
    mov cx, 0xbad
%%note:
    note16 %%name, cx, 0
%endmacro

encodings16:
    same16 "add", {db 0x82, 0xc3, 0x91}, {add bl, 0x91}
    same16 "sbb", {db 0x82, 0xdb, 0x91}, {sbb bl, 0x91}
    same16 "cmp", {db 0x82, 0xfb, 0x91}, {cmp bl, 0x91}
    same16 "sal by 1", {db 0xd1, 0xf3}, {shl bx, 1}
    same16 "sal by 1, 32 bits", {db 0x66, 0xd1, 0xf3}, {shl ebx, 1}
    same16 "sal by cl", {db 0xd3, 0xf3}, {shl bx, cl}
    same16 "sal by 3, 8 bits", {db 0xc0, 0xf3, 3}, {shl bl, 3}
    same16 "test f6 /1", {db 0xf6, 0xcb, 0x5a}, {test bl, 0x5a}
    same16 "test f7 /1", {db 0xf7, 0xcb, 0x11, 0x82}, {test bx, 0x8211}
    same16 "salc", {db 0xd6}, {mov al, 0xff}
    same16 "aam 16", {db 0xd4, 16}, {call by_sixteen}
    mov ax, 0x1234
    db 0xd5, 7
    note16 "16-bit: aad 7", ax, (0x34 + 0x12 * 7) & 0xff
    rfault "16-bit: aam 0", 0, {db 0xd4, 0}
    fninit
    fld1
    fldpi
    db 0xdf, 0xc1                       ; ffreep st1
    fnstenv [0x40]
    note16 "16-bit: ffreep", [0x44], 0xffff
    rtry .after_int1
    db 0xf1
.after_int1:
    note_exception "16-bit: int1", 1, .after_int1
    mov ax, 0x1234
    push sp
    pop ax
    note16 "16-bit: push sp", ax, REAL_TOP
    real_done

; The flags that AAM leaves, too.
by_sixteen:
    mov ah, al
    shr ah, 4
    and al, 15
    add al, 0
    ret

load_inputs16:
    push word CF | AF | 2
    popf
    mov eax, 0x81c3a596
    mov ebx, 0x9234c5e7
    mov ecx, 0xffffff05
    ret

real_end
