-- By how much the database's clock has gone back in all, in microseconds: tokens and leases live by it and that together.
alter table instance add column clock_ahead bigint not null default 0 check (clock_ahead >= 0);
