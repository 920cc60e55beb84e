; A coprocessor's emulator in real mode, as programs for machines without one bring it along: with CR0.EM set, INT 7
; executes one instruction in the program's place. What it is told about prefixes, operands and lengths; that WAIT
; is none of its business; and that the same program then runs on the coprocessor.
;
; expect: exit 33
%include "include/guest.inc"
%include "include/real_mode.inc"

main:
    call prepare_real
    change_cr0 CR0_TS | CR0_MP, CR0_EM
    run_real emulated
    change_cr0 CR0_EM | CR0_TS, CR0_MP
    fninit
    run_real on_the_coprocessor
    call check_notes
    finish

real_begin
real_support

; FILD, FIADD, FIMUL and FISTP of words at constant addresses, some with prefixes.
%macro program 0
    fild word [0x100]
    fiadd word [cs:AT(seven)]
    wait
    fimul word [bx]
    fistp word [es:si + 2]
    nop
%endmacro
; 1000 + 7 and times 3
%macro prepare_program 0
    mov word [0x100], 1000
    mov word [0x102], 3
    mov word [0x112], 0
    mov bx, 0x102
    mov si, 0x110
%endmacro

emulated:
    mov word [gs:NM * 4], AT(device_not_available)
    mov word [gs:NM * 4 + 2], REAL_SEGMENT
    prepare_program
    program
    note16 "emulated: sum and product", [0x112], 3021
    note16 "emulated: instructions", [cs:AT(emulations)], 4
    note16 "emulated: with a prefix, it is reported", [cs:AT(prefixed)], 2
    note16 "emulated: sp", sp, REAL_TOP
    ; loops keep their flags
    mov word [0x100], 0
    mov cx, 100
    xor ax, ax
.loop:
    stc
    fild word [0x100]
    adc ax, 0
    fistp word [0x100]
    loop .loop
    note16 "emulated: carry through it all", ax, 100
    note16 "emulated: instructions of a loop", [cs:AT(emulations)], 204
    ; a WAIT is executed unless TS and MP are set
    mov eax, cr0
    or al, CR0_MP
    mov cr0, eax
    wait
    note16 "wait with em and mp", [cs:AT(emulations)], 204
    and al, ~CR0_MP
    or al, CR0_TS
    mov cr0, eax
    wait
    note16 "wait with em and ts", [cs:AT(emulations)], 204
    or al, CR0_MP
    mov cr0, eax
    mov word [gs:NM * 4], AT(real_stubs) + 8 * NM
    rfault "wait with ts and mp", NM, wait
    rfault "fninit", NM, fninit
    rfault "fnstsw ax", NM, fnstsw ax
    rfault "a prefix before it", NM, {db 0x2e, 0x26, 0xd9, 0x06, 0x00, 0x01}
    rfault "before the operand's address is looked at", NM, fld qword [0xfffc]
    real_done

on_the_coprocessor:
    prepare_program
    program
    note16 "on the coprocessor", [0x112], 3021
    real_done

; The accumulator is a word. Knows DE /0, DE /1, DF /0 and DF /3 with [bx], [si + 8 bits] and a constant address.
device_not_available:
    pushf
    cld
    push ds
    push es
    push bp
    mov bp, sp
    push ax
    push bx
    push cx
    push si
    push di
    mov cx, ds                          ; the operand's segment
    lds si, [bp + 8]
.prefix:
    lodsb
    cmp al, 0x2e
    jne .not_cs
    mov cx, [bp + 10]
    jmp .prefixed
.not_cs:
    cmp al, 0x26
    jne .opcode
    mov cx, [bp + 2]
.prefixed:
    inc word [cs:AT(prefixed)]
    jmp .prefix
.opcode:
    mov ah, al
    lodsb
    mov di, ax
    and al, 0xc7
    cmp al, 0x06
    jne .not_constant
    mov bx, [si]
    add si, 2
    jmp .operand
.not_constant:
    cmp al, 0x07
    je .operand                         ; BX
    mov al, [si]
    cbw
    inc si
    mov bx, [bp - 8]                    ; SI
    add bx, ax
.operand:
    mov [bp + 8], si
    mov ds, cx
    mov ax, di
    and al, 0x38
    cmp ax, 0xdf00
    je .load
    cmp ax, 0xde00
    je .add
    cmp ax, 0xde08
    je .multiply
    cmp ax, 0xdf18
    je .store
    ud2
.load:
    mov ax, [bx]
    mov [cs:AT(accumulator)], ax
    jmp .done
.add:
    mov ax, [bx]
    add [cs:AT(accumulator)], ax
    jmp .done
.multiply:
    mov ax, [bx]
    imul ax, [cs:AT(accumulator)]
    mov [cs:AT(accumulator)], ax
    jmp .done
.store:
    mov ax, [cs:AT(accumulator)]
    mov [bx], ax
.done:
    inc word [cs:AT(emulations)]
    pop di
    pop si
    pop cx
    pop bx
    pop ax
    pop bp
    pop es
    pop ds
    popf
    iret

seven: dw 7
accumulator: dw 0
emulations: dw 0
prefixed: dw 0

real_end
