# The checks of .ci as tests with the label check; those that take minutes have the label slow, too.

# coffer_check(NAME [SLOW] COMMAND script [arguments...]): runs a script of .ci in the project's folder.
function(coffer_check name)
    cmake_parse_arguments(arg "SLOW" "" "COMMAND" ${ARGN})
    add_test(NAME check/${name} COMMAND ${CMAKE_SOURCE_DIR}/.ci/${arg_COMMAND} WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
    set_tests_properties(check/${name} PROPERTIES LABELS check TIMEOUT 1800)
    if(arg_SLOW)
        # They use all processors themselves, or get what other tests leave of them (tests/run.sh).
        set_tests_properties(check/${name} PROPERTIES LABELS "check;slow" TIMEOUT 14400 PROCESSORS 64)
    endif()
endfunction()

coffer_check(layers COMMAND layers)
coffer_check(functions COMMAND functions)
coffer_check(mistakes COMMAND mistakes)
coffer_check(words COMMAND words)
coffer_check(format COMMAND format)
coffer_check(scripts COMMAND scripts)
coffer_check(proto COMMAND proto)
coffer_check(errors-doc COMMAND errors-doc --check)
coffer_check(permissions-doc COMMAND permissions-doc --check)
coffer_check(settings-doc COMMAND settings-doc --check)
coffer_check(cli-doc COMMAND cli-doc --check)
coffer_check(metrics-doc COMMAND metrics-doc)
coffer_check(links COMMAND links)
coffer_check(exports COMMAND exports ${CMAKE_BINARY_DIR})
coffer_check(abi COMMAND abi ${CMAKE_BINARY_DIR})
coffer_check(acceptance COMMAND acceptance ${CMAKE_BINARY_DIR})
coffer_check(cppcheck SLOW COMMAND cppcheck ${CMAKE_BINARY_DIR})
coffer_check(tidy SLOW COMMAND tidy ${CMAKE_BINARY_DIR})

# That each of them can fail.
find_package(Python3 REQUIRED COMPONENTS Interpreter)
add_test(NAME check/selftest
    COMMAND ${Python3_EXECUTABLE} ${CMAKE_CURRENT_SOURCE_DIR}/check/selftest_test.py WORKING_DIRECTORY ${CMAKE_BINARY_DIR})
set_tests_properties(check/selftest PROPERTIES LABELS "check;slow" TIMEOUT 1800
    ENVIRONMENT "COFFER_BUILD=${CMAKE_BINARY_DIR};PYTHONDONTWRITEBYTECODE=1")
