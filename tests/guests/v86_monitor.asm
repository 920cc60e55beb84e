; A monitor that runs virtual-8086 code with IOPL 0, as memory managers do: it executes INT, IRET,
; CLI, STI, PUSHF, POPF, IN and OUT in the program's place, and reflects its exceptions.
;
; expect: exit 33
%include "include/guest.inc"

CODE_SEGMENT  equ 0x2000
DATA_SEGMENT  equ 0x3000
STACK_SEGMENT equ 0x4000
RESULTS       equ DATA_SEGMENT * 16
ROUNDS        equ 1000

FRAME_V86_ES  equ FRAME_SS + 4
FRAME_V86_DS  equ FRAME_SS + 8
FRAME_V86_FS  equ FRAME_SS + 12
FRAME_V86_GS  equ FRAME_SS + 16

%define AT(label) ((label) - program)

main:
    mov esi, program
    mov edi, CODE_SEGMENT * 16
    mov ecx, program_end - program
    rep movsb
    mov edi, RESULTS
    mov ecx, 0x100
    xor eax, eax
    rep stosd
    ; its vectors: divide error, invalid opcode, its own
    mov dword [0 * 4], CODE_SEGMENT << 16 | AT(divide_handler)
    mov dword [6 * 4], CODE_SEGMENT << 16 | AT(opcode_handler)
    mov dword [0x61 * 4], CODE_SEGMENT << 16 | AT(service)
    mov dword [0x62 * 4], CODE_SEGMENT << 16 | AT(nested)
    hook monitor
    call run_program
    hook 0

    expect_eq "the sum", [RESULTS], ROUNDS * (ROUNDS + 1) / 2
    expect_eq "interrupts", [interrupts], ROUNDS + 3
    expect_eq "iret", [returns], ROUNDS + 5
    expect_eq "virtual if: at first, after cli, after sti", [RESULTS + 4], 0x010001
    movzx eax, word [RESULTS + 8]
    expect_eq "virtual if in a handler", eax, 0
    movzx eax, word [RESULTS + 10]
    expect_eq "virtual if behind it", eax, 1
    expect_eq "flags by popf", [RESULTS + 12], CF | ZF | DF
    expect_eq "in and out", [RESULTS + 16], 0x5a5b
    expect_eq "what went out", [last_out], 0x5a
    expect_eq "divide errors", [RESULTS + 20], 1
    expect_eq "invalid opcodes", [RESULTS + 24], 1
    expect_eq "sp at the end", [last_esp], 0x8000
    expect_eq "segments as they were", [last_segments], DATA_SEGMENT << 16 | 0x1111
    expect_eq "fs and gs", [last_segments + 4], 0x2222 << 16 | 0x3333
    expect_eq "data segments are null in the monitor", [monitor_segments], 0
    expect_eq "vm in the frame, iopl 0", [frame_flags], VM
    expect_eq "others", [others], 0
    finish

run_program:
    mov [program_esp], esp
    push dword 0x3333
    push dword 0x2222
    push dword DATA_SEGMENT
    push dword 0x1111
    push dword STACK_SEGMENT
    push dword 0x8000
    push dword VM | 2
    push dword CODE_SEGMENT
    push dword 0
    mov dword [virtual_if], 1
    iretd

; EBP: the frame.
monitor:
    mov eax, gs
    shl eax, 16
    mov ax, fs
    or eax, [exc_ds]
    or eax, [exc_es]
    or [monitor_segments], eax
    mov eax, [ebp + FRAME_EFLAGS]
    and eax, VM | IOPL
    mov [frame_flags], eax
    mov eax, [ebp + FRAME_VECTOR]
    cmp eax, GP
    jne .reflect
    mov esi, [ebp + FRAME_CS]
    shl esi, 4
    add esi, [ebp + FRAME_EIP]
    inc dword [ebp + FRAME_EIP]
    mov al, [esi]
    cmp al, 0xcd
    je .int
    cmp al, 0xcf
    je .iret
    cmp al, 0xfa
    je .cli
    cmp al, 0xfb
    je .sti
    cmp al, 0x9c
    je .pushf
    cmp al, 0x9d
    je .popf
    cmp al, 0xec
    je .in
    cmp al, 0xee
    je .out
    cmp al, 0xf4
    je .hlt
    inc dword [others]
    jmp .hlt
.int:
    inc dword [ebp + FRAME_EIP]
    inc dword [interrupts]
    movzx eax, byte [esi + 1]
