; Flags that are made in one place and read in another: across jumps, calls, returns, stack and
; string instructions, memory accesses, page faults, interrupts, rings, and instructions that write
; some of them only.
;
; expect: exit 33
%include "include/guest.inc"

ALL equ CF | PF | AF | ZF | SF | OF
AREA equ 0x800000

; Sets all six, or none.
%macro set_all 0
    push dword ALL | 2
    popfd
%endmacro
%macro set_none 0
    push dword 2
    popfd
%endmacro
; keeps "name", {instruction}: all stay set, all stay clear
%macro keeps 2+
    set_all
    %2
    expect_flags %1, ALL, ALL
    set_none
    %2
    expect_flags %1, ALL, 0
%endmacro

main:
    mov ebx, SCRATCH
    mov esi, SCRATCH
    mov edi, SCRATCH + 0x100
    keeps "mov", mov eax, [ebx]
    keeps "mov store", mov [ebx], eax
    keeps "lea", lea eax, [ebx + ebx * 2]
    keeps "xchg", xchg [ebx], eax
    keeps "push and pop", {push eax}
    keeps "pop", {pop eax}
    keeps "not", not dword [ebx]
    keeps "bswap", bswap eax
    keeps "movzx", movzx eax, byte [ebx]
    keeps "setc", setc [ebx]
    keeps "cmovs", cmovs eax, [ebx]
    keeps "jmp indirect", call jump_through
    keeps "call memory", call [function]
    keeps "loop", call loops
    keeps "lodsd", lodsd
    keeps "movsd", movsd
    mov ecx, 10
    keeps "rep movsb", call moves
    keeps "rep stosd", call stores
    keeps "enter and leave", call frame
    keeps "pushad and popad", call all_registers
    keeps "fld", fldz
    keeps "fstp", fstp st0
    keeps "mmx", pxor mm0, mm0
    keeps "emms", emms
    keeps "cpuid", call identify
    keeps "rdtsc", rdtsc
    keeps "int and iret", call interrupt
    keeps "segment load", mov fs, [null]
    keeps "invlpg", invlpg [ebx]
    keeps "mov cr2", mov eax, cr2
    keeps "xlat", xlatb
    keeps "in", in al, 0x80
    keeps "out", out 0x80, al
    keeps "sgdt", sgdt [ebx]
    keeps "cwde", cwde
    keeps "jumps that are not taken", call not_taken

    ; partial writers
    set_all
    mov eax, 5
    inc eax
    expect_flags "inc keeps CF", ALL, CF | PF
    set_all
    clc
    expect_flags "clc", ALL, ALL & ~CF
    set_none
    stc
    expect_flags "stc", ALL, CF
    cmc
    expect_flags "cmc", ALL, 0
    set_all
    mov ecx, 32
    mov eax, 1
    shl eax, cl
    expect_flags "shl by 32 keeps all", ALL, ALL
    set_all
    mov ecx, 0
    rol eax, cl
    expect_flags "rol by 0 keeps all", ALL, ALL
    set_all
    rol eax, 3
    expect_flags "rol writes CF and OF", ALL & ~OF, PF | AF | ZF | SF
    set_all
    bt eax, 30
    expect_flags "bt writes CF, keeps ZF", CF | ZF, ZF
    set_none
    mov dword [SCRATCH], 0
    mov dword [SCRATCH + 4], 0
    xor eax, eax
    xor edx, edx
    push dword CF | 2
    popfd
    cmpxchg8b [SCRATCH]
    expect_flags "cmpxchg8b writes ZF", ALL, ZF | CF
    set_all
    mov ecx, 0
    repe cmpsb
    expect_flags "repe cmpsb of none keeps all", ALL, ALL
    mov ah, 0
    set_all
    sahf
    expect_flags "sahf keeps OF", ALL, OF

    ; made before a page fault, read after the repaired instruction, and kept by the handler's IRET
    call paging_identity
    change_cr0 0, CR0_PG
    hook give
    mov ecx, 50
    xor edx, edx
.faults:
    set_pte AREA, 0
    invlpg [AREA]
    cmp ecx, 25
    mov eax, [AREA]                     ; faults
    jb .below
    jne .next
    add edx, 1000
    jmp .next
.below:
    inc edx
.next:
    dec ecx
    jnz .faults
    hook 0
    expect_eq "flags over a fault", edx, 1024
    ; a carry chain over memory with faults in between
    hook give
    mov dword [AREA], 0xffffffff
    mov dword [AREA + 0x1000], 0xffffffff
    mov dword [AREA + 0x2000], 5
    set_pte AREA, 0
    set_pte AREA + 0x1000, 0
    set_pte AREA + 0x2000, 0
    mov eax, cr3
    mov cr3, eax
    add dword [AREA], 1
    adc dword [AREA + 0x1000], 0
    adc dword [AREA + 0x2000], 0
    hook 0
    expect_eq "carry chain", [AREA + 0x2000], 6
    expect_eq "carry chain, middle", [AREA + 0x1000], 0
    change_cr0 CR0_PG, 0

    ; into ring 3 and back
    mov dword [user_eflags], ALL | 2
    expect_ring_ok 3, "ring 3 with flags", nop
    mov eax, [exc_eflags]
    and eax, ALL
    expect_eq "through ring 3", eax, ALL
    ; read by a callee, made by a caller; made by a callee, read by the caller
    mov ecx, 100
    xor edx, edx
.callees:
    cmp ecx, 50
    call count_below
    call compare_to_30
    jne .not_30
    add edx, 1000
.not_30:
    dec ecx
    jnz .callees
    expect_eq "through calls", edx, 1049
    ; through an indirect jump with two users, one reads them, one does not
    xor edx, edx
    mov ecx, 100
    mov esi, reads_flags
    mov edi, ignores_flags
.users:
    cmp ecx, 51
    jmp esi
user_done:
    xchg esi, edi
    dec ecx
    jnz main.users
    expect_eq "two users", edx, 25 + 50 * 100
    finish

reads_flags:
    jae user_done
    inc edx
    jmp user_done
ignores_flags:
    add edx, 100
    jmp user_done
count_below:
    jae .no
    inc edx
.no:
    ret
compare_to_30:
    cmp ecx, 30
    ret
jump_through:
    mov eax, .there
    jmp eax
.there:
    ret
loops:
    mov ecx, 3
.again:
    loop .again
    jecxz .zero
.zero:
    ret
moves:
    mov ecx, 10
    rep movsb
    ret
stores:
    mov ecx, 3
    rep stosd
    ret
frame:
    enter 16, 1
    leave
    ret
all_registers:
    pushad
    popad
    ret
identify:
    push ebx
    mov eax, 0
    cpuid
    pop ebx
    ret
interrupt:
    push dword .hook
    pop dword [exception_hook]
    int SYS
    push dword 0
    pop dword [exception_hook]
    ret
.hook:
    xor eax, eax                        ; changes the flags; IRET brings them back
    ret
not_taken:
    jecxz .out
    jnz .one
.one:
    jo .two
.two:
.out:
    ret
give:
    mov eax, [exc_cr2]
    shr eax, 12
    mov ecx, eax
    shl ecx, 12
    or ecx, P | W | U
    mov [PAGE_TABLES + eax * 4], ecx
    ret

section .data
align 4
function: dd jump_through
null: dd 0
section .text
