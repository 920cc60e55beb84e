; The I/O permission bitmap: bits for all bytes of an access, the TSS's limit, ports across a byte
; of the bitmap, IOPL above it.
;
; expect: exit 33
%include "include/guest.inc"

MAP_TSS equ SCRATCH                     ; a TSS with a bitmap at 0x68
MAP equ MAP_TSS + 0x68
LAST equ 0x68 + 0x20                    ; 256 ports and the byte behind

%macro allow 1
    and byte [MAP + (%1) / 8], ~(1 << ((%1) % 8)) & 0xff
%endmacro

main:
    mov esi, tss
    mov edi, MAP_TSS
    mov ecx, 26
    rep movsd
    mov word [MAP_TSS + 102], 0x68
    mov edi, MAP
    mov ecx, 0x21
    mov al, 0xff
    rep stosb
    set_descriptor SEL0, MAP_TSS, LAST, TSS_TYPE, 0
    mov eax, SEL0
    ltr ax

    ; all denied, then some allowed; ports 0x80 to 0x8f touch nothing that matters
    expect_ring_fault 3, "denied", GP, 0, in al, 0x80
    allow 0x80
    expect_ring_ok 3, "allowed byte", in al, 0x80
    expect_ring_fault 3, "word needs two", GP, 0, in ax, 0x80
    allow 0x81
    expect_ring_ok 3, "allowed word", in ax, 0x80
    expect_ring_fault 3, "dword needs four", GP, 0, in eax, 0x80
    allow 0x83
    expect_ring_fault 3, "dword with a hole", GP, 0, out 0x80, eax
    allow 0x82
    expect_ring_ok 3, "allowed dword", out 0x80, eax
    expect_ring_fault 3, "dword at 0x81", GP, 0, in eax, 0x81
    mov edx, 0x80
    expect_ring_ok 3, "through dx", out dx, al
    mov edi, SCRATCH + 0x1000
    mov ecx, 3
    expect_ring_ok 3, "rep insb", rep insb
    expect_eq "rep insb: ecx", ecx, 0
    mov edx, 0x84
    mov ecx, 3
    expect_ring_fault 3, "rep insb denied", GP, 0, rep insb
    expect_eq "rep insb denied: ecx", ecx, 3

    ; across a byte of the bitmap
    allow 0x87
    expect_ring_fault 3, "word across bytes", GP, 0, in ax, 0x87
    allow 0x88
    expect_ring_ok 3, "allowed word across bytes", in ax, 0x87

    ; the last ports: two bytes of the bitmap are read, both must be inside the TSS
    allow 0xff
    expect_ring_ok 3, "port 0xff", in al, 0xff
    mov edx, 0x100
    and byte [MAP + 0x20], 0
    expect_ring_fault 3, "beyond the bitmap", GP, 0, in al, dx
    mov edx, 0x8000
    expect_ring_fault 3, "far beyond the bitmap", GP, 0, in al, dx
    or byte [MAP + 0x20], 0xff
    set_descriptor SEL0, MAP_TSS, LAST - 1, TSS_TYPE, 0
    mov eax, SEL0
    ltr ax
    expect_ring_fault 3, "the byte behind is outside", GP, 0, in al, 0xff
    expect_ring_ok 3, "others are inside", in al, 0x80

    ; a bitmap base beyond the limit: none at all
    set_descriptor SEL0, MAP_TSS, 0x67, TSS_TYPE, 0
    mov eax, SEL0
    ltr ax
    expect_ring_fault 3, "no bitmap", GP, 0, in al, 0x80
    ; IOPL allows without looking
    mov dword [user_eflags], 2 | IOPL
    expect_ring_ok 3, "IOPL 3", in al, 0x80
    mov dword [user_eflags], 2 | 1 << 12
    expect_ring_ok 1, "IOPL 1 in ring 1", in al, 0x80
    expect_ring_fault 2, "IOPL 1 in ring 2", GP, 0, in al, 0x80
    mov dword [user_eflags], 2
    ; ring 0 with IOPL 0
    expect_no_fault "ring 0", in al, 0x80
    ; changes of the bitmap count at once
    set_descriptor SEL0, MAP_TSS, LAST, TSS_TYPE, 0
    mov eax, SEL0
    ltr ax
    mov ecx, 50
.change:
    xor byte [MAP + 0x90 / 8], 1 << (0x90 % 8)
    mov edi, NO_EXCEPTION
    try .changed
    enter_ring 3, .user
.user:
    in al, 0x90
    int SYS
.changed:
    mov eax, [exc_vector]
    mov edx, GP
    test byte [MAP + 0x90 / 8], 1 << (0x90 % 8)
    jnz .denied
    mov edx, SYS
.denied:
    expect_eq "bitmap changes", eax, edx
    loop .change
    finish
