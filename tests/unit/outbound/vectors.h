/* Made by make_vectors.py. */
/* clang-format off */
#pragma once

#define VECTOR_RSA_KEY                                                                       \
    "-----BEGIN PRIVATE KEY-----\012MIIEvgIBADANBgkqhkiG9w0BAQEFAASCBKgwggSkAgEAAoIBAQDm"    \
    "T40v3H0qfwwx\012B02noyX98Msk1JoKl+kZeWtU4oT8T3oJ66dafQasmXDnR0+/dVkZMaxabe9Aavgr\012ql" \
    "dX0YJVlZ6mT8cn2krCs3UhlFHo9hNQC86q5fvBSiqD/WJEqYvHt6BDY7Py2+J5\012t3HL42NJbzWKG2R3e"    \
    "+u59ut7ufW2L98UtJyoelN7OJ0DvkdDTOrjnoXUcjYS9xp7\012SeLFQ50koOPLOYFLf6r0yXC3NrfScGyA"    \
    "HZImKuPDSNd2kEtSRmHCaT4LkYNdF3MQ\012c+gZcWzoo1oL2z+xoaMFWp46fG0veN6N7Fyhy41Y6M+cAh+"    \
    "f+zhcOfDt0/2QG5+G\012nU26CjNJAgMBAAECggEAFq2y8glwyE5cH5hP4t/fefjb8heexwgEJ7Jjead4D6"    \
    "XO\012Vzt9nl0VGwodemK05T4bjM3twjZU0ret0hPrF55NaprJ9WfB7UhTKAa2lBzIL4vK\012pU1SV5T/tD32" \
    "v4pEAs2csmkAJp6i3bld/N0N3zU4BcdGAwBVRWg+EzDvqX5rZfnz\012K4TwYBds5hQst2o+kAlt/t22Yo0"    \
    "ry58sWGQ//G0XFj+qNaVDc20FxsEnYgfhsSoa\012lGQHiCcsCKDx/QEylJwBg26VzANC++1WvoQR3Z6NcL"    \
    "sepOHnlTPGvom4T2y8oMHK\012FCAfzlk48w0Z51dMkX8Z1rdYt7R0foj7+h8XzdVoUQKBgQD+Gt6j7HYCi"    \
    "Wx87hhD\0124NIqCQC04RfRggNhJbUqgop3+cRitspZ/H3qAeGkRNn6whVLdr5szj3fj9akRsMV\012EMrKknF" \
    "xjVrNlhv+hqtU/AVTTiVfhxKX7PoyyVt3RksBr3KAogoWL/NQO+b+1hJ5\012jV09TV9wTVNfqE4Ni+Jc3L"    \
    "HIOQKBgQDoB0Eqth+85ibMHcMrwv6xEuEBfX+tkha8\012/wTf0tpoQmPaI8ClIvwsEwkJMpu+gUmNBrWh9"    \
    "4G+Wz65fRl6PI90erSqHuqH0CSX\012HuCkx7DGXwzpW1KYqO+UM6rmn+TqdOBLxCg28e9u8RnqlIzFn25U"    \
    "ZnXiXWKfvZYA\012z5UQkrgjkQKBgQDXyC+KmpG4I8UJ7hKTCcbOxWhhMcjNNA/0nlXTLJmzullHzpvV\012gL" \
    "HYVxKrMYC+DbSRqduZgCZQw8/tHt4o9GKRVXyahgQ3EyLgqLGz8HQBQxo/ne9v\012LmFlYVKX3gxx+PBOR"    \
    "cw0/TEs0EGf5GA58o7cMOk7754+XCk0HbbzTsJ2GQKBgQCc\012mKDTub0r2U0f/4pEk8MfMTWostGkDG/K"    \
    "OHdKtFzxdrU7eVvAWB9Hg8VabsyMQ2en\012hXq6iHgJSD3KJHM4e3z6SQJ7uofhB4pab91/eMKG74mgSSE"    \
    "ypPmk1UYnhoyR7DWh\012DQ9zHc/R2Wj7WCy2CAcHcWtoTkyMsQB3JaJeYBdk8QKBgFjMkuXbyUt+7L3qIA"    \
    "ya\012vvomBUaa/OhwcrauB4RchJOewIzotXu+5UoRYbFE4ZrTp/eKTa2V6hkQM430Sp26\012pmxdARwbY5hv" \
    "E7dGB++LNR65Ax9ezoe/IXWKmQOLH1x+CqMmeXsjqHk9O7Dq4Zxr\0125WVe3c/K0y0n3VetQQxPf/NZ\012--" \
    "---END PRIVATE KEY-----\012"

