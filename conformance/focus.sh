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
# October carries a correction to pay and one to its tenant's credit: of April invoices that were paid before. Its bill
# has a refund, up to the last second, and a deployment a name that a spreadsheet would run.
"$arcadia" mark-invoice-paid INV-202604-00010 INV-202604-00002 --paid-on "$(date -u +%F)" \
    --operator conformance --reason "so that October corrects them" --no-dry-run >> "$work/log"
"$arcadia" db psql -q -c "
    insert into cloud.usage_records
    select gen_random_uuid(), id, 'droplet_hours', case tenant_id when 'pilot' then 100 else -100 end, '2026-04-15', now()
    from cloud.cloud_deployments where name in ('pilot-web', 'billabong-arena');
    update cloud.cloud_deployments set name = 'quoll;=1+2' where name = 'quoll-render'" >> "$work/log"
"$arcadia" invoice 2026-04 >> "$work/log"
"$arcadia" invoice 2026-10 >> "$work/log"
refund="2026-10-01T00:00:00Z,2026-10-31T23:59:59Z"
{
    grep -v ^Total sql/sample_bills/2026-10.csv
    echo "Droplets,,,,web (s-1vcpu-2gb) refund,-0.39,24,Hours,$refund,pilot-web,iaas"
} > "$work/2026-10.csv"
"$arcadia" costs import "$work/2026-10.csv" --total 1454.67 >> "$work/log"

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
for found in Tax.*Correction Adjustment.*Correction "quoll;'=1+2"; do
    grep -q "$found" "$work/revenue-2026-10.csv"
done

"$python" conformance/validate.py "${files[@]}"
