-- Custom OAuth providers (docs/decisions/0024-providers.md).

-- A provider of one workspace. The MAC is there because the row decides where client secrets and codes are sent. The
-- generation is raised by every change after which they would be sent somewhere else, or in another way.
create table provider (
    workspace_id uuid not null,
    provider text not null check (length(provider) between 1 and 94),
    provider_id uuid not null,
    name text not null,
    definition bytea not null,
    generation bigint not null check (generation > 0),
    create_time timestamptz not null,
    update_time timestamptz not null,
    mac_generation int not null,
    mac bytea not null,
    primary key (workspace_id, provider)
);
