; With CR0.NE clear an unmasked x87 exception arrives as IRQ 13, and a write to port 0xF0 lets go of
; its line.
;
; expect: exit 33
; qemu: skip it aborts on an assertion of its own when WAIT raises IRQ 13
; deviates: bochs "before the waiting instruction": the processor freezes before the waiting instruction (SDM volume
;   1, D.2.1.1); Bochs executes it.
%include "include/guest.inc"
%include "include/pc.inc"

COPROCESSOR equ PIC_VECTORS + 13

main:
    begin_interrupts 1 << 13 | 1 << 2
    mov dword [device_handler], acknowledge
    change_cr0 CR0_NE | CR0_EM | CR0_TS, CR0_MP
    fninit
    fldcw [unmask_zero_divide]
    call divide
    sti
    nop
.waiting:
    wait
    nop
    cli
    expect_count "IRQ 13", COPROCESSOR, 1
    expect_eq "before the waiting instruction", [exc_eip], .waiting
    mov eax, [status_word]
    and eax, 0x84
    expect_eq "ES and ZE in the handler", eax, 0x84
    ; the line has fallen and rises again
    call divide
    sti
    wait
    nop
    cli
    expect_count "again", COPROCESSOR, 2

    ; masked
    fninit
    call divide
    sti
    wait
    nop
    cli
    expect_count "none when masked", COPROCESSOR, 2
    expect_count "no spurious one", PIC_VECTORS + 15, 0
    finish

divide:
    fld1
    fldz
    fdivp
    ret

acknowledge:
    fnstsw [status_word]
    write_port 0xf0, 0
    fnclex
    ret

section .data
align 4
unmask_zero_divide: dd 0x37b
status_word: dd 0
