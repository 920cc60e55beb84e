; Real mode by the manual's chapter 20.1: what INT, exceptions and IRET push and take, the interrupt table's place and limit,
; where 16-bit addresses, IP, SP and string pointers wrap and where they fault, A20, segments of 4 GiB, and which
; instructions there are none of.
;
; expect: exit 33
; qemu: skip it checks no limits of 64 KiB (SDM volume 3, 20.1.1), and does not come back from where that leads
%include "include/guest.inc"
%include "include/real_mode.inc"

FAST_A20 equ 0x92

main:
    call prepare_real
    ; recognisable bytes at 0 of the data segments
    mov edi, REAL_DATA * 16
    xor eax, eax
    mov ecx, 0x20000 / 4
    rep stosd
    run_real interrupts
    run_real addresses
    run_real instructions
    ; segments of 4 GiB from protected mode
    mov dword [FREE_FRAMES + 0x100], 0xfeedface
    run_real big_segments
    expect_eq "a store at 12 MiB", [0xc00000], 0x600d600d
    call check_notes
    finish

real_begin
real_support

; --- interrupts ---
interrupts:
    ; the frame of INT n
    push word 0x7ed7 & ~0x100           ; all flags but TF
    popf
    rtry int_done
    int 0x60
int_after:
int_done:
    cli
    cld
    note_exception "int n", 0x60, int_after
    note16 "int n: cs", [fs:RN_CS], REAL_SEGMENT
    mov ax, [fs:RN_FLAGS]
    note16 "int n: flags", ax, (0x7ed7 & ~0x128) | 2
    note16 "int n: sp behind the frame is as before", [fs:RN_PUSHED], REAL_TOP
    ; IF and TF are clear in the handler, the rest is not changed
    xor ax, ax
    mov es, ax
    mov dword [es:4 * 0x61], REAL_SEGMENT << 16 | AT(flags_handler)
    push word 0x7ad7 & ~0x100 | 0x200
    popf
    int 0x61
    pushf
    pop word [0x12]
    cli
    cld
    mov ax, [0x10]
    note16 "flags in the handler", ax, (0x7ad7 & ~0x328) | 2
    mov ax, [0x12]
    note16 "flags behind iret", ax, (0x7ad7 & ~0x128 | 0x200) | 2
    push word 2
    popf
    ; IRET of words takes all flags, and does not touch the upper halves
    pushfd
    mov bp, sp
    or dword [bp], AC | ID
    popfd
    push word IOPL | NT | CF | DF
    push cs
    push word AT(iret_to)
    iret
iret_to:
    pushfd
    pop dword [0x14]
    cld
    mov eax, [0x14]
    note "iret of words", eax, AC | ID | IOPL | NT | CF | DF | 2
    push dword ZF | PF | 0x00020000     ; VM means nothing here
    push dword 0xabcd0000 | REAL_SEGMENT
    push dword AT(iretd_to)
    iretd
iretd_to:
    pushfd
    pop dword [0x18]
    mov eax, [0x18]
    note "iretd", eax, ZF | PF | 2
    note16 "iretd pops twelve bytes", sp, REAL_TOP
    ; exceptions: IP of the instruction, no error code
    xor bx, bx
    mov ax, 5
    rfault "div by zero", DE, div bl
    note16 "div by zero: sp", [fs:RN_PUSHED], REAL_TOP
    mov bx, 1
    mov ax, 0x100
    rfault "div overflow", DE, div bl
    rfault "#UD", UD, ud2
    rfault "#GP", GP, mov ax, [0xffff]
    note16 "#GP: no error code", [fs:RN_PUSHED], REAL_TOP
    mov bp, 0xffff
    rfault "#SS", SS_, mov ax, [bp]
    mov dword [0x20], 10 << 16 | 5
    mov cx, 11
    rfault "bound", BR, bound cx, [0x20]
    mov cx, 10
    rok "bound inside", bound cx, [0x20]
    mov al, 0x7f
    inc al
    rtry into_done
    into
into_after:
into_done:
    note_exception "into", OF_, into_after
    rtry int3_done
    int3
int3_after:
int3_done:
    note_exception "int3", BP_, int3_after
    rtry f1_done
    db 0xf1
