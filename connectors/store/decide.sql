-- Statements of decide, in the order in which a batch uses them. All arrays of one statement have equal length.

-- lock_structure_shared --
select pg_advisory_xact_lock_shared(hashtext('verteiler.structure'))

-- lock_structure --
select pg_advisory_xact_lock(hashtext('verteiler.structure'))

-- folded_persons --
-- $1 entities, $2 gguids. The persons to whom these rows belong as folded so far.
select distinct r.person
from unnest($1::text[], $2::text[]) k (entity, gguid)
join sync.crm_row r using (entity, gguid)
where r.person is not null

-- make_person_locks --
insert into sync.person_lock (person) select p from unnest($1::text[]) p order by p on conflict do nothing

-- lock_persons --
select person from sync.person_lock where person = any ($1::text[]) order by person for update

-- make_email_locks --
insert into sync.email_lock (email_hash) select h from unnest($1::bytea[]) h order by h on conflict do nothing

-- lock_emails --
select 1 from sync.email_lock where email_hash = any ($1::bytea[]) order by email_hash for update

-- folded_hashes --
-- $1 entities, $2 gguids. The mailboxes that these consents and suppressions were about as folded so far.
select distinct r.email_hash
from unnest($1::text[], $2::text[]) k (entity, gguid)
join sync.crm_row r using (entity, gguid)
where r.email_hash is not null

-- fold_rows --
-- $1 entity, $2 gguid, $3 epoch, $4 lsn, $5 live, $6 person, $7 email_hash, $8 body, $9 topic, $10 partition, $11 offset, $12 committed_at
insert into sync.crm_row as r
    (entity, gguid, epoch, lsn, live, person, email_hash, body, topic, partition, "offset", committed_at)
select * from unnest($1::text[], $2::text[], $3::int[], $4::bigint[], $5::boolean[], $6::text[], $7::bytea[], $8::jsonb[],
                     $9::text[], $10::int[], $11::bigint[], $12::timestamptz[])
order by 1, 2
on conflict (entity, gguid) do update set
    epoch = excluded.epoch, lsn = excluded.lsn, live = excluded.live, person = excluded.person,
    email_hash = excluded.email_hash, body = excluded.body, topic = excluded.topic, partition = excluded.partition,
    "offset" = excluded."offset", committed_at = excluded.committed_at
where (excluded.epoch, excluded.lsn) >= (r.epoch, r.lsn)

-- fold_facts --
-- $1 client, $2 stream, $3 event_id, $4 list_id, $5 mailbox, $6 email_hash, $7 body, $8 topic, $9 partition, $10 offset
insert into sync.fact (client, stream, event_id, list_id, mailbox, email_hash, body, topic, partition, "offset")
select * from unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::text[], $6::bytea[], $7::jsonb[],
                     $8::text[], $9::int[], $10::bigint[])
on conflict (client, stream, event_id) do nothing

-- fold_results --
-- $1 client, $2 mailbox, $3 email, $4 email_hash, $5 epoch, $6 version, $7 recipient_id, $8 at, $9 body
-- Returns the mailboxes whose result is the newest known.
insert into sync.mailbox as m
    (client, mailbox, email, email_hash, answered_epoch, answered_version, result_recipient_id, result_at, result)
select * from unnest($1::text[], $2::text[], $3::text[], $4::bytea[], $5::int[], $6::bigint[], $7::bigint[],
                     $8::timestamptz[], $9::jsonb[])
order by 1, 2
on conflict (client, mailbox) do update set
    answered_epoch = excluded.answered_epoch, answered_version = excluded.answered_version,
    result_recipient_id = excluded.result_recipient_id, result_at = excluded.result_at, result = excluded.result
where m.result_at is null or excluded.result_at >= m.result_at
returning m.client, m.mailbox

-- drop_served --
-- $1 clients, $2 mailboxes, $3 asked
delete from sync.served s using unnest($1::text[], $2::text[]) k (client, mailbox)
where s.client = k.client and s.mailbox = k.mailbox and s.asked = $3

