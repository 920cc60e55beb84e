; A small Multiboot kernel that shows what a run looks like: it greets on COM1, tells what the boot
; loader told it, counts primes with a sieve, and halts for good. "exit=N" on its command line, with
; one digit, makes it end through port 0xF4 instead.

bits 32
org 0x100000

%define MAGIC 0x1badb002
%define FLAGS 0x00010003            ; Page-aligned modules, memory sizes, the address fields.
%define COM1 0x3f8
%define LIMIT 2000000
%define SIEVE 0x200000              ; One byte for each number below LIMIT.

start_of_image:
        jmp     start
        align   4
header:
        dd      MAGIC, FLAGS, -(MAGIC + FLAGS)
        dd      header, start_of_image, end_of_image, end_of_memory, start

start:
        mov     esp, end_of_memory
        mov     ebp, ebx            ; The Multiboot information.
        mov     esi, greeting
        call    print

        mov     esi, says_memory
        call    print
        mov     eax, [ebp + 8]      ; mem_upper, in KiB.
        add     eax, 1024
        call    print_number
        mov     esi, says_modules
        call    print
        mov     eax, [ebp + 20]
        call    print_number
        mov     esi, new_line
        call    print

        call    count_primes
        push    eax
        mov     esi, says_primes
        call    print
        mov     eax, LIMIT
        call    print_number
        mov     esi, says_colon
        call    print
        pop     eax
        call    print_number
        mov     esi, new_line
        call    print

        call    find_exit
        jc      .halt
        out     0xf4, al
.halt:
        cli
        hlt
        jmp     .halt

; EAX = the number of primes below LIMIT.
count_primes:
        mov     edi, SIEVE
        mov     ecx, LIMIT / 4
        xor     eax, eax
        cld
        rep stosd
        mov     ebx, 2
.number:
        cmp     byte [SIEVE + ebx], 0
        jne     .next
        inc     eax
        mov     edx, ebx
        imul    edx, ebx
        jo      .next
.strike:
        cmp     edx, LIMIT
        jae     .next
        mov     byte [SIEVE + edx], 1
        add     edx, ebx
        jmp     .strike
.next:
        inc     ebx
        cmp     ebx, LIMIT
        jb      .number
        ret

; Looks for "exit=N" on the command line. AL = N, or carry set when there is none.
find_exit:
        mov     esi, [ebp + 16]
.look:
        cmp     byte [esi], 0
        je      .none
        cmp     dword [esi], 'exit'
        jne     .on
        cmp     byte [esi + 4], '='
        je      .found
.on:
        inc     esi
        jmp     .look
.found:
        mov     al, [esi + 5]
        sub     al, '0'
        clc
        ret
.none:
        stc
        ret

; Prints the text at ESI.
print:
        lodsb
        test    al, al
        jz      .done
        call    put
        jmp     print
.done:
        ret

; Prints EAX in decimal.
print_number:
        mov     ebx, 10
        xor     ecx, ecx
.divide:
        xor     edx, edx
        div     ebx
        push    edx
        inc     ecx
        test    eax, eax
        jnz     .divide
.digit:
        pop     eax
        add     al, '0'
        call    put
        loop    .digit
        ret

; Sends AL when the transmitter is ready. Keeps all registers but EDX.
put:
        push    eax
        mov     dx, COM1 + 5
.wait:
        in      al, dx
        test    al, 0x20
        jz      .wait
        pop     eax
        mov     dx, COM1
        out     dx, al
        ret

greeting:     db "Hello from 32-bit protected mode.", 10, 0
says_memory:  db "KiB of memory: ", 0
says_modules: db ", modules: ", 0
says_primes:  db "Primes below ", 0
says_colon:   db ": ", 0
new_line:     db 10, 0
end_of_image:

end_of_memory equ start_of_image + 0x4000
