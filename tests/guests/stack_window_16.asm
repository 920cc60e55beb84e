; Stacks of 64 KiB while what is under them changes: another SS in straight-line code and in loops,
; SP at both ends of the segment and odd, an upper half of ESP and EBP that means nothing, frames,
; code on the stack's page, a page that is remapped, stacks of both sizes in turns.
;
; expect: exit 33
%include "include/guest.inc"
%include "include/real_mode.inc"

CODE16     equ SEL0
STACK16    equ SEL1
OTHER16    equ SEL2
STACK_PAGE equ 0x800000                 ; linear
FRAME_ONE  equ 0xc00000
FRAME_TWO  equ 0xc01000
RESULTS    equ SCRATCH + 0x8000
ROUNDS     equ 100

%define OFFSET(label) (ADDRESS(label) - IMAGE_BASE)

main:
    call prepare_real
    run_real switches
    run_real ends
    run_real halves
    run_real frames
    run_real code_below
    call check_notes
    call protected
    finish

; map_stack frame: in 16-bit code
%macro map_stack 1
    mov dword [dword PAGE_TABLES + (STACK_PAGE >> 12) * 4], %1 | P | W | U
    invlpg [dword STACK_PAGE]
%endmacro

protected:
    call paging_identity
    change_cr0 0, CR0_PG | CR0_WP
    set_descriptor CODE16, IMAGE_BASE, 0xffff, CODE_RX, 0
    set_descriptor STACK16, STACK_PAGE, 0xffff, DATA_RW, 0
    set_descriptor OTHER16, SCRATCH, 0xffff, DATA_RW, 0
    mov [RESULTS + 0x1c], esp
    jmp CODE16:OFFSET(.narrow)
bits 16
.narrow:
    mov word [dword FRAME_TWO + 0xff0], 0x2222
    mov ax, STACK16
    mov ss, ax
    map_stack FRAME_ONE
    mov sp, 0xff2
    push word 0x1111
    map_stack FRAME_TWO
    pop ax
    push word 0x3333
    map_stack FRAME_ONE
    pop bx
    mov [dword RESULTS], ax
    mov [dword RESULTS + 4], bx
    xor eax, eax
    mov ecx, ROUNDS
.remapped:
    push cx
    map_stack FRAME_TWO
    call .add_top
    map_stack FRAME_ONE
    call .add_top
    pop dx
    a32 loop .remapped
    mov [dword RESULTS + 8], eax

    ; the same ESP on three stacks
    mov ecx, ROUNDS
.sizes:
    mov dx, KDS
    mov ss, dx
    mov esp, SCRATCH + 0x800
    push cx
    call .touch
    mov dx, OTHER16
    mov ss, dx
    mov esp, STACK_PAGE + 0x400
    push cx
    call .touch
    mov dx, KDS
    mov ss, dx
    push cx
    mov dx, STACK16
    mov ss, dx
    push cx
    call .touch
    a32 loop .sizes
    jmp dword KCS:ADDRESS(.done)
.add_top:
    push bp
    mov bp, sp
    movzx edx, word [bp + 4]
    add eax, edx
    pop bp
    ret
.touch:
    push cx
    pop bx
    ret
bits 32
.done:
    mov eax, KDS
    mov ss, eax
    mov esp, [RESULTS + 0x1c]
    movzx eax, word [RESULTS]
    expect_eq "pop sees the new frame", eax, 0x2222
    movzx eax, word [RESULTS + 4]
    expect_eq "the old frame again", eax, 0x1111
    movzx eax, word [FRAME_TWO + 0xff0]
    expect_eq "the second push went to the new frame", eax, 0x3333
    expect_eq "both frames in turn", [RESULTS + 8], ROUNDS * 0x3333 + 5050
    movzx eax, word [SCRATCH + 0x7fe]
    expect_eq "a flat stack", eax, 1
    movzx eax, word [SCRATCH + 0x3fe]
    expect_eq "a small one with the same esp", eax, 1
    movzx eax, word [STACK_PAGE + 0x3fc]
    expect_eq "the flat one there", eax, 1
    movzx eax, word [STACK_PAGE + 0x3fa]
    expect_eq "another small one", eax, 1
    ret

real_begin
real_support

; Another SS and the same SP: by MOV, POP and LSS, in one straight line, then in loops.
switches:
    mov ax, REAL_MORE
    mov es, ax
    mov dx, ss
    mov cx, 3
.again:
    mov sp, 0x1000
    push word 0x1111
    mov ss, ax
    push word 0x2222
    push dx
    pop ss
    push word 0x3333
    lss sp, [cs:AT(.far)]
    push word 0x4444
    mov ss, dx
    loop .again
    mov ds, dx
    mov sp, REAL_TOP
    note16 "the first stack", [0xffe], 0x1111
    note16 "mov", [es:0xffc], 0x2222
    note16 "pop: the selector", [es:0xffa], REAL_STACK
    note16 "pop", [0xffa], 0x3333
    note16 "lss", [es:0x7fe], 0x4444
    mov cx, ROUNDS
    xor bx, bx
