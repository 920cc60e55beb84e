; Changes of mode, many times each: INT and far calls in real mode, to protected mode and back, a
; virtual-8086 monitor's round trip, task switches, single steps; and a piece of 16-bit code beside
; its 32-bit twin. Each line of output has the time stamp counter's difference and how often it was
; done, by which bench/modes compares machines. A number on the command line says how often.
;
; expect: exit 33
%include "include/guest.inc"
%include "include/real_mode.inc"

TASK    equ SEL0
TSS1    equ SCRATCH + 0x1000
STACK1  equ SCRATCH + 0x5000
BUFFER  equ REAL_DATA * 16              ; 16 KiB of it
WORDS   equ 0x2000

; measured "name": prints what passed since `begin`
%macro begin 0
    rdtsc
    mov [started], eax
    mov [started + 4], edx
%endmacro
%macro measured 1
    rdtsc
    sub eax, [started]
    sbb edx, [started + 4]
    mov [passed], eax
    mov [passed + 4], edx
    put %1
    call put_measured
%endmacro

main:
    mov [information], ebx
    call how_often
    call prepare_real
    mov eax, [loops]
    mov [REAL_SEGMENT * 16 + AT(real_loops)], eax
    mov esi, BUFFER
    mov ecx, WORDS
.fill:
    imul eax, ecx, 0x9e37
    mov [esi + 2 * ecx - 2], ax
    loop .fill

    begin
    run_real interrupts
    measured "real-mode INT and IRET: "
    begin
    run_real far_calls
    measured "real-mode far call and return: "
    begin
    run_real switches
    measured "to protected mode and back: "
    begin
    run_real segments
    measured "segment loads in real mode: "
    call check_notes

    ; --- the monitor of a virtual-8086 task: CLI is its business ---
    hook monitor
    mov dword [REAL_SEGMENT * 16 + AT(v86_ended)], 0
    mov [resume_esp], esp
    begin
    push dword 0
    push dword 0
    push dword REAL_DATA
    push dword REAL_DATA
    push dword REAL_STACK
    push dword 0x1000
    push dword VM | 2
    push dword REAL_SEGMENT
    push dword AT(v86_code)
    iretd
.v86_done:
    hook 0
    measured "V86 monitor's round trip: "
    expect_eq "v86", [rounds], [loops]

    ; --- tasks ---
    call prepare_task
    mov ecx, [loops]
    begin
.tasks:
    call TASK:0
    dec ecx
    jnz .tasks
    measured "task switch there and back: "
    clts
    mov eax, [seen]
    expect_eq "tasks", eax, [loops]

    ; --- single steps ---
    set_idt_gate DB_, KCS, stepped, INT_GATE
    mov dword [seen], 0
    mov ecx, [loops]
    begin
    pushfd
    or dword [esp], TF
    popfd
.steps:
    dec ecx
    jnz .steps
    pushfd
    and dword [esp], ~TF
    popfd
    measured "single step of two instructions: "
    mov eax, [loops]
    lea eax, [eax * 2 + 3]
    expect_eq "steps", [seen], eax

    ; --- the same computation in both sizes ---
    mov eax, [loops]
    shr eax, 6
    inc eax
    mov [loops], eax
    mov [REAL_SEGMENT * 16 + AT(real_loops)], eax
    begin
    run_real compute16
    measured "compute in 16 bits: "
    mov eax, [REAL_NOTES * 16 + 0xe000]
    mov [seen], eax
    begin
    call compute32
    push eax
    measured "compute in 32 bits: "
    pop eax
    expect_eq "both give the same", eax, [seen]
    finish

monitor:
    cmp dword [exc_vector], GP
    jne .strange
    inc dword [rounds]
    inc dword [ebp + FRAME_EIP]         ; over the CLI
    mov eax, [rounds]
    cmp eax, [loops]
    jb .on
    mov dword [exception_hook], 0
    mov esp, [resume_esp]
    mov eax, KDS
    mov ds, eax
    mov es, eax
    jmp main.v86_done
.on:
    ret
.strange:
    mov dword [exception_hook], 0
    ret

stepped:
    inc dword [seen]
    iretd

; ECX times: sums, shifts, a table, a call for each word.
%macro compute 3                        ; index register, accumulator, counter register
%%pass:
    xor %1, %1
%%word:
    mov ax, [BUFFER_AT + %1]
    add %2, eax
    rol %2, 3
    mov dl, ah
    and dl, 15
    mov dh, dl
    xor [BUFFER_AT + %1], dx
    call %%step
    add %1, 2
    cmp %1, 2 * WORDS
    jb %%word
    dec %3
    jnz %%pass
    jmp %%done
%%step:
    push %1
    xor %2, ebx
    inc ebx
    pop %1
    ret
