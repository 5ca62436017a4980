# Chapters 9 and 10 of scripts/demo.sh, which reads this file: the same keys in AWS KMS, then in an HSM, then back.
# KMS is moto's server on loopback, the HSM is SoftHSM: emulators, to be tried out with and nothing else.

end_moto() { [ -z "${moto:-}" ] || { kill "$moto" && wait "$moto"; moto=''; } 2>/dev/null || true; }
trap end_moto EXIT

kms() { # kms OPERATION JSON: what an administrator does in KMS, and pgpci never
    curl -sSf "$kms_url" -H "X-Amz-Target: TrentService.$1" -H 'Content-Type: application/x-amz-json-1.1' -d "$2" \
        -H 'Authorization: AWS4-HMAC-SHA256 Credential=AKID/20260101/eu-west-1/kms/aws4_request'
}
give_to_server() { [ "$(id -u)" != 0 ] || chown -R postgres:postgres "$@"; }
configure() { printf '%s\n' "$@" | sed 's/^/postgresql.conf: /'; printf '%s\n' "$@" >>"$dir/data/postgresql.conf"; }
where_keys_are() {
    as cy "SELECT purpose, version, state, provider, kek FROM pci.keys ORDER BY purpose"
    as cy "SELECT provider, cached_keys, provider_calls, failed_calls, last_latency_ms FROM pci.key_status"
}
reveal() { as disputes "SELECT id, card, pci.reveal(card, 'chargeback') FROM payments WHERE id = 1000"; }

title "9. Keys in AWS KMS (moto on loopback): no row of card data is touched"
if [ ! -x .venv/bin/moto_server ] && ! { scripts/setup.sh demo && { [ -x .venv/bin/python ] || python3 -m venv .venv; } &&
    .venv/bin/python -m pip install --quiet --disable-pip-version-check -r tests/kms/requirements.txt; }; then
    echo "Skipped: moto cannot be installed here (Debian's python3-venv, and moto[server] from PyPI)."
else
    .venv/bin/moto_server -H 127.0.0.1 -p 0 >"$dir/moto.log" 2>&1 &
    moto=$!
    for _ in $(seq 100); do
        kms_url=$(sed -n 's|.*Running on \(http://127[^ ]*\).*|\1|p' "$dir/moto.log")
        [ -z "$kms_url" ] || break
        sleep 0.1
    done
    key=$(kms CreateKey '{"KeyUsage":"ENCRYPT_DECRYPT"}' | sed 's/.*"KeyId": *"\([^"]*\)".*/\1/')
    kms CreateAlias "{\"AliasName\":\"alias/cards\",\"TargetKeyId\":\"$key\"}" >/dev/null
    # The server finds credentials as the SDK's ordinary chain does; moto takes any.
    export AWS_ACCESS_KEY_ID=demo AWS_SECRET_ACCESS_KEY=demo AWS_EC2_METADATA_DISABLED=true
    configure "pgpci.aws_region = 'eu-west-1'" "pgpci.aws_endpoint_url = '$kms_url'"
    scripts/cluster.sh restart "$dir" "$port"
    as cy "SELECT pci.rewrap_keys('default', 'aws', 'alias/cards')" "SELECT pci.confirm_rewrap('default')" >"$dir/out"
    grep '=>' "$dir/out"
    echo "The key file is taken away, and the server restarted: KMS is asked once for each key that is needed."
    mv "$dir/data.pgpci/local.key" "$dir/local.key.aside"
    scripts/cluster.sh restart "$dir" "$port"
    reveal
    where_keys_are
    mv "$dir/local.key.aside" "$dir/data.pgpci/local.key"
fi

title "10. Keys in an HSM (SoftHSM)"
softhsm=$(find /usr/lib -name libsofthsm2.so 2>/dev/null | head -n 1)
if { [ -z "$softhsm" ] || ! command -v pkcs11-tool >/dev/null; } && ! scripts/setup.sh demo; then
    echo "Skipped: Debian's softhsm2 and opensc cannot be installed here."
else
    softhsm=$(find /usr/lib -name libsofthsm2.so | head -n 1)
    mkdir -p "$dir/hsm/tokens"
    printf 'directories.tokendir = %s\nobjectstore.backend = file\n' "$dir/hsm/tokens" >"$dir/hsm/softhsm2.conf"
    export SOFTHSM2_CONF=$dir/hsm/softhsm2.conf
    pin=$(od -An -N4 -tu4 /dev/urandom | tr -d ' ')
    (umask 077 && echo "$pin" >"$dir/hsm/pin")
    softhsm2-util --init-token --free --label cards --so-pin "$pin" --pin "$pin" >/dev/null
    pkcs11-tool --module "$softhsm" --token-label cards --login --pin "$pin" \
        --keygen --key-type AES:32 --sensitive --label cards-2026 >/dev/null 2>&1
    give_to_server "$dir/hsm"
    configure "pgpci.pkcs11_module = '$softhsm'" "pgpci.pkcs11_token = 'cards'" "pgpci.pkcs11_pin_file = '$dir/hsm/pin'"
    scripts/cluster.sh restart "$dir" "$port"
    as cy "SELECT pci.rewrap_keys('default', 'pkcs11', 'cards-2026')" "SELECT pci.confirm_rewrap('default')" >"$dir/out"
    grep '=>' "$dir/out"
    end_moto
    scripts/cluster.sh restart "$dir" "$port"
    reveal
    where_keys_are
fi

if [ "$(quiet -c "SELECT provider FROM pci.vault")" != local ]; then
    title "   Back to the key file, for the emulators end with this demo: that is weaker, so a second custodian must agree"
    as cy "SELECT pci.rewrap_keys('default', 'local', '')"
    request=$(quiet -c "SELECT max(id) FROM pci.request")
    refused cy "SELECT pci.approve($request)"
    as di "SELECT pci.approve($request)" "SELECT pci.confirm_rewrap('default')" >"$dir/out"
    grep '=>' "$dir/out"
    end_moto
    scripts/cluster.sh restart "$dir" "$port"
    reveal
fi
