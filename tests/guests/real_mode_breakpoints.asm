; Breakpoints as a real-mode debugger sets them: by linear address, through whatever segment code and
; data are reached, of each kind and length; several at once, with a single step, in REP, at ports,
; and the guard of the debug registers.
;
; expect: exit 33
; deviates: qemu "execution*": it crashes at a breakpoint for execution in real mode
; deviates: qemu "aligned: .low", "aligned: .high": the address is taken as aligned to the length (volume
;   3, 17.2.5)
; deviates: qemu "together: *": DR6 names all breakpoints that the instruction met, and the step with
;   them (volume 3, 17.2.3 and 17.3.1.4)
; deviates: qemu "guard: *": DR7.GD makes any access to a debug register a #DB and is cleared by it (volume
;   3, 17.2.4)
%include "include/guest.inc"
%include "include/real_mode.inc"

LOG     equ 0x100                       ; twice the number of exceptions, then the IP of each
REASONS equ LOG + 0x40                  ; and DR6
BYTES   equ 0x400                       ; watched

EXECUTE equ 0
WRITE   equ 1
PORT    equ 2
ACCESS  equ 3

main:
    call prepare_real
    skip_on_qemu "execution", .without_execution
    run_real execution
.without_execution:
    run_real data
    run_real strings
    run_real together
    change_cr4 0, CR4_DE
    run_real ports
    change_cr4 CR4_DE, 0
    run_real guarded
    call check_notes
    finish

real_begin
real_support

; number, kind, bytes, linear address: armed beside the others
%macro arm 4
    mov eax, %4
    mov dr%1, eax
    mov eax, dr7
    and eax, ~((3 << (2 * %1)) | (15 << (16 + 4 * %1)))
    or eax, (1 << (2 * %1)) | ((%2 | (%3 - 1) << 2) << (16 + 4 * %1))
    mov dr7, eax
%endmacro
%macro disarm 0
    mov eax, 0x400
    mov dr7, eax
%endmacro

; "name", then a pair for each exception: where it was reported, and the lower bits of DR6
%macro met 1-*
    %strcat %%count %1, ": exceptions"
    note16 %%count, [LOG], %0 - 1
    %assign %%i 0
    %define %%name %1
    %rep (%0 - 1) / 2
    %rotate 1
    %defstr %%label %1
    %strcat %%each %%name, ": ", %%label
    note16 %%each, [LOG + 2 + 2 * %%i], AT(%1)
    %strcat %%why %%each, ": dr6"
    %rotate 1
    note16 %%why, [REASONS + 2 * %%i], %1
    %assign %%i %%i + 1
    %endrep
    mov word [LOG], 0
%endmacro

; The handler disarms breakpoints for execution: FLAGS has no RF to get past them.
execution:
    call install
    arm 0, EXECUTE, 1, REAL_SEGMENT * 16 + AT(.here)
    mov cx, 1
    nop
.here:
    inc cx
    note16 "execution: once", cx, 2
    met "execution", .here, 1
    ; through another segment
    arm 3, EXECUTE, 1, REAL_SEGMENT * 16 + AT(.far)
    call REAL_SEGMENT + 0x10:AT(.far) - 0x100
    jmp .back
.far:
    retf
.back:
    note16 "execution: ip in the other segment", [LOG + 2], AT(.far) - 0x100
    note16 "execution: dr6 there", [REASONS], 8
    mov word [LOG], 0
    ; not by data accesses, nor in the middle of an instruction
    arm 0, EXECUTE, 1, REAL_SEGMENT * 16 + AT(.inside) + 1
    mov al, [cs:AT(.inside) + 1]
.inside:
    mov cx, 0x1234
    disarm
    met "execution: not by reading, not inside"
    real_done

; A trap comes behind the access.
data:
    call install
    arm 0, WRITE, 2, REAL_DATA * 16 + BYTES
    mov word [BYTES], 1
.write:
    mov ax, [BYTES]
    mov byte [BYTES + 1], 1
