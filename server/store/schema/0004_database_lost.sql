-- How old what a server has kept of the workspace may be for it to be handed out while the database is lost; 0: not at all
-- (docs/decisions/0003-revisions-and-freshness.md). The MAC of a row leaves it out where it is 0, so rows that were made
-- before there was the column hold.
alter table workspace_state add column serve_lost_ms int not null default 0 check (serve_lost_ms between 0 and 900000);
alter table workspace_state alter column serve_lost_ms drop default;
