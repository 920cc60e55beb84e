; Channel 0 of the 8254 through the 8259s: periodic ticks, and one shot.
;
; expect: exit 33
%include "include/guest.inc"
%include "include/pc.inc"

main:
    begin_interrupts 1 << 0
    begin_time
    write_port PIT_CONTROL, 0x34        ; low and high byte, mode 2
    write_port PIT_CHANNEL0, PIT_KHZ & 0xff
    write_port PIT_CHANNEL0, PIT_KHZ >> 8
    await PIC_VECTORS, 20
    expect_time "20 ticks at 1 kHz", 19
    expect_eq "in ring 0 with interrupts on", [exc_cs], KCS
    mov eax, [exc_eflags]
    and eax, IF
    expect_eq "the interrupted EFLAGS", eax, IF

    ; while interrupts are off, one is kept and the others are lost
    clear_counts
    spin 5
    expect_count "none with IF clear", PIC_VECTORS, 0
    write_port PIC1, 0x0a               ; IRR
.waiting:                               ; the next one
    in al, PIC1
    test al, 1
    jz .waiting
    ; a masked one neither
    write_port PIC1 + 1, 0xff
    sti
    spin 3
    cli
    expect_count "none while masked", PIC_VECTORS, 0
    write_port PIC1 + 1, 0xfe
    await PIC_VECTORS, 1                ; it comes after unmasking

    ; mode 0: OUT falls at once and rises at the end of the count, for good
    write_port PIT_CONTROL, 0x30
    spin 3                              ; QEMU's ends the period that had begun
    begin_interrupts 1 << 0             ; forgets what waits
    clear_counts
    begin_time
    write_port PIT_CHANNEL0, (2 * PIT_KHZ) & 0xff
    write_port PIT_CHANNEL0, (2 * PIT_KHZ) >> 8
    await PIC_VECTORS, 1
    expect_time "the end of the count", 1
    sti
    spin 6
    cli
    expect_count "a single one", PIC_VECTORS, 1
    write_port PIT_CONTROL, 0xe2        ; read back: status of channel 0
    in al, PIT_CHANNEL0
    and eax, 0xbf
    expect_eq "OUT is high, mode 0", eax, 0xb0

    ; a new count starts it again
    write_port PIT_CHANNEL0, 0
    write_port PIT_CHANNEL0, 1
    await PIC_VECTORS, 2
    expect_count "again", PIC_VECTORS, 2

    expect_count "no spurious one", PIC_VECTORS + 7, 0
    expect_count "nor of the second 8259", PIC_VECTORS + 15, 0
    write_port PIC1, 0x0b               ; ISR
    in al, PIC1
    and eax, 0xff
    expect_eq "none in service", eax, 0
    finish