#define VECTOR_EC_KEY                                                                        \
    "-----BEGIN PRIVATE KEY-----\012MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg9gAb"    \
    "A3SB6Sa0Seg4\0121qyV3aRJCE6ljzXtW6YmlDtM9HShRANCAATjgpDCuPHlAUFx2MHNMFnfqMMWzs69\012y4" \
    "9IipHZkVWvbpieyUERPuBa/Fv72RjrDIfODz8QGjocnZMWwlW2NGyF\012-----END PRIVATE KEY-----"    \
    "\012"

#define VECTOR_P384_KEY                                                                      \
    "-----BEGIN PRIVATE KEY-----\012MIG2AgEAMBAGByqGSM49AgEGBSuBBAAiBIGeMIGbAgEBBDALXScC"    \
    "ejKVJ1N48iMp\012jAU9TSDLQwKDo/mYrHm4xs7LaZA73jiSfF/z9Gt1/T/9VdShZANiAAQ5aoNKg/5z\012CH" \
    "+cu1cxnLdcYmv7U3p285co57AAb57bkKE/osv/pq1i5DH3NS8g8/K5lZTr6x/X\012egwAmuas95C0YazeG"    \
    "w/x7sFOecKj0AQP/4SrGrqPRHhqawblau62qxY=\012-----END PRIVATE KEY-----\012"

#define VECTOR_P384_JSON                                                                     \
    "-----BEGIN PRIVATE KEY-----\134nMIG2AgEAMBAGByqGSM49AgEGBSuBBAAiBIGeMIGbAgEBBDALXSc"    \
    "CejKVJ1N48iMp\134njAU9TSDLQwKDo/mYrHm4xs7LaZA73jiSfF/z9Gt1/T/9VdShZANiAAQ5aoNKg/5z\134" \
    "nCH+cu1cxnLdcYmv7U3p285co57AAb57bkKE/osv/pq1i5DH3NS8g8/K5lZTr6x/X\134negwAmuas95C0Y"    \
    "azeGw/x7sFOecKj0AQP/4SrGrqPRHhqawblau62qxY=\134n-----END PRIVATE KEY-----\134n"

#define VECTOR_RSA_1024_KEY                                                                  \
    "-----BEGIN PRIVATE KEY-----\012MIICdQIBADANBgkqhkiG9w0BAQEFAASCAl8wggJbAgEAAoGBAKv2"    \
    "ZxLWT4I4lZ7n\012egYeOOC+1Hx/lGIyYMbwaTq6jnfKUyrUkPp9sIHZ2JtWMGw972CTRTkRU7xnpFz8\012Im" \
    "D69tEwZOPGmR8ciJ384fKg68xkUEJdLvYOzia2hH9Z7HtjhaBwFzI5mh0eSl8m\012M2Yv8ImD4ep51Hs8Z"    \
    "NSL4aM4vpJfAgMBAAECgYAqUXkMKbFnWoV3lX9yAf39UPj5\012qmvZvowSaRd8XGyzDhdpcuY6vrOxQOsN"    \
    "TyibeqJuIc/nO1xgASFxwJq1Qw16BhKl\012wsHIU7xBrP7N90vuhiHKN5Qv0/fXbXARV3Bs7qR4By6MqqK"    \
    "Qf3NjQux2PKfJDGYU\012ZKwJO309Pwzadzh4AQJBANrXAQuRksWpFcvItCuqcRcJXxBmQ2frt+3tecF0Bw"    \
    "ER\012P6NDKzkeEc/xNV+jW3jSIdIrZbqQVcIuiayvMNkpxGUCQQDJKaJkDXeuKl3i3mdA\012BNHfTb1PWVea" \
    "EHldzeX7/38Q6Jb24e88r+5SWaDJXFdE3Ux0AzRSj5u1B614bv5/\012yeVzAkAcLQ6PZMDW/jw2LrMz5BA"    \
    "HfUdmHySSnsDhu2+vvragJo5hAObxxbNZaJ8M\012n0XJupRsMPY6HRdNlxxWxX+uljgZAkAEz1EJsWS+Ll"    \
    "cmWIkBd9wIydQP9KPqlCBC\012xOyN1PMV1Wnep1JQEijRoUD9745KoDv2vijfHH3tmyxjp8vABHTPAkBs8"    \
    "j+NO/15\012S717IxYMVfdTCYclTU1j9cv6Jw6i/BGVD88DL8phaZCgV0IIr+cGCWpWopMzXYRG\0127l5TSFZ" \
    "WlovI\012-----END PRIVATE KEY-----\012"

