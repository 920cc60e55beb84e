; Restart of stack instructions: a page fault in PUSH, POP, PUSHA, POPA, CALL, RET, ENTER, LEAVE and
; their memory operands leaves ESP and all else as before, and the repaired instruction is right.
;
; expect: exit 33
; deviates: qemu "pushad: cr2": the first push that faults is the third (SDM volume 2, PUSHA); QEMU
;   writes from the other end.
%include "include/guest.inc"

STACK equ 0x801000                      ; the stack page lies below, its neighbour above
BELOW equ 0x800000
ABOVE equ 0x801000
DATA_PAGE equ 0x802000

; The whole test runs in ring 3 on that stack; exceptions use ring 0's.
; faulting "name", esp, error code, cr2, {instruction}
%macro faulting 5+
    try %%done
    enter_ring 3, %%instruction, %2
%%instruction:
    %5
    int SYS
%%done:
    expect_exception %1, PF_, %3, %%instruction
    %strcat %%cr2 %1, ": cr2"
    expect_eq %%cr2, [exc_cr2], %4
    %strcat %%esp %1, ": esp"
    expect_eq %%esp, [exc_esp], %2
%endmacro
; repaired "name", esp, esp after, absent page, {instruction}: the hook gives the page
%macro repaired 5+
    set_pte %4, 0
    invlpg [%4]
    mov dword [faults], 0
    mov dword [resume_eip], %%done
    mov [resume_esp], esp
    hook give
    enter_ring 3, %%instruction, %2
%%instruction:
    %5
%%after:
    int SYS
%%done:
    hook 0
    expect_exception %1, SYS, 0, %%done
    %strcat %%esp %1, ": esp after"
    expect_eq %%esp, [exc_esp], %3
    %strcat %%once %1, ": one fault"
    expect_eq %%once, [faults], 1
%endmacro
%macro absent 1
    set_pte %1, 0
    invlpg [%1]
%endmacro
%macro present 1
    set_pte %1, (%1) | P | W | U
    invlpg [%1]
%endmacro

