; The guest of the command-line tests: the last letter of its command line says what it does.
;   e  writes to COM1 and to port 0xE9, then ends through port 0xF4 with 0x15
;   h  halts with interrupts off          s  halts with interrupts on
;   t  triple-faults                      n  jumps to where no RAM is
;   l  loops for ever                     f  writes for ever
;   i  echoes COM1's input up to a 'q', then halts
;   m  prints the strings of its modules, then halts
;   c  prints its command line, then halts
;   r  prints a digit that depends on the time stamp counter a hundred times, then halts

bits 32
org 0x100000

%define MAGIC 0x1badb002
%define FLAGS 0x00010003
%define COM1 0x3f8

start_of_image:
        jmp     start
        align   4
header:
        dd      MAGIC, FLAGS, -(MAGIC + FLAGS)
        dd      header, start_of_image, end_of_image, end_of_memory, start

start:
        mov     esp, end_of_memory
        mov     ebp, ebx
        cmp     eax, 0x2badb002
        jne     bad
        mov     esi, [ebp + 16]
.last:
        lodsb
        test    al, al
        jz      .have
        mov     bl, al
        jmp     .last
.have:
        mov     esi, table
.look:
        lodsb
        test    al, al
        jz      bad
        cmp     al, bl
        je      .go
        add     esi, 4
        jmp     .look
.go:
        jmp     [esi]

table:
        db      'e'
        dd      end_by_port
        db      'h'
        dd      halt
        db      's'
        dd      sleep
        db      't'
        dd      triple_fault
        db      'n'
        dd      nowhere
        db      'l'
        dd      loop_for_ever
        db      'f'
        dd      flood
        db      'i'
        dd      echo
        db      'm'
        dd      modules
        db      'c'
        dd      command_line
        db      'r'
        dd      read_time
        db      0

bad:
        mov     al, 0x7f
        out     0xf4, al
        jmp     bad

end_by_port:
        mov     esi, serial_text
        call    print
        mov     esi, debug_text
.next:
        lodsb
        test    al, al
        jz      .end
        out     0xe9, al
        jmp     .next
.end:
        mov     al, 0x15
        out     0xf4, al
        mov     esi, late_text
        call    print
        jmp     halt

halt:
        cli
        hlt
        jmp     halt

sleep:
        sti
        hlt
        jmp     sleep

triple_fault:
        ud2

nowhere:
        mov     eax, 0xd0000000
        jmp     eax

loop_for_ever:
        jmp     loop_for_ever

flood:
        mov     esi, serial_text
        call    print
        jmp     flood

echo:
        mov     dx, COM1 + 5
        in      al, dx
        test    al, 1
        jz      echo
        mov     dx, COM1
        in      al, dx
        cmp     al, 'q'
        je      halt
        out     dx, al
        jmp     echo

modules:
        mov     ebx, [ebp + 24]
        mov     ecx, [ebp + 20]
        jecxz   halt
.next:
        mov     esi, [ebx + 8]
        call    print_line
        mov     esi, [ebx]          ; The content: text up to the module's end.
        mov     edi, [ebx + 4]
.byte:
        cmp     esi, edi
        jae     .done
        lodsb
        mov     dx, COM1
        out     dx, al
        jmp     .byte
.done:
        add     ebx, 16
        loop    .next
        jmp     halt

command_line:
        mov     esi, [ebp + 16]
        call    print_line
        jmp     halt

read_time:
        mov     edi, 100
.next:
        rdtsc
        shr     eax, 2
        and     al, 7
        add     al, '0'
        mov     ecx, eax
        and     ecx, 31
.loop:
        loop    .loop
        mov     dx, COM1
        out     dx, al
        dec     edi
        jnz     .next
        jmp     halt

print_line:
        call    print
        mov     al, 10
        mov     dx, COM1
        out     dx, al
        ret

print:
        lodsb
        test    al, al
        jz      .done
        mov     dx, COM1
        out     dx, al
        jmp     print
.done:
        ret

serial_text: db "serial", 10, 0
debug_text:  db "debug", 10, 0
late_text:   db "too late", 10, 0
end_of_image:

end_of_memory equ start_of_image + 0x4000
