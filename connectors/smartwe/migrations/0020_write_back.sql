-- What the pipeline needs to write back safely: which record of its own a row shows, and what it has written once.

-- Orders the records of one row: a record that is not newer changes nothing.
alter table crm.distribution_recipient_status
    add column pipeline_epoch   bigint not null default 0,
    add column pipeline_version bigint not null default 0;

-- Which event at Inxmail put the row there.
alter table crm.suppression add column event_id text;

-- Suppressions that the pipeline has put in once. A CRM user who deletes one is not overruled by a repetition.
create table crm.suppression_written (
    gguid      char(32)    primary key,
    written_at timestamptz not null default now()
);