-- put_served --
-- $1 client, $2 mailbox, $3 recipient, $4 asked, $5 email, $6 email_hash
insert into sync.served (client, mailbox, recipient, asked, email, email_hash)
select * from unnest($1::text[], $2::text[], $3::text[], $4::boolean[], $5::text[], $6::bytea[])
on conflict do nothing

-- dirty_held --
-- $1 email hashes, $2 topic, $3 partition, $4 offset, $5 committed_at. An answer about a mailbox may release a held
-- e-mail change.
insert into sync.dirty_person (person, topic, partition, "offset", committed_at)
select distinct person, $2::text, $3::int, $4::bigint, $5::timestamptz
from sync.claim where held_for is not null and email_hash = any ($1::bytea[])

-- structure --
select entity, body from sync.crm_row
where live and (entity in ('baf_client', 'distribution', 'distribution_binding', 'field_mapping')
                or (entity = 'suppression' and body ->> 'match' = 'pattern'))

-- rows_of_persons --
select entity, gguid, person, body from sync.crm_row
where person = any ($1::text[]) and live and entity in ('address', 'address_profile', 'distribution_recipient')

-- claims_of_persons --
select recipient, person, email_hash from sync.claim where person = any ($1::text[])

-- predecessors --
-- $1 recipients. The mailboxes that serve one of these claims, or may just be being made for one.
select s.recipient, s.client, s.email, s.email_hash
from sync.served s
where s.recipient = any ($1::text[])
  and (not s.asked
       or exists (select from sync.mailbox m
                  where m.client = s.client and m.mailbox = s.mailbox and m.wanted
                    and (m.answered_epoch, m.answered_version) < (m.epoch, m.version)))

-- put_claims --
-- $1 recipient, $2 person, $3 client, $4 distribution, $5 email, $6 email_hash, $7 held_for
insert into sync.claim as c (recipient, person, client, distribution, email, email_hash, held_for)
select * from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bytea[], $7::text[])
on conflict (recipient) do update set
    person = excluded.person, client = excluded.client, distribution = excluded.distribution, email = excluded.email,
    email_hash = excluded.email_hash, held_for = excluded.held_for
where (c.person, c.client, c.distribution, c.email, c.held_for)
      is distinct from (excluded.person, excluded.client, excluded.distribution, excluded.email, excluded.held_for)

-- drop_claims --
delete from sync.claim where recipient = any ($1::text[])

-- claims_on_mailboxes --
select recipient, person, client, distribution, email, email_hash, held_for
from sync.claim where email_hash = any ($1::bytea[])

-- evidence --
-- $1 email hashes, $2 persons. Consents and suppressions about these mailboxes or by these persons.
select entity, email_hash, person, body from sync.crm_row
where live and entity in ('consent', 'suppression') and email_hash = any ($1::bytea[])
union all
select entity, email_hash, person, body from sync.crm_row
where live and entity = 'consent' and person = any ($2::text[])
      and (email_hash is null or email_hash <> all ($1::bytea[]))

-- facts_on_mailboxes --
select client, stream, email_hash, body from sync.fact where email_hash = any ($1::bytea[])

-- mailboxes --
select client, mailbox, email, email_hash, epoch, version, result
from sync.mailbox where email_hash = any ($1::bytea[])

-- emissions --
-- $1 topics, $2 keys
select e.topic, e.key, e.version, e.hash
from unnest($1::text[], $2::text[]) k (topic, key) join sync.emission e using (topic, key)

-- put_mailboxes --
-- $1 client, $2 mailbox, $3 email, $4 email_hash, $5 wanted, $6 epoch, $7 version
insert into sync.mailbox (client, mailbox, email, email_hash, wanted, epoch, version)
select * from unnest($1::text[], $2::text[], $3::text[], $4::bytea[], $5::boolean[], $6::int[], $7::bigint[])
order by 1, 2
on conflict (client, mailbox) do update set
    email = excluded.email, wanted = excluded.wanted, epoch = excluded.epoch, version = excluded.version