f1_after:
f1_done:
    note_exception "int1", DB_, f1_after
    ; SP that wraps under a frame
    mov sp, 2
    int 0x61
    mov ax, sp
    mov sp, REAL_TOP
    note16 "a frame around 0: sp", ax, 2
    mov ax, [ss:0]
    cmp ax, [0x22]
    sete al
    movzx eax, al
    note "a frame around 0: flags on top", eax, 1
    ; the table elsewhere
    xor ax, ax
    mov es, ax
    mov di, 0x1000
    xor si, si
    mov ds, ax
    mov cx, 0x200
    cld
    rep movsw
    mov ax, REAL_DATA
    mov ds, ax
    mov dword [es:4 * 0x62], REAL_SEGMENT << 16 | AT(wrong_handler)
    mov dword [es:0x1000 + 4 * 0x62], REAL_SEGMENT << 16 | AT(flags_handler)
    lidt [cs:AT(table_elsewhere)]
    mov word [0x10], 0
    int 0x62
    note16 "the table elsewhere", [0x24], 0
    ; beyond its limit: #GP, through vector 13
    lidt [cs:AT(short_table)]
    rfault "beyond the limit", GP, int 0x62
    lidt [cs:AT(whole_table)]
    real_done
flags_handler:
    push bp
    mov bp, sp
    pushf
    pop word [0x10]
    mov ax, [bp + 6]
    mov [0x22], ax
    pop bp
    iret
wrong_handler:
    mov word [0x24], 1
    iret
    align 4
table_elsewhere: dw 0x3ff
    dd 0x1000
short_table: dw 4 * 0x62 + 2
    dd 0
whole_table: dw 0x3ff
    dd 0

; --- addresses ---
addresses:
    mov byte [0xffff], 0x11
    mov byte [0], 0x22
    mov si, 0xffff
    rok "a byte at 0xffff", mov al, [si]
    rfault "a word at 0xffff", GP, mov ax, [si]
    rfault "a store of a word at 0xffff", GP, mov [si], ax
    mov si, 0xfffd
    rfault "a dword at 0xfffd", GP, mov eax, [si]
    ; sums wrap
    mov bx, 0x8000
    mov si, 0x8001
    mov byte [1], 0x33
    mov al, [bx + si]
    movzx eax, al
    note "bx + si", eax, 0x33
    mov bx, 0xfff0
    mov al, [bx + 0x11]
    movzx eax, al
    note "bx + displacement", eax, 0x33
    mov al, 0x11
    xlatb
    movzx eax, al
    note "xlat", eax, 0x33
    mov bp, 0xffff
    mov byte [ss:1], 0x44
    mov al, [bp + 2]
    movzx eax, al
    note "bp is of the stack segment", eax, 0x44
    lea eax, [bx + 0x11]
    note "lea of 16 bits", eax, 1
    ; strings: SI, DI and CX alone move
    mov esi, 0x7777ffff
    mov edi, 0x88880100
    mov ecx, 0x99990003
    cld
    rep movsb
    note "rep movsb: esi", esi, 0x77770002
    note "rep movsb: edi", edi, 0x88880103
    note "rep movsb: ecx", ecx, 0x99990000
    mov eax, [0x100]
    and eax, 0xffffff
    note "rep movsb over the end", eax, 0x332211
    mov si, 0xfffe
    mov di, 0x100
    mov cx, 2
    rtry rep_faults
rep_instruction:
    rep movsd
rep_faults:
    note_exception "rep movsd over the end", GP, rep_instruction
    note16 "rep movsd over the end: cx", cx, 2
    mov si, 0xfffc
    mov cx, 1
    rok "rep movsd to the end", rep movsd
    note16 "rep movsd to the end: si", si, 0
    std
    mov si, 0
    lodsb
    cld
    note16 "lodsb down", si, 0xffff
    mov ecx, 0x10000
    jcxz .zero
    mov eax, 1
    jmp .zeroed
.zero:
    mov eax, 0
.zeroed:
    note "jcxz looks at cx", eax, 0
    jecxz .zero2
    mov eax, 1
    jmp .zeroed2
.zero2:
    mov eax, 0
.zeroed2:
    note "jecxz at ecx", eax, 1
    mov ecx, 0x10001
    xor ax, ax
