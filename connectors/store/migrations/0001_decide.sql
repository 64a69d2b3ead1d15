-- What decide folds and derives. All of it can be dropped and rebuilt from the topics; `fence` cannot and is not.

create schema if not exists fence;

create table if not exists fence.rebuild (
    only_row boolean primary key default true check (only_row),
    epoch    integer not null
);
comment on table fence.rebuild is 'First half of every version: rises each time that schema sync is made anew.';
insert into fence.rebuild (epoch) values (1) on conflict (only_row) do update set epoch = fence.rebuild.epoch + 1;

create table sync.crm_row (
    entity       text        not null,
    gguid        text        not null,
    epoch        integer     not null,
    lsn          bigint      not null,
    live         boolean     not null,
    person       text,
    email_hash   bytea,
    body         jsonb       not null,
    topic        text        not null,
    partition    integer     not null,
    "offset"     bigint      not null,
    committed_at timestamptz not null,
    primary key (entity, gguid)
);
comment on table sync.crm_row is
    'The newest version of each CRM row, with its position. A row that is gone stays as a marker (live = false), so that '
    'an older version arriving late is not taken for a new row. email_hash: the mailbox that a consent or suppression is about.';
create index on sync.crm_row (person, entity) where person is not null;
create index on sync.crm_row (email_hash) where email_hash is not null;

create table sync.claim (
    recipient   text primary key,
    person      text not null,
    client      text not null,
    distribution text not null,
    email       text,
    email_hash  bytea,
    held_for    text
);
comment on table sync.claim is
    'Where each live distribution recipient stands: the mailbox it claims now. held_for: the new e-mail of a change that '
    'is held; the claim stays with its former mailbox until then.';
create index on sync.claim (email_hash) where email_hash is not null;
create index on sync.claim (person);
create index on sync.claim (distribution, client);
create index on sync.claim (client) where held_for is not null;

create table sync.mailbox (
    client         text  not null,
    mailbox        text  not null,
    email          text  not null,
    email_hash     bytea not null,
    wanted         boolean not null default false,
    epoch          integer not null default 0,
    version        bigint  not null default 0,
    answered_epoch integer not null default 0,
    answered_version bigint not null default 0,
    result_recipient_id bigint,
    result_at      timestamptz,
    result         jsonb,
    primary key (client, mailbox)
);
comment on table sync.mailbox is
    'Each mailbox that something was wanted of or that a client holds: newest version decided, newest result heard.';
create index on sync.mailbox (email_hash);
create index on sync.mailbox (client) where (answered_epoch, answered_version) < (epoch, version);

create table sync.served (
    client     text  not null,
    mailbox    text  not null,
    recipient  text  not null,
    asked      boolean not null,
    email      text  not null,
    email_hash bytea not null,
    primary key (client, mailbox, recipient, asked)
);
comment on table sync.served is
    'Which claims a mailbox serves: as its client last reported (asked = false), and as the newest mutation asks (true). '
    'The predecessor of an e-mail change is derived from it.';
create index on sync.served (recipient);

create table sync.fact (
    client      text   not null,
    stream      text   not null,
    event_id    bigint not null,
    list_id     bigint,
    mailbox     text,
    email_hash  bytea,
    body        jsonb  not null,
    topic       text        not null,
    partition   integer     not null,
    "offset"    bigint      not null,
    primary key (client, stream, event_id)
);
comment on table sync.fact is 'Entries of the subscription and unsubscription logs, by event id.';
create index on sync.fact (email_hash) where email_hash is not null;
create index on sync.fact (client, list_id);

create table sync.emission (
    topic           text    not null,
    key             text    not null,
    contract        text    not null,
    version         bigint  not null,
    hash            bytea   not null,
    body            jsonb,
    email_hash      bytea,
    emitted_version bigint  not null default 0,
    partition       integer,
    "offset"        bigint,
    caused_at       timestamptz not null,
    changed_at      timestamptz not null default now(),
    primary key (topic, key)
);
comment on table sync.emission is
    'The newest record for each key that decide produces. Written with the decision, produced after the commit, noted '
    'once the broker has answered; the sweeper repairs what a crash left between. body null: a tombstone.';
create index on sync.emission (changed_at) where emitted_version < version;
create index on sync.emission (email_hash) where email_hash is not null;

create table sync.person_lock (person text primary key);
create table sync.email_lock (email_hash bytea primary key);
comment on table sync.person_lock is 'Rows to lock before a person is folded; sorted, before any e-mail lock.';
comment on table sync.email_lock is 'Rows to lock before a mailbox is decided; sorted, after every person lock.';

create table sync.dirty_person (person text primary key, since timestamptz not null default now());
create table sync.dirty_mailbox (
    email_hash bytea primary key,
    objection  boolean     not null default false,
    since      timestamptz not null default now()
);
comment on table sync.dirty_person is 'Persons whose claims a wide row (distribution, binding, client) touched: the sweeper settles them.';
comment on table sync.dirty_mailbox is 'Mailboxes that a wide row (mapping, pattern) touched: the sweeper settles them, objections first.';
