; The real-time clock's interrupts through the second 8259: periodic and update-ended.
;
; expect: exit 33
; deviates: qemu "the flag without the line": the periodic flag is set whatever the enable bits are
;   (MC146818 data sheet, register C); QEMU stops the divider when nothing is enabled.
; deviates: bochs "the flag without the line": register C's flags rise whether or not register B enables them
;   (MC146818 data sheet, register C); Bochs lets the periodic one rise only then.
%include "include/guest.inc"
%include "include/pc.inc"

RTC equ PIC_VECTORS + 8
SECONDS equ 0
REGISTER_A equ 10
REGISTER_B equ 11
REGISTER_C equ 12
PERIODIC equ 0x40
UPDATE_ENDED equ 0x10
HOURS_24 equ 0x02
FLAG equ 0x80

; write_rtc register, value / read_rtc register: into EAX
%macro write_rtc 2
    write_port 0x70, %1
    write_port 0x71, %2
%endmacro
%macro read_rtc 1
    write_port 0x70, %1
    xor eax, eax
    in al, 0x71
%endmacro

main:
    begin_interrupts 1 << 8 | 1 << 2
    mov dword [device_handler], acknowledge
    write_rtc REGISTER_B, HOURS_24
    write_rtc REGISTER_A, 0x26          ; 1024 Hz
    read_rtc REGISTER_C
    begin_time
    write_rtc REGISTER_B, HOURS_24 | PERIODIC
    await RTC, 20
    expect_time "20 at 1024 Hz", 18
    mov eax, [flags]
    and eax, FLAG | PERIODIC
    expect_eq "register C of the last", eax, FLAG | PERIODIC

    ; off again; the flag is still raised, but not the line
    write_rtc REGISTER_B, HOURS_24
    read_rtc REGISTER_C
    begin_interrupts 1 << 8 | 1 << 2    ; forgets what waits
    clear_counts
    sti
    spin 3
    cli
    expect_count "none when disabled", RTC, 0
    read_rtc REGISTER_C
    and eax, FLAG | PERIODIC
    expect_eq "the flag without the line", eax, PERIODIC
    read_rtc REGISTER_C
    and eax, FLAG
    expect_eq "reading clears", eax, 0

    ; without a reading of register C the line stays up, so there is no second edge
    mov dword [device_handler], 0
    write_rtc REGISTER_B, HOURS_24 | PERIODIC
    await RTC, 1
    sti
    spin 5
    cli
    expect_count "not acknowledged: one edge", RTC, 1
    write_rtc REGISTER_B, HOURS_24
    read_rtc REGISTER_C

    ; once a second
    mov dword [device_handler], acknowledge
.updating:
    read_rtc REGISTER_A
    test al, 0x80
    jnz .updating
    read_rtc SECONDS
    mov [seconds], eax
    read_rtc REGISTER_C
    write_rtc REGISTER_B, HOURS_24 | UPDATE_ENDED
    await RTC, 2
    mov eax, [flags]
    and eax, FLAG | UPDATE_ENDED
    expect_eq "register C of the update", eax, FLAG | UPDATE_ENDED
    read_rtc SECONDS
    sub eax, [seconds]
    setnz al
    movzx eax, al
    expect_eq "the second is another", eax, 1
    write_rtc REGISTER_B, HOURS_24
    expect_count "no spurious one", PIC_VECTORS + 15, 0
    finish

acknowledge:
    read_rtc REGISTER_C
    mov [flags], eax
    ret

section .data
align 4
flags: dd 0
seconds: dd 0
