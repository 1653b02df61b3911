-- Usage that is not in cloud.usage_records: what was counted of it, so that the same can be counted again.
alter table billing.billing_months add column usage_source jsonb;
comment on column billing.billing_months.usage_source is
    'What the frozen usage was counted from, if not from cloud.usage_records: the source, and its files (name, size, etag) or its snapshot. Where it has neither, the records ingested until usage_cutoff.';
