; The operations. Each is uint32_t run(uint32_t loops): EBP counts the loops down, EBX, ESI, EDI
; and the rest are free, EAX is how often something came out wrong.
bits 32

extern nano_pages
extern nano_entry_0
extern nano_entry_1
extern nano_root_a
extern nano_root_b

PAGE    equ 4096

%macro operation 1
global %1
align 64
%1:
        push    ebp
        push    ebx
        push    esi
        push    edi
        mov     ebp, [esp + 20]
%endmacro

%macro again 1
        dec     ebp
        jnz     %1
%endmacro

%macro done 0
        xor     eax, eax
        done_with_eax
%endmacro

%macro done_with_eax 0
        pop     edi
        pop     esi
        pop     ebx
        pop     ebp
        ret
%endmacro

section .text

operation nano_empty
.loop:  again   .loop
        done

; --- ports -------------------------------------------------------------------------------------

operation nano_port_input
        mov     edx, 0x80
.loop:
%rep 8
        in      al, dx
%endrep
        again   .loop
        done

operation nano_port_input_e9
        mov     edx, 0xe9
.loop:
%rep 8
        in      al, dx
%endrep
        again   .loop
        done

; --- control flow ------------------------------------------------------------------------------

operation nano_call_return
.loop:
%rep 8
        call    .callee
%endrep
        again   .loop
        done
align 16
.callee:
        ret

operation nano_call_indirect
        mov     ebx, .callee
.loop:
%rep 8
        call    ebx
%endrep
        again   .loop
        done
align 16
.callee:
        ret

operation nano_indirect_jump            ; each site has one target
.loop:
%assign site 0
%rep 8
        mov     eax, .next_%+site
        jmp     eax
align 4
.next_%+site:
  %assign site site + 1
%endrep
        again   .loop
        done

operation nano_indirect_jump_8          ; one site, eight targets in turn
        xor     esi, esi
.loop:
        jmp     [.targets + esi * 4]
%assign target 0
%rep 8
align 16
.target_%+target:
        mov     esi, (target + 1) & 7
        again   .loop
        jmp     .end
  %assign target target + 1
%endrep
.end:   done
align 4
.targets:
%assign target 0
%rep 8
        dd      .target_%+target
  %assign target target + 1
%endrep

; --- flags and interrupts ----------------------------------------------------------------------

operation nano_pushf
.loop:
%rep 8
        pushfd
        lea     esp, [esp + 4]
%endrep
        again   .loop
        done

operation nano_popf
        pushfd
        pop     ebx
.loop:
%rep 8
        push    ebx
        popfd
%endrep
        again   .loop
        done

operation nano_cli_sti
.loop:
%rep 8
        cli
        sti
%endrep
        again   .loop
        done

; --- exceptions and system calls ---------------------------------------------------------------

global nano_iret_gate
nano_iret_gate:
        iretd

operation nano_interrupt                ; an interrupt of ring 0 and back
.loop:
%rep 4
        int     0x82
%endrep
        again   .loop
        done

operation nano_int80                    ; from ring 3
.loop:
%rep 4
        int     0x80
%endrep
        again   .loop
        done

global nano_sysenter_entry
nano_sysenter_entry:
        sti
        sysexit

operation nano_sysenter                 ; from ring 3
.loop:
%assign site 0
%rep 4
        mov     edx, .back_%+site
        mov     ecx, esp
        sysenter
.back_%+site:
  %assign site site + 1
%endrep
        again   .loop
        done

global nano_divide_gate
nano_divide_gate:
        add     dword [esp], 2          ; over the DIV
        inc     dword [faults]
        iretd

operation nano_divide_fault
        mov     dword [faults], 0
        xor     ebx, ebx
.loop:
        div     ebx
        again   .loop
        mov     eax, [esp + 20]
        sub     eax, [faults]
        done_with_eax

global nano_fault_skip_gate
nano_fault_skip_gate:
        add     esp, 4
        add     dword [esp], 5          ; over the MOV from an absolute address
        inc     dword [faults]
        iretd

operation nano_fault_skip               ; page 0 stays absent
        mov     dword [faults], 0
.loop:
        mov     eax, [nano_pages]
        again   .loop
        mov     eax, [esp + 20]
        sub     eax, [faults]
        done_with_eax

global nano_fault_fix_gate
nano_fault_fix_gate:
        push    ecx
        mov     ecx, [nano_entry_0]
        or      dword [ecx], 1
        inc     dword [faults]
        pop     ecx
        add     esp, 4
        iretd

operation nano_fault_fix                ; the handler makes page 0 present, the loop takes it away
        mov     dword [faults], 0
        mov     ecx, [nano_entry_0]
.loop:
        and     dword [ecx], ~1
        invlpg  [nano_pages]
        mov     eax, [nano_pages]
        again   .loop
        mov     eax, [esp + 20]
        sub     eax, [faults]
        done_with_eax

; --- page tables -------------------------------------------------------------------------------

operation nano_pte_write                ; a touch of the page, then a store to its entry
        mov     ecx, [nano_entry_0]
        mov     edx, [ecx]
.loop:
%rep 4
        mov     eax, [nano_pages]
        xor     edx, 0x200              ; a bit that is free for software
        mov     [ecx], edx
%endrep
        again   .loop
        done

operation nano_pte_write_burst          ; stores to a page table that is in use, nothing between
        mov     ecx, [nano_entry_0]
        mov     edx, [ecx]
        mov     eax, [nano_pages]
.loop:
%rep 8
        xor     edx, 0x200
        mov     [ecx], edx
%endrep
        again   .loop
        done

operation nano_pte_remap                ; page 0 shows its own frame and page 1's in turn
        mov     ecx, [nano_entry_0]
        mov     edx, [ecx]
        mov     edi, [nano_entry_1]
        mov     edi, [edi]
        or      edi, edx                ; accessed and dirty alike
        and     edi, 0xfff
        and     edx, ~0xfff
        or      edx, edi
        mov     edi, [nano_entry_1]
        mov     edi, [edi]
        xor     edi, edx
        and     edi, ~0xfff             ; what must change between the two frames
        mov     dword [nano_pages + PAGE], 1
        mov     dword [nano_pages], 0
        xor     esi, esi
        xor     ebx, ebx
.loop:
        xor     edx, edi
        xor     ebx, 1
        mov     [ecx], edx
        invlpg  [nano_pages]
        mov     eax, [nano_pages]
        xor     eax, ebx
        add     esi, eax
        again   .loop
        test    ebx, ebx
        jz      .own
        xor     edx, edi
        mov     [ecx], edx
        invlpg  [nano_pages]
.own:   mov     eax, esi
        done_with_eax

operation nano_invlpg
        mov     eax, [nano_pages]
.loop:
%rep 8
        invlpg  [nano_pages]
%endrep
        again   .loop
        done

operation nano_invlpg_touch
.loop:
%rep 8
        invlpg  [nano_pages]
        mov     eax, [nano_pages]
%endrep
        again   .loop
        done

operation nano_cr3_switch
        mov     esi, [nano_root_a]
        mov     edi, [nano_root_b]
.loop:
%rep 4
        mov     cr3, edi
        mov     cr3, esi
%endrep
        again   .loop
        done

operation nano_cr3_switch_touch         ; and a read of a page that differs between the two
        mov     esi, [nano_root_a]
        mov     edi, [nano_root_b]
        mov     dword [nano_pages + 2 * PAGE], 0
        mov     dword [nano_pages + 3 * PAGE], 1
        xor     ebx, ebx
.loop:
%rep 4
        mov     cr3, edi                ; page 2 shows page 3's frame here
        sub     ebx, [nano_pages + 2 * PAGE]
        mov     cr3, esi
        add     ebx, [nano_pages + 2 * PAGE]
        inc     ebx
%endrep
        again   .loop
        mov     eax, ebx
        done_with_eax

; --- segments, strings, unaligned accesses, counters --------------------------------------------

operation nano_segment_load
        mov     eax, 0x23
.loop:
%rep 8
        mov     gs, eax
%endrep
        again   .loop
        done

operation nano_rep_movs
.loop:
%rep 4
        mov     esi, nano_pages
        mov     edi, nano_pages + PAGE
        mov     ecx, 16
        rep movsd
%endrep
        again   .loop
        done

operation nano_unaligned_load
.loop:
%rep 8
        mov     eax, [nano_pages + 29]
%endrep
        again   .loop
        done

operation nano_unaligned_store
.loop:
%rep 8
        mov     [nano_pages + 29], eax
%endrep
        again   .loop
        done

operation nano_crossing_load
.loop:
%rep 8
        mov     eax, [nano_pages + PAGE - 2]
%endrep
        again   .loop
        done

operation nano_crossing_store
.loop:
%rep 8
        mov     [nano_pages + PAGE - 2], eax
%endrep
        again   .loop
        done

operation nano_rdtsc
.loop:
%rep 8
        rdtsc
%endrep
        again   .loop
        done

operation nano_cpuid
.loop:
        xor     eax, eax
        cpuid
        again   .loop
        done

section .bss nobits alloc noexec write align=4
faults: resd    1

; --- code that changes itself: pages of its own --------------------------------------------------

section .smc progbits alloc exec write align=4096

operation nano_smc_next                 ; the instruction after the store
        xor     ebx, ebx
        xor     esi, esi
.loop:
        inc     ebx
        mov     [.changed + 1], ebx
.changed:
        mov     eax, 0
        sub     eax, ebx
        add     esi, eax
        again   .loop
        mov     eax, esi
        done_with_eax

        align   4096
operation nano_smc_call                 ; a function in the running page
        xor     ebx, ebx
        xor     esi, esi
.loop:
        inc     ebx
        mov     [.changed + 1], ebx
        call    .changed
        sub     eax, ebx
        add     esi, eax
        again   .loop
        mov     eax, esi
        done_with_eax
align 64
.changed:
        mov     eax, 0
        ret

        align   4096
operation nano_data_in_code_page        ; a store beside the code that is running
.loop:
%rep 8
        mov     [.data], ebp
%endrep
        again   .loop
        done
align 512
.data:  dd      0
