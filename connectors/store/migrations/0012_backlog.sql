-- Of a backlog nothing is settled at once: what it touches is marked here, with the record that touched it last, and
-- settled once it has rested. `first_at` bounds the rest of what never does.

drop table sync.dirty_person;
drop table sync.dirty_mailbox;

create table sync.dirty_person (
    person       text        primary key,
    topic        text        not null,
    partition    integer     not null,
    "offset"     bigint      not null,
    committed_at timestamptz not null,
    first_at     timestamptz not null default clock_timestamp(),
    since        timestamptz not null default clock_timestamp()
);
create index on sync.dirty_person (first_at);
comment on table sync.dirty_person is
    'Persons to settle: a backlog or a wide row (distribution, binding, client) touched them, and the newest such record.';

create table sync.dirty_mailbox (
    email_hash   bytea       primary key,
    objection    boolean     not null default false,
    topic        text        not null,
    partition    integer     not null,
    "offset"     bigint      not null,
    committed_at timestamptz not null,
    first_at     timestamptz not null default clock_timestamp(),
    since        timestamptz not null default clock_timestamp()
);
create index on sync.dirty_mailbox (objection desc, first_at);
comment on table sync.dirty_mailbox is
    'Mailboxes to settle: a backlog or a wide row (mapping, pattern) touched them. Objections go first.';

-- Bodies are never searched; to sample them costs more than all other statistics together.
alter table sync.crm_row alter column body set statistics 0;
alter table sync.emission alter column body set statistics 0;
alter table sync.fact alter column body set statistics 0;
alter table sync.mailbox alter column result set statistics 0;