-- put_emissions --
-- $1 topic, $2 key, $3 contract, $4 version, $5 hash, $6 body, $7 email_hash, $8 caused_at
insert into sync.emission (topic, key, contract, version, hash, body, email_hash, caused_at)
select * from unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bytea[], $6::jsonb[], $7::bytea[], $8::timestamptz[])
on conflict (topic, key) do update set
    contract = excluded.contract, version = excluded.version, hash = excluded.hash, body = excluded.body,
    email_hash = excluded.email_hash, caused_at = excluded.caused_at, changed_at = now()

-- note_emissions --
-- $1 topic, $2 key, $3 version, $4 partition, $5 offset. What the broker said; returns the keys whose newest record
-- does not stand last in the log and must be produced again.
with said as (
    select * from unnest($1::text[], $2::text[], $3::bigint[], $4::int[], $5::bigint[]) s (topic, key, version, partition, "offset")
), before as (
    select e.topic, e.key, e.emitted_version, e."offset" from sync.emission e join said using (topic, key)
    order by e.topic, e.key for update of e
), noted as (
    update sync.emission e set
        emitted_version = greatest(e.emitted_version, s.version),
        partition = s.partition,
        "offset" = greatest(e."offset", s."offset")
    from said s where e.topic = s.topic and e.key = s.key
)
select s.topic, s.key
from said s join before b using (topic, key)
where (s.version < b.emitted_version and s."offset" > b."offset")
   or (s.version > b.emitted_version and s."offset" < b."offset")

-- emissions_to_repeat --
-- $1 topics, $2 keys
select e.topic, e.key, e.contract, e.version, e.body
from unnest($1::text[], $2::text[]) k (topic, key) join sync.emission e using (topic, key)

-- mark_persons --
-- $1 persons, $2 topics, $3 partitions, $4 offsets, $5 committed_at
insert into sync.dirty_person (person, topic, partition, "offset", committed_at)
select * from unnest($1::text[], $2::text[], $3::int[], $4::bigint[], $5::timestamptz[])

-- mark_mailboxes --
-- $1 email hashes, $2 topics, $3 partitions, $4 offsets, $5 committed_at
insert into sync.dirty_mailbox (email_hash, topic, partition, "offset", committed_at)
select * from unnest($1::bytea[], $2::text[], $3::int[], $4::bigint[], $5::timestamptz[])

-- dirty_persons_of_distribution --
-- $1 distribution, $2 client or null for all, $3 topic, $4 partition, $5 offset, $6 committed_at
insert into sync.dirty_person (person, topic, partition, "offset", committed_at)
select distinct person, $3::text, $4::int, $5::bigint, $6::timestamptz from sync.claim
where distribution = $1::text and ($2::text is null or client = $2::text)

-- dirty_persons_of_client --
-- $1 client, $2 topic, $3 partition, $4 offset, $5 committed_at
insert into sync.dirty_person (person, topic, partition, "offset", committed_at)
select distinct person, $2::text, $3::int, $4::bigint, $5::timestamptz from sync.claim where client = $1::text

-- dirty_facts_of_list --
-- $1 client, $2 list id, $3 topic, $4 partition, $5 offset, $6 committed_at
insert into sync.dirty_mailbox (email_hash, objection, topic, partition, "offset", committed_at)
select distinct email_hash, true, $3::text, $4::int, $5::bigint, $6::timestamptz
from sync.fact where client = $1::text and list_id = $2::bigint and email_hash is not null

-- dirty_mailboxes --
-- $1 client or null for all, $2 whether an objection is behind it, $3 topic, $4 partition, $5 offset, $6 committed_at
insert into sync.dirty_mailbox (email_hash, objection, topic, partition, "offset", committed_at)
select distinct email_hash, $2::boolean, $3::text, $4::int, $5::bigint, $6::timestamptz from sync.claim
where email_hash is not null and ($1::text is null or client = $1::text)

