; The PIT through pin 2 of the I/O APIC.
;
; expect: exit 33
%include "include/guest.inc"
%include "include/pc.inc"

VECTOR equ 0x51
PIN equ 2
MASKED equ 1 << 16

; write_io_apic register, value / read_io_apic register: into EAX
%macro write_io_apic 2
    mov dword [IO_APIC], %1
    mov dword [IO_APIC + 0x10], %2
%endmacro
%macro read_io_apic 1
    mov dword [IO_APIC], %1
    mov eax, [IO_APIC + 0x10]
%endmacro

main:
    begin_interrupts 0
    mov dword [LOCAL_APIC + 0xf0], 0x1ff
    mov dword [LOCAL_APIC + 0x80], 0
    read_io_apic 1
    shr eax, 16
    and eax, 0xff
    expect_eq "24 pins", eax, 23

    mov eax, [LOCAL_APIC + 0x20]
    and eax, 0xff000000
    write_io_apic 0x11 + 2 * PIN, eax
    write_io_apic 0x10 + 2 * PIN, VECTOR | MASKED
    read_io_apic 0x10 + 2 * PIN
    expect_eq "reads back", eax, VECTOR | MASKED
    write_port PIT_CONTROL, 0x34
    write_port PIT_CHANNEL0, PIT_KHZ & 0xff
    write_port PIT_CHANNEL0, PIT_KHZ >> 8
    sti
    spin 3
    cli
    expect_count "none while masked", VECTOR, 0
    write_io_apic 0x10 + 2 * PIN, VECTOR
    begin_time                          ; no edge of the new count comes early
    write_port PIT_CONTROL, 0x34
    write_port PIT_CHANNEL0, PIT_KHZ & 0xff
    write_port PIT_CHANNEL0, PIT_KHZ >> 8
    clear_counts
    await VECTOR, 10
    expect_time "10 ticks at 1 kHz", 8
    write_io_apic 0x10 + 2 * PIN, VECTOR | MASKED
    expect_silence "masked again", VECTOR
    expect_count "nothing by the 8259s", PIC_VECTORS, 0
    finish
