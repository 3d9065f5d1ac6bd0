-- Starts of authorizations (docs/decisions/0025-authorization.md).

-- `flow`: 1 authorization code, 2 device. `state`: 1 pending, 2 consumed and being exchanged, 3 connected, 4 failed.
-- `state_hash` is SHA-256 of the random bytes of the state, of random bytes that nobody has where there is no state. What
-- decides anything is in `sealed`, which is bound to the row's ID; the other columns find the row and tell how it went.
create table connection_authorization (
    workspace_id uuid not null,
    authorization_id uuid not null,
    connection_id uuid not null,
    flow int not null check (flow in (1, 2)),
    state int not null check (state between 1 and 4),
    state_hash bytea not null check (length(state_hash) = 32),
    principal_id uuid not null,
    sealed bytea not null,
    create_time timestamptz not null,
    expire_time timestamptz not null,
    change_time timestamptz not null,
    error_reason int not null,
    error_text text not null,
    primary key (workspace_id, authorization_id)
);
create unique index connection_authorization_state on connection_authorization (workspace_id, state_hash);
create index connection_authorization_connection on connection_authorization (workspace_id, connection_id, create_time);
create index connection_authorization_expire on connection_authorization (expire_time);
