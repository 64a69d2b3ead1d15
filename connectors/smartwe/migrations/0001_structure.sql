-- The structure of the CRM: clients, distributions, bindings, mappings and lookups.
--
-- Every table starts with the columns of one of two patterns, so that the conventions stand in one place:
-- "stamped" says who wrote the row and when, "record" adds the CRM's 32-digit key. Both go at the end of 0003.

create table crm.stamped (
    insertuser       text           not null default current_user,
    inserttimestamp  timestamptz(3) not null default now(),
    updateuser       text           not null default current_user,
    updatetimestamp  timestamptz(3) not null default now(),
    row_version      bigint         not null default 1,
    deleted_at       timestamptz,   -- set: the row lies in the recycle bin
    sync_origin      text,          -- set: the pipeline wrote the row last, and this names which part of it
    sync_op_id       uuid
);

create table crm.record (
    gguid char(32) primary key default upper(replace(gen_random_uuid()::text, '-', ''))
        constraint gguid_is_32_hex_digits check (gguid ~ '^[0-9A-F]{32}$'),
    like crm.stamped including defaults
);

create table crm.baf_client (
    like crm.record including all,
    baf_client_id       text   not null unique check (baf_client_id ~ '^[a-z0-9_-]{1,32}$'),
    title               text,
    legal_entity        text,
    brand               text,
    business_unit       text,
    product             text   not null default 'xpro' check (product in ('xpro', 'xnew')),
    base_url            text,
    credential_ref      text,  -- the name of a credential in the settings, never the credential
    rate_budget_per_min int    not null default 600 check (rate_budget_per_min > 0),
    bulk_threshold      int    not null default 20 check (bulk_threshold >= 0),
    writeback_rank      int    not null default 100 check (writeback_rank > 0),  -- 1 writes first
    state               text   not null default 'active' check (state in ('active', 'paused', 'read_only', 'retired'))
);

create table crm.channel (
    like crm.record including all,
    code   text    not null unique check (code <> ''),
    title  text,
    active boolean not null default true
);

create table crm.source (
    like crm.record including all,
    code   text    not null unique check (code <> ''),
    title  text,
    active boolean not null default true
);

create table crm.distribution (
    like crm.record including all,
    title               text,
    description         text,
    status              text,
    kind                text     not null default 'static' check (kind in ('static', 'dynamic')),
    requires_doi        boolean  not null default false,
    required_proof      smallint check (required_proof between 1 and 3),  -- null: 3 with requires_doi, else 2
    one_mail_per_person boolean  not null default false,
    purpose             text,
    constraint double_opt_in_is_proof_level_3 check (not requires_doi or coalesce(required_proof, 3) = 3)
);

create table crm.distribution_binding (
    like crm.record including all,
    distribution_gguid     char(32)     not null references crm.distribution,
    baf_client_id          text         not null references crm.baf_client (baf_client_id),
    inxmail_list_id        bigint,      -- null until the list exists
    direction              text         not null default 'both' check (direction in ('out', 'in', 'both')),
    state                  text         not null default 'active'
                                        check (state in ('active', 'paused', 'broken', 'held', 'detached')),
    on_distribution_delete text         not null default 'detach'
                                        check (on_distribution_delete in ('detach', 'unsubscribe_all')),
    doi_mode               text         not null default 'inxmail' check (doi_mode in ('inxmail', 'crm_proof', 'none')),
    email_field            text         not null default 'email1' check (email_field in ('email1', 'email2', 'email3')),
    brake_pct              numeric(5,2) not null default 10.00 check (brake_pct between 0 and 100),
    brake_abs              int          not null default 100 check (brake_abs >= 0)
);
create unique index distribution_binding_one_distribution_for_a_list
    on crm.distribution_binding (baf_client_id, inxmail_list_id) where deleted_at is null;
create unique index distribution_binding_one_list_in_a_client
    on crm.distribution_binding (distribution_gguid, baf_client_id) where deleted_at is null;

create table crm.field_mapping (
    like crm.record including all,
    baf_client_id        text   not null references crm.baf_client (baf_client_id),
    crm_table            text   not null,  -- the bare table name
    crm_field            text   not null,
    inxmail_attribute_id bigint not null,
    direction            text   not null default 'out' check (direction in ('out', 'in', 'both')),
    authority            text   not null default 'unclassified'
                                check (authority in ('master', 'self_declared', 'crm_owned', 'emm_owned', 'unclassified')),
    null_policy          text   not null default 'leave' check (null_policy in ('clear', 'leave')),
    overflow_policy      text   not null default 'reject' check (overflow_policy in ('reject', 'truncate_flag')),
    scale                int    check (scale between 0 and 15),
    transform            text,
    version              int    not null default 1,
    state                text   not null default 'active' check (state in ('active', 'needs_review', 'broken'))
);
create unique index field_mapping_one_active_for_an_attribute
    on crm.field_mapping (baf_client_id, inxmail_attribute_id) where state = 'active' and deleted_at is null;

create table crm.lookup_set (
    like crm.record including all,
    code  text    not null unique check (code <> ''),
    title text,
    multi boolean not null default false,
    tree  boolean not null default false
);

create table crm.lookup_value (
    like crm.record including all,
    set_code    text    not null references crm.lookup_set (code),
    code        text    not null check (code <> '' and code !~ '[,|"'']'),  -- values are joined with a pipe
    parent_code text,
    active      boolean not null default true,
    text        jsonb   not null default '{}',  -- language → display text
    unique (set_code, code),
    foreign key (set_code, parent_code) references crm.lookup_value (set_code, code)
);

create table crm.lookup_mapping (
    like crm.record including all,
    baf_client_id text not null references crm.baf_client (baf_client_id),
    set_code      text not null references crm.lookup_set (code),
    send          text not null default 'code' check (send in ('code', 'text')),
    language      text not null default 'de',
    unique (baf_client_id, set_code)
);
