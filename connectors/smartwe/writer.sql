-- origin_exists --
-- $1 name of a replication origin.
select pg_replication_origin_oid($1) is not null

-- create_origin --
-- $1 name of a replication origin.
select pg_replication_origin_create($1)

-- take_origin --
-- $1 name of a replication origin: from now on, what this session commits carries it. One session at a time.
select pg_replication_origin_session_setup($1)

-- has_origin --
-- Whether this session has an origin.
select pg_replication_origin_session_is_setup()

-- put_in_suppressions --
-- $1 JSON array of suppression records, $2 sync_origin. Returns: those that were new.
-- What was put in once is never put in again: a CRM user may have changed, lifted or deleted it since.
with given as (
    select * from jsonb_to_recordset($1::jsonb) as record (
        gguid char(32), epoch bigint, version bigint, scope text, baf_client_id text, distribution_gguid char(32),
        email_hmac text, reason text, since timestamptz, event_id text)
), fresh as (
    insert into crm.suppression_written (gguid) select gguid from given order by gguid
    on conflict do nothing
    returning gguid
), written as (
    insert into crm.suppression (gguid, scope, baf_client_id, distribution_gguid, match, email_hmac, reason, since,
                                 origin, event_id, sync_origin, sync_op_id)
    select gguid, scope, baf_client_id, distribution_gguid, 'mailbox', decode(email_hmac, 'base64'), reason, since,
           'inxmail', event_id, $2, md5('suppression/' || gguid)::uuid
    from given join fresh using (gguid)
    order by gguid
    on conflict do nothing
    returning 1
)
select count(*) from written

-- delete_statuses --
-- $1 recipient GGUIDs. Returns: how many rows went.
with gone as (
    delete from crm.distribution_recipient_status where distribution_recipient_gguid = any ($1::char(32)[]) returning 1
)
select count(*) from gone

-- write_statuses --
-- $1 JSON array of recipient statuses, one for each recipient at most, $2 sync_origin.
-- Returns: how many recipients still live, and how many rows changed. A record that is not newer changes nothing.
with given as (
    select * from jsonb_to_recordset($1::jsonb) as record (
        recipient char(32), epoch bigint, version bigint, email_used text, mailbox_ref text, inxmail_recipient_id bigint,
        subscription_state text, state_reason text, state_since timestamptz, state_event_id text,
        subscribed_at timestamptz, unsubscribed_at timestamptz, is_leading boolean, is_unproven boolean,
        is_frozen boolean, sync_state text, last_synced_at timestamptz, last_error_code text, last_error_text text,
        desired_hash text)
), living as (
    select given.* from given join crm.distribution_recipient on gguid = recipient
), written as (
    insert into crm.distribution_recipient_status as held (
        distribution_recipient_gguid, pipeline_epoch, pipeline_version, email_used, mailbox_ref, inxmail_recipient_id,
        subscription_state, state_reason, state_since, state_event_id, subscribed_at, unsubscribed_at,
        is_leading, is_unproven, is_frozen, sync_state, last_synced_at, last_error_code, last_error_text, desired_hash,
        sync_origin, sync_op_id)
    select recipient, epoch, version, email_used, mailbox_ref, inxmail_recipient_id,
           subscription_state, state_reason, state_since, state_event_id, subscribed_at, unsubscribed_at,
           is_leading, is_unproven, is_frozen, sync_state, last_synced_at, last_error_code, last_error_text,
           decode(desired_hash, 'base64'), $2, md5(concat_ws('/', 'status', recipient, epoch, version))::uuid
    from living
    order by recipient
    on conflict (distribution_recipient_gguid) do update set
        pipeline_epoch = excluded.pipeline_epoch,
        pipeline_version = excluded.pipeline_version,
        email_used = excluded.email_used,
        mailbox_ref = excluded.mailbox_ref,
        inxmail_recipient_id = excluded.inxmail_recipient_id,
        subscription_state = excluded.subscription_state,
        state_reason = excluded.state_reason,
        state_since = excluded.state_since,
        state_event_id = excluded.state_event_id,
        subscribed_at = excluded.subscribed_at,
        unsubscribed_at = excluded.unsubscribed_at,
        is_leading = excluded.is_leading,
        is_unproven = excluded.is_unproven,
        is_frozen = excluded.is_frozen,
        sync_state = excluded.sync_state,
        last_synced_at = excluded.last_synced_at,
        last_error_code = excluded.last_error_code,
        last_error_text = excluded.last_error_text,
        desired_hash = excluded.desired_hash,
        sync_origin = excluded.sync_origin,
        sync_op_id = excluded.sync_op_id
    where (held.pipeline_epoch, held.pipeline_version) < (excluded.pipeline_epoch, excluded.pipeline_version)
    returning 1
)
select (select count(*) from living) as living, (select count(*) from written) as written
