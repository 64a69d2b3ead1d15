-- What the tables do by themselves: versions, evidence that completes and protects itself, and what is refused.

create function crm.touch() returns trigger language plpgsql as $$
begin
    new.row_version := old.row_version + 1;
    new.updatetimestamp := now();
    if new.updateuser is not distinct from old.updateuser then
        new.updateuser := current_user;
    end if;
    return new;
end $$;

create function crm.refuse() returns trigger language plpgsql as $$
begin
    raise exception '% on %.% is refused: %', tg_op, tg_table_schema, tg_table_name, tg_argv[0]
        using errcode = 'restrict_violation';
end $$;

-- Text, or null when nothing visible is in it.
create function crm.filled(value text) returns text language sql immutable parallel safe as
    $$ select nullif(btrim(value, E' \t\r\n\u00A0'), '') $$;

-- The e-mail of an address that a distribution mails in a client: the binding may name another field than email1.
create function crm.address_email(address char(32), client text, distribution char(32)) returns text
language sql stable parallel safe as $$
    select crm.filled(case b.email_field when 'email2' then a.email2 when 'email3' then a.email3 else a.email1 end)
    from crm.address a
    left join crm.distribution_binding b
        on b.baf_client_id = client and b.distribution_gguid = distribution and b.deleted_at is null
    where a.gguid = address
$$;

-- The mailbox a membership means: its own override, else its profile's e-mail, else the address's.
create function crm.recipient_email(recipient crm.distribution_recipient) returns text
language sql stable parallel safe as $$
    select coalesce(
        crm.filled(recipient.email_override),
        (select crm.filled(p.email) from crm.address_profile p where p.gguid = recipient.profile_gguid),
        crm.address_email(recipient.address_gguid, recipient.baf_client_id, recipient.distribution_gguid))
$$;

-- Resolved once, at INSERT; nothing resolves it again when the address changes: it says which mailbox was meant then.
-- Of several memberships of the person in that distribution the oldest counts.
create function crm.complete_consent() returns trigger language plpgsql as $$
begin
    new.inserttimestamp := now();
    new.email := crm.filled(new.email);
    if new.address_gguid is not null then
        select a.subject_id into new.subject_id from crm.address a where a.gguid = new.address_gguid;
        if not found then
            raise exception 'consent names an address that does not exist: %', new.address_gguid
                using errcode = 'foreign_key_violation';
        end if;
        if new.email is null then
            select crm.recipient_email(r) into new.email
            from crm.distribution_recipient r
            where r.address_gguid = new.address_gguid and r.baf_client_id = new.baf_client_id
                and r.distribution_gguid = new.distribution_gguid and r.deleted_at is null
            order by r.inserttimestamp, r.gguid
            limit 1;
        end if;
        if new.email is null then
            new.email := crm.address_email(new.address_gguid, new.baf_client_id, new.distribution_gguid);
        end if;
    end if;
    if new.proof_level is null then
        new.proof_level := case
            when new.kind = 'doi' and new.requested_at is not null and new.confirmed_at is not null then 3
            when new.kind = 'written' then 2
            when new.kind in ('doi', 'single_opt_in') then 1
            else 0
        end;
    end if;
    return new;
end $$;

create function crm.append_withdrawal() returns trigger language plpgsql as $$
begin
    insert into crm.consent (address_gguid, baf_client_id, distribution_gguid, email, kind, source_identifier,
                             sync_origin, sync_op_id)
    values (new.address_gguid, new.baf_client_id, new.distribution_gguid, crm.recipient_email(new), 'withdrawal',
            'distribution_recipient/' || new.gguid, new.sync_origin, new.sync_op_id);
    return null;
end $$;

create function crm.append_objection() returns trigger language plpgsql as $$
begin
    insert into crm.consent (address_gguid, kind, source_identifier, sync_origin, sync_op_id)
    values (new.gguid, 'objection', 'address/' || new.gguid, new.sync_origin, new.sync_op_id);
    return null;
end $$;

create function crm.name_the_subject() returns trigger language plpgsql as $$
begin
    if new.subject_id is null then
        select a.subject_id into new.subject_id from crm.address a where a.gguid = new.address_gguid;
    end if;
    return new;
end $$;

create trigger complete before insert on crm.consent for each row execute function crm.complete_consent();
create trigger append_only before update or delete on crm.consent for each row
    execute function crm.refuse('evidence is only added to; insert a new row that corrects it');
create trigger name_the_subject before insert on crm.erasure_request for each row
    execute function crm.name_the_subject();

create trigger withdrawal_inserted after insert on crm.distribution_recipient for each row
    when (new.desired = 'not_member' and new.desired_reason = 'person_request')
    execute function crm.append_withdrawal();
create trigger withdrawal_updated after update on crm.distribution_recipient for each row
    when (new.desired = 'not_member' and new.desired_reason = 'person_request'
          and not (old.desired = 'not_member' and old.desired_reason = 'person_request'))
    execute function crm.append_withdrawal();

create trigger objection_inserted after insert on crm.address for each row
    when (new.is_objected_global) execute function crm.append_objection();
create trigger objection_updated after update on crm.address for each row
    when (new.is_objected_global and not old.is_objected_global) execute function crm.append_objection();

do $$
declare
    place record;
begin
    -- Consent is never updated, so it needs no version.
    for place in
        select table_name from information_schema.columns
        where table_schema = 'crm' and column_name = 'row_version' and table_name <> 'consent'
    loop
        execute format('create trigger touch before update on crm.%I for each row execute function crm.touch()',
                       place.table_name);
    end loop;

    -- Snapshot and stream disagree about dates before Christ and about infinity, and few languages hold a year 10000.
    for place in
        select table_name, column_name, data_type from information_schema.columns
        where table_schema = 'crm' and data_type in ('date', 'timestamp with time zone') and table_name <> 'schema_migration'
    loop
        execute format(
            'alter table crm.%I add constraint %I check (%I >= %L::%s and %I < %L::%s)',
            place.table_name, place.column_name || '_is_a_common_date',
            place.column_name, case place.data_type when 'date' then '0001-01-01' else '0001-01-01 00:00:00+00' end, place.data_type,
            place.column_name, case place.data_type when 'date' then '9999-12-31' else '9999-12-31 00:00:00+00' end, place.data_type);
    end loop;
end $$;
