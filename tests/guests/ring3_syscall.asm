; User mode: entry by IRET, INT 0x80 into the kernel and back, stack switch, what the frame holds,
; and what ring 3 may not do.
;
; expect: exit 33
%include "include/guest.inc"

main:
    ; what an interrupt from ring 3 pushes
    mov dword [user_eflags], 2 | CF | IF
    try .back
    enter_ring 3, .user
.user:
    mov eax, 0x1234
    push eax
    stc
.call:
    int SYS
.back:
    expect_exception "int 0x80", SYS, 0, .back
    expect_eq "eax", [exc_eax], 0x1234
    expect_eq "cs", [exc_cs], UCS
    expect_eq "ss", [exc_ss], UDS
    expect_eq "esp", [exc_esp], USER_STACK - 4
    expect_eq "pushed value", [USER_STACK - 4], 0x1234
    expect_eq "frame at the top of the TSS's stack", [exc_frame], RING0_STACK - 20
    mov eax, [exc_eflags]
    and eax, IF | IOPL | CF
    expect_eq "eflags", eax, IF | CF

    ; system calls that return: a sum in ECX over 1000 calls
    mov dword [user_eflags], 2
    hook system_call
    enter_ring 3, user_loop
after_exit:
    hook 0
    mov esp, KERNEL_STACK
    expect_eq "calls", [calls], 1000
    expect_eq "sum", [sum], 499500
    expect_eq "flags survive a call", [flag_errors], 0

    ; what is not for ring 3
    expect_ring_fault 3, "cli", GP, 0, cli
    expect_ring_fault 3, "sti", GP, 0, sti
    expect_ring_fault 3, "hlt", GP, 0, hlt
    mov dx, 0x80
    expect_ring_fault 3, "out", GP, 0, out dx, al
    expect_ring_fault 3, "in", GP, 0, in al, 0x80
    expect_ring_fault 3, "mov cr0", GP, 0, mov eax, cr0
    expect_ring_fault 3, "mov to cr3", GP, 0, mov cr3, eax
    expect_ring_fault 3, "mov dr7", GP, 0, mov eax, dr7
    expect_ring_fault 3, "lgdt", GP, 0, lgdt [gdt_pointer]
    expect_ring_fault 3, "lidt", GP, 0, lidt [idt_pointer]
    expect_ring_fault 3, "lldt", GP, 0, lldt ax
    expect_ring_fault 3, "ltr", GP, 0, ltr ax
    expect_ring_fault 3, "clts", GP, 0, clts
    expect_ring_fault 3, "lmsw", GP, 0, lmsw ax
    expect_ring_fault 3, "invlpg", GP, 0, invlpg [0]
    expect_ring_fault 3, "invd", GP, 0, invd
    expect_ring_fault 3, "wbinvd", GP, 0, wbinvd
    mov ecx, 0x174
    expect_ring_fault 3, "rdmsr", GP, 0, rdmsr
    expect_ring_fault 3, "wrmsr", GP, 0, wrmsr
    expect_ring_fault 3, "int 0x21: gate of ring 0", GP, 0x21 * 8 + 2, int 0x21
    expect_ring_ok 3, "sgdt is allowed", sgdt [SCRATCH]
    expect_ring_ok 3, "smsw is allowed", smsw eax
    expect_eq "smsw", [exc_eax], 0x11 | CR0_NE * 0
    expect_ring_ok 3, "str is allowed", str eax
    expect_eq "str", [exc_eax], TSS_SEL

    ; POPF in ring 3: IF and IOPL stay without a fault
    mov dword [user_eflags], 2 | IF
    try .popped
    enter_ring 3, .pop_flags
.pop_flags:
    push dword IOPL | CF | ID | 2
    popfd
    pushfd
    pop eax
    int SYS
.popped:
    mov eax, [exc_eax]
    and eax, IF | IOPL | CF | ID
    expect_eq "popfd in ring 3", eax, IF | CF | ID
    mov dword [user_eflags], 2
    finish

; EAX 1: add EBX to the sum. EAX 2: leave.
system_call:
    expect_eq "vector", [exc_vector], SYS
    cmp dword [ebp + FRAME_EAX], 2
    je .leave
    inc dword [calls]
    mov eax, [ebp + FRAME_EBX]
    add [sum], eax
    mov eax, [sum]
    mov [ebp + FRAME_EAX], eax
    ret
.leave:
    mov esp, KERNEL_STACK
    jmp after_exit

user_loop:
    xor ebx, ebx
.next:
    mov eax, 1
    mov ecx, ebx
    stc
    int SYS
    jnc .bad
    cmp ecx, ebx
    jne .bad
    inc ebx
    cmp ebx, 1000
    jne .next
    mov eax, 2
    int SYS
.bad:
    inc dword [flag_errors]
    mov eax, 2
    int SYS

section .data
align 4
calls: dd 0
sum: dd 0
flag_errors: dd 0
