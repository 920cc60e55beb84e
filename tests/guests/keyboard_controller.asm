; The keyboard controller and the keyboard behind it.
;
; expect: exit 33
%include "include/guest.inc"
%include "include/pc.inc"

KEYBOARD equ PIC_VECTORS + 1

; ask command, into EAX: a command to the controller and its answer
%macro ask 1
    write_port 0x64, %1
    call read_answer
%endmacro

main:
    begin_interrupts 1 << 1
    mov dword [device_handler], read_key
    write_port 0x64, 0xad               ; the keyboard is silent
.flush:
    in al, 0x64
    test al, 1
    jz .empty
    in al, 0x60
    jmp .flush
.empty:
    ask 0xaa
    expect_eq "self test", eax, 0x55
    ask 0xab
    expect_eq "the keyboard's wires", eax, 0
    ask 0xd0
    and eax, 3
    expect_eq "output port: A20 open, no reset", eax, 3
    write_port 0x64, 0xdf
    ask 0xd0
    and eax, 3
    expect_eq "A20 opened", eax, 3

    write_port 0x64, 0x60
    write_port 0x60, 0x45               ; translation, IRQ 1, tested
    ask 0x20
    expect_eq "command byte", eax, 0x45
    spin 1
    mov dword [received], 0
    clear_counts
    write_port 0x60, 0xee
    await KEYBOARD, 1
    expect_eq "echo", [keys], 0xee
    write_port 0x60, 0xf2
    await KEYBOARD, 4
    expect_eq "identity", [keys], 0x41abfaee
    sti
    spin 3
    cli
    expect_count "one interrupt for each byte", KEYBOARD, 4
    in al, 0x64
    and eax, 1
    expect_eq "nothing left", eax, 0

    ; without its interrupt
    write_port 0x64, 0x60
    write_port 0x60, 0x44
    write_port 0x60, 0xee
    call read_answer
    expect_eq "polled echo", eax, 0xee
    sti
    nop
    cli
    expect_count "no interrupt", KEYBOARD, 4
    finish

; EAX: the next byte.
read_answer:
    xor eax, eax
.wait:
    in al, 0x64
    test al, 1
    jz .wait
    in al, 0x60
    ret

read_key:
    mov edx, [received]
    in al, 0x60
    cmp edx, 4
    jae .full
    mov [keys + edx], al
    inc dword [received]
.full:
    ret

section .data
align 4
received: dd 0
keys: dd 0
