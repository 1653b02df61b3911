#!/usr/bin/env bash
# Both sides of the sample year as FOCUS files, made by `arcadia` on a database of their own, through the official
# validator: focus.sh BIN VALIDATOR, the folder of `arcadia` and the Python that has the validator. See `make focus`.
set -euo pipefail
cd "$(dirname "$0")/.."
arcadia=$1/arcadia
python=$2

work=$(mktemp -d)
export ARCADIA_HOME=$work/home ARCADIA_DATABASE_URL= ARCADIA_FIRST_MONTH= ARCADIA_ALERT_WEBHOOK_URL=
trap '"$arcadia" db down > /dev/null; rm -rf "$work"' EXIT

echo "invoicing the sample year"
"$arcadia" demo > "$work/log"
# October carries a correction to pay and one to its tenant's credit: of April invoices that were paid before.
"$arcadia" mark-invoice-paid INV-202604-00010 INV-202604-00002 --paid-on 2026-05-14 \
    --operator conformance --reason "so that October corrects them" --no-dry-run >> "$work/log"
"$arcadia" db psql -q -c "
    insert into cloud.usage_records
    select gen_random_uuid(), id, 'droplet_hours', case tenant_id when 'pilot' then 100 else -100 end, '2026-04-15', now()
    from cloud.cloud_deployments where name in ('pilot-web', 'billabong-arena')" >> "$work/log"
"$arcadia" invoice 2026-04 >> "$work/log"
"$arcadia" invoice 2026-10 >> "$work/log"
"$arcadia" costs import sql/sample_bills/2026-10.csv >> "$work/log"

files=()
for month in 2026-{01..10}; do
    for side in revenue cost; do
        files+=("$work/$side-$month.csv")
    done
done
for side in revenue cost; do
    files+=("$work/$side-2026-10.parquet")
done
for file in "${files[@]}"; do
    name=$(basename "${file%.*}")
    "$arcadia" export focus "${name#*-}" --side "${name%%-*}" --out "$file" >> "$work/log"
done
grep -q Correction "$work/revenue-2026-10.csv"

"$python" conformance/validate.py "${files[@]}"