.second_byte:
    mov byte [BYTES + 2], 1
    mov dword [BYTES - 2], 1
.overlaps:
    mov word [BYTES - 2], 1
    inc byte [BYTES]
.modify:
    disarm
    met "write", .write, 1, .second_byte, 1, .overlaps, 1, .modify, 1
    ; through another segment, and the stack
    arm 1, ACCESS, 4, REAL_DATA * 16 + BYTES
    push ds
    mov ax, REAL_DATA + BYTES / 16
    mov ds, ax
    mov al, [3]
.read:
    mov [2], al
.wrote:
    mov al, [4]
    pop ds
    mov ax, ss
    mov cx, sp
    mov bx, REAL_DATA
    mov ss, bx
    mov sp, BYTES + 2                   ; the frame lies below what is watched
    push cx
.pushed:
    mov ss, ax
    mov sp, cx
    disarm
    met "access", .read, 2, .wrote, 2, .pushed, 2
    ; the address is aligned to the length
    arm 2, ACCESS, 2, REAL_DATA * 16 + BYTES + 1
    mov al, [BYTES]
.low:
    mov al, [BYTES + 1]
.high:
    mov al, [BYTES + 2]
    disarm
    met "aligned", .low, 4, .high, 4
    real_done

strings:
    call install
    cld
    arm 0, WRITE, 1, REAL_DATA * 16 + BYTES + 1
    mov di, BYTES
    mov cx, 4
    mov al, 7
.rep:
    rep stosb
.stored:
    note16 "rep stosb: cx", cx, 0
    disarm
    met "rep stosb", .rep, 1
    arm 0, ACCESS, 1, REAL_DATA * 16 + BYTES
    mov si, BYTES
    mov di, BYTES + 0x10
    movsb
.moved:
    disarm
    met "movsb", .moved, 1
    real_done

; One exception says all that was met.
together:
    call install
    arm 0, ACCESS, 1, REAL_DATA * 16 + BYTES
    arm 1, WRITE, 4, REAL_DATA * 16 + BYTES
    mov byte [BYTES], 1
.both:
    mov al, [BYTES]
.one:
    push word TF | 2
    popf
    mov byte [BYTES], 1
.stepped:
    push word 2
.a:
    popf
.b:
    disarm
    met "together", .both, 3, .one, 1, .stepped, 0x4003, .a, 0x4000, .b, 0x4000
    real_done

ports:
    call install
    arm 0, PORT, 1, 0x80
    mov al, 0
    out 0x80, al
.out:
    out 0x84, al
    mov dx, 0x80
    in al, dx
.in:
    mov [BYTES], al
    disarm
    met "port", .out, 1, .in, 1
    real_done

; DR7.GD: before the access, and cleared for the handler.
guarded:
    call install
    mov eax, 0x2400
    mov dr7, eax
.here:
    mov eax, dr2
    mov eax, dr7
    note16 "guard: cleared", ax, 0x400
    met "guard", .here, 0x2000
    real_done

handler:
    push bp
    mov bp, sp
    push ds
    push bx
    push eax
    mov ax, REAL_DATA
    mov ds, ax
    mov eax, dr6
    mov bx, [LOG]
    and ax, 0xe00f
    mov [REASONS + bx], ax
    mov ax, [bp + 2]
    mov [LOG + 2 + bx], ax
    add word [LOG], 2
    ; faults: what is for execution goes
    mov eax, dr7
    test eax, 0x30000
    jnz .not0
    and al, ~3
.not0:
    test eax, 0x30000000
    jnz .not3
    and al, ~0xc0
.not3:
    mov dr7, eax
    xor eax, eax
    mov dr6, eax
    pop eax
    pop bx
    pop ds
    pop bp
    iret

install:
    push es
    xor eax, eax
    mov es, ax
    mov dr6, eax
    mov word [es:4], AT(handler)
    mov word [es:6], REAL_SEGMENT
    pop es
    disarm
    mov word [LOG], 0
    ret

real_end
