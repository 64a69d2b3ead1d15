-- The client worker's own tables. $1 is always the client.

-- acquire_lease --
-- $2 holder, $3 seconds, $4 holders known to be dead. The new epoch; no row while another leads.
insert into fence.lease as held (client, epoch, holder, expires_at)
values ($1, 1, $2, clock_timestamp() + make_interval(secs => $3))
on conflict (client) do update
   set epoch = held.epoch + 1, holder = excluded.holder, expires_at = excluded.expires_at
 where held.expires_at <= clock_timestamp() or held.holder = any($4::text[])
returning epoch

-- lease_holder --
select holder from fence.lease where client = $1

-- renew_lease --
-- $2 epoch, $3 seconds. No row when another has taken over.
update fence.lease set expires_at = clock_timestamp() + make_interval(secs => $3)
where client = $1 and epoch = $2
returning epoch

-- check_lease --
-- $2 epoch. No row when another has taken over; nobody can before this transaction ends.
select epoch from fence.lease where client = $1 and epoch = $2 for share

-- put_desired --
-- $2 mailboxes, $3 epochs, $4 counters, $5 e-mails, $6 bodies, one for each mailbox, $7 lane. Gives those that were newer.
with newer as (
    insert into sync.desired as held (client, mailbox, epoch, counter, body, lane)
    select $1, mailbox, epoch, counter, body::json, $7::smallint
    from unnest($2::text[], $3::bigint[], $4::bigint[], $6::text[]) as given (mailbox, epoch, counter, body)
    on conflict (client, mailbox) do update
       set epoch = excluded.epoch, counter = excluded.counter, body = excluded.body, lane = excluded.lane,
           received_at = clock_timestamp()
     where (held.epoch, held.counter) < (excluded.epoch, excluded.counter)
    returning mailbox
)
insert into sync.delivery as held (client, mailbox, email, dirt)
select $1, mailbox, email, 1
from unnest($2::text[], $5::text[]) as given (mailbox, email) join newer using (mailbox)
on conflict (client, mailbox) do update set dirt = held.dirt + 1
returning mailbox

-- is_new --
-- Whether nothing was ever wanted here: the tables are new, or were lost.
select not exists (select from sync.desired where client = $1)

-- dirty --
-- $2 lane, $3 mailbox, $4 at most. Mailboxes to be looked at, after that one, by the lanes of their mutations. Those of an
-- import under way are looked at when that ends, unless somebody leaves.
select d.mailbox, coalesce(w.lane, 1) as lane
from sync.delivery d left join sync.desired w on w.client = d.client and w.mailbox = d.mailbox
where d.client = $1 and d.dirt <> d.planned and (coalesce(w.lane, 1), d.mailbox) > ($2::smallint, $3::text)
  and (w.lane = 0 or not exists (
      select from sync.open_import o join sync.open_import_row r on r.client = o.client and r.op_id = o.op_id
      where o.client = d.client and o.phase in ('intended', 'posted') and r.mailbox = d.mailbox))
order by coalesce(w.lane, 1), d.mailbox limit $4

-- dirty_among --
-- $2 mailboxes. Those of these that are to be looked at.
select mailbox from sync.delivery where client = $1 and mailbox = any($2::text[]) and dirt <> planned

-- mailboxes --
-- $2 mailboxes. What is known of each, for planning.
select d.mailbox, d.email, d.remote_email, d.recipient_id, d.missing_at, d.held_values, d.refusals, d.dirt,
       d.epoch, d.counter, d.desired_hash, d.outcome, d.error, d.leader, d.claims, d.rejected_values,
       w.body as desired
from sync.delivery d
left join sync.desired w on w.client = d.client and w.mailbox = d.mailbox
where d.client = $1 and d.mailbox = any($2::text[])

-- open_lists --
-- $2 mailboxes. The lists (0: none) of imports under way that have them.
select r.mailbox, coalesce(o.list_id, 0) as list_id
from sync.open_import o join sync.open_import_row r on r.client = o.client and r.op_id = o.op_id
where o.client = $1 and o.phase in ('intended', 'posted') and r.mailbox = any($2::text[])

