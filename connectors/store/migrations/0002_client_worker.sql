-- What the worker of an Inxmail client knows. `sync` can be dropped and read anew from the client; `fence` cannot.

create schema if not exists sync;
create schema if not exists fence;

create table if not exists fence.lease (
    client     text primary key,
    epoch      bigint      not null,
    holder     text        not null,
    expires_at timestamptz not null
);
comment on table fence.lease is
    'Who leads for a client. The epoch rises with every change of leader; each of the leader''s transactions checks it.';

create table sync.desired (
    client      text   not null,
    mailbox     text   not null,
    epoch       bigint not null,
    counter     bigint not null,
    body        jsonb  not null,
    received_at timestamptz not null default clock_timestamp(),
    primary key (client, mailbox)
);
comment on table sync.desired is 'The newest mutation of each mailbox; (epoch, counter) is its version.';

create table sync.delivery (
    client          text   not null,
    mailbox         text   not null,
    email           text   not null,
    remote_email    text,
    recipient_id    bigint,
    missing_at      timestamptz,
    held_values     jsonb  not null default '{}',
    refusals        jsonb  not null default '{}',
    epoch           bigint,
    counter         bigint,
    desired_hash    bytea,
    outcome         text   not null default 'applied',
    error           text,
    leader          text,
    claims          jsonb  not null default '[]',
    rejected_values jsonb  not null default '{}',
    dirt            bigint not null default 0,
    planned         bigint not null default 0,
    revision        bigint not null default 0,
    reported        bigint not null default 0,
    changed_at      timestamptz not null default clock_timestamp(),
    primary key (client, mailbox)
);
comment on table sync.delivery is
    'What the client holds of each mailbox, and which version that answers. dirt <> planned: to be looked at. '
    'revision <> reported: to be told to the results topic. remote_email: the client''s own spelling.';
create index on sync.delivery (client) where dirt <> planned;
create index on sync.delivery (client, changed_at) where revision <> reported;
create index on sync.delivery (client, recipient_id) where recipient_id is not null;

create table sync.delivery_list (
    client  text   not null,
    mailbox text   not null,
    list_id bigint not null,
    state   text   not null,
    cause   text,
    since   timestamptz,
    claims  jsonb  not null default '[]',
    primary key (client, mailbox, list_id)
);
comment on table sync.delivery_list is 'How the client holds each mailbox on each list, and why.';

create table sync.open_import (
    client                text    not null,
    op_id                 text    not null,
    list_id               bigint,
    resubscribe           boolean not null,
    columns               jsonb   not null,
    phase                 text    not null check (phase in ('intended', 'posted', 'ended', 'closed')),
    import_id             bigint,
    subscription_position bigint  not null,
    intended_at           timestamptz not null default clock_timestamp(),
    ended_at              timestamptz,
    outcome               text,
    primary key (client, op_id)
);
comment on table sync.open_import is
    'Imports under way, written before they are sent. ended: nothing of it can take effect any more; closed: the '
    'unsubscription log was read to its end since. subscription_position: last entry of the subscription log before.';
create index on sync.open_import (client) where phase <> 'closed';

create table sync.open_import_row (
    client        text   not null,
    op_id         text   not null,
    mailbox       text   not null,
    email         text   not null,
    held_values   jsonb  not null,
    epoch         bigint not null,
    counter       bigint not null,
    claims        jsonb  not null,
    failure       text,
    echo_event_id bigint,
    primary key (client, op_id, mailbox),
    foreign key (client, op_id) references sync.open_import on delete cascade
);
create index on sync.open_import_row (client, mailbox);

create table sync.effect (
    client        text    not null,
    op_id         text    not null,
    kind          text    not null,
    mailbox       text,
    list_id       bigint,
    epoch         bigint,
    counter       bigint,
    ordinal       integer not null default 0,
    attempts      integer not null default 1,
    outcome       text    not null,
    log_position  bigint,
    rows          bigint  not null default 1,
    remote_id     bigint,
    echo_event_id bigint,
    opened_at     timestamptz not null default clock_timestamp(),
    ended_at      timestamptz,
    produced      text,
    primary key (client, op_id)
);
comment on table sync.effect is
    'Every call that changes something: written before it as open, and again with its outcome. produced: the outcome '
    'that the effects topic was told last. ordinal: how often the same was called for the same version, and answered.';
create index on sync.effect (client, mailbox) where mailbox is not null;
create index on sync.effect (client) where outcome = 'open';
create index on sync.effect (client) where produced is distinct from outcome;

create table sync.cursor (
    client        text not null,
    stream        text not null,
    link          text not null,
    last_event_id bigint,
    at            timestamptz not null default clock_timestamp(),
    primary key (client, stream)
);
comment on table sync.cursor is 'Where each stream goes on: the client''s own link, stored after its records were.';

create table sync.known_list (
    client  text   not null,
    list_id bigint not null,
    read_at timestamptz not null default clock_timestamp(),
    primary key (client, list_id)
);
comment on table sync.known_list is 'Lists whose members were read: where delivery_list has no row, there is no membership.';

create table sync.list_event (
    client       text    not null,
    log          text    not null,
    event_id     bigint  not null,
    type         text    not null,
    list_id      bigint,
    recipient_id bigint,
    mailbox      text,
    email        text,
    occurred_at  timestamptz not null,
    seen_at      timestamptz not null,
    op_id        text,
    is_produced  boolean not null default false,
    primary key (client, log, event_id)
);
comment on table sync.list_event is
    'Entries of the subscription and unsubscription logs as they were heard, before Kafka was told. '
    'op_id: the call of ours that the entry echoes; null: it is the person''s. email: only until Kafka has the entry.';
create index on sync.list_event (client, mailbox) where mailbox is not null;
create index on sync.list_event (client, log, event_id) where not is_produced;
