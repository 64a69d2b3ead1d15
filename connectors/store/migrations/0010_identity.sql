-- With which key and which spelling rules the hashes of the pipeline are made. Beside the CRM's own copy, so that a
-- process that never speaks to the CRM can refuse another key too. In `fence`: it must survive a rebuild.

create schema if not exists fence;

create table if not exists fence.pipeline_identity (
    only_row           boolean     primary key default true check (only_row),
    hmac_fingerprint   text        not null,
    normaliser_version int         not null,
    created_at         timestamptz not null default now()
);