#define VECTOR_ED25519_KEY                                                                \
    "-----BEGIN PRIVATE KEY-----\012MC4CAQAwBQYDK2VwBCIEIDg4eGdRBBWy0Ave3/wyvll+vscsuJCU" \
    "ivFktosI2Zbm\012-----END PRIVATE KEY-----\012"

#define VECTOR_BASIC_HEADER "Basic Y2xpZW50JTIwaWQlM0ElQzMlQkM6cyUyQmUlMkZjJTIwciUyNXQlMjZ+"

#define VECTOR_POST_BODY                                                               \
    "grant_type=client_credentials&client_id=client%20id%3A%C3%BC&client_secret=s%2Be" \
    "%2Fc%20r%25t%26~&scope=read%3Aall%20a%20b%26c%3Dd"

#define VECTOR_NONE_BODY                                                               \
    "grant_type=client_credentials&client_id=client%20id%3A%C3%BC&user_scope=read%3Aa" \
    "ll%2Ca%20b%26c%3Dd"

#define VECTOR_CODE_BODY                                                               \
    "grant_type=authorization_code&code=the%20grant%2B%2F%3D&redirect_uri=https%3A%2F" \
    "%2Fcoffer.example%2Foauth%2Fcallback&code_verifier=verifier-._~"

#define VECTOR_DEVICE_BODY                                                             \
    "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Adevice_code&device_code=th" \
    "e%20grant%2B%2F%3D&code_verifier=verifier-._~"

#define VECTOR_PRIVATE_KEY_JWT_BODY                                                    \
    "grant_type=refresh_token&refresh_token=the%20grant%2B%2F%3D&client_id=client%20i" \
    "d%3A%C3%BC&client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-" \
    "type%3Ajwt-bearer&client_assertion=eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCIsImtpZCI6I" \
    "mtleS0xIn0.eyJpc3MiOiJjbGllbnQgaWQ6w7wiLCJzdWIiOiJjbGllbnQgaWQ6w7wiLCJhdWQiOiJod" \
    "HRwczovL2FzLmV4YW1wbGUvdG9rZW4iLCJqdGkiOiJSMGhKU2t0TVRVNVBVRkZTVTFSVkFBIiwiaWF0I" \
    "joxNzk1NjA3OTkwLCJleHAiOjE3OTU2MDgzMDB9.UrXcgo5s-eFVf4PWcainbZ095ouaxK7GqlHoX40j" \
    "Y_Ao28YDkyoc72itbixCiyVlQG_90Kq9URvZDe2kclMmbKRYQbNxlRS5jG5a9EqHiRws95jyNUq19ZXu" \
    "vgGSipP6gUdYm0QFVoOTJF2M0ZxTU8dvSBOuuiV-dTy4AywfwPg3-NavkPN4sRFT5TZBXPBYUXvAuTgd" \
    "GP1_bwO_QftAkeqp6pG0JqXkTDk4yH7_N79FCjwEsnAnfAH1P7SKxeZYOY42TucuNnt_5qS0Lb4wsbCc" \
    "xLYOs2uXZ-qZwX3HGVjl7tVUto6DMmEO2MOn0kvzHGrwuWT9hjT5ePjxMz6gfw"