-- settle --
-- $2 mailboxes, $3 dirt, $4 epochs, $5 counters, $6 hashes, $7 outcomes, $8 errors, $9 leaders, $10 claims,
-- $11 rejected values, $12 whether it differs from what was told before.
update sync.delivery held
   set epoch = given.epoch, counter = given.counter, desired_hash = given.desired_hash, outcome = given.outcome,
       error = given.error, leader = given.leader, claims = given.claims::jsonb,
       rejected_values = given.rejected_values::jsonb, planned = given.dirt,
       revision = held.revision + given.differs::int,
       changed_at = case when given.differs then clock_timestamp() else held.changed_at end
from unnest($2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bytea[], $7::text[], $8::text[], $9::text[],
            $10::text[], $11::text[], $12::boolean[])
     as given (mailbox, dirt, epoch, counter, desired_hash, outcome, error, leader, claims, rejected_values, differs)
where held.client = $1 and held.mailbox = given.mailbox

-- claim_lists --
-- $2 mailboxes, $3 list ids, $4 claims.
update sync.delivery_list held set claims = given.claims::jsonb
from unnest($2::text[], $3::bigint[], $4::text[]) as given (mailbox, list_id, claims)
where held.client = $1 and held.mailbox = given.mailbox and held.list_id = given.list_id

-- touch --
-- $2 mailboxes, $3 e-mails. Something held has changed: to be looked at, and to be told.
insert into sync.delivery as held (client, mailbox, email, dirt, revision)
select $1, mailbox, email, 1, 1 from unnest($2::text[], $3::text[]) as given (mailbox, email)
on conflict (client, mailbox) do update
   set dirt = held.dirt + 1, revision = held.revision + 1, changed_at = clock_timestamp()

-- try_values_again --
-- $2 attribute ids, $3 their scopes. Their definitions have changed: what was rejected for them may fit now.
update sync.delivery
   set dirt = dirt + 1, refusals = refusals - $3::text[]
where client = $1 and rejected_values ?| $2::text[]

-- put_lists --
-- $2 mailboxes, $3 list ids, $4 states, $5 causes, $6 since, $7 claims.
insert into sync.delivery_list as held (client, mailbox, list_id, state, cause, since, claims)
select $1, mailbox, list_id, state, cause, since, claims::jsonb
from unnest($2::text[], $3::bigint[], $4::text[], $5::text[], $6::timestamptz[], $7::text[])
     as given (mailbox, list_id, state, cause, since, claims)
on conflict (client, mailbox, list_id) do update
   set state = excluded.state, cause = excluded.cause, since = excluded.since, claims = excluded.claims

-- put_values --
-- $2 mailboxes, $3 values by attribute id. What was written and accepted: to be looked at, and to be told.
update sync.delivery held
   set held_values = held.held_values || given.held_values::jsonb, dirt = held.dirt + 1,
       revision = held.revision + 1, changed_at = clock_timestamp()
from unnest($2::text[], $3::text[]) as given (mailbox, held_values)
where held.client = $1 and held.mailbox = given.mailbox

-- confirm --
-- $2 mailboxes, $3 dirt, $4 values, $5 recipient ids, $6 spellings, $7 epochs, $8 counters, $9 hashes, $10 leaders,
-- $11 claims, $12 rejected values. Written by an import, and answered with that; not where anything else has happened.
update sync.delivery held
   set held_values = case when held.held_values = '{}' then given.held_values::jsonb
                          else held.held_values || given.held_values::jsonb end,
       recipient_id = coalesce(given.recipient_id, held.recipient_id),
       remote_email = coalesce(given.remote_email, held.remote_email), missing_at = null,
       epoch = given.epoch, counter = given.counter, desired_hash = given.desired_hash, outcome = 'applied',
       error = null, leader = given.leader, claims = given.claims::jsonb,
       rejected_values = given.rejected_values::jsonb, planned = held.dirt,
       revision = held.revision + 1, changed_at = clock_timestamp()
