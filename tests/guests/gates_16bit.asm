; Gates and TSSs of the 286: call gates of 16 bits with parameters and stack switch, interrupt and
; trap gates of 16 bits with and without error codes, inner stacks from a 16-bit TSS, which has no
; I/O permission bitmap.
;
; expect: exit 33
; deviates: qemu "upper half of a gate's offset": a gate of 16 bits has none (SDM volume 3,
;   "Transferring Control Among Mixed-Size Code Segments"); QEMU adds it.
%include "include/guest.inc"

CODE3   equ SEL0 | 3                    ; the image from its offset 0 on: EIP fits into 16 bits
CODE0   equ SEL1
STACK3  equ SEL2 | 3                    ; ESP as well
GATE    equ SEL3
SAME    equ SEL4
TSS16   equ SEL5
VEC     equ 0x60

CALL_GATE16 equ 0x84
INT_GATE16  equ 0x86
TRAP_GATE16 equ 0x87
TSS16_TYPE  equ 0x81
TSS16_BASE  equ SCRATCH + 0x1000
STACK_TOP   equ 0x8000

%define OFFSET(label) (ADDRESS(label) - IMAGE_BASE)

; set_gate16 address, target selector, label, count, access
%macro set_gate16 5
    mov dword [%1], ((%2) << 16) | OFFSET(%3)
    mov dword [(%1) + 4], ((%5) << 8) | (%4)
%endmacro

; enter_user label: ring 3 in CODE3, on STACK3
%macro enter_user 1
    push dword STACK3
    push dword STACK_TOP
    push dword [user_eflags]
    push dword CODE3
    push dword OFFSET(%1)
    load_segment ds, UDS
    load_segment es, UDS
    iretd
%endmacro

main:
    set_descriptor SEL0, IMAGE_BASE, 0xffff, CODE_RX | DPL3, BIG
    set_descriptor CODE0, IMAGE_BASE, 0xffff, CODE_RX, BIG
    set_descriptor SEL2, USER_STACK - STACK_TOP, 0xffff, DATA_RW | DPL3, BIG
    set_gate16 gdt + GATE, CODE0, service, 2, CALL_GATE16 | DPL3
    set_gate16 gdt + SAME, CODE0, same_service, 2, CALL_GATE16 | DPL3

    ; a call inwards: words all over, two of them parameters
    try .called
    enter_user .user
.user:
    push dword 0x11112222               ; two words
    call GATE:0xdeadbeef
.after:
    mov ebx, esp
    int SYS
.called:
    expect_eq "back in ring 3", [exc_vector], SYS
    expect_eq "cs", [exc_cs], CODE3
    expect_eq "ss", [exc_ss], STACK3
    expect_eq "retf 4 releases the parameters", ebx, STACK_TOP
    expect_eq "esp", [seen_esp], RING0_STACK - 12
    expect_eq "new cs", [seen_cs], CODE0
    expect_eq "ip and cs", [seen_frame], CODE3 << 16 | OFFSET(.after)
    expect_eq "parameters", [seen_frame + 4], 0x11112222
    expect_eq "sp and ss", [seen_frame + 8], STACK3 << 16 | (STACK_TOP - 4)

    ; in the same ring: two words, no parameters
    mov edi, esp
    jmp CODE0:OFFSET(.low)
.low:
    call SAME:0
.same_after:
    jmp KCS:.high
.high:
    expect_eq "same ring: esp", [seen_esp], KERNEL_STACK - 4
    expect_eq "same ring: ip and cs", [seen_frame], CODE0 << 16 | OFFSET(.same_after)
    expect_eq "same ring: back", esp, edi

    ; interrupt and trap gates
    set_gate16 idt + 8 * VEC, CODE0, handler, 0, INT_GATE16 | DPL3
    mov dword [user_eflags], 2 | IF | IOPL | DF
    try .interrupted
    enter_user .int
.int:
    int VEC
.int_after:
    mov ebx, esp
    pushfd
    pop ecx
    cld
    int SYS
.interrupted:
    expect_eq "int: cs", [exc_cs], CODE3
    expect_eq "int: esp", [seen_esp], RING0_STACK - 10
    expect_eq "int: ip and cs", [seen_frame], CODE3 << 16 | OFFSET(.int_after)
    expect_eq "int: flags and sp", [seen_frame + 4], STACK_TOP << 16 | IF | IOPL | DF | 2
    movzx eax, word [seen_frame + 8]
    expect_eq "int: ss", eax, STACK3
    expect_eq "int: IF is off", [seen_if], 0
    expect_eq "iretw: esp", ebx, STACK_TOP
    expect_eq "iretw: flags", ecx, IF | IOPL | DF | 2
    mov byte [idt + 8 * VEC + 5], TRAP_GATE16 | DPL3
    try .trapped
    enter_user .trap
