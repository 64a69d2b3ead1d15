-- All that is stored about one mailbox of one client: what led to its state, and what came of it. Only reads.

-- claims --
-- $1 client, $2 e-mail hashes, $3 recipient or null. The claims on the mailbox, and the recipient's own.
select recipient, person, client, distribution, email, email_hash, held_for
from sync.claim
where client = $1 and (email_hash = any ($2::bytea[]) or recipient = $3)
order by recipient

-- mailboxes --
-- $1 client, $2 e-mail hashes.
select mailbox, email, epoch, version, answered_epoch, answered_version, result_at, result
from sync.mailbox where client = $1 and email_hash = any ($2::bytea[]) order by mailbox

-- rows --
-- $1 persons, $2 e-mail hashes, $3 recipients. Folded rows of these people, and what they and others said of the mailbox.
select entity, gguid, epoch, lsn, live, person, body, topic, partition, "offset", committed_at
from sync.crm_row
where (person = any ($1::text[]) and entity in ('address', 'address_profile', 'consent'))
   or (email_hash = any ($2::bytea[]) and entity in ('consent', 'suppression'))
   or (entity = 'distribution_recipient' and gguid = any ($3::text[]))
   or (entity = 'suppression' and live and body ->> 'match' = 'pattern')
order by committed_at, entity, gguid

-- structure --
-- $1 client.
select entity, gguid, epoch, lsn, live, person, body, topic, partition, "offset", committed_at
from sync.crm_row
where live and ((entity in ('baf_client', 'distribution_binding') and body ->> 'baf_client_id' = $1)
                or entity = 'distribution')
order by committed_at, entity, gguid

-- events --
-- $1 client, $2 e-mail hashes.
select stream, body, topic, partition, "offset"
from sync.fact where client = $1 and email_hash = any ($2::bytea[]) order by event_id

-- emissions --
-- $1 topics, $2 keys, $3 e-mail hashes. The newest record of each key, and the suppressions that follow from the mailbox.
select topic, key, version, body, emitted_version, partition, "offset", caused_at, changed_at
from sync.emission
where (topic, key) in (select * from unnest($1::text[], $2::text[]))
   or (topic = 'crm.suppressions' and email_hash = any ($3::bytea[]))
order by changed_at, topic, key

-- desired --
-- $1 client, $2 mailbox. What the client's worker has last been told.
select epoch, counter, received_at from sync.desired where client = $1 and mailbox = $2

-- delivery --
-- $1 client, $2 mailbox. What the client's worker knows the client to hold.
select epoch, counter, outcome, error, recipient_id, rejected_values, dirt <> planned as is_pending, changed_at
from sync.delivery where client = $1 and mailbox = $2

-- delivery_lists --
-- $1 client, $2 mailbox.
select list_id, state, cause, since from sync.delivery_list where client = $1 and mailbox = $2 order by list_id

-- calls --
-- $1 client, $2 mailbox. Every call to the client that was about this mailbox, imports included.
select op_id, kind, list_id, epoch, counter, outcome, attempts, opened_at, ended_at, remote_id, null::text as failure
from sync.effect where client = $1 and mailbox = $2
union all
select i.op_id, 'import', i.list_id, r.epoch, r.counter, coalesce(i.outcome, i.phase), 1, i.intended_at, i.ended_at,
       i.import_id, r.failure
from sync.open_import_row r join sync.open_import i using (client, op_id)
where r.client = $1 and r.mailbox = $2
order by opened_at, op_id
