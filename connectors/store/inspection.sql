-- What people ask of the pipeline's state. Everything here only reads.

-- unapplied --
-- Mailboxes whose newest mutation has no answer, by client and lane: how many, and when the source of the oldest was
-- committed.
select m.client, lane, count(*) as mailboxes, min(e.caused_at) as oldest_at
from sync.mailbox m
cross join unnest(array['priority', 'normal', 'bulk']) lane
join sync.emission e on e.topic = 'inxmail.' || m.client || '.mutations.' || lane and e.key = m.mailbox
                    and e.version = m.version
where (m.answered_epoch, m.answered_version) < (m.epoch, m.version)
group by m.client, lane

-- unproduced --
-- Records that were decided and that no broker has confirmed: how many, and since when the oldest waits.
select count(*) as records, min(changed_at) as oldest_at from sync.emission where emitted_version < version

-- unsettled --
-- Persons and mailboxes that a backlog or a wide row touched and that are still to be decided.
select (select count(distinct person) from sync.dirty_person) as persons,
       (select count(distinct email_hash) from sync.dirty_mailbox) as mailboxes

-- held_claims --
-- $1 most recipients named for each client. Claims that wait for an e-mail change to be carried out.
select client, count(*) as claims,
       (array_agg(recipient order by recipient))[:$1] as recipients
from sync.claim where held_for is not null
group by client order by client

-- quarantined --
-- Mailboxes that their client refuses, as a whole or in single fields, and mailboxes of a client that refuses us.
select client,
       count(*) filter (where result ->> 'outcome' = 'quarantined') as mailboxes,
       count(*) filter (where result ->> 'outcome' = 'paused') as paused,
       count(*) filter (where result ->> 'outcome' = 'applied') as with_rejected_values
from sync.mailbox
where result ->> 'outcome' <> 'applied' or result -> 'rejected_values' <> '{}'
group by client order by client

-- cursors --
select client, stream, last_event_id, at from sync.cursor order by client, stream

-- deliveries --
-- What each client's worker has in hand: mailboxes to be looked at, imports and single calls that are not through.
select client, sum(pending)::bigint as pending, sum(imports)::bigint as open_imports, min(import_at) as oldest_import_at,
       sum(calls)::bigint as open_calls
from (
    select client, count(*) as pending, 0 as imports, null::timestamptz as import_at, 0 as calls
    from sync.delivery where dirt <> planned group by client
    union all
    select client, 0, count(*), min(intended_at), 0 from sync.open_import where phase <> 'closed' group by client
    union all
    select client, 0, 0, null, count(*) from sync.effect where outcome = 'open' group by client
) part
group by client order by client

-- leases --
select client, epoch, holder, expires_at > now() as is_held from fence.lease order by client
