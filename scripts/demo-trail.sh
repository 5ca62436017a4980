# Chapter 8 of scripts/demo.sh, which reads this file: the trail of all that came before, a copy of it that somebody
# changed, and a disk that is full.

trail=$dir/data.pgpci/trail
verify() { "$bin/pgpci" verify "$@" --key "$trail/trail.vkey" 2>&1 || true; }
wait_for() { # wait_for SQL: until it says t
    for _ in $(seq 100); do
        [ "$(quiet -c "$1")" != t ] || return 0
        sleep 0.1
    done
    false
}
show() { printf '\033[36m$ %s\033[0m\n' "$1"; }

title "8. The audit trail: who did what, to be read by auditors only"
refused disputes "SELECT * FROM pci.audit_trail"
as eve "SELECT to_char(a.time, 'HH24:MI:SS') AS time, a.session_user, a.class, a.event, a.objects[1] AS object, a.revealed, a.purpose, a.success, a.sqlstate
        FROM pci.audit(now() - interval '1 hour', now()) a WHERE a.class IN ('REVEAL', 'POLICY') ORDER BY a.seq DESC LIMIT 8"
as eve "SELECT a.session_user, vault, revealed FROM pci.reveals_by_day a"

title "   The auditor keeps a signed checkpoint elsewhere; with it anybody verifies the trail, without the server"
so_far=$(quiet -c 'SELECT last_seq FROM pci.audit_status')
wait_for "SELECT sealed >= $so_far FROM pci.audit_status"
printf '%s\n' "$(quiet -U eve -c "SELECT pci.export_checkpoint()")" >"$dir/checkpoint"
show "cat checkpoint"
cat "$dir/checkpoint"
show "pgpci verify DIR --key trail.vkey --anchor checkpoint"
verify "$trail" --anchor "$dir/checkpoint"

title "   A copy in which somebody is let off: what was changed is found"
cp -r "$trail" "$dir/copy"
rm -f "$dir/copy/"*.vkey
file=$(grep -l '"event":"reveal"' "$dir"/copy/*.jsonl | head -n 1)
sed -i '/"event":"reveal"/s/"session_user":"disputes"/"session_user":"visitors"/' "$file"
show "sed -i 's/\"session_user\":\"disputes\"/\"session_user\":\"visitors\"/' COPY/*.jsonl"
show "pgpci verify COPY --key trail.vkey --anchor checkpoint"
verify "$dir/copy" --anchor "$dir/checkpoint"

title "   A disk that is full: nothing is revealed that cannot be recorded"
if [ "$(id -u)" != 0 ] || ! { mkdir -p "$dir/small" && mount -t tmpfs -o size=2m,mode=0700 tmpfs "$dir/small"; } 2>/dev/null; then
    echo "Skipped: only root may mount a small disk for this."
else
    chown postgres:postgres "$dir/small"
    set_directory() { printf '%s\n' "pgpci.directory = '$1'" "pgpci.local_key_file = '$dir/data.pgpci/local.key'" >>"$dir/data/postgresql.conf"; }
    set_directory "$dir/small/pgpci"
    scripts/cluster.sh restart "$dir" "$port"
    head -c 4M /dev/zero >"$dir/small/ballast" 2>/dev/null || true
    # What is recorded of this fills the rest of the page.
    quiet -c "DO 'BEGIN FOR i IN 1..100 LOOP EXECUTE ''SELECT '' || i; END LOOP; END'"
    wait_for "SELECT state = 'disk full' FROM pci.audit_status"
    refused disputes "SELECT id, pci.reveal(card, 'chargeback') FROM payments WHERE id = 1000"
    as postgres "SELECT state, reason, disk, free_bytes FROM pci.audit_status"
    echo "All else goes on: masks are read, and whoever repairs the disk gets in."
    as shop "SELECT id, card FROM payments WHERE id = 1000"
    rm "$dir/small/ballast"
    echo "There is room again:"
    wait_for "SELECT state = 'running' FROM pci.audit_status"
    as disputes "SELECT id, pci.reveal(card, 'chargeback') FROM payments WHERE id = 1000"
    as eve "SELECT a.class, a.event, a.session_user, a.success, a.sqlstate, a.message FROM pci.audit_trail a
        WHERE a.message LIKE '%audit trail%' ORDER BY a.seq"
    set_directory "$dir/data.pgpci"
    scripts/cluster.sh restart "$dir" "$port"
    umount "$dir/small"
fi
