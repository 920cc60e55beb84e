; Where interrupts may come: after the instruction that follows STI, MOV SS or POP SS, and right after
; POPF and IRET.
;
; expect: exit 33
; deviates: qemu "sti, jcc taken": the shadow ends with the instruction after STI (SDM volume 2, "STI");
;   QEMU lets one more through when that is a taken branch.
%include "include/guest.inc"
%include "include/pc.inc"

; A case: `one_waits`, code that begins and ends with IF clear, and where the interrupt came.
%macro expect_place 2
    expect_eq %1, [exc_eip], ADDRESS(%2)
%endmacro

main:
    begin_interrupts 1 << 0
    mov ebx, 3                          ; the second and third time it is translated code
.waiting:
    call one_waits
    sti
    nop
.nop:
    nop
    cli
    expect_place "sti, nop", .nop
    call one_waits
    sti
    sti
.twice:
    nop
    cli
    expect_place "sti, sti", .twice
    call one_waits
    sti
    push dword 1
.push:
    add esp, 4
    cli
    expect_place "sti, push", .push
    call one_waits
    sti
    jmp .jump
    ud2
.jump:
    nop
    cli
    expect_place "sti, jmp", .jump
    call one_waits
    xor eax, eax
    sti
    jz .taken
    ud2
.taken:
    nop
    cli
    expect_place "sti, jcc taken", .taken
    call one_waits
    xor eax, eax
    sti
    jnz .bad
.fall:
    nop
    cli
    expect_place "sti, jcc not taken", .fall
    call one_waits
    sti
    call .callee
    jmp .called
.callee:
    cli
    ret
.called:
    expect_place "sti, call", .callee
    call one_waits
    push dword ADDRESS(.returned)
    sti
    ret
.returned:
    nop
    cli
    expect_place "sti, ret", .returned
    call one_waits
    pushfd
    or dword [esp], IF
    popfd
.popf:
    nop
    cli
    expect_place "popf", .popf
    call one_waits
    pushfd
    or dword [esp], IF
    push cs
    push dword ADDRESS(.iret)
    iretd
.iret:
    nop
    cli
    expect_place "iret", .iret
    dec ebx
    jnz .waiting

    ; CLI right after STI lets nothing in
    call one_waits
    clear_counts
    mov ecx, 1000
.closed:
    sti
    cli
    dec ecx
    jnz .closed
    expect_count "sti, cli", PIC_VECTORS, 0

    ; interrupts at any time: never between STI, MOV SS or POP SS and what follows
    mov dword [device_handler], note_place
    clear_counts
    write_port PIT_CONTROL, 0x34        ; a thousand times a second
    write_port PIT_CHANNEL0, PIT_KHZ & 0xff
    write_port PIT_CHANNEL0, PIT_KHZ >> 8
    mov eax, ss
.free:
    cli
    sti
.shadowed:
    inc ecx
    mov ss, eax
.behind_mov:
    inc ecx
    push ss
    pop ss
.behind_pop:
    inc ecx
    cli
    pushfd
    or dword [esp], IF
    sti
.shadowed_too:
    popfd
    cmp dword [interrupt_counts + 4 * PIC_VECTORS], 100
    jb .free
    cli
    expect_eq "none in a shadow", [places], 0

    ; none is lost between STI and HLT
    mov dword [device_handler], 0
    begin_time
    await PIC_VECTORS, 150
    call elapsed_ticks
    cmp eax, PM_TICKS_PER_MS * 5000
    setb al
    movzx eax, al
    expect_eq "hlt wakes at each tick", eax, 1
    finish

.bad:
    ud2

note_place:
    mov ecx, 4
.next:
    mov eax, [shadows + 4 * ecx - 4]
    cmp [exc_eip], eax
    je .note
    loop .next
    ret
.note:
    inc dword [places]
    ret

section .data
align 4
places: dd 0
shadows: dd main.shadowed, main.shadowed_too, main.behind_mov, main.behind_pop
