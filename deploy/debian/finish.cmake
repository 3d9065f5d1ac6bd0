# What packages have and an installed tree has not: the licence of each, and manual pages that are compressed.

foreach(component IN LISTS CPACK_COMPONENTS_ALL)
    string(TOUPPER ${component} upper)
    set(root ${CPACK_TEMPORARY_DIRECTORY}/${component}/usr/share)
    file(COPY ${CMAKE_CURRENT_LIST_DIR}/copyright DESTINATION ${root}/doc/${CPACK_DEBIAN_${upper}_PACKAGE_NAME}
        FILE_PERMISSIONS OWNER_READ OWNER_WRITE GROUP_READ WORLD_READ)
    file(GLOB pages ${root}/man/man*/*.[1-8])
    foreach(page IN LISTS pages)
        execute_process(COMMAND gzip -9n ${page} COMMAND_ERROR_IS_FATAL ANY)
    endforeach()
endforeach()
