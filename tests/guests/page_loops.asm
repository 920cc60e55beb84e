; Loops whose pointers advance evenly: over page ends into unrelated frames, up and down, in odd
; steps, with indexes that wrap; faults, changed mappings and changed code in their middle.
;
; expect: exit 33
%include "include/guest.inc"
%include "include/areas.inc"

BYTES equ 0x4000
%define WRAPPED(x) ((x) + 0x10000000)   ; + 0xf0000000 is x again

; AREA gets bytes that differ everywhere, OTHER zeros. Not by evenly advancing pointers.
%macro fill_areas 0
    call fill
%endmacro

; copied "name", from, to, bytes: OTHER holds what AREA does
%macro copied 4
    push dword %4
    push dword %3
    push dword %2
    call differences
    add esp, 12
    expect_eq %1, eax, 0
%endmacro

; misaligned bytes: one side of the copy is that far from alignment, so that words cross page ends
%macro misaligned 1
    fill_areas
    mov ebx, AREA + %1
    mov edx, OTHER
    mov eax, 4
%%skewed:
    mov ecx, [ebx + eax - 4]
    mov [edx + eax - 4], ecx
    add eax, 4
    cmp eax, BYTES - 8
    jb %%skewed
    copied "misaligned source", AREA + %1, OTHER, BYTES - 12
    fill_areas
    mov esi, AREA
    mov edi, OTHER + %1
    mov ecx, (BYTES - 8) / 4
%%skewed_target:
    mov eax, [esi]
    mov [edi], eax
    add esi, 4
    add edi, 4
    dec ecx
    jnz %%skewed_target
    copied "misaligned target", AREA, OTHER + %1, BYTES - 8
%endmacro

main:
    change_cr4 0, CR4_OSFXSR
    fninit
    call paging_identity
    change_cr0 0, CR0_PG | CR0_WP
    map_areas

    ; words, by one index for both
    fill_areas
    mov ebx, AREA
    mov edx, OTHER
    xor eax, eax
.words:
    mov ecx, [ebx + eax]
    mov [edx + eax], ecx
    add eax, 4
    cmp eax, BYTES
    jb .words
    copied "words", AREA, OTHER, BYTES

    ; misaligned on one side, so that words cross page ends
    misaligned 1
    misaligned 2
    misaligned 3

    ; bytes, downwards, two pointers
    fill_areas
    mov esi, AREA + BYTES - 1
    mov edi, OTHER + BYTES - 1
    mov ecx, BYTES
.down:
    mov al, [esi]
    dec esi
    mov [edi], al
    dec edi
    dec ecx
    jnz .down
    copied "bytes downwards", AREA, OTHER, BYTES

    ; a scaled index down to zero
    fill_areas
    mov ecx, BYTES / 4
.scaled_down:
    mov eax, [AREA + ecx * 4 - 4]
    mov [OTHER + ecx * 4 - 4], eax
    dec ecx
    jnz .scaled_down
    copied "scaled index downwards", AREA, OTHER, BYTES

    ; an index that ends by wrapping to zero
    fill_areas
    mov esi, AREA + BYTES
    mov edi, OTHER + BYTES
    mov ecx, -BYTES
.to_zero:
    mov al, [esi + ecx]
    mov [edi + ecx], al
    inc ecx
    jnz .to_zero
    copied "negative index", AREA, OTHER, BYTES

    ; the same by eights, and on beyond zero
    fill_areas
    mov esi, AREA + BYTES / 2
    mov ecx, -(BYTES / 2)
.past_zero:
    mov eax, [esi + ecx]
    mov [OTHER + BYTES / 2 + ecx], eax
    mov eax, [esi + ecx + 4]
    mov [OTHER + BYTES / 2 + ecx + 4], eax
    add ecx, 8
    cmp ecx, BYTES / 2
    jne .past_zero
    copied "index past zero", AREA, OTHER, BYTES

    ; sums of base and index that wrap
    fill_areas
    mov esi, 0xf0000000
    mov ecx, WRAPPED(AREA)
    mov edx, WRAPPED(OTHER)
    mov ebx, BYTES / 4
.wrapping:
    mov eax, [esi + ecx]
    mov [esi + edx], eax
    lea ecx, [ecx + 4]
    lea edx, [edx + 4]
    sub ebx, 1
    jnz .wrapping
    copied "wrapping sum", AREA, OTHER, BYTES

    ; a displacement that wraps
    fill_areas
    mov ecx, 0x10000000
    mov ebx, BYTES / 4
.wrapping_displacement:
    mov eax, [ecx + AREA - 0x10000000]
    mov [ecx + OTHER - 0x10000000], eax
    add ecx, 4
    dec ebx
    jnz .wrapping_displacement
    copied "wrapping displacement", AREA, OTHER, BYTES

    ; a register that moves twice each time round, and an access between
    fill_areas
    mov esi, AREA - 8
    mov edi, OTHER
