-- Of a backlog nothing is settled at once: what it touches is marked here, with the record that touched it, and settled
-- once it has rested. A mark is only ever added, in the transaction that folds, and removed by the one that settles: so
-- neither waits for the other, and a fold that is not committed leaves no mark that could be taken too early.

drop table sync.dirty_person;
drop table sync.dirty_mailbox;

create table sync.dirty_person (
    id           bigint      generated always as identity primary key,
    person       text        not null,
    topic        text        not null,
    partition    integer     not null,
    "offset"     bigint      not null,
    committed_at timestamptz not null,
    since        timestamptz not null default clock_timestamp()
);
create index on sync.dirty_person (person, since);
comment on table sync.dirty_person is
    'Persons to settle: a backlog or a wide row (distribution, binding, client) touched them. One row for each such record.';

create table sync.dirty_mailbox (
    id           bigint      generated always as identity primary key,
    email_hash   bytea       not null,
    objection    boolean     not null default false,
    topic        text        not null,
    partition    integer     not null,
    "offset"     bigint      not null,
    committed_at timestamptz not null,
    since        timestamptz not null default clock_timestamp()
);
create index on sync.dirty_mailbox (email_hash, since);
create index on sync.dirty_mailbox (objection desc, id);
comment on table sync.dirty_mailbox is
    'Mailboxes to settle: a backlog or a wide row (mapping, pattern) touched them. Objections go first.';

-- Bodies are never searched; to sample them costs more than all other statistics together.
alter table sync.crm_row alter column body set statistics 0;
alter table sync.emission alter column body set statistics 0;
alter table sync.fact alter column body set statistics 0;
alter table sync.mailbox alter column result set statistics 0;
