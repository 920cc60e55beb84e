; Real mode: segments and their limits, addresses of both sizes, the stack's wrap, interrupts through
; the vector table, far transfers, mode switches, flat limits that stay ("unreal"), string
; instructions that wrap, what is undefined in real mode.
;
; expect: exit 33
%include "include/guest.inc"
%include "include/real_mode.inc"

main:
    call prepare_real
    run_real segments
    run_real stack
    run_real interrupts
    run_real far_transfers
    run_real near_transfers
    run_real strings
    run_real undefined
    run_real unreal
    run_real switches
    run_real modified
    call check_notes
    finish

real_begin
real_support

segments:
    mov ax, 0x4000
    mov ds, ax
    mov dword [0x1230], 0x89abcdef
    mov ax, 0x4123
    mov ds, ax
    note "base is 16 times the selector", [0], 0x89abcdef
    mov ax, ds
    note16 "the selector", ax, 0x4123
    mov ax, 0x4000
    mov ds, ax
    mov byte [0xffff], 0x77
    mov al, [0xffff]
    mov ah, 0
    note16 "a byte at the end", ax, 0x77
    mov bx, 0xfff0
    mov si, 0x20
    mov word [0x10], 0x4321
    note16 "16-bit addresses wrap", [bx + si], 0x4321
    note16 "with a displacement", [bx + 0x20], 0x4321
    note16 "with a displacement of a byte", [bx + si + 0], 0x4321
    mov ebx, 0xfff0
    mov word [0xfff0 + 4], 0x1111
    mov esi, 2
    note16 "32-bit addresses", [ebx + esi * 2], 0x1111
    mov bp, 0x10
    mov word [bp + 2], 0x5a5a
    note16 "ss", [ss:0x12], 0x5a5a
    mov word [es:0x40], 0x1357
    mov ax, REAL_DATA
    mov ds, ax
    note16 "es", [0x40], 0x1357
    mov word [cs:AT(.in_code)], 0x2468
    note16 "code can be written", [cs:AT(.in_code)], 0x2468
    lea eax, [bx + si + 0x1234]
    mov ebx, 0x1fff8
    mov esi, 0x20010
    lea eax, [bx + si]
    note "lea of a 16-bit address", eax, 0x0008
    lea ax, [ebx + esi]
    note16 "lea of 32 bits into 16", ax, 0x0008
    lea eax, [ebx + esi]
    note "lea of 32 bits", eax, 0x40008
    mov word [0x100], 0x1122
    mov word [0x102], 0x4000
    lds si, [0x100]
    mov dx, ds
    note16 "lds: offset", si, 0x1122
    note16 "lds: segment", dx, 0x4000
    mov ax, REAL_DATA
    mov ds, ax
    les di, [0x100]
    mov dx, es
    note16 "les", dx, 0x4000
    note16 "les reads there", [es:0xfff4], 0x1111
    mov dword [0x100], 0x00012345
    lgs edi, [0x100]
    note "lgs of 48 bits", edi, 0x00012345
    mov bx, 0x200
    mov byte [0x205], 0x99
    mov ax, 0xaa05
    xlatb
    note16 "xlat", ax, 0xaa99
    mov bx, 0xfffe
    mov byte [0x0003], 0x98
    mov ax, 5
    xlatb
    note16 "xlat wraps", ax, 0x98
    real_done
.in_code: dw 0