.twice:
    add esi, 8
    mov eax, [esi]
    mov [edi], eax
    mov eax, [esi + 4]
    add edi, 4
    mov [edi], eax
    add edi, 4
    cmp edi, OTHER + BYTES
    jne .twice
    copied "moving twice", AREA, OTHER, BYTES

    ; a register that goes back and forth
    fill_areas
    mov esi, AREA
    mov edi, OTHER
    mov ecx, BYTES / 4
.back_and_forth:
    sub esi, 64
    mov eax, [esi + 64]
    add esi, 68
    mov [edi], eax
    add edi, 4
    dec ecx
    jnz .back_and_forth
    copied "back and forth", AREA, OTHER, BYTES

    ; the carry goes round with the loop
    fill_areas
    mov esi, AREA
    mov edi, OTHER
    mov ecx, BYTES / 4
    clc
.carry:
    mov eax, [esi]
    adc eax, 0xffffffff                 ; less one with no carry in, and carries on unless it was 0
    mov [edi], eax
    lea esi, [esi + 4]
    lea edi, [edi + 4]
    dec ecx
    jnz .carry
    setc cl
    movzx ecx, cl
    expect_eq "carry: at the end", ecx, 1
    call undo_carry
    copied "carry", AREA, OTHER, BYTES

    ; leaving by another branch
    fill_areas
    mov byte [AREA + 0x2345], 0
    mov esi, AREA
.search:
    mov al, [esi]
    inc esi
    test al, al
    jz .found
    cmp esi, AREA + BYTES
    jb .search
.found:
    expect_eq "search", esi, AREA + 0x2346

    ; doubles and packed singles
    fill_areas
    mov esi, AREA
    mov edi, OTHER
    mov ecx, BYTES / 8
.doubles:
    fild qword [esi]
    add esi, 8
    fistp qword [edi]
    add edi, 8
    dec ecx
    jnz .doubles
    copied "x87", AREA, OTHER, BYTES
    fill_areas
    xor eax, eax
.packed:
    movaps xmm0, [AREA + eax]
    movups [OTHER + eax], xmm0
    add eax, 16
    cmp eax, BYTES
    jb .packed
    copied "packed singles", AREA, OTHER, BYTES

    ; an access that must be aligned and is not any more
    mov ecx, 20
    mov esi, AREA + 0xff0
    try .misaligned
.aligned:
    movaps xmm0, [esi]
    add esi, 24
    dec ecx
    jnz .aligned
.misaligned:
    expect_exception "misaligned", GP, 0, .aligned
    expect_eq "misaligned: at", [exc_esi], AREA + 0xff0 + 24
    expect_eq "misaligned: left", [exc_ecx], 19

    ; a missing page: registers and memory as of that iteration
    fill_areas
    set_pte OTHER + 0x2000, 0
    invlpg [OTHER + 0x2000]
    mov esi, AREA
    mov edi, OTHER
    mov ecx, BYTES / 4
    try .missing
.until_missing:
    mov eax, [esi]
    add esi, 4
.store:
    mov [edi], eax
    add edi, 4
    dec ecx
    jnz .until_missing
.missing:
    expect_exception "missing page", PF_, PFE_W, .store
    expect_eq "missing page: cr2", [exc_cr2], OTHER + 0x2000
    expect_eq "missing page: esi", [exc_esi], AREA + 0x2004
    expect_eq "missing page: edi", [exc_edi], OTHER + 0x2000
    expect_eq "missing page: ecx", [exc_ecx], BYTES / 8
    mov eax, [AREA + 0x2000]
    expect_eq "missing page: eax", [exc_eax], eax
    copied "missing page: before", AREA, OTHER, 0x2000

    ; a page that is read-only, and then is not
    map_areas
    fill_areas
    set_pte OTHER + 0x1000, (OTHER_FRAMES + 0x1000) | P | U
    invlpg [OTHER + 0x1000]
    hook allow_second
    xor ecx, ecx
.read_only:
    mov eax, [AREA + ecx * 4]
    mov [OTHER + ecx * 4], eax
    inc ecx
    cmp ecx, BYTES / 4
    jb .read_only
    hook 0
    copied "read-only page", AREA, OTHER, BYTES

    ; another access of the loop maps another frame under a pointer
    map_areas
    mov dword [AREA_FRAMES], 0x11111111
    mov esi, AREA_FRAMES + 0x1000
    mov ecx, 1024
.numbers:
    mov [esi + ecx * 4 - 4], ecx
    dec ecx
    jnz .numbers
    mov edi, AREA_FRAMES
    mov ecx, 1024
.more_numbers:
    lea eax, [ecx + 0x10000]
    mov [edi + ecx * 4 - 4], eax
    dec ecx
    jnz .more_numbers
    set_pte AREA, (AREA_FRAMES + 0x1000) | P | W | U
    invlpg [AREA]
    xor ecx, ecx
    xor edx, edx
    mov ebp, table_writes
