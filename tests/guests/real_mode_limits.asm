; Limits in real mode: faults of accesses, branches and string instructions at the end of a 64 KiB
; segment, of the interrupt table, and of limits that protected mode left.
;
; expect: exit 33
; qemu: skip its TCG checks no segment limits
%include "include/guest.inc"
%include "include/real_mode.inc"

main:
    call prepare_real
    run_real accesses
    run_real transfers
    run_real strings
    run_real changed
    call check_notes
    finish

real_begin
real_support

accesses:
    mov ax, REAL_MORE
    mov ds, ax
    rfault "a word at the end", GP, mov ax, [0xffff]
    rfault "a word to the end", GP, mov [0xffff], ax
    rfault "a dword over the end", GP, mov eax, [0xfffd]
    rok "a dword at the end", mov eax, [0xfffc]
    rfault "an operation over the end", GP, add [0xffff], ax
    rfault "8 bytes over the end", GP, fld qword [0xfff9]
    fninit
    mov ebx, 0xfff0
    mov esi, 0x10
    rfault "32-bit addresses do not wrap", GP, mov ax, [ebx + esi]
    mov ebx, 0x10000
    rfault "beyond the limit", GP, mov al, [ebx]
    mov bp, 0xffff
    rfault "bp is relative to ss", SS_, mov ax, [bp]
    rok "but not with a prefix", mov al, [ds:bp]
    mov ebp, 0x10000
    rfault "so is ebp", SS_, mov al, [ebp]
    mov ebx, 0xffffffff
    rfault "32-bit offsets do not wrap", GP, mov ax, [ebx]
    rfault "a store does not wrap", GP, mov [ebx], ax
    rfault "fs", GP, mov ax, [fs:ebx]
    rfault "cs", GP, mov ax, [cs:ebx]
    mov bp, 0xfffe
    rfault "an operation on the stack", SS_, add [bp], eax
    rok "a word of the stack", add [bp], ax
    mov si, 0xffff
    rfault "lodsw", GP, lodsw
    note16 "lodsw: si", si, 0xffff
    rfault "push of memory", GP, push word [0xffff]
    note16 "push of memory: sp", sp, REAL_TOP
    rfault "pop to memory", GP, pop word [0xffff]
    note16 "pop to memory: sp", sp, REAL_TOP
    rfault "les", GP, les ax, [0xfffd]
    rfault "lgdt", GP, lgdt [0xfffc]
    rfault "bt", GP, bt word [0xffff], 1
    mov eax, 16 * 0x7fff
    mov ebx, 1
    mov word [0xffff - 1], 0
    rfault "bt by register", GP, bts [dword 1], eax
    mov ax, REAL_DATA
    mov ds, ax
    real_done

transfers:
    ; A frame across the end of the stack
    mov sp, 2
    call REAL_SEGMENT:AT(.sub)
    mov bx, sp
    mov sp, REAL_TOP
    note16 "far call with a wrapping stack", bx, 2
    ; A vector outside the table: #GP, from the same table.
    lidt [cs:AT(.short_table)]
    rfault "beyond the table", GP, int 0x10
    lidt [cs:AT(real_arrive.vectors)]
    rfault "far jump beyond the limit", GP, jmp dword REAL_SEGMENT:0x10000
    push dword REAL_SEGMENT
    push dword 0x10000
    rfault "far return beyond the limit", GP, o32 retf
    mov sp, REAL_TOP
    mov ebx, 0x10000 + AT(.sub)
    rfault "a call beyond the limit", GP, call ebx
    rfault "a jump beyond the limit", GP, jmp ebx
    push dword 0x10000
    rfault "a return beyond the limit", GP, o32 ret
    pop eax
    pop eax
    mov sp, REAL_TOP
    mov ax, REAL_MORE
    mov es, ax
    ; Falling off the end
    mov byte [es:0xffff], 0x40          ; inc ax
    mov ax, 0
    rtry .fell
    jmp REAL_MORE:0xffff
