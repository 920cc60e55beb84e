; The A20 gate: while it is shut, bit 20 of all physical addresses is 0, in data accesses, in fetches
; and in page walks. Program and stacks lie in the second MiB, so what runs meanwhile is copied to
; the first.
;
; expect: exit 33
%include "include/guest.inc"

LOW_CODE   equ 0x20000
LOW_STACK  equ 0x30000
RESULTS    equ 0x38000                  ; what `shut` saw, in order
EVEN       equ 0x240000
ODD        equ 0x340000                 ; EVEN with bit 20
EVEN_CODE  equ 0x250000
ODD_CODE   equ 0x350000
OTHER      equ 0x500000                 ; a linear page that maps ODD's frame
WALKED     equ 0xc00000                 ; a linear page whose table lies at ODD_TABLE
ODD_TABLE  equ 0x303000                 ; without bit 20: PAGE_TABLES + 0x2000, for 8 to 12 MiB
EVEN_WALKED equ 0x800000

BY_COMMAND equ 0                        ; ways to move the gate
BY_PORT    equ 1
BY_FAST    equ 2

; opened_and_shut "name", way to shut, way to open
%macro opened_and_shut 3
    mov dword [EVEN], 0x0e0e0e0e
    mov dword [ODD], 0x0d0d0d0d
    mov dword [ODD + 4], 0
    mov dword [EVEN + 4], 0
    mov eax, ODD_CODE
    call eax
    expect_eq {%1, ": code with the gate open"}, eax, 2
    mov ebx, %2
    mov ecx, %3
    mov eax, LOW_CODE
    call eax
    expect_eq {%1, ": a read"}, [RESULTS], 0x0e0e0e0e
    expect_eq {%1, ": a read with bit 20 clear"}, [RESULTS + 4], 0x0e0e0e0e
    expect_eq {%1, ": code"}, [RESULTS + 8], 1
    expect_eq {%1, ": a string copy"}, [RESULTS + 12], 0x0e0e0e0e
    expect_eq {%1, ": nothing was written above"}, [ODD + 4], 0
    expect_eq {%1, ": it was below"}, [EVEN + 4], 0x0a0a0a0a
    expect_eq {%1, ": open again"}, [ODD], 0x0d0d0d0d
    mov eax, ODD_CODE
    call eax
    expect_eq {%1, ": code with the gate open again"}, eax, 2
%endmacro

main:
    cld
    mov esi, low_code
    mov edi, LOW_CODE
    mov ecx, low_code_end - low_code
    rep movsb
    mov dword [EVEN_CODE], 0x000001b8   ; mov eax, 1
    mov dword [EVEN_CODE + 4], 0x0000c300  ; ret
    mov dword [ODD_CODE], 0x000002b8
    mov dword [ODD_CODE + 4], 0x0000c300

    opened_and_shut "no paging", BY_COMMAND, BY_COMMAND
    opened_and_shut "no paging, by the output port", BY_PORT, BY_PORT
    opened_and_shut "no paging, by port 0x92", BY_COMMAND, BY_FAST

    call paging_identity
    set_pte OTHER, ODD | P | W
    mov edi, ODD_TABLE
    mov eax, WALKED | P | W
.entry:
    stosd
    add eax, 4096
    cmp eax, WALKED + 0x400000
    jb .entry
    mov dword [PAGE_DIRECTORY + (WALKED >> 22) * 4], ODD_TABLE | P | W
    mov dword [WALKED], 0x0c0c0c0c
    mov dword [EVEN_WALKED], 0x08080808
    change_cr0 0, CR0_PG
    opened_and_shut "paging", BY_COMMAND, BY_COMMAND
    expect_eq "paging: another linear page", [RESULTS + 16], 0x0e0e0e0e
    expect_eq "paging: a table found by an address", [RESULTS + 20], 0x08080808
    expect_eq "paging: and with the gate open", [WALKED], 0x0c0c0c0c
    expect_eq "paging: another linear page with the gate open", [OTHER], 0x0d0d0d0d
    finish

; Shuts the gate by way EBX, looks around, opens it by way ECX. Runs at LOW_CODE.
low_code:
    mov [RESULTS + 0x100], esp
    mov esp, LOW_STACK
    mov edx, ecx
    mov al, 0xdd                        ; A20 off
    cmp ebx, BY_COMMAND
    je .off_command
    mov al, 0xd1                        ; the next byte is the output port
    call .send
    mov al, 0xdd
    out 0x60, al
    call .settle
    jmp .off_fast
.off_command:
    call .send
.off_fast:
    in al, 0x92
    and al, ~3
    out 0x92, al
    mov eax, cr3
    mov cr3, eax

    mov eax, [ODD]
    mov [RESULTS], eax
    mov eax, [EVEN]
    mov [RESULTS + 4], eax
    mov dword [ODD + 4], 0x0a0a0a0a
    mov eax, ODD_CODE
    call eax
    mov [RESULTS + 8], eax
    mov esi, ODD
    mov edi, RESULTS + 12
    movsd
    mov eax, cr0
    test eax, eax
    jns .open
    mov eax, [OTHER]
    mov [RESULTS + 16], eax
    mov eax, [WALKED]
    mov [RESULTS + 20], eax
.open:
    cmp edx, BY_FAST
    je .on_fast
    mov al, 0xdf                        ; A20 on
    cmp edx, BY_COMMAND
    je .on_command
    mov al, 0xd1
    call .send
    mov al, 0xdf
    out 0x60, al
    call .settle
    jmp .opened
.on_command:
    call .send
    jmp .opened
.on_fast:
    in al, 0x92
    or al, 2
    and al, ~1
    out 0x92, al
.opened:
    mov eax, cr3
    mov cr3, eax
    mov esp, [RESULTS + 0x100]
    ret
.send:
    out 0x64, al
.settle:
    push eax
.busy:
    in al, 0x64
    test al, 2
    jnz .busy
    pop eax
    ret
low_code_end:
