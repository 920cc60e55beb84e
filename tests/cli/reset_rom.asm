; A ROM of 64 KiB: starts at the reset vector, sees that it cannot be written below 4 GiB nor below
; 1 MiB, that RAM is under it when the host bridge is told so, and that this RAM can be protected.
bits 16
org 0

PAM0 equ 0x59

start:
    o32 lgdt [cs:gdt_pointer]             ; CS has the ROM's base: below 4 GiB
    mov eax, cr0
    or al, 1
    mov cr0, eax
    mov bx, 8
    mov ds, bx
    mov es, bx                          ; flat, also when protected mode is left
    and al, 0xfe
    mov cr0, eax
    xor bx, bx
    mov ss, bx
    mov sp, 0x1000

    mov bl, 1                           ; which check fails
    mov eax, [dword 0xfffffff0]
    cmp eax, [dword 0x000ffff0]
    jne failed
    inc bl
    mov esi, 0xffff8000
    call write_is_lost
    inc bl
    mov esi, 0x000f8000
    call write_is_lost

    inc bl                              ; RAM for reading and writing
    mov al, 0x30
    call set_pam0
    cmp dword [esi], 0
    jne failed
    mov dword [esi], 0x12345678
    cmp dword [esi], 0x12345678
    jne failed

    inc bl                              ; RAM for reading
    mov al, 0x10
    call set_pam0
    mov dword [esi], 0
    cmp dword [esi], 0x12345678
    jne failed

    inc bl                              ; the ROM again
    mov al, 0
    call set_pam0
    cmp dword [esi], 0x12345678
    je failed
    call write_is_lost

    inc bl
    jmp 0xf000:low                      ; the copy below 1 MiB
low:
    mov ax, cs
    cmp ax, 0xf000
    jne failed
    mov al, 0x10
    out 0xf4, al
failed:
    mov al, bl
    out 0xf4, al
    hlt

write_is_lost:
    mov eax, [esi]
    not dword [esi]
    cmp eax, [esi]
    jne failed
    ret

set_pam0:
    push ax
    mov dx, 0xcf8
    mov eax, 0x80000000 | (PAM0 & ~3)
    out dx, eax
    mov dx, 0xcfc + (PAM0 & 3)
    pop ax
    out dx, al
    ret

gdt: dq 0
    dw 0xffff, 0
    db 0, 0x93, 0xcf, 0
gdt_pointer:
    dw 15
    dd 0xffff0000 + gdt

    times 0x8000 - ($ - $$) db 0x5a
    dd 0xdeadbeef
    times 0xfff0 - ($ - $$) db 0xff
    jmp start
    times 0x10000 - ($ - $$) db 0
