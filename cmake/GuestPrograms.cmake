# Guest programs in assembly: flat Multiboot images made by nasm.
find_program(NASM nasm)

# trapline_guest_program(name source): builds ${CMAKE_BINARY_DIR}/guests/<name>.bin
function(trapline_guest_program name source)
  set(output ${CMAKE_BINARY_DIR}/guests/${name}.bin)
  get_filename_component(folder ${CMAKE_CURRENT_SOURCE_DIR}/${source} DIRECTORY)
  # nasm 2.16 leaves included files out of the list that -MD writes.
  file(GLOB included CONFIGURE_DEPENDS ${folder}/include/*.inc)
  add_custom_command(OUTPUT ${output}
    COMMAND ${CMAKE_COMMAND} -E make_directory ${CMAKE_BINARY_DIR}/guests
    COMMAND ${NASM} -f bin -w+all -Werror -I ${folder}/ -o ${output}
            ${CMAKE_CURRENT_SOURCE_DIR}/${source}
    DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${source} ${included} VERBATIM)
  add_custom_target(guest_${name} ALL DEPENDS ${output})
endfunction()