stack:
    mov sp, 0x100
    push sp
    pop ax
    note16 "push sp", ax, 0x100
    push word 0x1234
    pop sp
    note16 "pop sp", sp, 0x1234
    mov esp, 0xabcd0000
    push word 0x1357
    note "push wraps", esp, 0xabcdfffe
    pop ax
    note "pop wraps", esp, 0xabcd0000
    note16 "popped", ax, 0x1357
    mov sp, 0
    push dword 0x12345678
    note "push of a dword wraps", esp, 0xabcdfffc
    note "its bytes", [ss:0xfffc], 0x12345678
    mov esp, 0xabcd0004
    pusha
    note "pusha wraps", esp, 0xabcdfff4
    popa
    note "popa wraps", esp, 0xabcd0004
    mov esp, 0x5678
    mov ax, 1
    mov cx, 2
    mov dx, 3
    mov bx, 4
    mov bp, 5
    mov si, 6
    mov di, 7
    pusha
    note16 "pusha: sp", [ss:0x5678 - 10], 0x5678
    note16 "pusha: di", [ss:0x5678 - 16], 7
    note16 "pusha: ax", [ss:0x5678 - 2], 1
    xor ax, ax
    mov cx, ax
    mov di, ax
    popa
    note16 "popa: di", di, 7
    note16 "popa: cx", cx, 2
    note16 "popa: sp", sp, 0x5678
    pushad
    note16 "pushad", sp, 0x5678 - 32
    popad
    note "popad", esp, 0x5678
    mov ebp, 0x99990000 + 0x4000
    mov sp, 0x3000
    enter 0x10, 0
    note "enter: bp", ebp, 0x99992ffe
    note16 "enter: sp", sp, 0x2fee
    note16 "enter: pushed", [ss:0x2ffe], 0x4000
    leave
    note "leave: bp", ebp, 0x99994000
    note16 "leave: sp", sp, 0x3000
    enter 4, 2
    note16 "nested enter: sp", sp, 0x3000 - 6 - 4
    note16 "nested enter: bp", bp, 0x2ffe
    note16 "nested enter: link", [ss:0x3000 - 6], 0x2ffe
    leave
    enter 4, 1
    note16 "enter of level 1: sp", sp, 0x3000 - 4 - 4
    note "enter of level 1: bp", ebp, 0x99992ffe
    note16 "enter of level 1: link", [ss:0x3000 - 4], 0x2ffe
    leave
    mov esp, 0x4000
    push ds
    push es
    pop ax
    pop bx
    note16 "push es", ax, REAL_DATA
    push dword 0x11112222
    pop ax
    pop bx
    note16 "a dword is two words: low", ax, 0x2222
    note16 "a dword is two words: high", bx, 0x1111
    push byte -2
    pop ax
    note16 "push of a byte", ax, 0xfffe
    mov word [0x500], 0x3456
    push word [0x500]
    pop word [0x502]
    note16 "through memory", [0x502], 0x3456
    mov ax, 0x3333
    push ax
    pop word [bp + 4]
    note16 "sp at last", sp, 0x4000
    push word 0x7000
    popf
    note_flags "popf changes iopl and nt", 0xf000, 0x7000
    push word 0
    popf
    note_flags "and back", 0xf000, 0
    mov sp, 0x6000
    mov ax, 0x2100
    mov ss, ax
    mov sp, 0x5000
    push word 0x4242
    mov ax, REAL_STACK
    mov ss, ax
    note16 "another stack", [ss:0x1000 + 0x4ffe], 0x4242
    real_done

interrupts:
    mov sp, 0x2000
    push word 0x0ed7                    ; all arithmetic flags, IF, DF; TF clear
    popf
    rtry .i1
    int 0x42
.i1_after:
.i1:
    note_exception "int", 0x42, .i1_after
    cld
    note16 "int: cs", [fs:RN_CS], REAL_SEGMENT
    note16 "int: flags", [fs:RN_FLAGS], 0x0ed7
    note16 "int: three words", [fs:RN_PUSHED], 0x2000
    push word 2
    popf
    rtry .i2
    int3
.i2:
    note_exception "int3", BP_, .i2
    mov al, 0x7f
    inc al
    rtry .i3
    into
.i3:
    note_exception "into", OF_, .i3
    xor al, al
    rok "into without overflow", into
    rfault "div by zero", DE, div al
    mov dword [0x10], 0x00020001
    xor cx, cx
    rfault "bound", BR, bound cx, [0x10]
    mov cx, 2
    rok "bound inside", bound cx, [0x10]
    rtry .i4
    push word 0x0202
    push word REAL_SEGMENT
    push word AT(.i4)
    iret
    nop
.i4:
    note_flags "iret", 0x200, 0x200
    note16 "iret: sp", sp, 0x2000
    cli
    push dword 0x00244202               ; AC, ID: NT too
    push dword REAL_SEGMENT
    push dword AT(.i5)
    iretd
.i5:
    pushfd
    pop eax
    and eax, 0x3f7000
    note "iretd", eax, 0x00244000
    push dword 2
    popfd
    ; The table is where IDTR says.
    mov ax, REAL_MORE
    mov es, ax
    mov word [es:0x42 * 4], AT(.moved)
    mov word [es:0x42 * 4 + 2], REAL_SEGMENT + 1
    sub word [es:0x42 * 4], 16
    lidt [cs:AT(.other_table)]
    mov ax, 5
    push word 0x7e97
    popf
    inc ax
    mov bx, 0
    int 0x42
    note_flags "the handler's flags come back", 0x7ed5, 0x7605
    cld
    lidt [cs:AT(real_arrive.vectors)]
    note16 "a table elsewhere", ax, 7
    note16 "a handler's flags", bx, 0x7403
    push word 2
    popf
    mov ax, REAL_DATA
    mov es, ax
    ; Single step
    xor ax, ax
    mov gs, ax
    mov dword [gs:4], REAL_SEGMENT << 16 | AT(.step)
    mov dr6, eax
    mov cx, 3
    mov di, 0x800
    push word 0x102
    popf
    inc ax
    mov bx, ss
    mov ss, bx                          ; no trap here
    inc ax
    rep stosb                           ; three
    push word 2
    popf
