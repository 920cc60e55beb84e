; Several accesses at constant distances from one register: over page ends into unrelated frames, with
; sums that wrap around, in pages that may be read only, into page tables and code; and behind loops.
;
; expect: exit 33
%include "include/guest.inc"
%include "include/areas.inc"

%define WRAPPED(x) ((x) - 0xf0000000)   ; as a displacement from 0xf0000000

main:
    change_cr4 0, CR4_OSFXSR
    fninit
    call paging_identity
    change_cr0 0, CR0_PG | CR0_WP
    map_areas
    call fill

    ; fields from one place to another, around a page end, at every distance from it
    mov esi, AREA + 0xfc0
.fields:
    lea edi, [esi + OTHER - AREA + 5]
    mov eax, [esi + 12]
    mov [edi + 12], eax
    mov eax, [esi]
    mov [edi], eax
    mov al, [esi + 4]
    mov [edi + 4], al
    mov eax, [esi + 5]
    mov [edi + 5], eax
    mov ax, [esi + 9]
    mov [edi + 9], ax
    mov al, [esi + 11]
    mov [edi + 11], al
    mov eax, [esi - 16]
    mov ecx, [esi - 8]
    mov [edi - 16], eax
    mov [edi - 8], ecx
    expect_bytes "fields", edi, esi, 16
    mov eax, [esi - 16]
    expect_eq "fields below", eax, [edi - 16]
    mov eax, [esi - 8]
    expect_eq "fields further below", eax, [edi - 8]
    inc esi
    cmp esi, AREA + 0x1040
    jb .fields

    ; far from the register, whose sum with the distance wraps around or does not
    mov ecx, 3
.far:
    mov ebx, 0xf0000000
    mov eax, [ebx + WRAPPED(AREA + 0x20)]
    mov edx, [ebx + WRAPPED(AREA + 0x28)]
    mov esi, [ebx + WRAPPED(AREA + 0x14)]
    mov edi, [ebx + WRAPPED(AREA + 0x30)]
    push esi
    mov esi, AREA
    expect_eq "wrapping, first", eax, [esi + 0x20]
    expect_eq "wrapping, second", edx, [esi + 0x28]
    pop edx
    expect_eq "wrapping, third", edx, [esi + 0x14]
    expect_eq "wrapping, fourth", edi, [esi + 0x30]
    mov ebx, AREA - 0x3000
    mov eax, [ebx + 0x3ff8]
    mov edx, [ebx + 0x3ffc]
    mov edi, [ebx + 0x4000]
    push dword [ebx + 0x4004]
    add esi, 0x1000
    expect_eq "far, first", eax, [esi - 8]
    expect_eq "far, second", edx, [esi - 4]
    expect_eq "far, third", edi, [esi]
    pop edi
    expect_eq "far, fourth", edi, [esi + 4]
    dec ecx
    jnz .far

    ; near a register in the last page, where the sums wrap around
    mov ecx, 3
.top:
    mov ebx, 0xfffffff8
    mov eax, [ebx + 16]
    mov edx, [ebx + 12]
    mov edi, [ebx + 8]
    mov esi, 4
    expect_eq "around, first", eax, [esi + 4]
    expect_eq "around, second", edx, [esi]
    expect_eq "around, third", edi, [esi - 4]
    dec ecx
    jnz .top

    ; constant addresses on both sides of a page end
    mov esi, AREA + 0x1000
    mov eax, [AREA + 0xff8]
    mov ecx, [AREA + 0xffc]
    mov edx, [AREA + 0x1000]
    mov edi, [AREA + 0x1004]
    push dword [AREA + 0xffe]
    expect_eq "constant, first", eax, [esi - 8]
    expect_eq "constant, second", ecx, [esi - 4]
    expect_eq "constant, third", edx, [esi]
    expect_eq "constant, fourth", edi, [esi + 4]
    pop eax
    shr ecx, 16
    shl edx, 16
    or ecx, edx
    expect_eq "constant, in both pages", eax, ecx

    ; a number of two words, whose carry goes from page to page
    mov ebx, AREA + 0xff0
.carry:
    mov dword [ebx], 0xffffffff
    mov dword [ebx + 4], 41
    mov edx, 2
    add [ebx], edx
    adc dword [ebx + 4], 0
    mov eax, [ebx]
    mov edx, [ebx + 4]
    expect_eq "carry: low", eax, 1
    expect_eq "carry: high", edx, 42
    inc ebx
    cmp ebx, AREA + 0x1010
    jb .carry

    ; the register changes in between
    mov dword [AREA + 0x40], OTHER + 0xffc
    mov dword [AREA + 0x44], 1
    mov dword [OTHER + 0xffc], AREA + 0x1ffc
    mov dword [OTHER + 0x1000], 2
    mov dword [AREA + 0x1ffc], 3
    mov dword [AREA + 0x2000], 4
    mov edi, 3
.chase:
    mov ebx, AREA + 0x40
    mov eax, [ebx + 4]
    mov ebx, [ebx]
    mov ecx, [ebx + 4]
    mov ebx, [ebx]
    mov edx, [ebx + 4]
    mov ebx, [ebx]
    shl ecx, 4
    shl edx, 8
    shl ebx, 12
    or eax, ecx
    or eax, edx
    or eax, ebx
    expect_eq "chase", eax, 0x3421
    dec edi
    jnz .chase

    ; a page that may only be read: reads are right, the write faults at its own address
    set_pte AREA, (AREA_FRAMES + 0x1000) | P | U
    invlpg [AREA]
    mov ebx, AREA + 0x80
    mov edi, 3
