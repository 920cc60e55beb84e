; Boot-sector-like code: prints the registers that a BIOS leaves, then where it is, and ends by port
; 0xF4. It runs wherever it is loaded, below 1 MiB.
bits 16
org 0

start:
    pushf
    pop di
    push cs
    call next
next:
    pop bx                              ; IP of next
    pop cx                              ; CS
    mov si, sp
    mov ax, ds
    mov bp, es
    or ax, bp
    mov bp, ss
    or ax, bp
    call put_word                       ; all data segments
    mov ax, si
    call put_word                       ; SP
    mov al, dl
    call put_byte
    mov ax, cx
    call put_word
    lea ax, [bx - (next - start)]
    call put_word
    mov ax, di
    call put_word
    smsw ax
    call put_word
    mov al, 10
    out 0xe9, al
    cmp byte [cs:bx + (argument - next)], 'b'
    jne .exit
    mov ah, 0x41
    int 0x13                            ; a BIOS call, which nobody answers
.exit:
    mov al, 0x10
    out 0xf4, al
    hlt

put_word:
    push ax
    mov al, ah
    call put_byte
    pop ax
    call put_byte
    mov al, ' '
    out 0xe9, al
    ret

put_byte:
    push ax
    shr al, 4
    call put_digit
    pop ax
put_digit:
    and al, 15
    cmp al, 10
    sbb al, 0x69
    das
    out 0xe9, al
    ret

argument: db 'x'
