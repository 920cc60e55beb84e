; Instructions whose operand or code the machine looks up once they have begun: the single step's trap, the
; passed breakpoint and the shadow of MOV SS belong to them until they are through.
;
; expect: exit 33
; deviates: qemu "mov ss, mov esp", "mov ss, mov esp across pages": of instructions in a row that hold interrupts
;   back, only the first is sure to (SDM volume 3, 6.8.3); QEMU's second, behind STI, does not
%include "include/guest.inc"
%include "include/debug.inc"
%include "include/pc.inc"

AREAS    equ 0x40000000                 ; 4 MiB each, with a page table of its own
TABLES   equ FREE_FRAMES
CODE     equ FREE_FRAMES + 0x100000     ; a page's end and the next page
ESP_AT   equ SCRATCH + 0x800

; fresh_area number: its page table was memory like any other until now
%macro fresh_area 1
    mov dword [TABLES + (%1) * 0x1000], SCRATCH + (P | W | U)
    mov dword [PAGE_DIRECTORY + (AREAS >> 22) * 4 + (%1) * 4], TABLES + (%1) * 0x1000 + (P | W | U)
%endmacro
; other_second_page: of the code
%macro other_second_page 0
    set_pte CODE + 0x1000, CODE + 0x1000 + (P | W | U)
    invlpg [CODE + 0x1000]
%endmacro
%macro place_code 2                     ; address, label of it in the image; it ends at label.end
    mov esi, %2
    mov edi, %1
    mov ecx, %2.end - %2
    rep movsb
%endmacro
%macro set_trap 0
    pushfd
    or dword [esp], TF
    popfd
%endmacro
%macro clear_trap 0
    pushfd
    and dword [esp], ~TF
    popfd
%endmacro

main:
    cld
    call paging_identity
    change_cr0 0, CR0_PG

    ; --- single steps ---
    hook step
    fresh_area 0
    mov dword [steps], 0
    set_trap
    nop
.load:
    mov eax, [AREAS]
.loaded:
    nop
    clear_trap
    expect_eq "a load: steps", [steps], 6
    expect_eq "a load: the one before", [places], .load
    expect_eq "a load", [places + 4], .loaded
    fresh_area 1
    mov dword [steps], 0
    set_trap
    nop
.store:
    add dword [AREAS + 0x400004], 1
.stored:
    nop
    clear_trap
    expect_eq "a store: steps", [steps], 6
    expect_eq "a store: the one before", [places], .store
    expect_eq "a store", [places + 4], .stored
    place_code CODE + 0xffe, across
    mov ebx, 3
.across:
    other_second_page
    mov dword [steps], 0
    set_trap
    call CODE + 0xffe
    clear_trap
    expect_eq "across pages: steps", [steps], 6
    expect_eq "across pages: the one before", [places], CODE + 0xffe
    expect_eq "across pages", [places + 4], CODE + 0x1003
    dec ebx
    jnz .across

    ; --- breakpoints that RF lets pass ---
    hook pass
    fresh_area 2
    mov dword [steps], 0
    watch 0, 0, 1, .watched
.watched:
    mov eax, [AREAS + 0x800000]
    watch_nothing
    expect_eq "a breakpoint: once", [steps], 1
    mov ebx, 3
.watched_across:
    other_second_page
    mov dword [steps], 0
    watch 0, 0, 1, CODE + 0xffe
    call CODE + 0xffe
    watch_nothing
    expect_eq "a breakpoint across pages: once", [steps], 1
    dec ebx
    jnz .watched_across

    ; --- an interrupt waits behind MOV SS ---
    begin_interrupts 1 << 0
    mov ebx, 3                          ; what is behind is translated code the second and third time
.stack:
    mov eax, ebx                        ; another table for the same area
    shl eax, 12
    add eax, TABLES + 0x3000
    mov dword [eax], SCRATCH + (P | W | U)
    or eax, P | W | U
    mov [PAGE_DIRECTORY + (AREAS >> 22) * 4 + 3 * 4], eax
    invlpg [AREAS + 0xc00000]
    mov [SCRATCH], esp
    mov dword [exc_eip], 0
    mov ecx, ss
    call one_waits
    sti
    mov ss, ecx
    mov esp, [AREAS + 0xc00000]
.behind:
    nop
    cli
    expect_eq "mov ss, mov esp", [exc_eip], .behind
    dec ebx
    jnz .stack
    place_code CODE + 0xffc, shadowed
    mov ebx, 3
.shadowed:
    other_second_page
    lea eax, [esp - 4]
    mov [ESP_AT], eax
    mov ecx, ss
    call one_waits
    call CODE + 0xffc
    expect_eq "mov ss, mov esp across pages", [exc_eip], CODE + 0x1005
    dec ebx
    jnz .shadowed
    finish

; Notes where the steps come.
step:
    cmp dword [exc_vector], DB_
    jne stray_exception
    mov eax, [steps]
    mov edx, [exc_eip]
    mov [places + 4 * eax], edx
    inc dword [steps]
    and dword [steps], 15
    ret

pass:
    cmp dword [exc_vector], DB_
    jne stray_exception
    inc dword [steps]
    or dword [ebp + FRAME_EFLAGS], RF
    ret

across:
    mov eax, 0x12345678
    ret
.end:

shadowed:
    sti
    mov ss, ecx
    mov esp, [ESP_AT]                   ; its first byte is the page's last
    nop
    cli
    ret
.end:

section .data
align 4
steps: dd 0
places: times 16 dd 0
