; Computation with known results, in ring 0 and ring 3: CRC-32 bit by bit and by table, quicksort
; with a comparison function, sieve, 64-bit arithmetic, a bytecode interpreter, string search.
;
; expect: exit 33
%include "include/guest.inc"

TABLE equ 0x500000
BUFFER equ 0x510000
RESULTS equ SCRATCH

main:
    hook 0
    call compute
    call check
    mov edi, RESULTS
    mov ecx, 16
    xor eax, eax
    rep stosd
    try .user_done
    enter_ring 3, .user
.user:
    call compute
    int SYS
.user_done:
    expect_exception "ring 3", SYS, 0, .user_done
    call check
    finish

check:
    expect_eq "crc by bits", [RESULTS], 0xcbf43926
    expect_eq "crc by table", [RESULTS + 4], 0xcbf43926
    expect_eq "sorted", [RESULTS + 8], 0
    expect_eq "sum kept by sorting", [RESULTS + 12], 0
    expect_eq "primes below 100000", [RESULTS + 16], 9592
    expect_eq "factorial, low", [RESULTS + 20], 0x82b40000
    expect_eq "factorial, high", [RESULTS + 24], 0x21c3677c
    expect_eq "bytecode", [RESULTS + 28], 500500
    expect_eq "string search", [RESULTS + 32], 31
    ret

compute:
    ; CRC-32 of "123456789", bit by bit
    mov esi, digits
    mov ecx, 9
    mov eax, -1
.byte:
    xor al, [esi]
    inc esi
    mov edx, 8
.bit:
    shr eax, 1
    jnc .clear
    xor eax, 0xedb88320
.clear:
    dec edx
    jnz .bit
    loop .byte
    not eax
    mov [RESULTS], eax
    ; by a table
    xor ebx, ebx
.entry:
    mov eax, ebx
    mov ecx, 8
.table_bit:
    mov edx, eax
    and edx, 1
    neg edx
    and edx, 0xedb88320
    shr eax, 1
    xor eax, edx
    loop .table_bit
    mov [TABLE + ebx * 4], eax
    inc bl
    jnz .entry
    mov esi, digits
    mov ecx, 9
    mov eax, -1
.lookup:
    movzx edx, byte [esi]
    xor dl, al
    shr eax, 8
    xor eax, [TABLE + edx * 4]
    inc esi
    dec ecx
    jnz .lookup
    xor eax, -1
    mov [RESULTS + 4], eax

    ; quicksort of 5000 numbers
    mov edi, BUFFER
    mov ecx, 5000
    mov eax, 12345
    xor ebp, ebp
.random:
    imul eax, eax, 1103515245
    add eax, 12345
    mov [edi], eax
    add ebp, eax
    add edi, 4
    loop .random
    push dword compare
    push dword BUFFER + 4999 * 4
    push dword BUFFER
    call quicksort
    add esp, 12
    xor ebx, ebx
    mov esi, BUFFER
    mov ecx, 4999
    sub ebp, [esi]
.sorted:
    mov eax, [esi]
    cmp eax, [esi + 4]
    jle .in_order
    inc ebx
.in_order:
    add esi, 4
    sub ebp, [esi]
    loop .sorted
    mov [RESULTS + 8], ebx
    mov [RESULTS + 12], ebp

    ; sieve
    mov edi, BUFFER
    mov ecx, 100000
    mov al, 1
    rep stosb
    xor ebx, ebx
    mov esi, 2
.candidate:
    cmp byte [BUFFER + esi], 0
    je .composite
    inc ebx
    mov edi, esi
    add edi, esi
.strike:
    cmp edi, 100000
    jae .composite
    mov byte [BUFFER + edi], 0
    add edi, esi
    jmp .strike
.composite:
    inc esi
    cmp esi, 100000
    jb .candidate
    mov [RESULTS + 16], ebx

    ; 20! in 64 bits
    mov eax, 1
    xor edx, edx
    mov ecx, 1
.factor:
    inc ecx
    mov esi, edx
    mul ecx
    imul esi, ecx
    add edx, esi
    cmp ecx, 20
    jne .factor
    mov [RESULTS + 20], eax
    mov [RESULTS + 24], edx

    ; bytecode: sum of 1 to 1000
    mov esi, program
    xor ebx, ebx                        ; accumulator
    xor edx, edx                        ; counter
.fetch:
    lodsb
    movzx eax, al
    jmp [operations + eax * 4]
.op_load:
    lodsd
    mov edx, eax
    jmp .fetch
.op_add:
    add ebx, edx
    jmp .fetch
.op_decrement:
    dec edx
    jmp .fetch
.op_loop:
    lodsb
    test edx, edx
    jz .fetch
    movsx eax, al
    add esi, eax
    jmp .fetch
.op_end:
    mov [RESULTS + 28], ebx

    ; search
    mov edi, text
    mov ecx, text_end - text
.search:
    mov al, "n"
    repne scasb
    jne .missing
    push ecx
    push edi
    dec edi
    mov esi, needle
    mov ecx, needle_end - needle
    repe cmpsb
    pop edi
    pop ecx
    jne .search
    lea eax, [edi - 1]
    sub eax, text
    jmp .searched
.missing:
    mov eax, -1
.searched:
    mov [RESULTS + 32], eax
    ret

; stack: first, last, comparison function; cdecl
quicksort:
    push ebp
    mov ebp, esp
    push ebx
    push esi
    push edi
    mov esi, [ebp + 8]
    mov edi, [ebp + 12]
    cmp esi, edi
    jae .done
    mov eax, edi
    sub eax, esi
    shr eax, 3
    mov ebx, [esi + eax * 4]            ; the pivot
.partition:
    push ebx
    push dword [esi]
    call [ebp + 16]
    add esp, 8
    test eax, eax
    jns .from_above
    add esi, 4
    jmp .partition
.from_above:
    push ebx
    push dword [edi]
    call [ebp + 16]
    add esp, 8
    test eax, eax
    jle .swap
    sub edi, 4
    jmp .from_above
.swap:
    cmp esi, edi
    ja .recurse
    mov eax, [esi]
    xchg eax, [edi]
    mov [esi], eax
    add esi, 4
    sub edi, 4
    cmp esi, edi
    jbe .partition
.recurse:
    push dword [ebp + 16]
    push edi
    push dword [ebp + 8]
    call quicksort
    add esp, 12
    push dword [ebp + 16]
    push dword [ebp + 12]
    push esi
    call quicksort
    add esp, 12
.done:
    pop edi
    pop esi
    pop ebx
    leave
    ret

; stack: a, b. EAX: -1, 0 or 1.
compare:
    mov eax, [esp + 4]
    cmp eax, [esp + 8]
    setg al
    setl ah
    sub al, ah
    movsx eax, al
    ret

section .data
align 4
operations: dd compute.op_load, compute.op_add, compute.op_decrement, compute.op_loop, compute.op_end
digits: db "123456789"
program: db 0
    dd 1000
    db 1, 2, 3, -4, 4
text: db "a stitch in time saves nine, a needle in a haystack"
text_end:
needle: db "needle"
needle_end:
section .text
