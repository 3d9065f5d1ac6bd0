-- What actions need (docs/decisions/0020-registry.md).

-- The registry's generation; whoever writes the registry holds this row's lock. A workspace without a row has an empty
-- registry of generation 1.
create table registry (
    workspace_id uuid primary key,
    generation bigint not null check (generation > 0)
);

-- An action, what it declares itself, and the actions that its steps call. The MAC is there because the row decides which
-- secrets an executor is given for it.
create table action (
    workspace_id uuid not null,
    name text not null check (length(name) between 1 and 200),
    action_id uuid not null,
    steps text[] not null,
    declarations bytea not null,
    digest bytea not null check (length(digest) = 32),
    create_time timestamptz not null,
    update_time timestamptz not null,
    mac_generation int not null,
    mac bytea not null,
    primary key (workspace_id, name)
);
