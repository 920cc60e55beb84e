# The program of a container (runtime/native/container/): freestanding, linked far above the 4 GiB
# that belong to the guest, and put into trapline_runtime as bytes. Neither sanitizers nor a C library
# may be in it.
add_executable(trapline_container
  runtime/native/container/main.c runtime/native/container/go_on.S
  runtime/native/container/mapper.S)
target_include_directories(trapline_container PRIVATE ${CMAKE_SOURCE_DIR})
target_compile_options(trapline_container PRIVATE
  $<$<COMPILE_LANGUAGE:C>:-std=gnu11 -O2 -Wall -Wextra -ffreestanding -fno-stack-protector
    -fcf-protection=none -fno-asynchronous-unwind-tables -mgeneral-regs-only -U_FORTIFY_SOURCE>)
if(TRAPLINE_WERROR)
  target_compile_options(trapline_container PRIVATE -Werror)
endif()
target_link_options(trapline_container PRIVATE
  -nostdlib -static -no-pie -Wl,-Ttext-segment=0x200000000000 -Wl,--build-id=none
  -Wl,-z,noexecstack)
set_target_properties(trapline_container PROPERTIES LINKER_LANGUAGE C)

add_dependencies(trapline_runtime trapline_container)
set_source_files_properties(runtime/native/container_image.cc PROPERTIES
  COMPILE_DEFINITIONS "TRAPLINE_CONTAINER_PROGRAM=\"$<TARGET_FILE:trapline_container>\""
  OBJECT_DEPENDS ${CMAKE_BINARY_DIR}/trapline_container)
