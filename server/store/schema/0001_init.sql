-- The first schema. Every tenant table's primary key, unique index and foreign key begins with workspace_id; the
-- tables without one are small and hold nothing of a tenant but its name (docs/architecture.md, Store).

create table instance (
    instance_id int primary key check (instance_id = 1),
    epoch bigint not null,
    system_identifier bigint not null,
    timeline int not null,
    root_key_id bytea not null check (length(root_key_id) = 8),
    root_key_check bytea not null check (length(root_key_check) = 32)
);

create table workspace_directory (
    workspace_id uuid primary key,
    name text not null unique check (length(name) between 1 and 100)
);

create table workspace (
    workspace_id uuid primary key,
    name text not null,
    display_name text not null,
    external_id text not null,
    strict_environments bool not null,
    disabled bool not null,
    create_time timestamptz not null,
    mac_generation int not null,
    mac bytea not null
);

-- The counter of formats.md (Revision): apart from the workspace's row, whose MAC would change with every write.
create table workspace_revision (
    workspace_id uuid primary key,
    revision bigint not null
) with (fillfactor = 50);

create table workspace_key (
    workspace_id uuid not null,
    generation int not null check (generation > 0),
    wrapped bytea not null,
    create_time timestamptz not null,
    primary key (workspace_id, generation)
);

create table environment (
    workspace_id uuid not null,
    name text not null check (length(name) between 1 and 100),
    environment_id uuid not null,
    create_time timestamptz not null,
    primary key (workspace_id, name)
);

-- The values of the current version lie in the secret's row: one look-up finds them. Its MAC covers the columns before
-- it; keys and blob are authenticated by the blob itself, whose address is (workspace, secret, version).
create table secret (
    workspace_id uuid not null,
    secret_id uuid not null,
    environment text not null,
    name text not null check (length(name) between 1 and 100),
    type int not null,
    state int not null,
    version bigint not null check (version > 0),
    metadata_version bigint not null check (metadata_version > 0),
    description text not null,
    tags text[] not null,
    expire_time timestamptz,
    block_when_expired bool not null,
    create_time timestamptz not null,
    update_time timestamptz not null,
    delete_time timestamptz,
    facts bytea not null,
    mac_generation int not null,
    mac bytea not null,
    keys bytea not null,
    blob bytea,
    from_revision bigint not null,
    value_time timestamptz not null,
    value_principal_id uuid not null,
    primary key (workspace_id, secret_id)
) with (fillfactor = 80);

-- State 1 is active: a deleted secret's name can be used again.
create unique index secret_address on secret (workspace_id, environment, name) where state = 1;
create index secret_by_name on secret (workspace_id, name, environment, secret_id);
create index secret_deleted on secret (delete_time) where state = 2;

-- Former versions, moved here by the write that makes the next one. There is no foreign key: rows come only from a row
-- of `secret` that is locked, and are never changed.
create table secret_version (
    workspace_id uuid not null,
    secret_id uuid not null,
    version bigint not null check (version > 0),
    from_revision bigint not null,
    to_revision bigint not null,
    keys bytea not null,
    blob bytea,
    create_time timestamptz not null,
    principal_id uuid not null,
    primary key (workspace_id, secret_id, version)
);

create table principal (
    workspace_id uuid not null,
    principal_id uuid not null,
    kind int not null,
    token_kind int not null,
    name text not null check (length(name) between 1 and 100),
    description text not null,
    grants bytea not null,
    networks text[] not null,
    bootstrap bool not null,
    disabled bool not null,
    expire_time timestamptz,
    create_time timestamptz not null,
    delete_time timestamptz,
    metadata_version bigint not null check (metadata_version > 0),
    mac_generation int not null,
    mac bytea not null,
    primary key (workspace_id, principal_id)
);

-- The row of a deleted account stays, for audit records name it, and its name can be used again.
create unique index principal_name on principal (workspace_id, name) where delete_time is null;
create index principal_by_name on principal (workspace_id, name, principal_id);

create table token (
    workspace_id uuid not null,
    token_id uuid not null,
    principal_id uuid not null,
    hash bytea not null check (length(hash) = 32),
    narrowing_key bytea not null,
    restrictions bytea not null,
    description text not null,
    issuer_id uuid not null,
    create_time timestamptz not null,
    expire_time timestamptz,
    revoke_time timestamptz,
    successor_id uuid not null,
    mac_generation int not null,
    mac bytea not null,
    primary key (workspace_id, token_id),
    foreign key (workspace_id, principal_id) references principal (workspace_id, principal_id)
);

create index token_by_principal on token (workspace_id, principal_id, token_id);

-- When a token was used last, about: written now and then, and apart from the token's row, which every call reads. It
-- decides nothing and has no MAC.
create table token_use (
    workspace_id uuid not null,
    token_id uuid not null,
    use_time timestamptz not null,
    primary key (workspace_id, token_id)
) with (fillfactor = 50);

-- Exactly once: one row for each committed write. `answer` is sealed and has no consistency token in it; that is
-- made from `revision`.
create table request (
    workspace_id uuid not null,
    principal_id uuid not null,
    request_id uuid not null,
    method text not null,
    payload_hash bytea not null,
    answer bytea,
    revision bigint,
    create_time timestamptz not null,
    primary key (workspace_id, principal_id, request_id)
) with (fillfactor = 80);

-- Rows are inserted in the order of time, and found by it only to be purged.
create index request_age on request using brin (create_time);

-- One row for each committed write: the change that caches apply, and its audit record.
create table change (
    workspace_id uuid not null,
    revision bigint not null,
    transaction_id xid8 not null default pg_current_xact_id(),
    create_time timestamptz not null,
    objects bytea not null,
    record bytea not null,
    primary key (workspace_id, revision)
);

create index change_by_transaction on change (transaction_id);
