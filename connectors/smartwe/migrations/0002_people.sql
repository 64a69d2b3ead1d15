-- People, their profiles, what they agreed to, and their membership: the intent and, apart from it, the observation.

create table crm.address (
    like crm.record including all,
    subject_id            uuid         not null default gen_random_uuid(),  -- pseudonym, survives merges
    kind                  text         not null default 'person' check (kind in ('person', 'contact_person', 'company')),
    company_gguid         char(32)     references crm.address on delete set null,
    salutation            varchar(80),
    title                 varchar(80),
    first_name            varchar(80),
    last_name             varchar(80),
    company_name          varchar(255),
    department            varchar(255),
    position              varchar(255),
    email1                varchar(254),
    email2                varchar(254),
    email3                varchar(254),
    street                text,
    zip                   text,
    town                  text,
    country_iso           text,
    language              varchar(8),
    birthday              date,
    phone                 text,
    mobile                text,
    is_deactivated        boolean      not null default false,
    is_objected_global    boolean      not null default false,
    no_crm_contact_reason text,
    -- Columns a customer added: one for each type that the CRM knows, and one multiple pick list.
    x_customer_no         text,
    x_employees           bigint,
    x_revenue             numeric(18,4) check (x_revenue <> 'NaN'),
    x_key_account         boolean,
    x_last_visit_at       timestamptz(3),
    x_newsletter_topics   text[]
);
create index address_company on crm.address (company_gguid) where company_gguid is not null;

create table crm.address_profile (
    like crm.record including all,
    address_gguid char(32)     not null references crm.address on delete cascade,
    channel_code  text         not null references crm.channel (code),
    source_code   text         not null references crm.source (code),
    baf_client_id text         references crm.baf_client (baf_client_id),
    email         varchar(254), -- overrides the address's e-mail
    display_name  text,
    language      varchar(8),
    interests     text,
    valid_from    timestamptz,
    valid_to      timestamptz
);
create unique index address_profile_one_for_channel_and_source
    on crm.address_profile (address_gguid, channel_code, source_code, baf_client_id) nulls not distinct
    where deleted_at is null;

create table crm.profile_identifier (
    like crm.record including all,
    profile_gguid char(32)     not null references crm.address_profile on delete cascade,
    id_type       text         not null,
    id_value      varchar(512) not null,
    strength      text         not null default 'weak' check (strength in ('strong', 'weak')),
    first_seen    timestamptz  default now(),
    last_seen     timestamptz  default now()
);
create index profile_identifier_profile on crm.profile_identifier (profile_gguid);
-- Not unique on purpose: a second holder of a strong identifier is a merge candidate, not a failed write.
create index profile_identifier_value on crm.profile_identifier (id_type, id_value);

create table crm.consent (
    like crm.record including all,
    subject_id         uuid     not null default gen_random_uuid(),
    address_gguid      char(32),  -- no foreign key: evidence outlives the address; a trigger checks it at INSERT
    baf_client_id      text     references crm.baf_client (baf_client_id),  -- null: all clients
    distribution_gguid char(32) references crm.distribution,               -- null: the whole client
    email              text,      -- the mailbox that was confirmed, as written
    email_hmac         bytea    check (octet_length(email_hmac) = 32),
    kind               text     not null check (kind in
                           ('doi', 'written', 'single_opt_in', 'existing_customer', 'contract', 'imported_unproven',
                            'manual_inxmail', 'withdrawal', 'objection', 'tracking_grant', 'tracking_deny')),
    proof_level        smallint not null check (proof_level between 0 and 3),  -- not given: a trigger reads it off the kind
    requested_at       timestamptz,
    confirmed_at       timestamptz,
    captured_at        timestamptz not null default now(),
    source_identifier  text,
    wording_version    text,
    evidence_uri       text,
    recorded_by        text     default current_user,
    remote_addr_enc    bytea,
    wording_hash       bytea,
    valid_from         timestamptz,
    valid_to           timestamptz,
    -- Who says no may say it to everybody at once; who says yes says it to one client.
    constraint consent_names_its_client check
        (baf_client_id is not null or kind in ('withdrawal', 'objection', 'tracking_deny'))
);
create index consent_address on crm.consent (address_gguid);

