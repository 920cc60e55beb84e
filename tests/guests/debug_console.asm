; The debug console on port 0xE9: reads give 0xE9, bytes and strings appear in the output.
;
; expect: exit 33
; expect: output "by OUT"
; expect: output "by OUTSB"
; expect: output "by ring 3"
%include "include/guest.inc"

main:
    in al, 0xe9
    movzx eax, al
    expect_eq "reads back", eax, 0xe9
    mov esi, text_out
.next:
    lodsb
    test al, al
    jz .string
    out 0xe9, al
    jmp .next
.string:
    mov esi, text_outsb
    mov ecx, text_ring3 - text_outsb
    mov edx, 0xe9
    rep outsb
    expect_eq "rep outsb: ecx", ecx, 0
    expect_eq "rep outsb: esi", esi, text_ring3
    mov dword [user_eflags], 2 | IOPL
    mov ecx, text_end - text_ring3
    expect_ring_ok 3, "rep outsb in ring 3", rep outsb
    ; ports where nothing answers read as ones
    mov dx, 0x5678
    in eax, dx
    expect_eq "nobody's port", eax, -1
    xor eax, eax
    in al, dx
    expect_eq "nobody's port, byte", eax, 0xff
    mov edi, SCRATCH
    mov ecx, 3
    rep insw
    expect_eq "rep insw", [SCRATCH + 2], -1
    expect_eq "rep insw: edi", edi, SCRATCH + 6
    std
    mov edi, SCRATCH + 0x100
    mov ecx, 2
    rep insd
    cld
    expect_eq "down rep insd: edi", edi, SCRATCH + 0xf8
    ; byte and word outputs leave the registers alone
    mov eax, 0x12345678
    out dx, ax
    out dx, eax
    expect_eq "out keeps eax", eax, 0x12345678
    in al, 0xe9
    expect_eq "in al keeps the rest", eax, 0x123456e9
    finish

section .data
text_out: db "by OUT", 10, 0
text_outsb: db "by OUTSB", 10
text_ring3: db "by ring 3", 10
text_end:
