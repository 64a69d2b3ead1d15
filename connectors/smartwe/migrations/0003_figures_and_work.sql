-- Mailing figures, remote metadata, requests to the pipeline and its identity.

create table crm.mailing (
    like crm.record including all,
    baf_client_id      text     not null references crm.baf_client (baf_client_id),
    inxmail_mailing_id bigint   not null,
    binding_gguid      char(32) references crm.distribution_binding on delete set null,
    name               text,
    subject            text,
    kind               text,
    unique (baf_client_id, inxmail_mailing_id)
);

create table crm.sending (
    baf_client_id      text   not null references crm.baf_client (baf_client_id),
    inxmail_sending_id bigint not null,
    like crm.stamped including defaults,
    mailing_gguid      char(32) references crm.mailing,
    sent_at            timestamptz,
    state              text   not null default 'prepared'
                              check (state in ('prepared', 'not_started', 'sending', 'interrupted', 'crashed', 'finished')),
    primary key (baf_client_id, inxmail_sending_id)
);

create table crm.sending_kpi (
    baf_client_id      text   not null,
    inxmail_sending_id bigint not null,
    like crm.stamped including defaults,
    sent_incl_bounces  bigint,
    sent_excl_bounces  bigint,
    bounced            bigint,
    hard_bounced       bigint,
    soft_bounced       bigint,
    opened             bigint,
    clicked            bigint,
    not_sent           bigint,
    unsubscribed       bigint,
    complaints         bigint,
    avg_size           bigint,
    as_of              timestamptz not null default now(),
    primary key (baf_client_id, inxmail_sending_id),
    foreign key (baf_client_id, inxmail_sending_id) references crm.sending on delete cascade
);

create table crm.reaction (
    event_id           text   primary key,
    like crm.stamped including defaults,
    baf_client_id      text   not null,
    inxmail_sending_id bigint not null,
    mailbox_ref        text   not null,
    at                 timestamptz not null,
    type               text   not null check (type in
                           ('sent', 'opened', 'clicked', 'hard_bounce', 'soft_bounce', 'auto_reply', 'spam_bounce',
                            'unsubscribed', 'error', 'address_rejected', 'recipient_not_found')),
    link               text,
    foreign key (baf_client_id, inxmail_sending_id) references crm.sending on delete cascade
);
create index reaction_sending on crm.reaction (baf_client_id, inxmail_sending_id);

create table crm.attribute_def (
    baf_client_id        text    not null references crm.baf_client (baf_client_id),
    inxmail_attribute_id bigint  not null,
    like crm.stamped including defaults,
    name                 text,
    type                 text,
    max_length           int,
    is_system            boolean not null default false,
    seen_at              timestamptz not null default now(),
    state                text    not null default 'active',
    primary key (baf_client_id, inxmail_attribute_id)
);

create table crm.target_group (
    like crm.record including all,
    baf_client_id           text   not null references crm.baf_client (baf_client_id),
    inxmail_target_group_id bigint not null,
    inxmail_list_id         bigint,
    name                    text,
    created_at              timestamptz,  -- remote dates
    modified_at             timestamptz,
    seen_at                 timestamptz not null default now(),
    state                   text   not null default 'active',
    unique (baf_client_id, inxmail_target_group_id)
);

create table crm.sync_request (
    like crm.record including all,
    scope        text        not null default 'client' check (scope in ('client', 'binding', 'address')),
    scope_ref    text,
    mode         text        not null default 'incremental' check (mode in ('incremental', 'full', 'verify', 'dry_run')),
    requested_by text        not null default current_user,
    requested_at timestamptz not null default now(),
    state        text        not null default 'open' check (state in ('open', 'running', 'done', 'failed')),
    counters     jsonb       not null default '{}'
);

create table crm.sync_conflict (
    like crm.record including all,
    subject_table    text        not null,
    subject_key      text        not null,
    code             text        not null,
    field            text,
    crm_value_enc    bytea,
    emm_value_enc    bytea,
    agreed_value_enc bytea,
    opened_at        timestamptz not null default now(),
    resolved_at      timestamptz,
    resolution       text
);

create table crm.erasure_request (
    like crm.record including all,
    address_gguid char(32),     -- no foreign key: the request outlives the address
    subject_id    uuid,         -- filled from the address when not given
    requested_at  timestamptz not null default now(),
    due_at        timestamptz not null default now() + interval '1 month',
    state         text        not null default 'open' check (state in ('open', 'running', 'done', 'failed')),
    constraint erasure_request_names_a_person check (address_gguid is not null or subject_id is not null)
);

create table crm.erasure_target (
    request_gguid char(32) not null references crm.erasure_request on delete cascade,
    target        text     not null,
    like crm.stamped including defaults,
    state         text     not null default 'open' check (state in ('open', 'done', 'failed')),
    done_at       timestamptz,
    evidence      text,
    primary key (request_gguid, target)
);

-- One row: with which key and which spelling rules the hashes in this database were made.
create table crm.pipeline_identity (
    id                 boolean     primary key default true check (id),
    hmac_fingerprint   text        not null,
    normaliser_version int         not null,
    created_at         timestamptz not null default now()
);

drop table crm.record;
drop table crm.stamped;
