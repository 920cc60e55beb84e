; Running a function in ring 3.
bits 32

global enter_user
global leave_user
extern task_state

USER_CODE   equ 0x1b
USER_DATA   equ 0x23
KERNEL_DATA equ 0x10

section .text

; void enter_user(void (*function)(void*), void* argument, void* stack_top)
; Returns when the function does. The function runs with interrupts on and IOPL 0.
enter_user:
        push    ebp
        push    ebx
        push    esi
        push    edi
        mov     eax, [esp + 20]
        mov     edx, [esp + 24]
        mov     ecx, [esp + 28]
        mov     [saved_esp], esp
        mov     [task_state + 4], esp   ; ESP0: interrupts push below what is saved here
        sub     ecx, 16
        mov     [ecx + 4], edx
        mov     dword [ecx], user_return
        mov     edx, USER_DATA
        mov     ds, edx
        mov     es, edx
        push    edx
        push    ecx
        pushfd
        or      dword [esp], 0x200
        push    dword USER_CODE
        push    eax
        iretd

section .user_text progbits alloc exec nowrite align=16
user_return:                            ; in ring 3
        int     0x81

section .text
leave_user:                             ; the gate of interrupt 0x81
        mov     edx, KERNEL_DATA
        mov     ds, edx
        mov     es, edx
        mov     esp, [saved_esp]
        pop     edi
        pop     esi
        pop     ebx
        pop     ebp
        ret

section .bss nobits alloc noexec write align=4
saved_esp:
        resd    1
