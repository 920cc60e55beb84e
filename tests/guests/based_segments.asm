; A kernel whose code, data and stack segments have a base, as old kernels had: everything works by
; offsets; interrupts from flat ring 3 into it; per-CPU and TLS segments; addresses that wrap.
;
; expect: exit 33
; deviates: qemu "past 4 GiB*": processors may refuse accesses beyond an effective limit of 4 GiB (SDM
;   volume 3, 5.3); those we have seen do where the base is not 0, and QEMU does not.
%include "include/guest.inc"

BASE equ 0xf0000000

main:
    ; segments such that linear = offset + BASE (wrapping): the image at linear 1 MiB has offsets
    ; from 0x10100000
    set_descriptor SEL0, BASE, 0xfffff, CODE_RX, BIG | PAGES
    set_descriptor SEL1, BASE, 0xfffff, DATA_RW, BIG | PAGES
    set_descriptor SEL2, SCRATCH, 0xfffff, DATA_RW, BIG | PAGES
    mov dword [SCRATCH], 0x1000
    mov esi, esp
    mov eax, SEL1
    jmp SEL0:(.based - image + IMAGE_BASE - BASE)
.based:
    mov ds, eax
    mov es, eax
    mov ss, eax
    lea esp, [esi - BASE]
    ; code by offsets: calls, indirect jumps, data
    call .function
    mov ecx, .function - image + IMAGE_BASE - BASE
    call ecx
    mov edx, [SCRATCH - BASE]
    mov dword [SCRATCH + 4 - BASE], .pointer_target - image + IMAGE_BASE - BASE
    jmp [SCRATCH + 4 - BASE]
.back:
    push dword 0x77
    pop dword [SCRATCH + 8 - BASE]
    mov edi, SCRATCH + 0x100 - BASE
    mov ecx, 64
    mov eax, 0x01010101
    rep stosd
    mov ebp, esp
    mov ebx, [ebp - 4]
    ; a fault: EIP is an offset, CR2 would be linear
    mov dword [resume_eip - BASE], .faulted
    mov dword [exc_vector - BASE], NO_EXCEPTION
    mov [resume_esp - BASE], esi
.fault:
    ud2
    ; the flat handler goes on here, in flat segments
.faulted:
    expect_exception "fault in based code", UD, 0, .fault - image + IMAGE_BASE - BASE
    expect_eq "its cs", [exc_cs], SEL0
    expect_eq "its esp is an offset", [exc_esp], KERNEL_STACK - BASE
    expect_eq "function called twice", [SCRATCH + 12], 2
    expect_eq "load", edx, 0x1000
    expect_eq "push and pop", [SCRATCH + 8], 0x77
    expect_eq "rep stosd", [SCRATCH + 0x1fc], 0x01010101
    expect_eq "[ebp-4]", ebx, 0x77
    jmp .tls
.function:
    inc dword [SCRATCH + 12 - BASE]
    ret
.pointer_target:
    jmp .back

    ; TLS-like: FS with a base, negative offsets that wrap
.tls:
    load_segment fs, SEL2
    mov eax, 4
    mov dword [fs:eax + 0x1000], 0x1234
    mov eax, [fs:eax + 0x1000]
    expect_eq "fs with an index", eax, 0x1234
    mov ecx, -0x100
    mov dword [fs:ecx], 0x5678
    expect_eq "fs with a negative offset", [SCRATCH - 0x100], 0x5678
    mov ebx, 0x2000
    fs add dword [ebx], 5
    fs inc dword [ebx]
    expect_eq "fs read-modify-write", [SCRATCH + 0x2000], 6
    ; in ring 3, with its own copy
    set_descriptor SEL3, SCRATCH + 0x3000, 0xfffff, DATA_RW | DPL3, BIG | PAGES
    mov dword [SCRATCH + 0x3010], 0xabcd
    try .user_done
    enter_ring 3, .user
.user:
    mov eax, SEL3 | 3
    mov gs, eax
    mov ecx, 1000
    xor eax, eax
.user_loop:
    add eax, [gs:0x10]
    inc dword [gs:0x14]
    loop .user_loop
    int SYS
.user_done:
    expect_eq "gs in ring 3", eax, 0xabcd * 1000
    expect_eq "gs in ring 3, counted", [SCRATCH + 0x3014], 1000
    ; two threads' segments in turn: the descriptor changes, the selector does not
    mov ecx, 100
    xor ebx, ebx
    mov dword [SCRATCH + 0x4000], 1
    mov dword [SCRATCH + 0x5000], 100
.threads:
    set_descriptor SEL4, SCRATCH + 0x4000, 0xfffff, DATA_RW, BIG | PAGES
    load_segment gs, SEL4
    add ebx, [gs:0]
    set_descriptor SEL4, SCRATCH + 0x5000, 0xfffff, DATA_RW, BIG | PAGES
    load_segment gs, SEL4
    add ebx, [gs:0]
    dec ecx
    jnz .threads
    expect_eq "threads", ebx, 10100
    ; ES with a base for strings, DS with another
    try .strings
    load_segment es, SEL2
    mov esi, SCRATCH + 0x5000
    mov edi, 0x6000
    movsd
    push ss
    pop es
.strings:
    mov dword [resume_eip], 0
    ; an access across the last offset is outside, wherever the base is; one that ends there is not
    mov ecx, -2
    load_segment fs, SEL2
    expect_fault "past 4 GiB in fs", GP, 0, mov eax, [fs:ecx]
    expect_fault "past 4 GiB in fs, store", GP, 0, mov [fs:ecx], eax
    expect_no_fault "up to 4 GiB in fs", mov ax, [fs:ecx]
    load_segment es, SEL2
    expect_fault "past 4 GiB in es", GP, 0, mov eax, [es:ecx]
    load_segment es, SEL2               ; an exception's way back makes it flat
    expect_fault "past 4 GiB in es, store", GP, 0, mov [es:ecx], eax
    load_segment es, SEL2
    expect_no_fault "up to 4 GiB in es", mov ax, [es:ecx]
    set_descriptor SEL4, SCRATCH + 0x804, 0xfffff, DATA_RW, BIG | PAGES
    load_segment es, SEL4
    expect_fault "past 4 GiB with an odd base", GP, 0, mov eax, [es:ecx]
    load_segment es, SEL4
    expect_fault "past 4 GiB with an odd base, store", GP, 0, mov [es:ecx], eax
    push ss
    pop es
    expect_eq "movsd into a based es", [SCRATCH + 0x6000], 100
    finish
