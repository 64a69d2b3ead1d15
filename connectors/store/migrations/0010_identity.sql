-- What the pipeline's state belongs to. In `fence`: it must survive a rebuild.

create schema if not exists fence;

-- With which key and which spelling rules hashes are made. Beside the CRM's own copy, so that a process that never
-- speaks to the CRM can refuse another key too.
create table if not exists fence.pipeline_identity (
    only_row           boolean     primary key default true check (only_row),
    hmac_fingerprint   text        not null,
    normaliser_version int         not null,
    created_at         timestamptz not null default now()
);

-- Which history of the CRM's server the captured positions belong to. Another one (the server was restored) raises the
-- epoch; until its snapshot has begun, `snapshot_due` says that capture has to forget where it was.
create table if not exists fence.source_history (
    only_row          boolean     primary key default true check (only_row),
    epoch             integer     not null,
    system_identifier text        not null,
    timeline          integer     not null,
    snapshot_due      boolean     not null default false,
    since             timestamptz not null default now()
);