.reflect:
    push eax
    call virtual_flags
    call push_word
    mov eax, [ebp + FRAME_CS]
    call push_word
    mov eax, [ebp + FRAME_EIP]
    call push_word
    pop eax
    mov dword [virtual_if], 0
    movzx ecx, word [4 * eax]
    mov [ebp + FRAME_EIP], ecx
    movzx ecx, word [4 * eax + 2]
    mov [ebp + FRAME_CS], ecx
    ret
.iret:
    inc dword [returns]
    call pop_word
    mov [ebp + FRAME_EIP], eax
    call pop_word
    mov [ebp + FRAME_CS], eax
    call pop_word
    jmp set_virtual_flags
.cli:
    mov dword [virtual_if], 0
    ret
.sti:
    mov dword [virtual_if], 1
    ret
.pushf:
    call virtual_flags
    jmp push_word
.popf:
    call pop_word
    jmp set_virtual_flags
.in:
    mov eax, [ebp + FRAME_EDX]
    mov [ebp + FRAME_EAX], al           ; reads the port's number
    ret
.out:
    movzx eax, byte [ebp + FRAME_EAX]
    mov [last_out], eax
    ret
.hlt:
    mov eax, [ebp + FRAME_ESP]
    mov [last_esp], eax
    movzx eax, word [ebp + FRAME_V86_DS]
    shl eax, 16
    mov ax, [ebp + FRAME_V86_ES]
    mov [last_segments], eax
    movzx eax, word [ebp + FRAME_V86_FS]
    shl eax, 16
    mov ax, [ebp + FRAME_V86_GS]
    mov [last_segments + 4], eax
    mov esp, [program_esp]
    ret                                 ; of run_program

; EAX: the program's flags as it sees them.
virtual_flags:
    mov eax, [ebp + FRAME_EFLAGS]
    and eax, 0xffff & ~IF
    cmp dword [virtual_if], 0
    je .off
    or eax, IF
.off:
    ret

set_virtual_flags:
    mov ecx, eax
    shr ecx, 9
    and ecx, 1
    mov [virtual_if], ecx
    and eax, ARITHMETIC | DF
    and dword [ebp + FRAME_EFLAGS], ~(ARITHMETIC | DF)
    or [ebp + FRAME_EFLAGS], eax
    ret

push_word:
    sub word [ebp + FRAME_ESP], 2
    call stack_address
    mov [edi], ax
    ret
pop_word:
    call stack_address
    movzx eax, word [edi]
    add word [ebp + FRAME_ESP], 2
    ret
stack_address:
    movzx edi, word [ebp + FRAME_ESP]
    mov ecx, [ebp + FRAME_SS]
    shl ecx, 4
    add edi, ecx
    ret

; The program.
bits 16
program:
    ; the sum of 1 to ROUNDS, by interrupts
    mov cx, ROUNDS
    xor eax, eax
    mov [0], eax
.sum:
    movzx eax, cx
    int 0x61
    loop .sum
    ; IF
    pushf
    pop ax
    cli
    pushf
    pop bx
    sti
    pushf
    pop dx
    call one_bit                        ; of AX, into the low word
    mov [4], ax
    mov ax, bx
    call one_bit
    or [4], ax
    mov ax, dx
    call one_bit
    mov [6], ax
    int 0x62
    int 0x62
    pushf
    pop ax
    call one_bit
    mov [10], ax
    push word CF | ZF | DF | IF | 2
    popf
    pushf
    cld
    pop ax
    and eax, ARITHMETIC | DF
    mov [12], eax
    ; ports
    mov dx, 0x5b
    mov ax, 0x5a00
    in al, dx
    mov [16], ax
    mov al, ah
    out dx, al
    ; exceptions
    xor bx, bx
    div bx
    db 0x0f, 0x0b
    int 0x62
    hlt

one_bit:
    shr ax, 9
    and ax, 1
    ret

service:
    add [0], eax
    iret

nested:
    push ax
    pushf
    pop ax
    call one_bit
    mov [8], ax
    pop ax
    iret

divide_handler:
    push bp
    mov bp, sp
    add word [bp + 2], 2
    pop bp
    inc word [20]
    iret
opcode_handler:
    push bp
    mov bp, sp
    add word [bp + 2], 2
    pop bp
    inc word [24]
    iret
program_end:
bits 32

section .data
align 4
program_esp: dd 0
virtual_if: dd 0
interrupts: dd 0
returns: dd 0
others: dd 0
last_out: dd 0
last_esp: dd 0
last_segments: dd 0, 0
monitor_segments: dd 0
frame_flags: dd 0
