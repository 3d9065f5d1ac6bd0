# Writes a C file that holds every schema file and its SHA-256:
#   cmake -DDIRECTORY=server/store/schema -DOUTPUT=schema.c -P embed_schema.cmake

file(GLOB files ${DIRECTORY}/*.sql)
list(SORT files COMPARE NATURAL)

function(bytes_of hex result)
    string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${hex}")
    string(REGEX REPLACE "(................................................................................)" "\\1\n    "
        bytes "${bytes}")
    set(${result} "${bytes}" PARENT_SCOPE)
endfunction()

set(texts "")
set(rows "")
foreach(file IN LISTS files)
    get_filename_component(name ${file} NAME)
    if(NOT name MATCHES "^([0-9][0-9][0-9][0-9])_[a-z0-9_]+\\.sql$")
        message(FATAL_ERROR "${name} is not named like 0001_words.sql")
    endif()
    math(EXPR number "1${CMAKE_MATCH_1} - 10000")
    file(READ ${file} hex HEX)
    file(SHA256 ${file} sha256)
    bytes_of("${hex}" text)
    bytes_of("${sha256}" sum)
    string(APPEND texts "static const uint8_t text_${number}[] = {\n    ${text}0x00};\n\n")
    string(APPEND rows "    {${number}, \"${name}\", (const char *) text_${number}, {${sum}}},\n")
endforeach()

file(WRITE ${OUTPUT} "#include \"server/store/migrate.h\"\n\n${texts}"
    "static const struct schema_file files[] = {\n${rows}};\n\n"
    "const struct schema_set schema_embedded = {files, sizeof files / sizeof files[0]};\n")