#define VECTOR_JWT_BEARER_CLAIM_BODY                                                   \
    "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=eyJhb" \
    "GciOiJSUzI1NiIsInR5cCI6IkpXVCIsImtpZCI6ImtleS0yIn0.eyJpc3MiOiJyb2JvdEBwcm9qZWN0L" \
    "mV4YW1wbGUiLCJzdWIiOiJ1c2VyQFwiZXhhbXBsZVwiIiwiYXVkIjoiaHR0cHM6Ly9hcy5leGFtcGxlL" \
    "3Rva2VuIiwic2NvcGUiOiJyZWFkOmFsbCBhIGImYz1kIiwianRpIjoiTURFeU16UTFOamM0T1dGaVkyU" \
    "mxaZyIsImlhdCI6MTc5NTYwNzk5MCwiZXhwIjoxNzk1NjA4MzAwfQ.Lex6p_ybbSUIIh8OODpwHZ-Dpd" \
    "lyAJey3PJaImd-43h3ayRkqmi21lbkE3w13mngJ5H2Ko5bmFu1EuVFqk_qB0dQSsz9GS-TX4DfwuUm-l" \
    "ekorT33kFdkJcKJUl8sHzlD6LfvhWZQGqSpBQ67pidT3sAby6aSwoANMlaGwZoWSclcBiZTvzEdfU-ct" \
    "zQlJY7DghV7jLxEI1I6Og7Bn2__c7knWmtZQunDKK2CHCZbLkWtEna4mtcWFcy9a4_U9jwkO27PDXdgf" \
    "GQjgedB-Cuvgc1ElhhZxdqLPMqwvHWs5eyI1o8hHLymaBUwVjUTwxzTozpsIlsspXL7Y2P2ogvlQ"

#define VECTOR_JWT_BEARER_PARAMETER_BODY                                               \
    "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=eyJhb" \
    "GciOiJSUzI1NiIsInR5cCI6IkpXVCIsImtpZCI6ImtleS0yIn0.eyJpc3MiOiJyb2JvdEBwcm9qZWN0L" \
    "mV4YW1wbGUiLCJhdWQiOiJodHRwczovL2FzLmV4YW1wbGUvdG9rZW4iLCJqdGkiOiJNREV5TXpRMU5qY" \
    "zRPV0ZpWTJSbFpnIiwiaWF0IjoxNzk1NjA3OTkwLCJleHAiOjE3OTU2MDgzMDB9.kvqCBevZkeFTtUw1" \
    "z3ujJuFEbmw62LXvzYrSycpPTplyfaO6nJj-5WIl7hW0X4QiyNNvjmatQLYdyWw5rhp4fLQcruHZbg9T" \
    "RrxSZvK4wvjE3-9C9Pq57LHatALJep6YmzmXuu_49-YfQyIyGSToTwjjwTQWvzs5_ATeCpsDe6dT0iwi" \
    "ne_kzs34NhpjFMY9bxgpFuKTNuezI9x_rSBWcKWZkSiXKOXzeCLbXUWvFTbRq0Pd0j8xz7S66OBaqz_x" \
    "AXVucpQ25kRrrL8qGe2vF-CAvtOzLLlhMBCeZ2kKTUvZKQLDrBdhu1tPwBQuA_c9ayFxjZw-zreSpCdV" \
    "z-TrPA&scope=read%3Aall%20a%20b%26c%3Dd"

#define VECTOR_ES256_INPUT                                                             \
    "eyJhbGciOiJFUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJpIiwiYXVkIjoiYSIsImp0aSI6Ik1ERXl" \
    "NelExTmpjNE9XRmlZMlJsWmciLCJpYXQiOjE3OTU2MDc5OTAsImV4cCI6MTc5NTYwODMwMH0"