.loop:
    inc ax
    loop .loop
    note16 "loop counts cx", ax, 1
    note "loop leaves the rest", ecx, 0x10000
    ; the stack
    xor sp, sp
    push word 0x1234
    mov ax, sp
    mov bx, [ss:0xfffe]
    mov sp, REAL_TOP
    note16 "push at 0: sp", ax, 0xfffe
    note16 "push at 0", bx, 0x1234
    mov sp, 0xfffe
    pop ax
    mov bx, sp
    mov sp, REAL_TOP
    note16 "pop at the end: sp", bx, 0
    mov bx, sp
    push sp
    pop ax
    note16 "push sp", ax, REAL_TOP
    ; IP
    mov byte [0xffff], 0x90
    rtry ran_over
    jmp REAL_DATA:0xffff
ran_over:
    note "over the end: vector", [fs:RN_VECTOR], GP
    mov word [fs:RN_RESUME], 0
    note16 "over the end: cs", [fs:RN_CS], REAL_DATA
    mov ebx, 0x10000
    rfault "a jump beyond 64 KiB", GP, jmp ebx
    mov dword [0x30], 0x10000
    mov word [0x34], REAL_SEGMENT
    rfault "a far jump beyond 64 KiB", GP, jmp dword far [0x30]
    mov ebx, 0x10000
    rfault "a near call beyond 64 KiB", GP, call ebx
    push dword 0x10000
    mov bx, sp
    rfault "a near return beyond 64 KiB", GP, o32 ret
    note16 "a near return that faults: sp", [fs:RN_SP], REAL_TOP - 4
    add sp, 4
    ; far calls and returns
    call REAL_SEGMENT:AT(far_target)
far_back:
    note16 "far call: ip", [0x40], AT(far_back)
    note16 "far call: cs", [0x42], REAL_SEGMENT
    note16 "retf n", sp, REAL_TOP + 4
    mov sp, REAL_TOP
    mov word [0x44], AT(far_target)
    mov word [0x46], REAL_SEGMENT
    push ax
    push ax
    call far [0x44]
    note16 "far call through memory", sp, REAL_TOP
    ; the same code through another segment
    jmp REAL_SEGMENT + 1:AT(other_segment) - 16
other_segment:
    mov ax, cs
    note16 "another segment for the same code", ax, REAL_SEGMENT + 1
    jmp REAL_SEGMENT:AT(same_segment)
same_segment:
    ; A20
    mov ax, 0xffff
    mov es, ax
    xor ax, ax
    mov gs, ax
    mov dword [gs:0x600], 0x51515151
    mov ebx, [es:0x610]
    mov dword [es:0x610], 0x15151515
    in al, FAST_A20                     ; both gates: each opens the line
    and al, 0xfc
    out FAST_A20, al
    mov ah, 0xdd
    call set_keyboard_gate
    mov ecx, [es:0x610]
    mov dword [es:0x610], 0x37373737
    mov ah, 0xdf
    call set_keyboard_gate
    in al, FAST_A20
    or al, 2
    and al, 0xfe
    out FAST_A20, al
    mov edx, [es:0x610]
    mov edi, [gs:0x600]
    mov [es:0x610], ebx                 ; part of the program's image
    note "a20 shut: 1 MiB is 0", ecx, 0x51515151
    note "a20 shut: stores too", edi, 0x37373737
    note "a20 open again", edx, 0x15151515
    real_done
far_target:
    mov bp, sp
    mov eax, [bp]
    mov [0x40], eax
    retf 4

; AH: the keyboard controller's output port
set_keyboard_gate:
    call .ready
    mov al, 0xd1
    out 0x64, al
    call .ready
    mov al, ah
    out 0x60, al
.ready:
    in al, 0x64
    test al, 2
    jnz .ready
    ret

