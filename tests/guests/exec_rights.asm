; Who may execute what, however well the code is known already: supervisor pages in ring 3, pages
; that lose their rights, branches from one page to another whose mapping changed.
;
; expect: exit 33
%include "include/guest.inc"

CODE equ 0x800000                       ; inc eax; ret and int 0x80
OTHER equ 0x900000

%macro map_code 1
    set_pte CODE, %1
    invlpg [CODE]
%endmacro

main:
    mov dword [CODE], 0xc340            ; inc eax; ret
    mov dword [CODE + 0x10], 0x80cd40   ; inc eax; int 0x80
    mov dword [OTHER], 0xc34848         ; dec eax; dec eax; ret
    mov dword [OTHER + 0x10], 0x80cd48
    call paging_identity
    change_cr0 0, CR0_PG

    ; hot in ring 0, then the supervisor's: ring 3 must not get in
    mov ecx, 100
    xor eax, eax
    mov edx, CODE
.hot:
    call edx
    loop .hot
    expect_eq "hot", eax, 100
    map_code CODE | P | W
    call edx
    mov esi, CODE + 0x10
    try .direct
    enter_ring 3, CODE + 0x10
.direct:
    expect_exception "by IRET", PF_, PFE_P | PFE_U, CODE + 0x10
    try .jump
    enter_ring 3, .user_jump
.user_jump:
    jmp CODE + 0x10
.jump:
    expect_exception "by a direct jump", PF_, PFE_P | PFE_U, CODE + 0x10
    try .indirect
    enter_ring 3, .user_indirect
.user_indirect:
    jmp esi
.indirect:
    expect_exception "by an indirect jump", PF_, PFE_P | PFE_U, CODE + 0x10
    try .call
    enter_ring 3, .user_call
.user_call:
    call edx
.call_back:
    int SYS
.call:
    expect_exception "by a call", PF_, PFE_P | PFE_U, CODE
    expect_eq "the call has pushed", [USER_STACK - 4], .call_back
    try .ret
    enter_ring 3, .user_ret
.user_ret:
    push edx
    ret
.ret:
    expect_exception "by a return", PF_, PFE_P | PFE_U, CODE
    expect_eq "the return has popped", [exc_esp], USER_STACK
    ; running from a user page into a supervisor page
    map_code CODE | P | W | U
    mov byte [CODE + 0xfff], 0x40
    mov byte [CODE + 0x1000], 0xc3
    set_pte CODE + 0x1000, (CODE + 0x1000) | P | W
    invlpg [CODE + 0x1000]
    mov eax, CODE + 0xfff
    call eax
    mov edi, CODE + 0xfff
    try .run
    enter_ring 3, .user_run
.user_run:
    jmp edi
.run:
    expect_exception "by running on", PF_, PFE_P | PFE_U, CODE + 0x1000

    ; the same code alternately allowed and not
    mov ebp, 40
.alternate:
    map_code CODE | P | W | U
    try .allowed
    enter_ring 3, CODE + 0x10
.allowed:
    expect_exception "allowed", SYS, 0, CODE + 0x13
    map_code CODE | P | W
    try .forbidden
    enter_ring 3, CODE + 0x10
.forbidden:
    expect_exception "forbidden", PF_, PFE_P | PFE_U, CODE + 0x10
    map_code 0
    try .absent
    call edx
.absent:
    expect_exception "absent", PF_, 0, CODE
    dec ebp
    jnz .alternate

    ; one indirect branch and one direct one, whose target's page is mapped to other frames
    mov ecx, 100
    xor eax, eax
.swap:
    map_code CODE | P | W | U
    call edx                            ; + 1
    call .direct_call                   ; + 1
    map_code OTHER | P | W | U
    call edx                            ; - 2
    call .direct_call                   ; - 2
    dec ecx
    jnz .swap
    expect_eq "frames in turn", eax, -200
    ; the caller's page changes while the callee runs: RET comes to other code at the same address
    map_code CODE | P | W | U
    mov esi, caller_one
    mov edi, CODE + 0x100
    mov ecx, caller_end - caller_one
    rep movsb
    mov esi, caller_one
    mov edi, OTHER + 0x100
    mov ecx, caller_end - caller_one
    rep movsb
    mov byte [OTHER + 0x100 + caller_value - caller_one + 1], 2
    mov ecx, 50
    xor ebx, ebx
.callers:
    map_code CODE | P | W | U
    mov esi, .to_other
    mov edx, CODE + 0x100
    call edx
    add ebx, eax
    mov esi, .to_code
    call edx
    add ebx, eax
    dec ecx
    jnz .callers
    expect_eq "return to changed code", ebx, 150
    change_cr0 CR0_PG, 0
    finish
.direct_call:
    jmp CODE
.to_other:
    map_code OTHER | P | W | U
    ret
.to_code:
    map_code CODE | P | W | U
    ret

caller_one:
    call esi
caller_value:
    mov eax, 1
    ret
caller_end:
