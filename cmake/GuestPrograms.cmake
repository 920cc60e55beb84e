# Guest programs in assembly: flat Multiboot images made by nasm.
find_program(NASM nasm)

# trapline_guest_program(name source): builds ${CMAKE_BINARY_DIR}/guests/<name>.bin
function(trapline_guest_program name source)
  set(output ${CMAKE_BINARY_DIR}/guests/${name}.bin)
  get_filename_component(folder ${CMAKE_CURRENT_SOURCE_DIR}/${source} DIRECTORY)
  add_custom_command(OUTPUT ${output}
    COMMAND ${CMAKE_COMMAND} -E make_directory ${CMAKE_BINARY_DIR}/guests
    COMMAND ${NASM} -f bin -w+all -Werror -I ${folder}/ -o ${output}
            -MD ${output}.d ${CMAKE_CURRENT_SOURCE_DIR}/${source}
    DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${source} DEPFILE ${output}.d VERBATIM)
  add_custom_target(guest_${name} ALL DEPENDS ${output})
endfunction()
