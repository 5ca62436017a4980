# Chapter 11 of scripts/demo.sh, which reads this file: passwords, a lockout, and an exemption.

# By password, as over the network; the demo's own roles go on without.
sed -i '1i local all kate scram-sha-256' "$dir/data/pg_hba.conf"
quiet -c "SELECT pg_reload_conf()" >"$dir/out"
as_kate() { # as_kate PASSWORD SQL...
    PGPASSWORD=$1
    export PGPASSWORD
    shift
    as kate "$@"
    unset PGPASSWORD
}

title "11. Passwords: a weak one, the first one, and one that was used before"
refused postgres "CREATE ROLE kate LOGIN PASSWORD 'Kate2026'"
as postgres "CREATE ROLE kate LOGIN PASSWORD 'harbour-55-paper-kite'"
PGPASSWORD='harbour-55-paper-kite' refused kate "SELECT 1"
as_kate 'harbour-55-paper-kite' "ALTER ROLE CURRENT_USER PASSWORD 'velvet-31-otter-lamp'"
PGPASSWORD='velvet-31-otter-lamp' refused kate "ALTER ROLE CURRENT_USER PASSWORD 'harbour-55-paper-kite'"

title "    Six wrong passwords lock; then the right one looks like a wrong one"
for guess in summer winter spring autumn sunday monday; do
    PGPASSWORD=$guess psql -X -q -h "$dir" -p "$port" -U kate -d postgres -c "SELECT 1" >"$dir/out" 2>&1 || true
done
tail -n 1 "$dir/out"
PGPASSWORD='velvet-31-otter-lamp' refused kate "SELECT 1"
as ann "SELECT role, kind, is_locked, locked_until > now() + interval '29 min' AS for_half_an_hour, failed_logins FROM pci.accounts WHERE role = 'kate'" \
    "SELECT pci.unlock_account('kate')"
as_kate 'velvet-31-otter-lamp' "SELECT 'in again' AS kate"

title "    Weaker than PCI DSS: only by exemption, which a second officer approves and which ends by itself"
as ann "SELECT pci.exempt('password_max_age', 180, now() + interval '90 days', 'terminal cannot change it', role => 'kate') AS request"
request=$(quiet -c "SELECT max(id) FROM pci.request")
refused ann "SELECT pci.approve($request)"
as bob "SELECT pci.approve($request)"
as ann "SELECT role, control, value, until::date, reason FROM pci.exemptions"
as eve "SELECT a.session_user, a.class, a.event FROM pci.audit_trail a WHERE a.event LIKE 'role \"kate\"%' ORDER BY a.seq"
