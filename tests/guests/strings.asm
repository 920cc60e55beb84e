; String instructions: both directions, all sizes, REP counts, 16-bit address size, overlapping
; moves, and how REPE and REPNE end.
;
; expect: exit 33
%include "include/guest.inc"

BUFFER equ SCRATCH
OTHER  equ SCRATCH + 0x1000

main:
    call fill
    mov esi, BUFFER
    mov edi, OTHER
    mov ecx, 64
    rep movsd
    expect_eq "rep movsd: esi", esi, BUFFER + 256
    expect_eq "rep movsd: edi", edi, OTHER + 256
    expect_eq "rep movsd: ecx", ecx, 0
    expect_bytes "rep movsd", OTHER, BUFFER, 256

    ; downwards
    mov edi, OTHER
    mov ecx, 64
    mov eax, 0x5a5a5a5a
    rep stosd
    std
    mov esi, BUFFER + 255
    mov edi, OTHER + 255
    mov ecx, 256
    rep movsb
    expect_flags "the direction stays", DF, DF
    expect_eq "down movsb: esi", esi, BUFFER - 1
    expect_bytes "down movsb", OTHER, BUFFER, 256
    mov edi, OTHER + 254
    mov eax, 0xabcd1122
    stosw
    cld
    expect_eq "down stosw", edi, OTHER + 252
    expect_eq "down stosw stores", [OTHER + 252], 0x1122fdfc

    ; overlap: a byte is propagated upwards
    call fill
    mov esi, BUFFER
    mov edi, BUFFER + 1
    mov ecx, 15
    rep movsb
    expect_eq "overlap by 1", [BUFFER + 12], 0
    call fill
    mov esi, BUFFER
    mov edi, BUFFER + 3
    mov ecx, 5
    rep movsd
    expect_eq "overlap by 3", [BUFFER + 3], 0x03020100
    expect_eq "overlap by 3, later", [BUFFER + 15], 0x0f0b0703

    ; a count of zero does nothing, flags stay
    mov ecx, 0
    mov esi, 0xffffffff
    mov edi, 0xffffffff
    cmp ecx, 1
    repe cmpsd
    expect_flags "repe of zero keeps flags", CF | ZF, CF
    rep movsd
    expect_eq "rep of zero", edi, 0xffffffff

    call fill
    mov edi, BUFFER
    mov ecx, 256
    mov al, 100
    repne scasb
    expect_flags "repne scasb finds", ZF, ZF
    expect_eq "repne scasb: edi", edi, BUFFER + 101
    expect_eq "repne scasb: ecx", ecx, 155
    mov edi, BUFFER
    mov ecx, 10
    mov al, 100
    repne scasb
    expect_flags "repne scasb misses", ZF | CF, 0
    expect_eq "repne scasb: count", ecx, 0
    mov esi, BUFFER
    mov edi, OTHER
    mov ecx, 64
    rep movsd
    mov byte [OTHER + 77], 0xff
    mov esi, BUFFER
    mov edi, OTHER
    mov ecx, 256
    repe cmpsb
    expect_flags "repe cmpsb", ZF | CF | SF, CF
    expect_eq "repe cmpsb: esi", esi, BUFFER + 78
    expect_eq "repe cmpsb: ecx", ecx, 178
    std
    mov esi, BUFFER + 252
    mov edi, OTHER + 252
    mov ecx, 64
    repe cmpsd
    cld
    expect_eq "down repe cmpsd: edi", edi, OTHER + 72
    expect_eq "down repe cmpsd: ecx", ecx, 19

    mov esi, BUFFER + 2
    xor eax, eax
    lodsb
    expect_eq "lodsb", eax, 2
    lodsw
    expect_eq "lodsw", eax, 0x0403
    lodsd
    expect_eq "lodsd", eax, 0x08070605
    expect_eq "lods: esi", esi, BUFFER + 9
    mov esi, BUFFER
    mov ecx, 5
    rep lodsb
    expect_eq "rep lodsb", eax, 0x08070604
    mov ecx, 3
    mov edi, OTHER
    mov eax, 0x11112222
    rep stosw
    expect_eq "rep stosw", [OTHER + 4], 0x07062222
    cmpsb
    mov esi, BUFFER + 1
    mov edi, BUFFER + 2
    cmpsb
    expect_flags "cmpsb is [esi] - [edi]", CF, CF
    mov edi, BUFFER + 1
    mov eax, 2
    scasb
    expect_flags "scasb is al - [edi]", CF | ZF, 0

    ; 16-bit addresses: SI, DI and CX wrap and the upper halves stay
    mov dword [0xfffc], 0x44332211
    mov esi, 0x1234fffe
    mov edi, 0x56788000
    mov ecx, 0x9abc0002
    a16 rep movsb
    expect_eq "a16: esi wraps", esi, 0x12340000
    expect_eq "a16: edi", edi, 0x56788002
    expect_eq "a16: ecx", ecx, 0x9abc0000
    movzx eax, word [0x8000]
    expect_eq "a16: moved", eax, 0x4433

    ; a segment override applies to the source only
    set_descriptor SEL0, SCRATCH + 0x2000, 0xfffff, DATA_RW, BIG | PAGES
    load_segment fs, SEL0
    mov dword [SCRATCH + 0x2000], 0x600d600d
    xor esi, esi
    mov edi, OTHER
    fs movsd
    expect_eq "fs movsd", [OTHER], 0x600d600d

    ; long moves over many pages
    mov edi, SCRATCH + 0x10001
    mov ecx, 0x8000
    mov eax, 0x01020304
    rep stosd
    mov esi, SCRATCH + 0x10001
    mov edi, SCRATCH + 0x30002
    mov ecx, 0x8000
    rep movsd
    mov esi, SCRATCH + 0x10001
    mov edi, SCRATCH + 0x30002
    mov ecx, 0x8000
    repe cmpsd
    expect_flags "long compare", ZF, ZF
    expect_eq "long compare: ecx", ecx, 0
    finish

; Bytes 0 to 255 at BUFFER.
fill:
    mov edi, BUFFER
    xor eax, eax
.next:
    stosb
    inc al
    jnz .next
    ret
