-- Keys are rotated (docs/decisions/0016-key-rotation.md).

-- What has become of a generation of a workspace's key: 1 new data is sealed under it; 2 a newer one has taken its place,
-- and what is sealed under it is sealed anew; 3 nothing is sealed under it any more; 4 it is destroyed, and `wrapped` is
-- the subkey that MACs in write_chain are checked with.
alter table workspace_key add column state int not null default 1;
alter table workspace_key alter column state drop default;
alter table workspace_key add column change_time timestamptz;
update workspace_key set change_time = create_time;
alter table workspace_key alter column change_time set not null;
create index workspace_key_changed on workspace_key (change_time);
create index workspace_key_old on workspace_key (workspace_id, generation) where state in (2, 3);

-- The generation that writes have to seal under, and the one that the last write did seal under. Every write raises the
-- revision in this row, so none commits with what it sealed under a generation that was replaced before it.
alter table workspace_revision add column key_generation int not null default 1;
alter table workspace_revision alter column key_generation drop default;
alter table workspace_revision add column sealed_generation int not null default 1;
alter table workspace_revision alter column sealed_generation drop default;
alter table workspace_revision add constraint workspace_revision_generation check (sealed_generation >= key_generation);

-- The IDs of the root keys that were replaced, 8 bytes each: so that a key under one of them is known for what it is, and
-- not taken for a damaged one.
alter table instance add column old_root_key_ids bytea not null default '' check (length(old_root_key_ids) % 8 = 0);
alter table instance alter column old_root_key_ids drop default;
