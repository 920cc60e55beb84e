; The local APIC's timer: one shot, periodic, masked, and held back by the task priority.
;
; expect: exit 33
%include "include/guest.inc"
%include "include/pc.inc"

VECTOR equ 0x41
TASK_PRIORITY equ LOCAL_APIC + 0x80
SPURIOUS equ LOCAL_APIC + 0xf0
IN_SERVICE equ LOCAL_APIC + 0x100 + 0x20    ; vectors 0x40 to 0x5f
REQUESTED equ LOCAL_APIC + 0x200 + 0x20
TIMER equ LOCAL_APIC + 0x320
INITIAL_COUNT equ LOCAL_APIC + 0x380
CURRENT_COUNT equ LOCAL_APIC + 0x390
DIVIDE equ LOCAL_APIC + 0x3e0
MASKED equ 1 << 16
PERIODIC equ 1 << 17
COUNT equ 1000000

main:
    mov eax, 1
    cpuid
    and edx, 1 << 9
    expect_eq "CPUID has it", edx, 1 << 9
    mov ecx, 0x1b
    rdmsr
    and eax, 0xfffff900
    expect_eq "where it is, enabled, boot processor", eax, LOCAL_APIC | 0x900
    mov eax, [LOCAL_APIC + 0x30]
    and eax, 0xff
    expect_eq "version", eax, 0x14

    begin_interrupts 0
    mov dword [device_handler], look
    mov dword [SPURIOUS], 0x1ff
    mov dword [TASK_PRIORITY], 0
    mov dword [DIVIDE], 0x0b            ; by 1

    mov dword [TIMER], VECTOR
    mov dword [INITIAL_COUNT], COUNT
    await VECTOR, 1
    expect_eq "in service in the handler", [in_service], 1 << (VECTOR & 31)
    expect_eq "not any more", [IN_SERVICE], 0
    expect_eq "the count is 0", [CURRENT_COUNT], 0
    sti
    spin 3
    cli
    expect_count "one shot: once", VECTOR, 1

    mov dword [TIMER], VECTOR | PERIODIC
    mov dword [INITIAL_COUNT], COUNT
    await VECTOR, 6
    mov eax, [CURRENT_COUNT]
    cmp eax, COUNT
    setbe al
    movzx eax, al
    expect_eq "the count goes on", eax, 1

    mov dword [TIMER], VECTOR | PERIODIC | MASKED
    expect_silence "masked", VECTOR
    mov dword [INITIAL_COUNT], 0

    ; its class is not above the task's
    clear_counts
    mov dword [TASK_PRIORITY], VECTOR & 0xf0
    mov dword [TIMER], VECTOR
    mov dword [INITIAL_COUNT], COUNT
    sti
.running:
    test dword [REQUESTED], 1 << (VECTOR & 31)
    jz .running
    spin 1
    cli
    expect_count "held back", VECTOR, 0
    expect_eq "processor priority", [LOCAL_APIC + 0xa0], VECTOR & 0xf0
    mov dword [TASK_PRIORITY], (VECTOR & 0xf0) - 0x10
    await VECTOR, 1
    expect_eq "served", [REQUESTED], 0
    expect_count "once", VECTOR, 1

    ; to oneself
    mov dword [LOCAL_APIC + 0x300], 0x40000 | 0x44000 | 0x55
    await 0x55, 1
    expect_count "self-directed", 0x55, 1
    expect_count "no spurious one", 0xff, 0
    finish

look:
    mov eax, [IN_SERVICE]
    mov [in_service], eax
    ret

section .data
align 4
in_service: dd 0
