; The Multiboot header and the entry: a stack, the FPU and SSE ready, then guest_main(magic, info).
bits 32

extern image_start
extern image_data_end
extern image_end
extern guest_main

FLAGS equ 0x10003                       ; page-aligned modules, memory sizes, addresses below
MAGIC equ 0x1badb002

section .multiboot
align 4
header:
        dd MAGIC, FLAGS, -(MAGIC + FLAGS)
        dd header, image_start, image_data_end, image_end, start

section .text
global start
start:
        mov     esp, stack_top
        mov     ecx, cr0
        and     ecx, ~0xc               ; EM and TS off
        or      ecx, 0x22               ; MP and NE on
        mov     cr0, ecx
        mov     ecx, cr4
        or      ecx, 0x600              ; OSFXSR and OSXMMEXCPT
        mov     cr4, ecx
        fninit
        push    ebx
        push    eax
        call    guest_main
.stop:  cli
        hlt
        jmp     .stop

section .bss nobits alloc noexec write align=4096
        resb    0x40000
stack_top:
