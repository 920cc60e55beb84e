; The same code at many addresses: what it pushes, where it branches to, in its page and into the next
; one, what EIP its exceptions show, in rings 0 and 3; then changed, by way of one of the addresses; then
; mapped at one address at a time.
;
; expect: exit 33
%include "include/guest.inc"

PLACES equ 6
STEP equ 0x10000

section .data
align 4
; not at equal distances, and not in the order of the addresses
places: dd 0x800000, 0xc02000, 0x7fd000, 0xe0e000, 0x803000, 0xa10000

section .text
main:
    call paging_identity
    mov esi, code
    mov edi, FREE_FRAMES
    mov ecx, code_end - code
    rep movsb
    xor ebp, ebp
.map:
    mov eax, [places + 4 * ebp]
    call map_there
    inc ebp
    cmp ebp, PLACES
    jne .map
    change_cr0 0, CR0_PG

    ; Twice over, so that branches are linked, and blocks that were made for one are there for all.
    mov dword [wanted], 30 + 7
    call run_all
    call run_all
    ; changed: each place shows it
    mov byte [0xc02000 + number - code + 1], 40
    mov dword [wanted], 40 + 7
    call run_all
    mov byte [FREE_FRAMES + number - code + 1], 50
    mov dword [wanted], 50 + 7
    call run_all
    call unmap_all

    ; one place after the other, and always new ones: no other has the code any more
    mov ecx, 5
.turns:
    push ecx
    xor ebp, ebp
.turn:
    add dword [places + 4 * ebp], STEP
    mov eax, [places + 4 * ebp]
    call map_there
    call run_there
    call unmap_there
    inc ebp
    cmp ebp, PLACES
    jne .turn
    inc byte [FREE_FRAMES + number - code + 1]
    inc dword [wanted]
    pop ecx
    dec ecx
    jnz .turns

    ; where an x87 instruction was, whose code has gone elsewhere since
    xor ebp, ebp
.x87:
    mov eax, [places + 4 * ebp]
    call map_there
    mov ebx, [places + 4 * ebp]
    lea eax, [ebx + loads - code]
    finit
    call eax
    call unmap_there
    push ebp
    xor ebp, ebp
.others:
    add dword [places + 4 * ebp], STEP
    mov eax, [places + 4 * ebp]
    call map_there
    mov eax, [places + 4 * ebp]
    add eax, nothing - code
    call eax
    call unmap_there
    inc ebp
    cmp ebp, PLACES
    jne .others
    pop ebp
    fnstenv [SCRATCH]
    sub [SCRATCH + 12], ebx
    expect_eq "instruction pointer of the x87", [SCRATCH + 12], loads - code
    inc ebp
    cmp ebp, PLACES
    jne .x87

    ; the second of two pages goes and comes back, and its code was elsewhere meanwhile
    xor ebp, ebp
.second:
    mov eax, [places + 4 * ebp]
    call map_there
    call run_there
    mov ebx, [places + 4 * ebp]
    lea eax, [ebx + 0x1000]
    call unmap_page
    mov edi, [many]
    mov ecx, 6
.elsewhere:
    mov eax, edi
    shr eax, 12
    mov dword [PAGE_TABLES + 4 * eax], (FREE_FRAMES + 0x1000) | P | W | U
    lea eax, [edi + nothing_either - next_page]
    call eax
    mov eax, edi
    call unmap_page
    add edi, STEP
    dec ecx
    jnz .elsewhere
    mov [many], edi
    mov eax, ebx
    call map_there
    call run_there
    call unmap_there
    inc ebp
    cmp ebp, PLACES
    jne .second
    change_cr0 CR0_PG, 0
    finish

; EAX: the page. Keeps the other registers.
unmap_page:
    shr eax, 12
    mov dword [PAGE_TABLES + 4 * eax], 0
    mov eax, cr3
    mov cr3, eax
    ret

; EBP: the number of the place.
unmap_there:
    mov eax, [places + 4 * ebp]
    shr eax, 12
    mov dword [PAGE_TABLES + 4 * eax], 0
    mov dword [PAGE_TABLES + 4 * eax + 4], 0
    mov eax, cr3
    mov cr3, eax
    ret

unmap_all:
    xor ebp, ebp
.next:
    call unmap_there
    inc ebp
    cmp ebp, PLACES
    jne .next
    ret

; EAX: the place. Both its pages.
map_there:
    shr eax, 12
    mov dword [PAGE_TABLES + 4 * eax], FREE_FRAMES | P | W | U
    mov dword [PAGE_TABLES + 4 * eax + 4], (FREE_FRAMES + 0x1000) | P | W | U
    ret

run_all:
    xor ebp, ebp
.next:
    call run_there
    inc ebp
    cmp ebp, PLACES
    jne .next
    ret

run_there:
    mov ebx, [places + 4 * ebp]
    call ebx
    expect_eq "pushed by a call", ecx, 0
    expect_eq "a loop and both ways of a branch", eax, [wanted]
    expect_eq "the next page", edx, 0x77
    mov eax, ebx
    add eax, raises - code
    mov [entry], eax
    try .caught
    xor ecx, ecx
    call [entry]
.caught:
    mov eax, [exc_eip]
    sub eax, ebx
    expect_eq "where an exception comes from", eax, divides - code
    try .undefined
    lea eax, [ebx + undefined - code]
    call eax
.undefined:
    mov eax, [exc_eip]
    sub eax, ebx
    expect_eq "where an undefined instruction is", eax, undefined - code
    lea eax, [ebx + user - code]
    mov [entry], eax
    try .back
    enter_ring 3, [entry]
.back:
    sub ecx, ebx
    expect_eq "in ring 3: pushed", ecx, user_pushed - code
    mov eax, [exc_eip]
    sub eax, ebx
    expect_eq "in ring 3: behind INT n", eax, user_end - code
    ret

section .data
align 4
wanted: dd 0
many:   dd 0xb05000
entry:  dd 0

section .text
; Position-independent; two pages. EBX: where it is.
code:
    call pushed_there
pushed_here:
    mov ecx, esi
    sub ecx, ebx
    sub ecx, pushed_here - code
number:
    mov eax, 30
    mov edx, 7
.loop:
    inc eax
    dec edx
    jz .out
    test edx, 1
    jnz .loop
    jmp .loop
.out:
    call near_end
    jmp last
pushed_there:
    mov esi, [esp]
    ret
last:
    ret
raises:
    xor edx, edx
    mov eax, 5
divides:
    div ecx
    ret
undefined:
    ud2
loads:
    fld1
    ret
nothing:
    ret
user:
    call user_there
user_pushed:
    int SYS
user_end:
    ud2
user_there:
    mov ecx, [esp]
    ret
    times 0x1000 - ($ - code) - 3 db 0x90
    ; goes on in the next page: an instruction that lies in both
near_end_of_page:
    nop
    db 0xb8, 0x11
next_page:
    db 0x22, 0x33, 0x44
    ret
nothing_either:
    ret
near_end:
    push eax
    call near_end_of_page
    cmp eax, 0x44332211
    pop eax
    jne .wrong
    mov edx, 0x77
.wrong:
    ret
code_end:
