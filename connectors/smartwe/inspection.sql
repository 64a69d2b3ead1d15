-- What people ask of the CRM about the pipeline's work. Everything here only reads.

-- open_conflicts --
select count(*) from crm.sync_conflict where resolved_at is null

-- statuses --
-- $1 recipient GGUIDs. What the CRM shows of them, and by which record.
select distribution_recipient_gguid::text as recipient, subscription_state, state_reason, sync_state, last_error_code,
       pipeline_epoch, pipeline_version, updatetimestamp as written_at
from crm.distribution_recipient_status
where distribution_recipient_gguid = any ($1::char(32)[])
