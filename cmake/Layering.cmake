# One static library per folder, with the folders it may include. An #include that points
# up or sideways fails the configuration, and again each build (target check_layering).

set(TRAPLINE_LAYERING_SCRIPT ${CMAKE_CURRENT_LIST_DIR}/CheckLayering.cmake)

function(trapline_library name)
  cmake_parse_arguments(ARG "" "" "USES;LINKS" ${ARGN})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/${name}/*.cc)
  list(FILTER sources EXCLUDE REGEX "/main/")
  add_library(trapline_${name} STATIC ${sources})
  trapline_target_options(trapline_${name})
  set_target_properties(trapline_${name} PROPERTIES LINKER_LANGUAGE CXX)
  foreach(used IN LISTS ARG_USES)
    if(used)
      target_link_libraries(trapline_${name} PUBLIC trapline_${used})
    endif()
  endforeach()
  target_link_libraries(trapline_${name} PUBLIC ${ARG_LINKS})
  set(check ${CMAKE_COMMAND} -DROOT=${CMAKE_SOURCE_DIR} -DFOLDER=${name}
            "-DALLOWED=${name} ${ARG_USES}" -P ${TRAPLINE_LAYERING_SCRIPT})
  execute_process(COMMAND ${check} RESULT_VARIABLE status ERROR_VARIABLE complaint)
  if(NOT status EQUAL 0)
    message(FATAL_ERROR "${complaint}")
  endif()
  add_custom_target(check_layering_${name} COMMAND ${check} VERBATIM)
  add_dependencies(trapline_${name} check_layering_${name})
endfunction()