main:
    call paging_identity
    change_cr0 0, CR0_PG
    mov ebp, 0x5a5a
    absent BELOW
    faulting "push", STACK, PFE_U | PFE_W, STACK - 4, push eax
    faulting "push esp", STACK, PFE_U | PFE_W, STACK - 4, push esp
    faulting "push immediate", STACK, PFE_U | PFE_W, STACK - 4, push byte 1
    faulting "push memory", STACK, PFE_U | PFE_W, STACK - 4, push dword [DATA_PAGE]
    faulting "push segment", STACK, PFE_U | PFE_W, STACK - 4, push word ds
    faulting "pushad", STACK + 8, PFE_U | PFE_W, STACK - 4, pushad
    faulting "pushfd", STACK, PFE_U | PFE_W, STACK - 4, pushfd
    faulting "call", STACK, PFE_U | PFE_W, STACK - 4, {call $ + 5}
    faulting "call memory", STACK, PFE_U | PFE_W, STACK - 4, call [DATA_PAGE]
    faulting "enter", STACK, PFE_U | PFE_W, STACK - 4, enter 16, 0
    expect_eq "enter: ebp", ebp, 0x5a5a
    faulting "pop", STACK - 4, PFE_U, STACK - 4, pop eax
    faulting "pop esp", STACK - 4, PFE_U, STACK - 4, pop esp
    faulting "popfd", STACK - 4, PFE_U, STACK - 4, popfd
    faulting "ret", STACK - 4, PFE_U, STACK - 4, ret
    mov edi, 0x1111
    faulting "popad", STACK - 32, PFE_U, STACK - 32, popad
    expect_eq "popad: edi", edi, 0x1111
    mov ebp, STACK - 8
    faulting "leave", STACK + 0x100, PFE_U, STACK - 8, leave
    expect_eq "leave: ebp", ebp, STACK - 8
    ; straddling: POPA over the end into an absent page
    present BELOW
    absent ABOVE
    faulting "popad across", STACK - 16, PFE_U, STACK, popad
    faulting "pop across", STACK - 2, PFE_U, STACK, pop eax
    present ABOVE
    mov dword [STACK], 0
    absent BELOW
    faulting "push across", STACK + 2, PFE_U | PFE_W, STACK - 2, push eax
    mov eax, [STACK]
    expect_eq "push across: nothing stored", eax, 0
    present BELOW

    ; memory operands
    absent DATA_PAGE
    faulting "push from absent memory", STACK, PFE_U, DATA_PAGE + 8, push dword [DATA_PAGE + 8]
    faulting "pop into absent memory", STACK, PFE_U | PFE_W, DATA_PAGE + 8, pop dword [DATA_PAGE + 8]
    faulting "call absent memory", STACK, PFE_U, DATA_PAGE, call [DATA_PAGE]
    faulting "pop [esp+d]", DATA_PAGE - 8, PFE_U | PFE_W, DATA_PAGE, pop dword [esp + 4]
    present DATA_PAGE

    ; repaired by the handler
    mov eax, 0x77
    repaired "push again", STACK, STACK - 4, BELOW, push eax
    expect_eq "push again: value", [STACK - 4], 0x77
    repaired "push esp again", STACK, STACK - 4, BELOW, push esp
    expect_eq "push esp again: value", [STACK - 4], STACK
    mov dword [STACK - 4], 0x88
    repaired "pop again", STACK - 4, STACK, BELOW, pop ecx
    expect_eq "pop again: value", [exc_ecx], 0x88
    mov dword [STACK - 4], STACK + 0x40
    repaired "pop esp again", STACK - 4, STACK + 0x40, BELOW, pop esp
    mov dword [STACK - 4], 0x99
    repaired "pop [esp+d] again", STACK - 4, STACK, DATA_PAGE, pop dword [esp + DATA_PAGE - STACK]
    expect_eq "pop [esp+d] again: address after the pop", [DATA_PAGE], 0x99
    mov dword [DATA_PAGE], 0xaa
    repaired "push [mem] again", STACK, STACK - 4, DATA_PAGE, push dword [DATA_PAGE]
    expect_eq "push [mem] again: value", [STACK - 4], 0xaa
    repaired "call again", STACK, STACK - 4, BELOW, {call $ + 5}
    mov ebp, STACK - 8
    mov dword [STACK - 8], 0x1234
    repaired "leave again", STACK + 0x40, STACK - 4, BELOW, leave
    expect_eq "leave again: ebp", [exc_ebp], 0x1234
    mov ebp, 0x4321
    repaired "enter again", STACK, STACK - 20, BELOW, enter 16, 0
    expect_eq "enter again: ebp", [exc_ebp], STACK - 4
    expect_eq "enter again: saved", [STACK - 4], 0x4321
    mov ebp, STACK + 0x20               ; the display lies in the other page
    mov dword [STACK + 0x20 - 4], 0x5151
    repaired "enter 2 again", STACK, STACK - 12, BELOW, enter 0, 2
    expect_eq "enter 2 again: display", [STACK - 8], 0x5151
    mov ebp, 0x6666
    mov esi, 0x7777
    repaired "pushad again", STACK + 16, STACK - 16, BELOW, pushad
    expect_eq "pushad again: ebp", [STACK - 8], 0x6666
    expect_eq "pushad again: esi", [STACK - 12], 0x7777
    expect_eq "pushad again: esp", [STACK - 4], STACK + 16
    repaired "popad again", STACK - 16, STACK + 16, ABOVE, popad
    expect_eq "popad again: esi", [exc_esi], 0x7777
    ; several stack instructions in a row, fault in the middle of the block
    mov eax, 1
    mov ecx, 2
    mov edx, 3
    repaired "row of pushes", STACK + 8, STACK - 4, BELOW, call .row
    expect_eq "row of pushes: last", [STACK - 4], 3
    change_cr0 CR0_PG, 0
    finish

.row:
    pop ebx                             ; the return address: ESP is STACK + 8 again
    push eax
    push ecx
    push edx
    push ebx
    ret

give:
    cmp dword [exc_vector], SYS
    je .done
    inc dword [faults]
    mov eax, [exc_cr2]
    shr eax, 12
    mov ecx, eax
    shl ecx, 12
    or ecx, P | W | U
    mov [PAGE_TABLES + eax * 4], ecx
    ret
.done:
    hook 0
    mov esp, [resume_esp]
    jmp [resume_eip]

section .data
faults: dd 0