.remapped:
    mov ebx, [ebp + ecx * 4]            ; where to write
    mov eax, AREA_FRAMES | P | W | U
    mov [ebx], eax
    invlpg [AREA]
    add edx, [AREA + ecx * 4]
    inc ecx
    cmp ecx, 64
    jb .remapped
    ; 1..40 from the one frame, 41..64 with 0x10000 from the other
    expect_eq "remapped in the middle", edx, 64 * 65 / 2 + 24 * 0x10000

    ; the stores run from an ordinary page into the page table that maps them
    map_areas
    set_pte AREA, (AREA_FRAMES + 0x1000) | P | W | U
    set_pte AREA + 0x1000, (PAGE_TABLES + 0x1000) | P | W | U
    set_pte AREA + 0x2000, (PAGE_TABLES + 0x2000) | P | W | U
    invlpg [AREA]
    invlpg [AREA + 0x1000]
    invlpg [AREA + 0x2000]
    mov esi, OTHER_FRAMES               ; a copy of the tables, with one entry that differs
    mov ecx, 0x800
.copy_tables:
    mov eax, [PAGE_TABLES + 0x1000 + ecx * 4 - 4]
    mov [esi + ecx * 4 - 4 + 0x1000], eax
    dec ecx
    jnz .copy_tables
    mov dword [OTHER_FRAMES + 0x1000 + PTE(AREA) - (PAGE_TABLES + 0x1000)], AREA_FRAMES | P | W | U
    mov eax, [AREA]
    expect_eq "over the tables: before", eax, 1
    mov edi, AREA + 0xff0
    mov esi, OTHER_FRAMES + 0xff0
    mov ecx, 0x2000 / 4
.over_tables:
    mov eax, [esi]
    mov [edi], eax
    add esi, 4
    add edi, 4
    dec ecx
    jnz .over_tables
    invlpg [AREA]
    mov eax, [AREA]
    expect_eq "over the tables", eax, 0x10001
    map_areas

    ; the stores run over the code of the loop itself
    mov edi, .patched
    mov ecx, (.own_code_end - .patched) / 4
    mov esi, own_code_copy
    xor ebx, ebx
    jmp .own_code
    align 4096
.patched:
    times 0x1020 db 0x90
.own_code:
    mov eax, [esi]
    mov [edi], eax
    add esi, 4
    add edi, 4
.own_add:
    add ebx, 1                          ; becomes: add ebx, 3
    dec ecx
    jnz .own_code
    jmp short .own_done
.own_done:
    nop
    nop
.own_code_end:
    ; stores before the one that changes the add count 1, that one and later ones 3
    mov eax, (.own_code_end - .patched) / 4
    lea eax, [eax + eax * 2]
    sub eax, ((.own_add + 2 - .patched) / 4) * 2
    expect_eq "over its own code", ebx, eax

    change_cr0 CR0_PG | CR0_WP, 0
    finish

fill:
    push eax
    push ecx
    push edx
    mov ecx, BYTES / 4
    mov eax, 0x12345679
.next:
    imul eax, eax, 0x19660d
    add eax, 0x3c6ef35f
    mov edx, eax
    or edx, 0x01010101
    dec ecx
    push dword [fill_targets]
    pop edx                             ; no address of this loop advances evenly
    lea edx, [edx + ecx * 4]
    push eax
    or eax, 0x01010101
    and eax, 0x7fffffff
    mov [edx], eax
    mov dword [edx + OTHER - AREA], 0
    pop eax
    test ecx, ecx
    jnz .next
    pop edx
    pop ecx
    pop eax
    ret
fill_targets: dd AREA

; stack: first, second, bytes. EAX: how many bytes differ.
differences:
    push esi
    push edi
    push ecx
    mov esi, [esp + 16]
    mov edi, [esp + 20]
    mov ecx, [esp + 24]
    cld
    xor eax, eax
.next:
    cmpsb
    je .same
    inc eax
.same:
    loop .next
    pop ecx
    pop edi
    pop esi
    ret

; The first word lost one, since there was no carry into it; the others got their carries.
undo_carry:
    inc dword [OTHER]
    ret

allow_second:
    set_pte OTHER + 0x1000, (OTHER_FRAMES + 0x1000) | P | W | U
    invlpg [OTHER + 0x1000]
    ret

section .data
align 4
table_writes:
%assign number 0
%rep 64
    %if number == 40
    dd PTE(AREA)
    %else
    dd spare
    %endif
    %assign number number + 1
%endrep
spare: dd 0
section .data
align 4096
own_code_copy:                          ; the same code but for the add
    times 0x1020 db 0x90
    mov eax, [esi]
    mov [edi], eax
    add esi, 4
    add edi, 4
    add ebx, 3
    dec ecx
    db 0x75, 0xf0                       ; jnz .own_code
    jmp short $ + 2
    nop
    nop