from unnest($2::text[], $3::bigint[], $4::text[], $5::bigint[], $6::text[], $7::bigint[], $8::bigint[], $9::bytea[],
            $10::text[], $11::text[], $12::text[])
     as given (mailbox, dirt, held_values, recipient_id, remote_email, epoch, counter, desired_hash, leader, claims,
               rejected_values)
where held.client = $1 and held.mailbox = given.mailbox and held.dirt = given.dirt
  and coalesce(given.recipient_id, held.recipient_id) is not null
returning held.mailbox

-- put_refusals --
-- $2 mailboxes, $3 refusals by scope.
update sync.delivery held set refusals = held.refusals || given.refusals::jsonb
from unnest($2::text[], $3::text[]) as given (mailbox, refusals)
where held.client = $1 and held.mailbox = given.mailbox

-- put_recipients --
-- $2 mailboxes, $3 e-mails, $4 the client's spelling, $5 recipient ids, $6 values. As read; a mailbox that nobody here
-- knew is to be told. Gives the mailboxes where something differs.
insert into sync.delivery as held (client, mailbox, email, remote_email, recipient_id, held_values, revision)
select $1, mailbox, email, remote_email, recipient_id, held_values::jsonb, 1
from unnest($2::text[], $3::text[], $4::text[], $5::bigint[], $6::text[])
     as given (mailbox, email, remote_email, recipient_id, held_values)
on conflict (client, mailbox) do update
   set remote_email = excluded.remote_email, recipient_id = excluded.recipient_id, missing_at = null,
       held_values = held.held_values || excluded.held_values,
       dirt = held.dirt + 1, revision = held.revision + 1, changed_at = clock_timestamp()
 where held.recipient_id is distinct from excluded.recipient_id
    or held.remote_email is distinct from excluded.remote_email
    or held.held_values is distinct from held.held_values || excluded.held_values
returning mailbox

-- strangers --
-- $2 recipient ids, $3 mailboxes. Mailboxes that were known under one of these ids and are not among these:
-- the recipient goes by another address now.
update sync.delivery held
   set recipient_id = null, remote_email = null, dirt = held.dirt + 1, revision = held.revision + 1,
       changed_at = clock_timestamp()
where held.client = $1 and held.recipient_id = any($2::bigint[]) and not held.mailbox = any($3::text[])
returning mailbox

-- lose_recipients --
-- $2 mailboxes. The recipient is gone.
update sync.delivery held
   set recipient_id = null, remote_email = null, held_values = '{}', missing_at = clock_timestamp(),
       dirt = held.dirt + 1, revision = held.revision + 1, changed_at = clock_timestamp()
where held.client = $1 and held.mailbox = any($2::text[]) and held.recipient_id is not null
returning mailbox

-- by_recipient --
-- $2 recipient ids.
select recipient_id, mailbox, email from sync.delivery where client = $1 and recipient_id = any($2::bigint[])

-- without_recipient --
-- $2 mailboxes. Those of which no recipient id is known.
select mailbox from sync.delivery where client = $1 and mailbox = any($2::text[]) and recipient_id is null

-- lists_of --
-- $2 mailboxes.
select mailbox, list_id, state, cause, since, claims
from sync.delivery_list where client = $1 and mailbox = any($2::text[])

-- unreported --
-- $2 at most. Results to be told. One that is still being worked at waits a moment for its end.
select d.mailbox, d.email, d.recipient_id, d.held_values, d.epoch, d.counter, d.desired_hash, d.outcome, d.error,
       d.leader, d.claims, d.rejected_values, d.revision, d.changed_at, w.body -> 'values' as wanted
from sync.delivery d
left join sync.desired w on w.client = d.client and w.mailbox = d.mailbox
where d.client = $1 and d.revision <> d.reported
  and (d.dirt = d.planned or d.changed_at < clock_timestamp() - interval '2 seconds')
order by d.changed_at
limit $2

