-- OAuth connections (docs/decisions/0023-connections.md).

-- What a connection is and where its credentials are sent. `environment` is '' for one that all environments share, so
-- that one unique index says who is who. `class`: 1 USER, 2 SERVICE. `credentials` is sealed, '' if there are none; its
-- version is `credential_generation`. `config_generation` is raised by what drops the tokens, `version` by every change.
create table connection (
    workspace_id uuid not null,
    connection_id uuid not null,
    environment text not null check (length(environment) <= 100),
    provider text not null check (length(provider) between 1 and 94),
    provider_generation bigint not null,
    class int not null check (class in (1, 2)),
    grant_kind int not null,
    client_authentication int not null,
    client_id text not null,
    scopes text[] not null,
    settings bytea not null,
    credentials bytea not null,
    credential_generation bigint not null,
    config_generation bigint not null,
    version bigint not null,
    create_time timestamptz not null,
    update_time timestamptz not null,
    mac_generation int not null,
    mac bytea not null,
    primary key (workspace_id, connection_id)
);
create unique index connection_identity on connection (workspace_id, provider, environment, class);

-- The tokens of a connection; there is always a row. `generation` is raised by every new token and by dropping them, and
-- never goes back: it is the version of both blobs, '' where there is none. A row of another `config_generation` than
-- the connection's is worth nothing. `state`: 1 no tokens, 2 connected, 3 somebody has to authorise anew, 4 the
-- configuration is refused.
create table connection_token (
    workspace_id uuid not null,
    connection_id uuid not null,
    generation bigint not null,
    config_generation bigint not null,
    state int not null,
    access_token bytea not null,
    refresh_token bytea not null,
    token_type text not null,
    scopes text[] not null,
    obtain_time timestamptz,
    expire_time timestamptz,
    refresh_expire_time timestamptz,
    principal_id uuid not null,
    connect_time timestamptz,
    mac_generation int not null,
    mac bytea not null,
    primary key (workspace_id, connection_id)
);

-- Who refreshes, and how it went: nothing here decides what is handed out. `fence` is raised by whoever takes the lease;
-- `tries` counts those at `generation` that may have spent the grant; `next_time` is when there is something to do.
create table connection_lease (
    workspace_id uuid not null,
    connection_id uuid not null,
    fence bigint not null,
    holder uuid not null,
    lease_until timestamptz,
    generation bigint not null,
    tries int not null,
    failures int not null,
    next_time timestamptz,
    forced_time timestamptz,
    refresh_time timestamptz,
    error_time timestamptz,
    error_reason int not null,
    error_text text not null,
    primary key (workspace_id, connection_id)
);
create index connection_lease_next on connection_lease (next_time) where next_time is not null;
