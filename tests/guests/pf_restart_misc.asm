; Restart of everything else that touches memory: operands, flags and registers as before the
; fault, for read-modify-write, exchange, x87, MMX, SSE, system instructions and far transfers.
;
; expect: exit 33
; options: --switch exact-flags=on
%include "include/guest.inc"

PAGE equ 0x800000

; again "name", {instruction}: runs twice through an absent page, first recorded, then repaired;
; the flags and all registers at the fault are those before the instruction
%macro again 2+
    call take_page
    call set_registers
    push dword ARITHMETIC & ~ZF | 2
    popfd
    try %%done
%%instruction:
    %2
%%done:
    mov dword [resume_eip], 0
    call check_registers
    %strcat %%eip %1, ": eip"
    expect_eq %%eip, [exc_eip], %%instruction
    %strcat %%registers %1, ": registers"
    expect_eq %%registers, [registers_differ], 0
    mov eax, [exc_eflags]
    and eax, ARITHMETIC
    %strcat %%flags %1, ": flags"
    expect_eq %%flags, eax, ARITHMETIC & ~ZF
    mov esp, KERNEL_STACK
%endmacro

main:
    change_cr4 0, CR4_OSFXSR
    pcmpeqb xmm1, xmm1
    fninit
    call paging_identity
    change_cr0 0, CR0_PG
    again "mov load", mov eax, [PAGE]
    again "mov store", mov [PAGE], eax
    again "add load", add eax, [PAGE]
    again "add store", add [PAGE], eax
    again "adc", adc dword [PAGE], 5
    again "inc", inc dword [PAGE]
    again "neg", neg byte [PAGE]
    again "shl by cl", shl dword [PAGE], cl
    again "rcl", rcl dword [PAGE], 1
    again "shld", shld [PAGE], eax, 7
    again "xchg", xchg [PAGE], eax
    again "xadd", xadd [PAGE], ecx
    again "cmpxchg", cmpxchg [PAGE], ecx
    again "cmpxchg8b", cmpxchg8b [PAGE]
    again "bts by register", bts [PAGE], ecx
    again "bsf", bsf eax, [PAGE]
    again "mul", mul dword [PAGE]
    again "imul of three", imul eax, [PAGE], 7
    again "div", div dword [PAGE]
    again "cmov true", cmovc eax, [PAGE]
    again "cmov false", cmovnc eax, [PAGE]
    again "setc", setc [PAGE]
    again "movsx", movsx eax, word [PAGE]
    again "xlat", xlatb
    again "cmp", cmp [PAGE], eax
    again "test", test [PAGE], eax
    again "movsd", movsd
    again "cmpsb", cmpsb
    again "scasd", scasd
    again "lodsd", lodsd
    again "jmp", jmp [PAGE]
    again "call", call [PAGE]
    again "jmp far", jmp far [PAGE]
    again "call far", call far [PAGE]
    again "lgs", lgs eax, [PAGE]
    again "bound", bound eax, [PAGE]
    again "mov es", mov es, [PAGE]
    again "mov from ds", mov [PAGE], ds
    again "lgdt", lgdt [PAGE]
    again "sidt", sidt [PAGE]
    again "lldt", lldt [PAGE]
    again "smsw", smsw [PAGE]
    again "lmsw", lmsw [PAGE]
    again "lar", lar eax, [PAGE]
    again "verr", verr [PAGE]
    again "sldt", sldt [PAGE]
    again "fld", fld qword [PAGE]
    again "fstp", fstp qword [PAGE]
    again "fadd", fadd dword [PAGE]
    again "fist", fist word [PAGE]
    again "fnstcw", fnstcw [PAGE]
    again "fldcw", fldcw [PAGE]
    again "fnstsw", fnstsw [PAGE]
    again "fldenv", fldenv [PAGE]
    again "frstor", frstor [PAGE]
    again "fnsave", fnsave [PAGE]
    again "fxsave", fxsave [PAGE]
    again "fxrstor", fxrstor [PAGE]
    again "movq mm", movq mm0, [PAGE]
    again "paddb mm", paddb mm0, [PAGE]
    again "movups", movups xmm0, [PAGE]
    again "movaps store", movaps [PAGE], xmm0
    again "addpd", addpd xmm0, [PAGE]
    again "ucomiss", ucomiss xmm0, [PAGE]
    again "cvtsi2sd", cvtsi2sd xmm0, [PAGE]
    again "movnti", movnti [PAGE], eax
    again "maskmovdqu", maskmovdqu xmm0, xmm1
    again "stmxcsr", stmxcsr [PAGE]
    again "ldmxcsr", ldmxcsr [PAGE]
    again "arpl", arpl [PAGE], cx
    emms

    ; x87: nothing is popped or pushed by a faulting one
    fninit
    fld1
    fldpi
    call take_page
    expect_page_fault "fstp", PFE_W, PAGE, fstp qword [PAGE]
    fnstsw ax
    and eax, 0x3800
    expect_eq "fstp: top", eax, 6 << 11
    expect_page_fault "fld", 0, PAGE, fld qword [PAGE]
    expect_page_fault "faddp-like fadd", 0, PAGE, fadd qword [PAGE]
    fnstsw ax
    and eax, 0x3800
    expect_eq "fld: top", eax, 6 << 11
    hook give
    fstp qword [PAGE]
    hook 0
    expect_eq "fstp again", [PAGE + 4], 0x400921fb
    call take_page
    hook give
    fld qword [PAGE]
    hook 0
    faddp
    fistp dword [SCRATCH]
    expect_eq "fld again", [SCRATCH], 4

    ; INS: the port is read only when the page can be written
    call take_page
    mov edx, 0x80
    mov edi, PAGE + 4
    mov ecx, 2
    expect_page_fault "insb", PFE_W, PAGE + 4, rep insb
    expect_eq "insb: ecx", ecx, 2
    mov esi, PAGE + 4
    expect_page_fault "outsb", 0, PAGE + 4, outsb
    expect_eq "outsb: esi", esi, PAGE + 4
    change_cr0 CR0_PG, 0
    finish

; The page goes away; nothing else changes.
take_page:
    set_pte PAGE, 0
    invlpg [PAGE]
    ret
give:
    set_pte PAGE, PAGE | P | W
    ret

; EAX to EDI get values that point into the page where an address is needed.
set_registers:
    mov eax, 0x11111100
    mov ecx, 0x22
    mov edx, 0x33333333
    mov ebx, PAGE
    mov ebp, 0x55555555
    mov esi, PAGE + 0x10
    mov edi, PAGE + 0x20
    ret
check_registers:
    mov dword [registers_differ], 0
%macro same 2
    cmp dword [exc_%1], %2
    je %%same
    inc dword [registers_differ]
%%same:
%endmacro
    same eax, 0x11111100
    same ecx, 0x22
    same edx, 0x33333333
    same ebx, PAGE
    same ebp, 0x55555555
    same esi, PAGE + 0x10
    same edi, PAGE + 0x20
    cmp dword [exc_esp], KERNEL_STACK
    je .same_esp
    inc dword [registers_differ]
.same_esp:
    cmp dword [exc_vector], PF_
    je .same_vector
    inc dword [registers_differ]
.same_vector:
    ret

section .data
registers_differ: dd 0
