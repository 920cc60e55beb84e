; Loops that wait by polling, for long enough to be throttled: each ends when what it waits for comes.
; And loops that only look like it, because they read a clock.
;
; expect: exit 33
%include "include/guest.inc"
%include "include/pc.inc"

TICKS equ 40
TRIES equ 8

; expect_least "name", got, least
%macro expect_least 3
    mov eax, %2
    cmp eax, %3
    setae al
    movzx eax, al
    expect_eq %1, eax, 1
%endmacro

; A new count: what a busy host made the last one miss does not come any more.
%macro start_ticks 0
    begin_time
    write_port PIT_CONTROL, 0x34        ; low and high byte, mode 2
    write_port PIT_CHANNEL0, PIT_KHZ & 0xff
    write_port PIT_CHANNEL0, PIT_KHZ >> 8
    mov dword [ticks], 0
%endmacro

main:
    mov dword [device_handler], on_tick
    begin_interrupts 1 << 0

    ; a word of memory
    start_ticks
    sti
.word:
    pause
    cmp dword [ticks], TICKS
    jb .word
    cli
    expect_time "a word that changes after 40 ticks", TICKS - 1

    ; the same through a function, which writes to the stack
    start_ticks
    sti
.function:
    push dword ticks
    call value_at
    cmp eax, TICKS
    jb .function
    cli
    expect_time "a word that a function reads", TICKS - 1

    ; with interrupts on for an instruction only
    start_ticks
.window:
    sti
    nop
    cli
    cmp dword [ticks], TICKS
    jb .window
    expect_time "a word, in a window for interrupts", TICKS - 1

    ; a port
    start_ticks
    write_port PIC1, 0x0a               ; IRR
.request:
    in al, PIC1
    test al, 1
    jz .request
    inc dword [ticks]
    sti                                 ; takes the tick away
    nop
    cli
    cmp dword [ticks], TICKS
    jb .request
    expect_time "requests seen by reading a port", TICKS / 2 - 2

    ; on the spot, until the handler writes other code there
    start_ticks
    sti
spot:
    jmp spot
    cli
    expect_time "a jump to itself", TICKS - 1
    movzx eax, word [spot]
    expect_eq "the handler has overwritten it", eax, 0x9090

    ; a loop that writes is none that waits: it counts on. What a busy host does meanwhile is no
    ; guest's fault, so it has some tries.
    mov ecx, TRIES
.counting:
    start_ticks
    mov dword [counter], 0
    sti
.count:
    inc dword [counter]
    cmp dword [ticks], TICKS
    jb .count
    cli
    cmp dword [counter], 1000
    jae .counted
    loop .counting
.counted:
    expect_least "a loop that counts in memory", [counter], 1000

    ; nor is one that reads a clock, and it is not held up
    mov ecx, 4
.clock:
    begin_time
    spin 20
    expect_time "20 ms by the power management timer", 20
    loop .clock
    mov ecx, TRIES
.reading:
    mov edi, 0
    begin_time
.tsc:
    inc edi
    rdtsc
    call elapsed_ticks
    cmp eax, PM_TICKS_PER_MS * 20
    jb .tsc
    cmp edi, 200
    jae .read
    loop .reading
.read:
    expect_least "reading two clocks", edi, 200
    finish

value_at:
    mov eax, [esp + 4]
    mov eax, [eax]
    ret 4

on_tick:
    inc dword [ticks]
    cmp dword [ticks], TICKS
    jne .done
    cmp dword [exc_eip], spot
    jne .done
    mov word [spot], 0x9090
.done:
    ret

section .data
align 4
ticks: dd 0
counter: dd 0
