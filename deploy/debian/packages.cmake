# Packages for Debian, one for each component: cpack --config BUILD/CPackConfig.cmake, of a build with the prefix /usr.

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME coffer)
set(CPACK_PACKAGE_VENDOR Coffer)
set(CPACK_PACKAGE_CONTACT "Coffer <packages@coffer.invalid>")
set(CPACK_PACKAGE_DIRECTORY ${CMAKE_BINARY_DIR}/packages)
# Everything goes where it will lie, below another root, so that files may name their folders.
set(CPACK_SET_DESTDIR ON)
set(CPACK_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_PRE_BUILD_SCRIPTS ${CMAKE_CURRENT_LIST_DIR}/finish.cmake)

set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_COMPONENTS_ALL runtime dev cli)
if(COFFER_SERVER)
    list(APPEND CPACK_COMPONENTS_ALL server doc)
endif()
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_GENERATE_SHLIBS ON)
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
set(CPACK_DEBIAN_PACKAGE_SECTION admin)

set(CPACK_DEBIAN_RUNTIME_PACKAGE_NAME libcoffer${PROJECT_VERSION_MAJOR})
set(CPACK_DEBIAN_RUNTIME_PACKAGE_SECTION libs)
set(CPACK_DEBIAN_RUNTIME_PACKAGE_CONTROL_EXTRA ${CMAKE_CURRENT_LIST_DIR}/library/postinst
    ${CMAKE_CURRENT_LIST_DIR}/library/postrm ${CMAKE_CURRENT_LIST_DIR}/library/triggers)
set(CPACK_COMPONENT_RUNTIME_DESCRIPTION "client library of Coffer, a service for credentials
Programs ask with it for the credentials of the tenant that they work for,
and get exactly those, or for each one the reason why not.")

set(CPACK_DEBIAN_DEV_PACKAGE_NAME libcoffer-dev)
set(CPACK_DEBIAN_DEV_PACKAGE_SECTION libdevel)
set(CPACK_DEBIAN_DEV_PACKAGE_DEPENDS
    "libcoffer${PROJECT_VERSION_MAJOR} (= ${PROJECT_VERSION}), libnng-dev, libprotobuf-c-dev, libssl-dev, libyaml-dev, zlib1g-dev")
set(CPACK_COMPONENT_DEV_DESCRIPTION "headers, static library and protocol of Coffer
What programs with libcoffer are built with, examples of such programs, and
the protocol for clients in other languages.")

set(CPACK_DEBIAN_CLI_PACKAGE_NAME coffer)
set(CPACK_COMPONENT_CLI_DESCRIPTION "command line and load test of Coffer, a service for credentials
coffer stores secrets, shows what is missing where, and runs programs with
values in their environment; coffer-bench measures a server.")

set(CPACK_DEBIAN_SERVER_PACKAGE_NAME cofferd)
# Its user is made from a file of sysusers.d.
set(CPACK_DEBIAN_SERVER_PACKAGE_DEPENDS "systemd | systemd-standalone-sysusers")
set(CPACK_DEBIAN_SERVER_PACKAGE_RECOMMENDS "coffer, postgresql")
# Backups are made by PostgreSQL's programs.
set(CPACK_DEBIAN_SERVER_PACKAGE_SUGGESTS "coffer-doc, postgresql-client")
set(CPACK_DEBIAN_SERVER_PACKAGE_CONTROL_EXTRA ${CMAKE_CURRENT_LIST_DIR}/postinst ${CMAKE_CURRENT_LIST_DIR}/prerm
    ${CMAKE_CURRENT_LIST_DIR}/postrm)
set(CPACK_COMPONENT_SERVER_DESCRIPTION "server of Coffer, a service for credentials
cofferd keeps the credentials of many tenants in PostgreSQL, sealed, and
hands workflow executors those of the tenant that they work for.")

set(CPACK_DEBIAN_DOC_PACKAGE_NAME coffer-doc)
set(CPACK_DEBIAN_DOC_PACKAGE_SECTION doc)
set(CPACK_DEBIAN_DOC_PACKAGE_ARCHITECTURE all)
set(CPACK_COMPONENT_DOC_DESCRIPTION "documentation of Coffer, a service for credentials
How to run it, its protocol, errors, settings and decisions.")

include(CPack)
