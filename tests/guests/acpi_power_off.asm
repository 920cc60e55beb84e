; Soft-off as the ACPI tables say: RSDP, RSDT, FADT, and the sleep bits of PM1a control.
;
; expect: exit 0
; expect: output "switching off"
; bochs: skip the firmware that it is given leaves no ACPI tables
%include "include/guest.inc"

PM1A_CONTROL equ 0x604
SLEEP_TYPE_S5 equ 0
SLEEP_ENABLE equ 1 << 13

main:
    mov esi, 0xe0000
.search:
    cmp dword [esi], "RSD "
    jne .next
    cmp dword [esi + 4], "PTR "
    je .found
.next:
    add esi, 16
    cmp esi, 0x100000
    jb .search
    expect_eq "RSDP", 0, 1
    finish
.found:
    mov ecx, 20
    call sum
    expect_eq "sum of the RSDP", eax, 0
    mov esi, [esi + 16]
    expect_eq "RSDT", [esi], "RSDT"
    mov ecx, [esi + 4]
    call sum
    expect_eq "sum of the RSDT", eax, 0
    mov edi, [esi + 4]
    add edi, esi                        ; behind the last entry
    add esi, 36
.table:
    cmp esi, edi
    jae .none
    mov ebx, [esi]
    cmp dword [ebx], "FACP"
    je .fadt
    add esi, 4
    jmp .table
.none:
    expect_eq "FADT", 0, 1
    finish
.fadt:
    mov esi, ebx
    mov ecx, [esi + 4]
    call sum
    expect_eq "sum of the FADT", eax, 0
    expect_eq "PM1a control", [esi + 64], PM1A_CONTROL
    ; takes over from firmware, where that is asked for
    mov edx, [esi + 48]
    test edx, edx
    jz .enabled
    mov al, [esi + 52]
    out dx, al
.enabled:
    mov dx, PM1A_CONTROL
    in ax, dx
    and eax, 1
    expect_eq "SCI_EN", eax, 1
    cmp dword [checks_failed], 0
    jne .failed
    print "switching off"
    mov dx, PM1A_CONTROL
    mov ax, SLEEP_TYPE_S5 << 10 | SLEEP_ENABLE
    out dx, ax
.wait:
    pause
    jmp .wait
.failed:
    finish

; EAX: the sum of ECX bytes from ESI, modulo 256. Keeps ESI.
sum:
    push esi
    push ebx
    xor eax, eax
    xor ebx, ebx
.byte:
    mov bl, [esi]
    add eax, ebx
    inc esi
    dec ecx
    jnz .byte
    and eax, 0xff
    pop ebx
    pop esi
    ret
