-- Three lanes, and less work for each mailbox of a large load.

alter table sync.desired add column lane smallint not null default 1;
comment on column sync.desired.lane is 'The lane in which the mutation came: 0 priority, 1 normal, 2 bulk.';

-- Written once and read once: to be taken apart and put together again by the server is only work.
alter table sync.desired alter column body type json using body::json;
alter table sync.open_import_row alter column held_values type json using held_values::json,
                                 alter column claims type json using claims::json;

-- Rows are written and removed together with their import, in one transaction each.
alter table sync.open_import_row drop constraint open_import_row_client_op_id_fkey;

-- A mailbox changes several times while a load runs: room for that in its own page.
alter table sync.delivery set (fillfactor = 60);

-- Never searched; to sample them costs more than all other statistics together.
alter table sync.delivery alter column held_values set statistics 0, alter column refusals set statistics 0,
                          alter column claims set statistics 0, alter column rejected_values set statistics 0;
alter table sync.delivery_list alter column claims set statistics 0;
