; Two address spaces with other code and data at the same linear addresses: switched thousands of
; times in ring 0, and by a small kernel that schedules two ring 3 tasks.
;
; expect: exit 33
%include "include/guest.inc"

DIRECTORY_B equ SCRATCH                 ; the second space's tables
TABLE_B equ SCRATCH + 0x1000            ; for 8 to 12 MiB
WINDOW equ 0x800000                     ; differs: code page, data page, stack page
FRAMES_A equ 0xc00000
FRAMES_B equ 0xd00000

main:
    call paging_identity
    mov esi, PAGE_DIRECTORY
    mov edi, DIRECTORY_B
    mov ecx, 1024
    rep movsd
    mov dword [DIRECTORY_B + 2 * 4], TABLE_B | P | W | U
    set_pte WINDOW, FRAMES_A | P | W | U
    set_pte WINDOW + 0x1000, (FRAMES_A + 0x1000) | P | W | U
    set_pte WINDOW + 0x2000, (FRAMES_A + 0x2000) | P | W | U
    mov dword [TABLE_B], FRAMES_B | P | W | U
    mov dword [TABLE_B + 4], (FRAMES_B + 0x1000) | P | W | U
    mov dword [TABLE_B + 8], (FRAMES_B + 0x2000) | P | W | U
    ; functions at the same address: A adds 1, B adds 1000 and has another length
    mov esi, code_a
    mov edi, FRAMES_A
    mov ecx, code_a_end - code_a
    rep movsb
    mov esi, code_b
    mov edi, FRAMES_B
    mov ecx, code_b_end - code_b
    rep movsb
    change_cr0 0, CR0_PG

    mov ebp, 2000
    xor eax, eax
    mov esi, WINDOW
.ring0:
    mov ecx, PAGE_DIRECTORY
    mov cr3, ecx
    call esi
    mov ecx, DIRECTORY_B
    mov cr3, ecx
    call esi
    dec ebp
    jnz .ring0
    expect_eq "ring 0", eax, 2000 * 1001
    expect_eq "data of B", [WINDOW + 0x1000], 2000 * 1000
    mov ecx, PAGE_DIRECTORY
    mov cr3, ecx
    expect_eq "data of A", [WINDOW + 0x1000], 2000

    ; two tasks that yield by INT 0x80 with EAX 1, and end with EAX 2
    mov esi, task
    mov edi, FRAMES_A + 0x100
    mov ecx, task_end - task
    rep movsb
    mov esi, task
    mov edi, FRAMES_B + 0x100
    mov ecx, task_end - task
    rep movsb
    mov dword [FRAMES_B + 0x100 + task.step - task + 2], 5      ; B counts by 5
    mov dword [FRAMES_A + 0x1000], 0
    mov dword [FRAMES_B + 0x1000], 0
    mov [kernel_esp], esp
    mov edi, context_b
    mov dword [edi], WINDOW + 0x100
    mov dword [edi + 4], WINDOW + 0x3000
    mov dword [edi + 8], DIRECTORY_B
    mov dword [edi + 12], 0
    hook scheduler
    enter_ring 3, WINDOW + 0x100, WINDOW + 0x3000
finished:
    hook 0
    mov ecx, PAGE_DIRECTORY
    mov cr3, ecx
    expect_eq "task A", [FRAMES_A + 0x1000], 3000
    expect_eq "task B", [FRAMES_B + 0x1000], 15000
    expect_eq "switches", [switches], 6000
    change_cr0 CR0_PG, 0
    finish

; Saves what differs between the tasks, loads the other one's.
scheduler:
    cmp dword [exc_vector], SYS
    jne stray_exception
    cmp dword [ebp + FRAME_EAX], 2
    je .end
    inc dword [switches]
    mov eax, [current]
    call store
    call other
    jmp load
.end:
    inc dword [ended]
    cmp dword [ended], 2
    je .both
    call other
    jmp load
.both:
    mov esp, [kernel_esp]
    jmp finished
; The other task becomes the current one, and EAX its context.
other:
    mov eax, context_a
    cmp [current], eax
    jne .a
    mov eax, context_b
.a:
    mov [current], eax
    ret
store:
    mov ecx, [ebp + FRAME_EIP]
    mov [eax], ecx
    mov ecx, [ebp + FRAME_ESP]
    mov [eax + 4], ecx
    mov ecx, cr3
    mov [eax + 8], ecx
    mov ecx, [ebp + FRAME_EBX]
    mov [eax + 12], ecx
    ret
load:
    mov ecx, [eax]
    mov [ebp + FRAME_EIP], ecx
    mov ecx, [eax + 4]
    mov [ebp + FRAME_ESP], ecx
    mov ecx, [eax + 12]
    mov [ebp + FRAME_EBX], ecx
    mov ecx, [eax + 8]
    mov cr3, ecx
    ret

; position-independent; EBX and the stack live across the yields
code_a:
    inc eax
    inc dword [WINDOW + 0x1000]
    ret
code_a_end:
code_b:
    push eax
    add dword [WINDOW + 0x1000], 1000
    pop eax
    add eax, 1000
    ret
code_b_end:
task:
    xor ebx, ebx
    push dword 3000
.loop:
.step:
    add ebx, strict dword 1
    mov eax, 1
    int SYS
    dec dword [esp]
    jnz .loop
    mov [WINDOW + 0x1000], ebx
    mov eax, 2
    int SYS
task_end:

section .data
align 4
context_a: dd 0, 0, 0, 0
context_b: dd 0, 0, 0, 0
current: dd context_a
switches: dd 0
ended: dd 0
kernel_esp: dd 0