; --- instructions ---
instructions:
    rfault "sldt", UD, sldt ax
    rfault "str", UD, str ax
    rfault "lldt", UD, lldt ax
    rfault "ltr", UD, ltr ax
    rfault "lar", UD, lar ax, ax
    rfault "lsl", UD, lsl ax, ax
    rfault "verr", UD, verr ax
    rfault "arpl", UD, arpl ax, ax
    rok "smsw", smsw ax
    rok "clts", clts
    rok "sgdt", sgdt [0x50]
    rok "sidt", sidt [0x58]
    note16 "sidt: limit", [0x58], 0x3ff
    note "sidt: base", [0x5a], 0
    rok "mov cr0", mov eax, cr0
    rok "mov cr2", mov cr2, eax
    rok "mov dr7", mov eax, dr7
    rok "wbinvd", wbinvd
    rok "invlpg", invlpg [0]
    rok "cli and sti", cli
    rok "in", in al, 0x80
    rfault "mov cs", UD, {db 0x8e, 0xc8}
    rok "a store into code", mov word [cs:AT(patched)], 0x9090
    rfault "lock", UD, {db 0xf0, 0x90}
    ; PUSHA, ENTER, BCD and operand prefixes
    mov eax, 0xaaaa1111
    mov ecx, 0xbbbb2222
    mov ebp, 0xcccc3333
    pusha
    mov bx, sp
    note16 "pusha: sp", bx, REAL_TOP - 16
    note16 "pusha: ax", [ss:bx + 14], 0x1111
    note16 "pusha: sp in it", [ss:bx + 6], REAL_TOP
    mov word [ss:bx + 14], 0x5555
    mov word [ss:bx + 6], 0x9999
    popa
    note "popa", eax, 0xaaaa5555
    note16 "popa: sp", sp, REAL_TOP
    enter 8, 0
    note "enter keeps the upper half", ebp, 0xcccc0000 | (REAL_TOP - 2)
    note16 "enter: sp", sp, REAL_TOP - 10
    leave
    note "leave", ebp, 0xcccc3333
    mov ax, 0x00ff
    aaa
    note16 "aaa", ax, 0x0205
    mov eax, 0x12345678
    mov ax, 0x9abc
    note "a 16-bit move keeps the upper half", eax, 0x12349abc
    movsx eax, ax
    note "movsx", eax, 0xffff9abc
    cwd
    note16 "cwd", dx, 0xffff
    mov eax, 0x80000000
    cdq
    note "cdq", edx, 0xffffffff
    mov dword [0x60], 0x00010002
    push dword [0x60]
    pop dx
    pop cx
    note16 "push of a dword", cx, 1
    lds si, [0x60]
    mov ax, ds
    mov bx, REAL_DATA
    mov ds, bx
    note16 "lds", ax, 1
    mov ax, REAL_MORE
    mov es, ax
    mov word [es:0], 0x4321
    mov ax, [es:0]
    note16 "es", ax, 0x4321
patched:
    ud2
    real_done

; --- DS with a limit of 4 GiB ---
big_segments:
    mov eax, cr0
    or al, 1
    mov cr0, eax
    jmp short .protected
.protected:
    mov bx, KDS
    mov ds, bx
    mov gs, bx
    and al, 0xfe
    mov cr0, eax
    jmp REAL_SEGMENT:AT(big_real)
big_real:
    mov esi, FREE_FRAMES + 0x100
    mov eax, [gs:esi]
    note "32-bit addresses", eax, 0xfeedface
    mov ax, REAL_DATA
    mov ds, ax                          ; the limit stays
    mov esi, 0xc00000 - REAL_DATA * 16
    rok "beyond 64 KiB with another base", mov dword [esi], 0x600d600d
    mov bx, 0xffff
    rok "16-bit addresses up to the end", mov ax, [bx]
    mov byte [0xffff], 0x66
    mov byte [0], 0x77
    mov edx, 0x10000
    mov byte [edx], 0x88                ; REAL_MORE's first byte
    mov al, [bx + 1]
    movzx eax, al
    note "16-bit sums wrap", eax, 0x77
    rfault "es has its limit", GP, {mov eax, [es:edx]}
    mov cx, 3
    mov edi, 0x120
    mov esi, 0xffff
    cld
    a32 movsb
    note "a32 movsb", esi, 0x10000
    push ds
    pop gs
    rok "pop gs keeps it too", mov eax, [gs:edx]
    ; the small limits again
    mov eax, cr0
    or al, 1
    mov cr0, eax
    jmp short .again
.again:
    mov bx, REAL_DATA16
    mov ds, bx
    mov gs, bx
    and al, 0xfe
    mov cr0, eax
    jmp REAL_SEGMENT:AT(small_real)
small_real:
    mov ax, REAL_DATA
    mov ds, ax
    rfault "the small limit", GP, {mov eax, [edx]}
    real_done
real_end