%%done:
%endmacro

compute32:
    call refill
    mov ecx, [loops]
    xor eax, eax
    xor ebx, ebx
    xor edx, edx
    xor edi, edi
%define BUFFER_AT BUFFER
    compute esi, edi, ecx
    mov eax, edi
    ret

refill:
    mov edi, WORDS
.next:
    imul eax, edi, 0x9e37
    mov [BUFFER + 2 * edi - 2], ax
    dec edi
    jnz .next
    ret

prepare_task:
    mov edi, TSS1
    xor eax, eax
    mov ecx, 104 / 4
    rep stosd
    mov dword [TSS1 + 32], .task
    mov dword [TSS1 + 36], 2
    mov dword [TSS1 + 56], STACK1
    mov word [TSS1 + 76], KCS
    mov word [TSS1 + 72], KDS
    mov word [TSS1 + 80], KDS
    mov word [TSS1 + 84], KDS
    set_descriptor TASK, TSS1, 103, TSS_TYPE, 0
    mov dword [seen], 0
    ret
.task:
    inc dword [seen]
    iretd
    jmp .task

; The number on the command line, or 300.
how_often:
    mov dword [loops], 300
    mov ebx, [information]
    test byte [ebx], 4
    jz .done
    mov esi, [ebx + 16]
    xor ecx, ecx
.char:
    movzx eax, byte [esi]
    inc esi
    test eax, eax
    jz .end
    cmp eax, ' '
    je .word
    sub eax, '0'
    cmp eax, 9
    ja .other
    imul ecx, ecx, 10
    add ecx, eax
    jmp .char
.word:
    xor ecx, ecx
    jmp .char
.other:                                 ; of a path
    mov ecx, 0
    cmp byte [esi], ' '
    ja .char
    jmp .char
.end:
    test ecx, ecx
    jz .done
    mov [loops], ecx
.done:
    ret

put_measured:
    mov eax, [passed + 4]
    call put_hex
    mov eax, [passed]
    call put_hex
    mov al, ' '
    call put_char
    mov eax, [loops]
    call put_hex
    jmp new_line

real_begin
real_support
real_loops: dd 0
v86_ended: dd 0

interrupts:
    xor ax, ax
    mov ds, ax
    mov dword [0x60 * 4], REAL_SEGMENT << 16 | AT(.handler)
    mov ecx, [cs:AT(real_loops)]
    xor ebx, ebx
.again:
    int 0x60
    dec ecx
    jnz .again
    sub ebx, [cs:AT(real_loops)]
    note "interrupts", ebx, 0
    real_done
.handler:
    inc ebx
    iret

far_calls:
    mov ecx, [cs:AT(real_loops)]
    xor ebx, ebx
.again:
    call REAL_SEGMENT + 1:AT(.sub) - 16
    dec ecx
    jnz .again
    sub ebx, [cs:AT(real_loops)]
    note "far calls", ebx, 0
    real_done
.sub:
    inc ebx
    retf

switches:
    mov ecx, [cs:AT(real_loops)]
    xor ebx, ebx
.again:
    mov eax, cr0
    or al, 1
    mov cr0, eax
    jmp REAL_CODE16:AT(.protected)
.protected:
    inc ebx
    mov eax, cr0
    and al, 0xfe
    mov cr0, eax
    jmp REAL_SEGMENT:AT(.real)
.real:
    dec ecx
    jnz .again
    sub ebx, [cs:AT(real_loops)]
    note "switches", ebx, 0
    real_done

segments:
    mov ecx, [cs:AT(real_loops)]
    mov ax, REAL_DATA
    mov bx, REAL_MORE
.again:
    mov ds, ax
    mov es, bx
    mov dx, [0x10]
    mov ds, bx
    mov es, ax
    mov dx, [es:0x10]
    dec ecx
    jnz .again
    mov ax, ds
    note16 "segments", ax, REAL_MORE
    real_done

v86_code:
    times 64 cli
    jmp v86_code

compute16:
    mov ax, 0
    mov ds, ax
    mov ax, REAL_DATA
    mov ds, ax
    mov ecx, WORDS
.fill:
    imul eax, ecx, 0x9e37
    mov si, cx
    add si, si
    mov [si - 2], ax
    loop .fill
    mov ecx, [cs:AT(real_loops)]
    xor eax, eax
    xor ebx, ebx
    xor edx, edx
    xor edi, edi
%define BUFFER_AT 0
    compute si, edi, ecx
    mov [fs:0xe000], edi
    real_done

real_end

section .data
align 8
started:     dd 0, 0
passed:      dd 0, 0
loops:       dd 0
rounds:      dd 0
seen:        dd 0
information: dd 0