.trap:
    int VEC
    cld
    int SYS
.trapped:
    expect_eq "trap gate: IF stays", [seen_if], IF
    mov dword [user_eflags], 2

    ; the upper half of EFLAGS stays what it is through a frame of words
    pushfd
    or dword [esp], AC | ID
    popfd
    jmp CODE0:OFFSET(.in_low)
.in_low:
    int VEC
    jmp KCS:.in_high
.in_high:
    expect_flags "iretw keeps AC and ID", AC | ID, AC | ID
    push dword 2
    popfd

    ; an error code is a word as well
    mov eax, [idt + 8 * GP]
    mov [saved_gate], eax
    mov eax, [idt + 8 * GP + 4]
    mov [saved_gate + 4], eax
    set_gate16 idt + 8 * GP, CODE0, fault_handler, 0, INT_GATE16
    try .faulted
    enter_user .fault
.fault:
    mov es, [.tss_selector]             ; two bytes of memory, seven of code
.fault_after:
    int SYS
.tss_selector: dd TSS_SEL
.faulted:
    expect_eq "fault: back behind it", [exc_eip], OFFSET(.tss_selector)
    expect_eq "fault: esp", [seen_esp], RING0_STACK - 12
    movzx eax, word [seen_frame]
    expect_eq "fault: error code", eax, TSS_SEL
    movzx eax, word [seen_frame + 2]
    expect_eq "fault: ip", eax, OFFSET(.fault)
    mov eax, [saved_gate]
    mov [idt + 8 * GP], eax
    mov eax, [saved_gate + 4]
    mov [idt + 8 * GP + 4], eax

    ; a gate of 16 bits has 16 bits of offset
    skip_on_qemu "upper half of a gate's offset", .tss16
    mov word [idt + 8 * VEC + 6], 0x10
    mov dword [seen_esp], 0
    jmp CODE0:OFFSET(.upper)
.upper:
    try .upper_done
    int VEC
.upper_done:
    jmp KCS:.upper_high
.upper_high:
    mov dword [resume_eip], 0
    expect_eq "upper half of a gate's offset", [seen_esp], KERNEL_STACK - 6
    mov word [idt + 8 * VEC + 6], 0
    mov esp, edi
.tss16:

    ; a 16-bit TSS: SP and SS are words at other places, and there is no bitmap
    set_descriptor SEL6, SCRATCH, 0xffff, DATA_RW, BIG
    set_descriptor TSS16, TSS16_BASE, 0x2b, TSS16_TYPE, 0
    mov word [TSS16_BASE + 2], STACK_TOP
    mov word [TSS16_BASE + 4], SEL6
    mov eax, TSS16
    ltr ax
    movzx eax, byte [gdt + TSS16 + 5]
    expect_eq "16-bit TSS: busy", eax, TSS16_TYPE | 2
    try .with_tss16
    enter_user .user16
.user16:
    push dword 0x33334444
    call GATE:0
    mov ebx, esp
    int SYS
.with_tss16:
    expect_eq "16-bit TSS: esp", [seen_esp], STACK_TOP - 12
    expect_eq "16-bit TSS: ss", [seen_ss], SEL6
    expect_eq "16-bit TSS: parameters", [seen_frame + 4], 0x33334444
    expect_eq "16-bit TSS: back", ebx, STACK_TOP
    expect_ring_fault 3, "16-bit TSS: in", GP, 0, {in al, 0x80}
    finish

service:
    call note_frame
    o16 retf 4
same_service:
    call note_frame
    o16 retf
handler:
    call note_frame
    o16 iret
fault_handler:
    call note_frame
    add esp, 2
    add word [esp], main.fault_after - main.fault
    o16 iret

; Notes the frame above the return address, and the segments; DS and ES are flat.
note_frame:
    pushad
    lea esi, [esp + 36]
    mov [seen_esp], esi
    mov eax, cs
    mov [seen_cs], eax
    mov eax, ss
    mov [seen_ss], eax
    pushfd
    pop eax
    and eax, IF
    mov [seen_if], eax
    mov edi, seen_frame
    mov ecx, 12
    cld
.copy:
    mov al, [ss:esi]
    mov [edi], al
    inc esi
    inc edi
    loop .copy
    popad
    ret

section .data
align 4
seen_esp: dd 0
seen_cs: dd 0
seen_ss: dd 0
seen_if: dd 0
seen_frame: times 3 dd 0
saved_gate: dd 0, 0