create table crm.suppression (
    like crm.record including all,
    scope                   text        not null check (scope in ('global', 'client', 'list')),
    baf_client_id           text        references crm.baf_client (baf_client_id),
    distribution_gguid      char(32)    references crm.distribution,
    match                   text        not null default 'mailbox' check (match in ('mailbox', 'pattern')),
    email_hmac              bytea       check (octet_length(email_hmac) = 32),
    pattern                 text,
    reason                  text        not null
                                        check (reason in ('unsubscribe', 'objection', 'complaint', 'blacklist', 'erasure', 'legal')),
    since                   timestamptz not null default now(),
    until                   timestamptz,
    origin                  text        not null default 'crm' check (origin in ('inxmail', 'crm', 'admin')),
    lifted_by_consent_gguid char(32)    references crm.consent,
    constraint suppression_scope_names_its_places check
        ((baf_client_id is not null) = (scope in ('client', 'list')) and (distribution_gguid is not null) = (scope = 'list')),
    constraint suppression_matches_one_way check
        ((email_hmac is not null) = (match = 'mailbox') and (pattern is not null) = (match = 'pattern'))
);

create table crm.distribution_recipient (
    like crm.record including all,
    distribution_gguid char(32)     not null references crm.distribution,
    baf_client_id      text         not null references crm.baf_client (baf_client_id),
    address_gguid      char(32)     not null references crm.address on delete cascade,
    -- Cascades too: a membership through a purged profile must not fall back to another mailbox of the person.
    profile_gguid      char(32)     references crm.address_profile on delete cascade,
    email_override     varchar(254),
    desired            text         not null default 'member' check (desired in ('member', 'not_member')),
    desired_reason     text         not null default 'manual'
                                    check (desired_reason in ('manual', 'rule', 'import', 'person_request', 'merge')),
    consent_gguid      char(32)     references crm.consent,
    pin_leading        boolean      not null default false
);
create unique index distribution_recipient_once_for_a_person
    on crm.distribution_recipient (distribution_gguid, baf_client_id, address_gguid, profile_gguid) nulls not distinct
    where deleted_at is null;
create index distribution_recipient_address on crm.distribution_recipient (address_gguid);
create index distribution_recipient_profile on crm.distribution_recipient (profile_gguid) where profile_gguid is not null;

-- What was observed, written only by the pipeline and never captured: the first barrier against loops.
create table crm.distribution_recipient_status (
    distribution_recipient_gguid char(32) primary key references crm.distribution_recipient on delete cascade,
    like crm.stamped including defaults,
    email_used           text,
    mailbox_ref          text,
    inxmail_recipient_id bigint,
    subscription_state   text    not null default 'proposed' check (subscription_state in
                             ('proposed', 'pending', 'subscribed', 'unsubscribed', 'withdrawn', 'rejected', 'blocked',
                              'removed_remote', 'erased')),
    state_since          timestamptz,
    state_reason         text,
    state_event_id       text,
    subscribed_at        timestamptz,
    unsubscribed_at      timestamptz,
    tracking_permission  boolean not null default false,
    deliverability       text    not null default 'unknown'
                                 check (deliverability in ('unknown', 'reachable', 'soft', 'unavailable')),
    hard_bounces         int     not null default 0,
    last_bounce_at       timestamptz,
    last_bounce_category text,
    is_leading           boolean not null default false,
    is_unproven          boolean not null default false,
    is_frozen            boolean not null default false,
    sync_state           text    not null default 'in_sync' check (sync_state in
                             ('in_sync', 'dirty', 'in_flight', 'retrying', 'quarantined', 'held')),
    last_synced_at       timestamptz,
    last_error_code      text,
    last_error_text      text,
    desired_hash         bytea,
    agreed_hash          bytea
);