.after_popf:
    note16 "steps", [cs:AT(.steps)], 8
    mov ebx, dr6
    note16 "dr6", bx, 0x4ff0
    mov dword [gs:4], REAL_SEGMENT << 16 | AT(real_stubs + 8)
    note16 "the last one's ip", [cs:AT(.step_ip)], AT(.after_popf)
    note16 "steps lose nothing", ax, 2
    real_done
.moved:
    inc ax
    pushf
    pop bx
    iret
.step:
    inc word [cs:AT(.steps)]
    pop word [cs:AT(.step_ip)]
    push word [cs:AT(.step_ip)]
    iret
.steps: dw 0
.step_ip: dw 0
.other_table: dw 0x3ff
    dd REAL_MORE * 16

far_transfers:
    mov ax, 0
    call REAL_SEGMENT + 1:AT(.sub) - 16
    note16 "far call", ax, REAL_SEGMENT + 1
    mov dword [0x10], (REAL_SEGMENT + 2) << 16 | (AT(.sub) - 32)
    call far [0x10]
    note16 "far call by memory", ax, REAL_SEGMENT + 2
    push word 1
    push word 2
    call REAL_SEGMENT:AT(.release)
    note16 "retf n", sp, REAL_TOP
    note16 "its argument", ax, 2
    jmp REAL_SEGMENT + 3:AT(.there) - 48
.there:
    mov ax, cs
    note16 "far jump", ax, REAL_SEGMENT + 3
    mov dword [0x10], AT(.back)
    mov word [0x14], REAL_SEGMENT
    jmp dword far [0x10]
.back:
    mov ax, cs
    note16 "far jump of 48 bits", ax, REAL_SEGMENT
    call dword REAL_SEGMENT:AT(.sub32)
    note16 "far call of 48 bits", sp, REAL_TOP
    real_done
.sub:
    mov ax, cs
    retf
.release:
    mov bp, sp
    mov ax, [bp + 4]
    retf 4
.sub32:
    note16 "48 bits pushed", sp, REAL_TOP - 8
    o32 retf

near_transfers:
    mov ax, 0
    call .sub
    note16 "near call", ax, 1
    mov bx, AT(.sub)
    call bx
    mov word [0x10], bx
    call [0x10]
    note16 "by register and memory", ax, 3
    call dword .sub32
    note16 "a call of 32 bits", sp, REAL_TOP
    ; Backwards over 0 and forwards over 0xffff
    mov ax, 0x4000
    mov es, ax
    mov byte [es:0x00], 0xe9            ; jmp near to 0xfff8
    mov word [es:0x01], 0xfff8 - 3
    mov byte [es:0xfff8], 0xe9          ; jmp near to 0x20
    mov word [es:0xfff9], 0x20 - 0xfffb + 0x10000
    mov byte [es:0x20], 0xea            ; jmp far to .landed
    mov word [es:0x21], AT(.landed)
    mov word [es:0x23], REAL_SEGMENT
    jmp REAL_MORE:0
.landed:
    note16 "jumps wrap", [es:0x23], REAL_SEGMENT
    mov ecx, 0x10003
    xor ax, ax
.l1:
    inc ax
    loop .l1
    note16 "loop", ax, 3
    note "loop counts cx", ecx, 0x10000
    mov ecx, 0x10003
    xor eax, eax
.l2:
    inc eax
    a32 loop .l2
    note "loop counts ecx", eax, 0x10003
    mov ecx, 0x10000
    mov ax, 1
    jcxz .z1
    mov ax, 0
.z1:
    note16 "jcxz", ax, 1
    mov ax, 1
    jecxz .z2
    mov ax, 2
.z2:
    note16 "jecxz", ax, 2
    real_done
.sub:
    inc ax
    ret
.sub32:
    note16 "four bytes", sp, REAL_TOP - 4
    o32 ret

strings:
    cld
    mov ax, REAL_MORE
    mov es, ax
    mov al, 0x11
    mov di, 0xfffe
    mov ecx, 0x50004
    rep stosb
    note16 "stosb wraps", di, 2
    note "and counts cx", ecx, 0x50000
    note16 "at the end", [es:0xfffe], 0x1111
    note16 "at the beginning", [es:0], 0x1111
    std
    mov di, 1
    mov cx, 4
    mov al, 0x44
    rep stosb
    note16 "backwards", di, 0xfffd
    note16 "backwards: the end", [es:0xfffe], 0x4444
    cld
    mov dword [0x100], 0x64636261
    mov dword [0x104], 0x68676665
    mov si, 0x100
    mov di, 0x200
    mov cx, 8
    rep movsb
    note "movsb", [es:0x204], 0x68676665
    mov byte [0x108], 1
    mov si, 0x100
    mov di, 0x200
    mov cx, 20
    repe cmpsb
    note16 "cmpsb", cx, 11
    mov di, 0x200
    mov cx, 20
    mov al, 0x66
    repne scasb
    note16 "scasb", di, 0x206
    mov cx, 0
    rep movsw
    note16 "no count", di, 0x206
    mov si, 0xffff
    lodsb
    note16 "lodsb wraps", si, 0
    mov cx, 0x8000
    mov di, 0
    mov si, 0
    rep movsw
    note16 "64 KiB: si", si, 0
    note "64 KiB", [es:0x104], 0x68676665
    mov si, 0x100
    mov cx, 2
    push ds
    push es
    pop ds
    es rep lodsd
    pop ds
    note "lodsd with a prefix", eax, 0x68676665
    real_done

