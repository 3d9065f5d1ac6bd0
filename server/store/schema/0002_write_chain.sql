-- The chain over the records of writes (table change): each link covers the writes of a workspace from first_revision to
-- revision. Its hash is a MAC under the workspace's key that takes in the hash of the link before it.
create table write_chain (
    workspace_id uuid not null,
    first_revision bigint not null check (first_revision > 0),
    revision bigint not null check (revision >= first_revision),
    create_time timestamptz not null,
    key_generation int not null check (key_generation > 0),
    hash bytea not null check (length(hash) = 32),
    primary key (workspace_id, first_revision)
);
