; The firmware that runs a guest program under Bochs: the last 512 bytes of a ROM of 128 KiB that
; begins with the program's image. It copies the image to where Multiboot wants it, gives the power
; management timer the ports that programs use, and goes to the entry in flat protected mode. After a
; reset it says so on COM1 instead and switches off.
IMAGE_BASE  equ 0x100000
CR0_PE      equ 1
CR0_CACHES  equ 3 << 29                 ; CD and NW, which a reset sets

ROM_BASE    equ 0xfffe0000
ROM_SIZE    equ 0x20000
LOADER_SIZE equ 0x200
ENTRY       equ 28                      ; of the Multiboot header
CODE        equ 8
DATA        equ 16
PM_BASE     equ 0x600
STARTED     equ 0x500                   ; a word of RAM that no program uses
COM1        equ 0x3f8

org ROM_BASE + ROM_SIZE - LOADER_SIZE
%define IN_SEGMENT(label) ((label) - loader + 0x10000 - LOADER_SIZE)

; write port, value, register: AL or EAX
%macro write 3
    mov dx, %1
    mov %3, %2
    out dx, %3
%endmacro

bits 32
loader:
flat:
    mov eax, DATA
    mov ds, eax
    mov es, eax
    mov ss, eax
    cld
    cmp dword [STARTED], "once"
    je again
    mov dword [STARTED], "once"
    mov esi, ROM_BASE
    mov edi, IMAGE_BASE
    mov ecx, (ROM_SIZE - LOADER_SIZE) / 4
    rep movsd

    write 0xcf8, 0x80000b40, eax        ; the PIIX4's function 3: PMBA and its enable bit
    write 0xcfc, PM_BASE | 1, eax
    write 0xcf8, 0x80000b80, eax
    write 0xcfc, 1, al

    mov eax, 0x2badb002
    mov ebx, information
    jmp [IMAGE_BASE + ENTRY]

again:
    mov esi, reset_line
    mov edi, COM1
    mov ecx, switch_off - reset_line
    call put
.sending:
    in al, dx
    test al, 0x40
    jz .sending
    mov edi, 0x8900
    mov ecx, loader_name - switch_off
    call put
    hlt

; ECX characters from ESI to port EDI.
put:
    mov edx, COM1 + 5
.wait:
    in al, dx
    test al, 0x20
    jz .wait
    lodsb
    mov edx, edi
    out dx, al
    mov edx, COM1 + 5
    loop .wait
    ret

reset_line:  db "RESET", 10
switch_off:  db "Shutdown"
loader_name: db "bochs", 0
align 4
information:
    dd 1 << 9                           ; of all fields there is the loader's name alone
    times 15 dd 0
    dd loader_name
align 8
gdt:
    dq 0, 0x00cf9a000000ffff, 0x00cf92000000ffff
gdt_pointer:
    dw 23
    dd gdt

bits 16
real:
    o32 lgdt [cs:IN_SEGMENT(gdt_pointer)]
    mov eax, cr0
    and eax, ~CR0_CACHES
    or al, CR0_PE
    mov cr0, eax
    jmp dword CODE:flat

    times LOADER_SIZE - 16 - ($ - $$) db 0
reset:
    cli
    jmp near real
    times LOADER_SIZE - ($ - $$) db 0
