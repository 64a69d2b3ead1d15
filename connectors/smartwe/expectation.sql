-- Who must be subscribed, said a second time and in another language, so that a demonstration can check the pipeline
-- against something that is not the pipeline. Nothing here is used to decide.

-- spellings --
-- Every text that may mean a mailbox.
with told (raw) as (
    select email_override from crm.distribution_recipient
    union all select email from crm.address_profile
    union all select unnest(array[email1, email2, email3]) from crm.address
    union all select email from crm.consent
    union all select pattern from crm.suppression where pattern !~ '\*'
)
select distinct raw from told where raw ~ '\S';

-- create_mailbox --
-- Filled by COPY: how each spelling is meant (null: it cannot be a mailbox) and its hash under every key.
create temporary table mailbox (raw text primary key, email text, hashes bytea[]);

-- plan --
-- Rows that were copied a moment ago have no statistics yet; a plan made for a handful of them would take hours.
set local enable_nestloop = off;

-- memberships --
-- $1 skew tolerance (interval): within it the objection wins.
with claim as materialized (
    -- Everybody who wants to be a member and can be one, with the mailbox they mean.
    select r.gguid, r.baf_client_id as client, r.distribution_gguid as distribution, r.address_gguid as address,
        r.profile_gguid as profile, r.pin_leading, r.inserttimestamp, m.email, m.hashes,
        coalesce(d.required_proof, case when d.requires_doi then 3 else 2 end) as required,
        case when b.state = 'active' and b.direction <> 'in' and c.state = 'active' and c.deleted_at is null
            then b.inxmail_list_id end as list_id
    from crm.distribution_recipient r
    join crm.distribution d on d.gguid = r.distribution_gguid and d.deleted_at is null
    join crm.baf_client c on c.baf_client_id = r.baf_client_id
    join crm.address a on a.gguid = r.address_gguid and a.deleted_at is null and not a.is_deactivated
    left join crm.address_profile p on p.gguid = r.profile_gguid
    left join crm.distribution_binding b
        on b.distribution_gguid = r.distribution_gguid and b.baf_client_id = r.baf_client_id and b.deleted_at is null
    join mailbox m on m.email is not null and m.raw = coalesce(
        case when r.email_override ~ '\S' then r.email_override end,
        case when p.email ~ '\S' then p.email end,
        case coalesce(b.email_field, 'email1') when 'email1' then a.email1 when 'email2' then a.email2 else a.email3 end)
    where r.deleted_at is null and r.desired = 'member' and p.deleted_at is null
),
hashed_claim as materialized (
    select gguid, client, distribution, unnest(hashes) as hash from claim
),
proof as materialized (
    -- Level 3 is a double opt-in with both of its dates, whatever the row says of itself.
    select t.baf_client_id as client, t.distribution_gguid as distribution, t.address_gguid as address, m.email,
        case when t.kind = 'doi' and t.requested_at is not null and t.confirmed_at is not null then t.proof_level
            else least(t.proof_level, 2) end as level,
        least(coalesce(t.confirmed_at, t.captured_at), t.inserttimestamp) as at
    from crm.consent t
    join mailbox m on m.raw = t.email and m.email is not null
    where t.kind in ('doi', 'written', 'single_opt_in', 'existing_customer', 'contract', 'imported_unproven', 'manual_inxmail')
        and t.deleted_at is null and coalesce(t.valid_from <= now(), true) and coalesce(t.valid_to > now(), true)
),
objection as materialized (
    -- Said by a person, from a mailbox or about themselves. To everybody at once: only a person may lift that.
    select t.baf_client_id as client, t.distribution_gguid as distribution, t.address_gguid as address, m.email,
        t.captured_at as at, t.baf_client_id is null as final
    from crm.consent t
    left join mailbox m on m.raw = t.email
    where t.kind in ('withdrawal', 'objection') and t.deleted_at is null
),
ban as materialized (
    -- Kept as hashes or patterns. Some reasons no later proof overcomes, unless the entry is lifted.
    select s.baf_client_id as client, s.distribution_gguid as distribution, s.email_hmac,
        coalesce(literal.email, lower(btrim(s.pattern))) as pattern, s.since as at,
        (s.scope = 'global' or s.reason in ('complaint', 'blacklist', 'erasure', 'legal'))
            and s.lifted_by_consent_gguid is null as final
    from crm.suppression s
    left join mailbox literal on literal.raw = s.pattern
    where s.deleted_at is null and coalesce(s.until > now(), true)
),
pattern as materialized (
    select * from ban where pattern is not null
),
no as (
    select c.gguid, o.at, o.final from claim c join objection o on o.email = c.email
        and coalesce(o.client = c.client, true) and coalesce(o.distribution = c.distribution, true)
    union all
    select c.gguid, o.at, o.final from claim c join objection o on o.address = c.address
        and coalesce(o.client = c.client, true) and coalesce(o.distribution = c.distribution, true)
    union all
    select c.gguid, b.at, b.final from hashed_claim c join ban b on b.email_hmac = c.hash
        and coalesce(b.client = c.client, true) and coalesce(b.distribution = c.distribution, true)
    union all
    select c.gguid, b.at, b.final from claim c join pattern b
        on c.email like replace(replace(replace(replace(b.pattern, '\', '\\'), '%', '\%'), '_', '\_'), '*', '%')
        and coalesce(b.client = c.client, true) and coalesce(b.distribution = c.distribution, true)
),
newest_no as (
    select gguid, max(at) as at, bool_or(final) as final from no group by gguid
),
newest_proof as (
    select c.gguid, max(p.at) as at from claim c join proof p on p.client = c.client and p.email = c.email
        and coalesce(p.distribution = c.distribution, true) and p.level >= c.required
    group by c.gguid
),
best_own_proof as (
    select c.gguid, max(p.level) as level from claim c join proof p on p.client = c.client and p.email = c.email
        and coalesce(p.distribution = c.distribution, true) and p.address = c.address
    group by c.gguid
),
leader as (
    select distinct on (c.client, c.email) c.client, c.email, c.address, c.profile
    from claim c left join best_own_proof o using (gguid)
    order by c.client, c.email, c.pin_leading desc, coalesce(o.level, 0) desc, c.inserttimestamp, c.gguid collate "C"
)
select distinct c.client, c.list_id, c.email, l.address, l.profile
from claim c
join newest_proof yes using (gguid)
left join newest_no on newest_no.gguid = c.gguid
join leader l on l.client = c.client and l.email = c.email
where c.list_id is not null
    and (newest_no.at is null or (not newest_no.final and yes.at > newest_no.at + $1::interval));

-- mappings --
-- What each client shows, of columns that exist; a mapping that transforms promises nothing that could be checked here.
select f.baf_client_id as client, f.crm_table as "table", f.crm_field as field, f.inxmail_attribute_id as attribute,
    f.null_policy = 'clear' as clears, f.scale
from crm.field_mapping f
join information_schema.columns i
    on i.table_schema = 'crm' and i.table_name = f.crm_table and i.column_name = f.crm_field
where f.deleted_at is null and f.state = 'active' and f.direction <> 'in' and f.transform is null
    and f.crm_table in ('address', 'address_profile')
order by f.inxmail_attribute_id;
