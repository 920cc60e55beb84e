; NMI, sent by the local APIC to itself: it needs no IF, comes through its gate without an error code,
; waits for the IRET of the one before, is remembered once, and wakes from HLT.
;
; expect: exit 33
; deviates: qemu "an IRET that faults": it unblocks NMIs as well (SDM volume 3, 6.7.1); QEMU leaves
;   them blocked.
; deviates: bochs "wakes from HLT", "not delivered as an interrupt": LINT0 is an NMI where its delivery mode says
;   so (SDM volume 3, 10.5.1); Bochs does not look at it.
%include "include/guest.inc"
%include "include/pc.inc"

NMI_ equ 2
ICR equ LOCAL_APIC + 0x300
ICR_TO equ LOCAL_APIC + 0x310
LINT0 equ LOCAL_APIC + 0x350
SPURIOUS equ LOCAL_APIC + 0xf0
SEND_NMI equ 0x4400                     ; delivery mode 4, to the processor in ICR_TO
SOME equ 2000                           ; turns of a loop in which one comes that can come

; settle: what is on its way comes
%macro settle 0
    push dword SOME
    call turn_around
%endmacro

main:
    mov dword [SPURIOUS], 0x1ff
    mov eax, [LOCAL_APIC + 0x20]
    and eax, 0xff000000
    mov [ICR_TO], eax
    set_idt_gate NMI_, KCS, on_nmi, INT_GATE

    ; with interrupts off
    mov ebx, 0x12345678
    mov dword [ICR], SEND_NMI
    settle
    expect_eq "without IF", [count], 1
    expect_eq "registers stay", ebx, 0x12345678
    expect_eq "cs in its frame", [seen_cs], KCS
    mov eax, [seen_flags]
    and eax, ~ARITHMETIC
    expect_eq "flags in its frame", eax, 2
    sti
    mov dword [ICR], SEND_NMI
    settle
    cli
    expect_eq "with IF", [count], 2
    expect_eq "IF is off in the handler", [seen_if], 0
    mov eax, [seen_flags]
    and eax, IF
    expect_eq "IF in its frame", eax, IF

    ; in ring 3, on ring 0's stack
    try .user_done
    enter_ring 3, .user
.user:
    mov dword [ICR], SEND_NMI
    settle
    int SYS
.user_done:
    expect_exception "back in ring 3", SYS, 0, .user_done
    expect_eq "in ring 3", [count], 3
    expect_eq "cs of ring 3", [seen_cs], UCS
    expect_eq "on ring 0's stack", [seen_esp], RING0_STACK - 20

    ; more of them while one is handled: one waits for the IRET, the others are lost
    mov ebp, 4
.again:
    mov dword [count], 0
    mov dword [inside], send_three
    mov dword [ICR], SEND_NMI
    settle
    expect_eq "one of three comes later", [count], 2
    expect_eq "not inside of the first", [deepest], 1
    mov dword [inside], send_three
    sti
    mov dword [ICR], SEND_NMI
    settle
    cli
    expect_eq "the same with IF", [count], 4
    expect_eq "the same with IF: depth", [deepest], 1
    dec ebp
    jnz .again

    ; any IRET lets the next one in
    mov dword [count], 0
    mov dword [inside], other_iret
    mov dword [ICR], SEND_NMI
    settle
    expect_eq "another IRET", [count], 2
    expect_eq "another IRET: inside of the first", [deepest], 2

    ; also one that faults
    mov dword [count], 0
    mov dword [depth], 0
    mov dword [deepest], 0
    mov dword [inside], bad_iret
    mov edi, esp
    mov dword [ICR], SEND_NMI
    settle
.never:
    hlt
after_bad_iret:
    mov esp, edi
    settle
    expect_eq "an IRET that faults", [count], 2
    pushfd                              ; for the next check, whatever that one gave
    push cs
    push dword .unblocked
    iretd
.unblocked:
    settle
    mov dword [depth], 0

    ; HLT ends: the timer's interrupt is made an NMI at the local APIC's pin
    mov dword [count], 0
    mov dword [inside], 0
    begin_interrupts 1 << 0
    set_idt_gate NMI_, KCS, on_nmi, INT_GATE
    mov dword [LINT0], 0x400
    write_port PIT_CONTROL, 0x30        ; once
    write_port PIT_CHANNEL0, PIT_KHZ & 0xff
    write_port PIT_CHANNEL0, PIT_KHZ >> 8
    sti
.halted:
    hlt
    cli
    expect_eq "wakes from HLT", [count], 1
    expect_eq "not delivered as an interrupt", [interrupt_counts + 4 * PIC_VECTORS], 0

    ; one that has been handled does not
    mov dword [LINT0], 0x700            ; the 8259s again
    write_port PIT_CONTROL, 0x34        ; every millisecond
    write_port PIT_CHANNEL0, PIT_KHZ & 0xff
    write_port PIT_CHANNEL0, PIT_KHZ >> 8
    clear_counts
    mov dword [ICR], SEND_NMI
    settle
    sti
    hlt
    cli
    cmp dword [interrupt_counts + 4 * PIC_VECTORS], 0
    setne al
    movzx eax, al
    expect_eq "HLT does not end by an old one", eax, 1
    finish

on_nmi:
    push eax
    inc dword [count]
    mov eax, [esp + 8]
    mov [seen_cs], eax
    mov eax, [esp + 12]
    mov [seen_flags], eax
    lea eax, [esp + 4]
    mov [seen_esp], eax
    pushfd
    pop eax
    and eax, IF
    mov [seen_if], eax
    inc dword [depth]
    mov eax, [depth]
    cmp eax, [deepest]
    jbe .known
    mov [deepest], eax
.known:
    mov eax, [inside]
    mov dword [inside], 0
    test eax, eax
    jz .plain
    call eax
.plain:
    dec dword [depth]
    pop eax
    iretd

send_three:
    mov dword [deepest], 1
    times 3 mov dword [ICR], SEND_NMI
    settle
    ret

other_iret:
    mov dword [ICR], SEND_NMI
    settle
    pushfd
    push cs
    push dword .here
    iretd
.here:
    settle
    ret

; An IRET to where there is no segment; what `try` caught goes on elsewhere.
bad_iret:
    mov dword [ICR], SEND_NMI
    settle
    try after_bad_iret
    pushfd
    push dword GDT_ENTRIES * 8
    push dword 0
    iretd

turn_around:
    push ecx
    mov ecx, [esp + 8]
.turn:
    dec ecx
    jnz .turn
    pop ecx
    ret 4

section .data
align 4
count: dd 0
depth: dd 0
deepest: dd 0
inside: dd 0                            ; called once by the handler
seen_cs: dd 0
seen_flags: dd 0
seen_esp: dd 0
seen_if: dd 0