-- mark_reported --
-- $2 mailboxes, $3 revisions.
update sync.delivery held set reported = given.revision
from unnest($2::text[], $3::bigint[]) as given (mailbox, revision)
where held.client = $1 and held.mailbox = given.mailbox and held.reported < given.revision

-- last_call --
-- $2 kind, $3 mailbox, $4 list id, $5 epoch, $6 counter. The last call of that kind for that version.
select op_id, outcome, ordinal, attempts from sync.effect
where client = $1 and kind = $2 and mailbox = $3 and list_id is not distinct from $4 and epoch = $5 and counter = $6
order by ordinal desc limit 1

-- is_newest --
-- $2 mailbox, $3 epoch, $4 counter. Whether this is still the newest mutation.
select exists (select from sync.desired where client = $1 and mailbox = $2 and epoch = $3 and counter = $4)

-- open_call --
-- $2 op id, $3 kind, $4 mailbox, $5 list id, $6 epoch, $7 counter, $8 ordinal, $9 position in the unsubscription log.
insert into sync.effect as held (client, op_id, kind, mailbox, list_id, epoch, counter, ordinal, outcome, log_position)
values ($1, $2, $3, $4, $5, $6, $7, $8, 'open', $9)
on conflict (client, op_id) do update set outcome = 'open', attempts = held.attempts + 1, ended_at = null
returning attempts

-- end_call --
-- $2 op id, $3 outcome, $4 remote id.
update sync.effect set outcome = $3, remote_id = coalesce($4, remote_id), ended_at = clock_timestamp()
where client = $1 and op_id = $2

-- lose_open_calls --
-- Calls that a former leader left open: perhaps carried out.
update sync.effect set outcome = 'lost', ended_at = clock_timestamp()
where client = $1 and outcome = 'open' and kind <> 'import'
returning kind, mailbox, list_id, op_id

-- unproduced_effects --
-- $2 at most. Calls whose present outcome the effects topic was not told.
select op_id, kind, mailbox, list_id, outcome, log_position, rows, remote_id, coalesce(ended_at, opened_at) as at
from sync.effect where client = $1 and produced is distinct from outcome order by opened_at limit $2

-- effects --
-- $2 op ids.
select op_id, kind, mailbox, list_id, outcome, log_position, rows, remote_id, coalesce(ended_at, opened_at) as at
from sync.effect where client = $1 and op_id = any($2::text[])

-- mark_effects --
-- $2 op ids, $3 outcomes.
update sync.effect held set produced = given.outcome
from unnest($2::text[], $3::text[]) as given (op_id, outcome)
where held.client = $1 and held.op_id = given.op_id

-- intend_import --
-- $2 op id, $3 list id, $4 resubscribe, $5 columns, $6 position in the subscription log.
insert into sync.open_import (client, op_id, list_id, resubscribe, columns, phase, subscription_position)
values ($1, $2, $3, $4, $5::jsonb, 'intended', $6)
returning intended_at

-- intend_rows --
-- $2 op id, $3 mailboxes, $4 e-mails, $5 values, $6 epochs, $7 counters, $8 claims. Only rows made for the newest
-- mutation; gives their mailboxes.
insert into sync.open_import_row (client, op_id, mailbox, email, held_values, epoch, counter, claims)
select $1, $2, mailbox, email, held_values::json, epoch, counter, claims::json
from unnest($3::text[], $4::text[], $5::text[], $6::bigint[], $7::bigint[], $8::text[])
     as given (mailbox, email, held_values, epoch, counter, claims)
where exists (select from sync.desired w where w.client = $1 and w.mailbox = given.mailbox
                and w.epoch = given.epoch and w.counter = given.counter)
returning mailbox

-- intend_effect --
-- $2 op id, $3 list id, $4 rows, $5 position in the unsubscription log.
insert into sync.effect (client, op_id, kind, list_id, outcome, log_position, rows)
values ($1, $2, 'import', $3, 'open', $5, $4)