undefined:
    mov ax, 8
    rfault "lldt", UD, lldt ax
    rfault "ltr", UD, ltr ax
    rfault "sldt", UD, sldt ax
    rfault "str", UD, str ax
    rfault "lar", UD, lar ax, ax
    rfault "lsl", UD, lsl ax, ax
    rfault "verr", UD, verr ax
    rfault "verw", UD, verw ax
    rfault "arpl", UD, arpl ax, bx
    rfault "ud2", UD, ud2
    rtry .u1
.p1:
    db 0x8e, 0xc8                       ; mov cs, ax
.u1:
    note_exception "mov cs", UD, .p1
    rfault "sysenter", GP, sysenter
    rfault "sysexit", GP, sysexit
    smsw ax
    and ax, 1
    note16 "smsw", ax, 0
    real_done

; Limits loaded in protected mode stay when real mode changes the base.
unreal:
    push ds
    push es
    cli
    o32 lgdt [cs:AT(.gdt)]
    mov eax, cr0
    or al, 1
    mov cr0, eax
    mov bx, 8
    mov ds, bx
    mov es, bx
    and al, 0xfe
    mov cr0, eax
    mov ebx, 0x300000
    mov dword [ebx], 0x10203040         ; before the next load
    note "flat ds", [ebx], 0x10203040
    mov ax, 0x4000
    mov ds, ax                          ; base 0x40000, limit 4 GiB
    note "another base", [ebx - 0x40000], 0x10203040
    mov ax, [0xffff]
    mov dword [dword 0xfffe], 0x55667788
    note "16 bits over 64 KiB", [dword 0x10000 - 2], 0x55667788
    mov bx, 0xffff
    mov ax, [bx]
    note16 "a word at ffff", ax, 0x6677
    mov ax, 0
    mov es, ax
    mov ecx, 4
    mov edi, 0x300000
    mov al, 0x66
    a32 rep stosb
    note "a string", [es:edi - 4], 0x66666666
    ; 64 KiB again
    o32 lgdt [cs:AT(.gdt)]
    mov eax, cr0
    or al, 1
    mov cr0, eax
    mov bx, 0x10
    mov ds, bx
    mov es, bx
    and al, 0xfe
    mov cr0, eax
    pop es
    pop ds
    o32 lgdt [cs:AT(.program_gdt)]
    real_done
    align 8
.descriptors:
    dq 0
    descriptor 0, 0xfffff, DATA_RW, BIG | PAGES
    descriptor 0, 0xffff, DATA_RW, 0
.gdt: dw 23
    dd REAL_SEGMENT * 16 + AT(.descriptors)
.program_gdt: dw GDT_ENTRIES * 8 - 1
    dd gdt

; To protected mode and back many times, with 16-bit and 32-bit code there.
switches:
    mov word [0x20], 1000
    mov dword [0x24], 0
.again:
    mov eax, cr0
    or al, 1
    mov cr0, eax
    inc dword [0x24]                    ; still the real-mode CS
    jmp REAL_CODE16:AT(.protected)
.protected:
    mov ax, REAL_DATA16
    mov es, ax
    mov eax, cr0
    and al, 0xfe
    mov cr0, eax
    jmp REAL_SEGMENT:AT(.real)
.real:
    mov ax, REAL_DATA
    mov es, ax
    dec word [0x20]
    jnz .again
    note "switches", [0x24], 1000
    real_done

; Code that changes itself, and one place under two names.
modified:
    mov cx, 5
    xor ax, ax
.again:
    add ax, 1
    inc byte [cs:AT(.again) + 2]
    loop .again
    note16 "changed by itself", ax, 1 + 2 + 3 + 4 + 5
    mov ax, 0x1000
    mov word [cs:AT(.name)], ax
    call REAL_SEGMENT:AT(.where)
    mov bx, ax
    call REAL_SEGMENT - 1:AT(.where) + 16
    sub ax, bx
    note16 "two names of a place", ax, 16
    real_done
.name: dw 0
.where:
    call .next
.next:
    pop ax
    retf

real_end
