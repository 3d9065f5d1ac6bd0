#pragma once

#include "common/fault_list.h"
#include "common/import/import.h"

/*
 * Templates of actions in YAML: which secrets and OAuth tokens an action needs, which actions its steps call, and whether
 * its expressions use only what it declares. Fields that are not named here are not looked at.
 *
 *   type: action
 *   definition:
 *     namespace: tools.virustotal
 *     name: lookup_ip
 *     secrets:
 *       - name: virustotal
 *         keys: [VIRUSTOTAL_API_KEY]           optional_keys, optional and type (of a secret) may follow
 *       - type: oauth
 *         provider_id: github
 *         grant_type: authorization_code       or client_credentials; optional may follow
 *     steps:
 *       - action: core.http_request
 *         args: {...}                          expressions anywhere in it
 *     returns: ${{ ... }}
 *
 * Anchors, aliases and tags are refused: what a template means stands where it is read.
 */

enum { COF_ACTION_FILE_MAX = 1 << 20 };

struct cof_action_texts {
    struct cof_slice *items;
    size_t count;
};

struct cof_action_secret {
    struct cof_slice name;
    struct cof_action_texts keys;
    struct cof_action_texts optional_keys;
    struct cof_slice type; /* "ssh_key"; empty: any */
    bool optional;
};

struct cof_action_oauth {
    struct cof_slice provider;
    bool service; /* client_credentials, else authorization_code */
    bool optional;
};

struct cof_action_template {
    struct cof_slice name; /* namespace.name */
    struct cof_action_secret *secrets;
    size_t secret_count;
    struct cof_action_oauth *oauth;
    size_t oauth_count;
    struct cof_action_texts steps;
    struct cof_action_texts undeclared; /* NAME.KEY that expressions use and nothing declares, each once */
};

/*
 * Reads one file; what is read lies in the arena. `ret_other` is true for a document of another type than action, of
 * which nothing is read. Fails with FILE_INVALID, which names line and column, LIMIT_EXCEEDED or OUT_OF_MEMORY.
 */
COF_CODE cof_action_template_read(struct cof_slice file, struct cof_arena *arena,
                                  struct cof_action_template *ret_template, bool *ret_other, struct cof_error *err);
