# Writes a C file that holds a file's bytes as NAME_file, and their number as NAME_size:
#   cmake -DINPUT=providers.yaml -DNAME=provider_builtin -DOUTPUT=providers.c -P embed_file.cmake

file(READ ${INPUT} hex HEX)
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${hex}")
string(REGEX REPLACE "(................................................................................)" "\\1\n    "
    bytes "${bytes}")
file(WRITE ${OUTPUT} "#include <stddef.h>\n#include <stdint.h>\n\nextern const uint8_t ${NAME}_file[];\n"
    "extern const size_t ${NAME}_size;\n\nconst uint8_t ${NAME}_file[] = {\n    ${bytes}\n};\n"
    "const size_t ${NAME}_size = sizeof ${NAME}_file;\n")