-- try_sweep --
select pg_try_advisory_xact_lock(hashtext('verteiler.sweep'))

-- try_settle --
select pg_try_advisory_xact_lock(hashtext('verteiler.settle'))

-- take_dirty_persons --
-- $1 marks looked at, the oldest, $2 seconds of rest, $3 seconds after which nobody rests any more. All marks of those
-- who have rested, the newest record first.
with oldest as (
    select person, min(since) as since from (select person, since from sync.dirty_person order by id limit $1) o
    group by person
), rested as (
    select person from oldest o
    where o.since <= clock_timestamp() - make_interval(secs => $3)
       or not exists (select from sync.dirty_person d where d.person = o.person
                      and d.since > clock_timestamp() - make_interval(secs => $2))
), taken as (
    delete from sync.dirty_person where person in (select person from rested)
    returning person, topic, partition, "offset", committed_at
)
select distinct on (person) person, topic, partition, "offset", committed_at from taken
order by person, committed_at desc

-- take_dirty_mailboxes --
-- As `take_dirty_persons`. Objections do not rest.
with oldest as (
    select email_hash, min(since) as since, bool_or(objection) as objection
    from (select email_hash, since, objection from sync.dirty_mailbox order by objection desc, id limit $1) o
    group by email_hash
), rested as (
    select email_hash from oldest o
    where o.objection or o.since <= clock_timestamp() - make_interval(secs => $3)
       or not exists (select from sync.dirty_mailbox d where d.email_hash = o.email_hash
                      and d.since > clock_timestamp() - make_interval(secs => $2))
), taken as (
    delete from sync.dirty_mailbox where email_hash in (select email_hash from rested)
    returning email_hash, topic, partition, "offset", committed_at
)
select distinct on (email_hash) email_hash, topic, partition, "offset", committed_at from taken
order by email_hash, committed_at desc

-- persons_with_claims --
-- $1 persons. Those who are, or were, on any distribution.
select p as person from unnest($1::text[]) p
where exists (select from sync.crm_row r where r.person = p and r.entity = 'distribution_recipient')
   or exists (select from sync.claim c where c.person = p)

-- known_mailboxes --
-- $1 email hashes. Those that somebody claims, or that a client or a log has named.
select h as email_hash from unnest($1::bytea[]) h
where exists (select from sync.claim c where c.email_hash = h)
   or exists (select from sync.mailbox m where m.email_hash = h)
   or exists (select from sync.fact f where f.email_hash = h)

-- is_dirty --
select exists (select from sync.dirty_person) or exists (select from sync.dirty_mailbox)

-- never_emitted --
-- $1 age in seconds, $2 limit
select topic, key, contract, version, body from sync.emission
where emitted_version < version and changed_at < now() - make_interval(secs => $1)
order by changed_at limit $2

-- unanswered --
-- $1 age in seconds, $2 limit. Mutations that were produced, are not answered, and are not in the client worker's hands.
select e.topic, e.key, e.contract, e.version, e.body, e.partition, e."offset", m.client
from sync.mailbox m
cross join unnest(array['priority', 'normal', 'bulk']) lane
join sync.emission e on e.topic = 'inxmail.' || m.client || '.mutations.' || lane and e.key = m.mailbox
                    and e.version = m.version
where (m.answered_epoch, m.answered_version) < (m.epoch, m.version)
  and e.emitted_version = e.version and e.changed_at < now() - make_interval(secs => $1)
  and not exists (select from sync.desired d where d.client = m.client and d.mailbox = m.mailbox
                  and (d.epoch, d.counter) >= (m.epoch, m.version))
limit $2

-- touch_emissions --
-- $1 topics, $2 keys. They were produced again: look at them again after the same age.
update sync.emission e set changed_at = now()
from unnest($1::text[], $2::text[]) k (topic, key) where e.topic = k.topic and e.key = k.key

-- rebuild_epoch --
select epoch from fence.rebuild