.fell:
    note "falling off the end", [fs:RN_VECTOR], GP
    note16 "falling off the end: the instruction was executed", ax, 1
    mov word [es:0xfffe], 0xb890        ; an instruction that does not end in the segment
    rtry .cut
    jmp REAL_MORE:0xffff
.cut:
    note "an instruction over the end", [fs:RN_VECTOR], GP
    note16 "an instruction over the end: ip", [fs:RN_IP], 0xffff
    ; The second of two instructions in a block is past the end
    mov dword [es:0xfffc], 0x40404040
    mov ax, 0
    rtry .ran
    jmp REAL_MORE:0xfffc
.ran:
    note "running past the end", [fs:RN_VECTOR], GP
    note16 "running past the end: all were executed", ax, 4
    real_done
.sub:
    mov ax, cs
    retf
.short_table: dw 0x3f
    dd 0

strings:
    mov ax, REAL_MORE
    mov es, ax
    cld
    mov di, 0xffff
    mov cx, 2
    mov byte [es:0xffff], 0x22
    mov ax, 0x3333
    rfault "stosw over the end", GP, rep stosw
    note16 "stosw over the end: di", di, 0xffff
    mov di, 0xfffd
    rtry .s1
.p1:
    rep stosw
.s1:
    note_exception "the second stosw over the end", GP, .p1
    note16 "the second stosw over the end: di", di, 0xffff
    note16 "the second stosw over the end: cx", cx, 1
    cld
    mov edi, 0x20000
    mov ecx, 1
    rtry .s2
.p2:
    a32 rep stosb
.s2:
    note_exception "32-bit addresses", GP, .p2
    note "32-bit addresses: ecx", ecx, 1
    mov si, 0xfffd
    mov di, 0x10
    mov cx, 4
    rtry .s3
.p3:
    rep movsd
.s3:
    note_exception "movsd over the end of the source", GP, .p3
    note16 "movsd over the end of the source: cx", cx, 4
    mov si, 0
    mov di, 0xfff6
    rtry .s4
.p4:
    rep movsd
.s4:
    note_exception "movsd over the end", GP, .p4
    note16 "movsd over the end: cx", cx, 2
    note16 "movsd over the end: si", si, 8
    real_done

; A limit of 4 KiB from protected mode stays; then one of 4 GiB; then 64 KiB again.
changed:
    push ds
    cli
    mov bx, 8
    call .load
    mov bx, 0x0ffe
    rok "a word in 4 KiB", mov ax, [bx]
    inc bx
    rfault "a word over 4 KiB", GP, mov ax, [bx]
    mov ax, REAL_MORE
    mov ds, ax
    rfault "with another base", GP, mov ax, [bx]
    rok "a byte with another base", mov al, [bx]
    mov bx, 16
    call .load
    mov ebx, 0x300000
    rok "4 GiB", mov ax, [ebx]
    mov bx, 24
    call .load
    pop ds
    push ds
    mov ebx, 0x300000
    rfault "limits again", GP, mov al, [ebx]
    pop ds
    o32 lgdt [cs:AT(.program_gdt)]
    real_done
.load:
    o32 lgdt [cs:AT(.gdt)]
    mov eax, cr0
    or al, 1
    mov cr0, eax
    mov ds, bx
    and al, 0xfe
    mov cr0, eax
    ret
    align 8
.descriptors:
    dq 0
    descriptor REAL_DATA * 16, 0xfff, DATA_RW, 0
    descriptor REAL_DATA * 16, 0xfffff, DATA_RW, BIG | PAGES
    descriptor REAL_DATA * 16, 0xffff, DATA_RW, 0
.gdt: dw 31
    dd REAL_SEGMENT * 16 + AT(.descriptors)
.program_gdt: dw GDT_ENTRIES * 8 - 1
    dd gdt

real_end