.read_only:
    xor eax, eax
    try .denied
    mov eax, [ebx]
    mov ecx, [ebx + 8]
.denied_write:
    mov [ebx + 4], ecx
    mov edx, [ebx + 12]
.denied:
    expect_exception "read-only page", PF_, PFE_P | PFE_W, .denied_write
    expect_eq "read-only page: cr2", [exc_cr2], AREA + 0x84
    dec edi
    jnz .read_only

    ; a page that is not there: the address is that of the first access, not of the lowest one
    set_pte AREA, 0
    invlpg [AREA]
    mov edi, 3
.missing:
    try .absent
.absent_read:
    mov eax, [ebx + 8]
    mov ecx, [ebx + 4]
    mov [ebx + 12], ecx
.absent:
    expect_exception "missing page", PF_, 0, .absent_read
    expect_eq "missing page: cr2", [exc_cr2], AREA + 0x88
    dec edi
    jnz .missing

    ; the second of two pages that is not there, which only one access needs
    map_areas
    set_pte AREA + 0x1000, 0
    invlpg [AREA + 0x1000]
    mov ebx, AREA + 0xff8
    mov edi, 3
.half:
    try .half_done
    mov eax, [ebx]
    mov ecx, [ebx + 4]
.half_read:
    mov edx, [ebx + 8]
.half_done:
    expect_exception "half there", PF_, 0, .half_read
    expect_eq "half there: cr2", [exc_cr2], AREA + 0x1000
    dec edi
    jnz .half

    ; accessed by reads, dirty by the write only
    map_areas
    mov ebx, AREA + 0x100
    mov eax, [ebx]
    mov ecx, [ebx + 4]
    mov edx, [PTE(AREA)]
    and edx, A | D
    expect_eq "read: accessed, not dirty", edx, A
    mov eax, [ebx]
    mov [ebx + 4], ecx
    mov [ebx], eax
    mov edx, [PTE(AREA)]
    and edx, A | D
    expect_eq "written: dirty", edx, A | D

    ; entries of a page table, two at a time, often
    call fill
    mov ebx, PTE(AREA)
    mov edi, 200
.entries:
    mov eax, [ebx]
    mov ecx, [ebx + 4]
    mov edx, [AREA]
    mov ebp, [AREA + 0x1000]
    mov [ebx], ecx
    mov [ebx + 4], eax
    invlpg [AREA]
    invlpg [AREA + 0x1000]
    mov eax, AREA
    expect_eq "entries, first", [eax], ebp
    expect_eq "entries, second", [eax + 0x1000], edx
    dec edi
    jnz .entries

    ; a structure in a page with code, and in front of what runs next
    mov ebx, .numbers
    mov edi, 200
.own_page:
    mov eax, [ebx]
    mov ecx, [ebx + 4]
    inc eax
    add ecx, eax
    mov [ebx], eax
    mov [ebx + 4], ecx
    dec edi
    jnz .own_page
    expect_eq "own page, first", [.numbers], 200
    expect_eq "own page, second", [.numbers + 4], 200 * 201 / 2
    mov ebx, .changed + 1
    mov edi, 50
    xor edx, edx
.changing:
    mov ecx, [ebx - 8]
    mov [ebx], edi
    mov [ebx + 5], edi
.changed:
    mov eax, 0                          ; five bytes each
    mov ecx, 0
    add edx, eax
    add edx, ecx
    dec edi
    jnz .changing
    expect_eq "changed code", edx, 50 * 51
    jmp .behind_numbers
    align 4
    dd 0, 0
.numbers: dd 0, 0
.behind_numbers:

    ; behind a loop that has moved the register to another page
    map_areas
    call fill
    mov esi, AREA
    mov ecx, 0x3000 / 4 - 2
    xor edx, edx
.loop:
    add esi, 4
    mov eax, [esi]
    add edx, [esi + 4]
    dec ecx
    jnz .loop
    mov ebx, [esi + 8]
    mov edi, [esi]
    mov eax, AREA + 0x3000
    expect_eq "behind a loop, pointer", esi, AREA + 0x3000 - 8
    expect_eq "behind a loop, first", ebx, [eax]
    expect_eq "behind a loop, second", edi, [eax - 8]

    ; what must be aligned and is not
    mov ebx, AREA + 0x200
    try .first_aligned
    movaps xmm0, [ebx + 16]
    movaps xmm1, [ebx]
.misaligned:
    movaps xmm2, [ebx + 40]
.first_aligned:
    expect_exception "misaligned", GP, 0, .misaligned
    inc ebx
    try .all_misaligned
.misaligned_too:
    movaps xmm0, [ebx + 16]
    movaps xmm1, [ebx]
.all_misaligned:
    expect_exception "misaligned, first", GP, 0, .misaligned_too

    change_cr0 CR0_PG | CR0_WP, 0
    finish

; Bytes that differ, in AREA.
fill:
    pushad
    mov ecx, 0x4000 / 4
    mov eax, 0x12345679
.next:
    imul eax, eax, 0x19660d
    add eax, 0x3c6ef35f
    mov [AREA + ecx * 4 - 4], eax
    dec ecx
    jnz .next
    popad
    ret
