-- Workspaces end (docs/decisions/0014-offboarding.md).

-- What the system's administration has decided about a workspace. Its MAC is made with the key of the system workspace,
-- so the row can be checked when the workspace's own key is closed, and when there is none any more: then it is the
-- tombstone. A workspace without a row is active. `name` is empty once the workspace is purged.
create table workspace_state (
    workspace_id uuid primary key,
    state int not null,
    disabled bool not null,
    name text not null,
    change_time timestamptz not null,
    delete_time timestamptz,
    mac_generation int not null,
    mac bytea not null
);

-- States 3 and above: deleted, being purged, purged.
create index workspace_state_ended on workspace_state (delete_time, workspace_id) where state in (3, 4);
create index workspace_state_closed on workspace_state (change_time) where state >= 3;

-- The directory's row outlives the workspace, so that its UUID is never given out again; a name belongs to one living
-- workspace.
alter table workspace_directory add column live bool not null default true;
alter table workspace_directory alter column live drop default;
alter table workspace_directory alter column name drop not null;
alter table workspace_directory drop constraint workspace_directory_name_key;
create unique index workspace_directory_name_key on workspace_directory (name) where live;
create index workspace_directory_by_name on workspace_directory (name, workspace_id);