.loop:
    mov ss, ax
    mov sp, 0x900
    call .sum
    mov ss, dx
    call .sum
    mov ss, ax
    call .sum
    loop .loop
    mov ss, dx
    mov sp, REAL_TOP
    note16 "in a loop", bx, 3 * 5050
    note16 "which stack", [es:0x8fc], 1
    note16 "and which", [0x8fc], 1
    real_done
.sum:
    push cx
    add bx, cx
    pop si
    ret
.far: dw 0x800, REAL_MORE

; SP at the ends of the segment, and odd.
ends:
    mov ax, REAL_MORE
    mov es, ax
    mov ss, ax
    mov cx, ROUNDS
.again:
    mov esp, 0x120000                   ; PUSH wraps, and what POP leaves has no carry
    push cx
    call .touch
    pop si
    mov [0], esp
    mov sp, 4
    push cx
    push cx
    call .touch                         ; at 0xfffe
    push cx
    mov [4], esp
    add sp, 6
    push word 0x7654
    mov si, [es:2]
    mov [20], si
    mov sp, 0xfffe
    push cx
    pop di
    pop bp                              ; of the last word
    mov [8], esp
    mov sp, 0x8001
    push cx
    push word 0x1234
    call .touch
    pop bp
    pop dx
    mov [12], esp
    mov sp, 6
    pusha                               ; over the beginning
    popa
    mov [16], sp
    loop .again
    mov ax, REAL_STACK
    mov ss, ax
    mov sp, REAL_TOP
    note "pop up to the end", [0], 0x120000
    note "push from the beginning", [4], 0x12fffe
    note "pop of the last word", [8], 0x120000
    note "odd", [12], 0x128001
    note16 "pusha over the beginning", [16], 6
    note16 "pushed by pusha", [es:0xfffe], 1
    note16 "popped", bp, 0x1234
    note16 "popped behind it", dx, 1
    note16 "the first word", [20], 0x7654
    note16 "an odd one", [es:0x7fff], 1
    real_done
.touch:
    push cx
    pop bx
    ret

; The upper halves of ESP and EBP.
halves:
    mov ax, ss
    mov es, ax
    mov cx, ROUNDS
    mov esp, 0x77770000 + REAL_TOP
    mov ebp, 0x12340000
    xor edi, edi
.again:
    push cx
    call .function
    pop dx
    add edi, edx
    add esp, 0x10000                    ; another upper half
    loop .again
    mov [0], esp
    mov [4], ebp
    mov [8], edi
    mov esp, REAL_TOP
    note "esp", [0], 0x77770000 + REAL_TOP + ROUNDS * 0x10000
    note "ebp", [4], 0x12340000
    note "sum", [8], 2 * 5050
    real_done
.function:
    push bp
    mov bp, sp
    sub sp, 4
    mov ax, [bp + 4]
    mov [bp - 2], ax
    jmp .on
.on:
    mov ax, [bp - 2]
    add [bp + 4], ax
    mov [bp - 4], ax
    leave
    ret

; Frames in blocks that do not set BP, with BP where the stack is and elsewhere.
frames:
    mov ax, ss
    mov es, ax
    mov cx, ROUNDS
    xor ebp, ebp
    xor ebx, ebx
.again:
    push cx
    mov bp, sp
    sub bp, 0x40
    call .function
    mov bp, 0x100
    call .function
    mov bp, 0xfffe                      ; [bp + 2] wraps
    call .function
    add sp, 2
    loop .again
    note "sum of frames", ebx, 3 * 5050
    note16 "below", [es:REAL_TOP - 0x44], 1
    note16 "elsewhere", [es:0xfe], 1
    note16 "at the end", [es:0xfffc], 1
    note16 "over the end", [es:0], 1
    real_done
.function:
    jmp .on
.on:
    mov [bp - 2], cx
    mov [bp + 2], cx
    movzx eax, word [bp - 2]
    add ebx, eax
    ret

; Code that PUSH writes, on the page that the stack is on.
code_below:
    mov ax, ss
    mov es, ax
    mov cx, ROUNDS
    xor ebx, ebx
    mov word [es:0x17fe], 0xcb90        ; NOP, RETF
    mov word [cs:AT(.place)], 0x17fb
    mov [cs:AT(.place) + 2], ax
.again:
    mov sp, 0x17fe
    mov al, cl
    mov ah, 0x90
    push ax                             ; the immediate of the MOV, and a NOP
    push word 0xb090                    ; NOP, MOV AL
    mov al, 0
    call far [cs:AT(.place)]
    movzx edx, al
    add ebx, edx
    loop .again
    mov sp, REAL_TOP
    note "what it returned", ebx, 5050
    real_done
.place: dw 0, 0

real_end