#define VECTOR_SERVICE_ACCOUNT                                                                                     \
    "{\012  \042type\042: \042service_account\042,\012  \042project_id\042: \042project\042,\012  "                \
    "\042private_key_id\042: \0420"                                                                                \
    "123abc\042,\012  \042private_key\042: \042-----BEGIN PRIVATE KEY-----\134nMIIEvgIBADANBgkqhkiG9w0B"           \
    "AQEFAASCBKgwggSkAgEAAoIBAQDmT40v3H0qfwwx\134nB02noyX98Msk1JoKl+kZeWtU4oT8T3oJ66dafQ"                          \
    "asmXDnR0+/dVkZMaxabe9Aavgr\134nqldX0YJVlZ6mT8cn2krCs3UhlFHo9hNQC86q5fvBSiqD/WJEqYvH"                          \
    "t6BDY7Py2+J5\134nt3HL42NJbzWKG2R3e+u59ut7ufW2L98UtJyoelN7OJ0DvkdDTOrjnoXUcjYS9xp7\134n"                       \
    "SeLFQ50koOPLOYFLf6r0yXC3NrfScGyAHZImKuPDSNd2kEtSRmHCaT4LkYNdF3MQ\134nc+gZcWzoo1oL2z"                          \
    "+xoaMFWp46fG0veN6N7Fyhy41Y6M+cAh+f+zhcOfDt0/2QG5+G\134nnU26CjNJAgMBAAECggEAFq2y8glw"                          \
    "yE5cH5hP4t/fefjb8heexwgEJ7Jjead4D6XO\134nVzt9nl0VGwodemK05T4bjM3twjZU0ret0hPrF55Nap"                          \
    "rJ9WfB7UhTKAa2lBzIL4vK\134npU1SV5T/tD32v4pEAs2csmkAJp6i3bld/N0N3zU4BcdGAwBVRWg+EzDv"                          \
    "qX5rZfnz\134nK4TwYBds5hQst2o+kAlt/t22Yo0ry58sWGQ//G0XFj+qNaVDc20FxsEnYgfhsSoa\134nlGQH"                       \
    "iCcsCKDx/QEylJwBg26VzANC++1WvoQR3Z6NcLsepOHnlTPGvom4T2y8oMHK\134nFCAfzlk48w0Z51dMkX"                          \
    "8Z1rdYt7R0foj7+h8XzdVoUQKBgQD+Gt6j7HYCiWx87hhD\134n4NIqCQC04RfRggNhJbUqgop3+cRitspZ"                          \
    "/H3qAeGkRNn6whVLdr5szj3fj9akRsMV\134nEMrKknFxjVrNlhv+hqtU/AVTTiVfhxKX7PoyyVt3RksBr3"                          \
    "KAogoWL/NQO+b+1hJ5\134njV09TV9wTVNfqE4Ni+Jc3LHIOQKBgQDoB0Eqth+85ibMHcMrwv6xEuEBfX+t"                          \
    "kha8\134n/wTf0tpoQmPaI8ClIvwsEwkJMpu+gUmNBrWh94G+Wz65fRl6PI90erSqHuqH0CSX\134nHuCkx7DG"                       \
    "XwzpW1KYqO+UM6rmn+TqdOBLxCg28e9u8RnqlIzFn25UZnXiXWKfvZYA\134nz5UQkrgjkQKBgQDXyC+Kmp"                          \
    "G4I8UJ7hKTCcbOxWhhMcjNNA/0nlXTLJmzullHzpvV\134ngLHYVxKrMYC+DbSRqduZgCZQw8/tHt4o9GKR"                          \
    "VXyahgQ3EyLgqLGz8HQBQxo/ne9v\134nLmFlYVKX3gxx+PBORcw0/TEs0EGf5GA58o7cMOk7754+XCk0Hb"                          \
    "bzTsJ2GQKBgQCc\134nmKDTub0r2U0f/4pEk8MfMTWostGkDG/KOHdKtFzxdrU7eVvAWB9Hg8VabsyMQ2en"                          \
    "\134nhXq6iHgJSD3KJHM4e3z6SQJ7uofhB4pab91/eMKG74mgSSEypPmk1UYnhoyR7DWh\134nDQ9zHc/R2Wj7"                       \
    "WCy2CAcHcWtoTkyMsQB3JaJeYBdk8QKBgFjMkuXbyUt+7L3qIAya\134nvvomBUaa/OhwcrauB4RchJOewI"                          \
    "zotXu+5UoRYbFE4ZrTp/eKTa2V6hkQM430Sp26\134npmxdARwbY5hvE7dGB++LNR65Ax9ezoe/IXWKmQOL"                          \
    "H1x+CqMmeXsjqHk9O7Dq4Zxr\134n5WVe3c/K0y0n3VetQQxPf/NZ\134n-----END PRIVATE KEY-----\134n\042"                 \
    ",\012  \042client_email\042: \042robot@project.iam.example\042,\012  \042client_id\042: \0421\042,\012  "     \
    "\042token_ur"                                                                                                 \
    "i\042: \042https://elsewhere.example/token\042,\012  \042more\042: {\012    \042type\042: "                   \
    "\042nested\042,\012    \042cl"                                                                                \
    "ient_email\042: [\012      \042a\042,\012      {\012        \042private_key\042: 1\012      }\012    ]\012  " \
    "},\012  "                                                                                                     \
    "\042number\042: 1.5,\012  \042none\042: null\012}"
