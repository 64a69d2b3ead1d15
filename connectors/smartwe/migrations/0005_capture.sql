-- What leaves through the write-ahead log. The list of tables is the same as CAPTURED_TABLES in schema.py (a test holds both).

create schema cdc;

-- The connector moves the row on at every heartbeat, so that its slot advances while the CRM is quiet.
create table cdc.heartbeat (id int primary key, ts timestamptz);
insert into cdc.heartbeat values (1, now());

-- Signals to the connector: ad hoc snapshots.
create table cdc.dbz_signal (id varchar(42) primary key, type varchar(32), data varchar(2048));

do $$
declare
    captured constant text[] := array[
        'baf_client', 'channel', 'source', 'distribution', 'distribution_binding', 'field_mapping', 'lookup_set',
        'lookup_value', 'lookup_mapping', 'suppression', 'consent', 'address', 'address_profile', 'profile_identifier',
        'distribution_recipient', 'sync_request', 'erasure_request'];
    name text;
begin
    foreach name in array captured loop
        -- The old row must be in the event: which mailbox an e-mail change leaves is read from it.
        execute format('alter table crm.%I replica identity full', name);
        execute format('create trigger no_truncate before truncate on crm.%I for each statement execute function crm.refuse(%L)',
                       name, 'it would leave the recipients of every list without a word; delete rows, or drop the database');
    end loop;
    execute 'create publication verteiler for table cdc.heartbeat, cdc.dbz_signal, '
        || (select string_agg(format('crm.%I', n), ', ') from unnest(captured) n)
        || ' with (publish = ''insert, update, delete'')';
end $$;