-- drop_rows --
-- $2 op id, $3 mailboxes. The door did not let them through.
delete from sync.open_import_row where client = $1 and op_id = $2 and mailbox = any($3::text[])

-- post_import --
-- $2 op id, $3 import id.
update sync.open_import set phase = 'posted', import_id = $3 where client = $1 and op_id = $2

-- end_import --
-- $2 op id, $3 outcome, $4 phase.
update sync.open_import set phase = $4, outcome = $3, ended_at = clock_timestamp() where client = $1 and op_id = $2

-- fail_rows --
-- $2 op id, $3 mailboxes, $4 failures.
update sync.open_import_row held set failure = given.failure
from unnest($3::text[], $4::text[]) as given (mailbox, failure)
where held.client = $1 and held.op_id = $2 and held.mailbox = given.mailbox

-- unfinished_imports --
select op_id, list_id, resubscribe, columns, phase, intended_at, import_id from sync.open_import
where client = $1 and phase in ('intended', 'posted') order by intended_at

-- ended_imports --
-- Of which the logs are still to be read to their end.
select op_id from sync.open_import where client = $1 and phase = 'ended'

-- close_imports --
-- $2 op ids.
update sync.open_import set phase = 'closed' where client = $1 and op_id = any($2::text[])

-- import_rows --
-- $2 op id.
select mailbox, email, held_values, epoch, counter, claims from sync.open_import_row
where client = $1 and op_id = $2 order by mailbox

-- own_import_ids --
select remote_id from sync.effect where client = $1 and kind = 'import' and remote_id is not null

-- subscribing --
-- $2 mailboxes, $3 phases. (mailbox, list) of calls that can subscribe.
select r.mailbox, o.list_id from sync.open_import_row r
join sync.open_import o on o.client = r.client and o.op_id = r.op_id
where r.client = $1 and r.mailbox = any($2::text[]) and o.list_id is not null
  and o.phase = any($3::text[]) and r.failure is null

-- doubtful_rows --
-- $2 op id. Rows of mailboxes that a person's entry in the unsubscription log names, that stand otherwise than as not
-- subscribed, or that have a newer mutation.
select r.mailbox from sync.open_import_row r
join sync.open_import o on o.client = r.client and o.op_id = r.op_id
left join sync.delivery_list l on l.client = r.client and l.mailbox = r.mailbox and l.list_id = o.list_id
left join sync.desired w on w.client = r.client and w.mailbox = r.mailbox
where r.client = $1 and r.op_id = $2
  and (l.state <> 'none' or (w.epoch, w.counter) is distinct from (r.epoch, r.counter)
       or exists (select from sync.list_event e where e.client = r.client and e.mailbox = r.mailbox
                    and e.log = 'unsubscriptions' and e.op_id is null))

-- release_lease --
-- $2 epoch. This leader has stopped.
update fence.lease set expires_at = clock_timestamp() where client = $1 and epoch = $2

-- subscribing_now --
-- $2 mailbox, $3 list id. Whether an import that is under way may subscribe it.
select exists (
    select from sync.open_import_row r join sync.open_import o on o.client = r.client and o.op_id = r.op_id
    where r.client = $1 and r.mailbox = $2 and o.list_id = $3 and o.phase in ('intended', 'posted'))

-- expectations --
-- $2 mailboxes. Calls whose entry in a log may still come.
select op_id, 'unsubscriptions' as log, mailbox, list_id, coalesce(log_position, 0) as position,
       opened_at, ended_at, outcome as state
from sync.effect
where client = $1 and kind = 'unsubscribe' and mailbox = any($2::text[]) and echo_event_id is null
union all
select r.op_id, 'subscriptions', r.mailbox, o.list_id, o.subscription_position, o.intended_at, o.ended_at, 'done'
from sync.open_import_row r join sync.open_import o on o.client = r.client and o.op_id = r.op_id
where r.client = $1 and r.mailbox = any($2::text[]) and o.list_id is not null and r.echo_event_id is null
  and r.failure is null and o.outcome is distinct from 'undone'

-- put_events --
-- $2 log, $3 event ids, $4 types, $5 list ids, $6 recipient ids, $7 mailboxes, $8 e-mails, $9 occurred, $10 seen.
-- Gives the new ones.
insert into sync.list_event (client, log, event_id, type, list_id, recipient_id, mailbox, email, occurred_at, seen_at)
select $1, $2, * from unnest($3::bigint[], $4::text[], $5::bigint[], $6::bigint[], $7::text[], $8::text[],
                             $9::timestamptz[], $10::timestamptz[])
on conflict (client, log, event_id) do nothing
returning event_id

-- echo_events --
-- $2 log, $3 event ids, $4 op ids.
update sync.list_event held set op_id = given.op_id
from unnest($3::bigint[], $4::text[]) as given (event_id, op_id)
where held.client = $1 and held.log = $2 and held.event_id = given.event_id

-- echo_calls --
-- $2 event ids, $3 op ids.
update sync.effect held set echo_event_id = given.event_id
from unnest($2::bigint[], $3::text[]) as given (event_id, op_id)
where held.client = $1 and held.op_id = given.op_id and held.kind = 'unsubscribe'

-- echo_rows --
-- $2 event ids, $3 op ids, $4 mailboxes.
update sync.open_import_row held set echo_event_id = given.event_id
from unnest($2::bigint[], $3::text[], $4::text[]) as given (event_id, op_id, mailbox)
where held.client = $1 and held.op_id = given.op_id and held.mailbox = given.mailbox

-- release_echo --
-- $2 op id, $3 types that stay ours. The call found it done already: what it was taken to have written is the person's.
update sync.list_event set op_id = null, is_produced = false
where client = $1 and log = 'unsubscriptions' and op_id = $2 and not type = any($3::text[])
returning event_id

-- forget_echo --
-- $2 op id.
update sync.effect set echo_event_id = null where client = $1 and op_id = $2

-- unproduced_events --
-- $2 log, $3 at most. Entries that Kafka has not, with the address as far as it is known.
select e.event_id, e.type, e.list_id, e.recipient_id, coalesce(e.email, d.email) as email, e.mailbox, e.occurred_at, e.seen_at, e.op_id
from sync.list_event e left join sync.delivery d on d.client = e.client and d.mailbox = e.mailbox
where e.client = $1 and e.log = $2 and not e.is_produced order by e.event_id limit $3

-- mark_events --
-- $2 log, $3 event ids.
update sync.list_event set is_produced = true, email = null where client = $1 and log = $2 and event_id = any($3::bigint[])

-- heard --
-- $2 mailboxes. Entries of the unsubscription log, echoes included.
select event_id, type, list_id, recipient_id, mailbox, occurred_at, seen_at, op_id from sync.list_event
where client = $1 and log = 'unsubscriptions' and mailbox = any($2::text[])

-- known_lists --
select list_id from sync.known_list where client = $1

-- put_known_lists --
-- $2 list ids.
insert into sync.known_list (client, list_id) select $1, * from unnest($2::bigint[]) on conflict do nothing

-- cursors --
select stream, link, last_event_id, at from sync.cursor where client = $1

-- put_cursor --
-- $2 stream, $3 link, $4 last event id, $5 at.
insert into sync.cursor (client, stream, link, last_event_id, at) values ($1, $2, $3, $4, $5)
on conflict (client, stream) do update
   set link = excluded.link, last_event_id = excluded.last_event_id, at = excluded.at

-- forget_old --
-- $2 seconds. Imports that are closed, with their rows, and attribute writes that everybody knows of.
with imports as (
    delete from sync.open_import where client = $1 and phase = 'closed'
       and ended_at < clock_timestamp() - make_interval(secs => $2)
    returning op_id
), rows as (
    delete from sync.open_import_row r using imports where r.client = $1 and r.op_id = imports.op_id
)
delete from sync.effect where client = $1 and kind = 'patch' and produced = outcome
   and ended_at < clock_timestamp() - make_interval(secs => $2)
