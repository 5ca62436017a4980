//! `pci.rekey_equality`: a vault's comparison key is replaced, and with it the hash in each stored value.
//!
//! No moment may see old and new hashes side by side: the tables that hold or may take values of the vault are locked
//! against everybody (ACCESS EXCLUSIVE), all of them before the first value is rewritten. So both sides of a foreign
//! key change together, and its checks, triggers and rules stay out of it.

use pgpci_core::key::{KeyState, Purpose};
use pgrx::prelude::*;

use super::custodian::{self, make_key, run, write_state};
use super::{require_direct, tables};
use crate::audit::{self, Class};
use crate::error::Result;
use crate::key::ring::{Key, Ring};
use crate::pg::call::{Call, Value};
use crate::pg::catalog;
use crate::pg::identity::as_owner;

/// Columns that hold or may take values of a vault, by table; a partitioned table stands for its partitions.
const COLUMNS: &str = "SELECT c.oid::pg_catalog.regclass::text, c.relkind::text, c.relowner, \
        array_agg(pg_catalog.quote_ident(k.name) ORDER BY k.number) FILTER (WHERE NOT k.is_generated) \
    FROM pci.card_columns k JOIN pg_catalog.pg_class c ON c.oid = k.relation \
    WHERE NOT c.relispartition AND (c.relkind <> 'm' OR c.relispopulated) AND k.vault IN (0, $1) \
    GROUP BY c.oid, c.relkind, c.relowner ORDER BY c.oid";

/// A table and those of its columns.
struct Table {
    name: String,
    kind: String,
    owner: pg_sys::Oid,
    columns: Vec<String>,
}

/// `pci.rekey_equality(vault)`: the new key
pub fn rekey_equality(call: &mut Call) -> Result<Value> {
    require_direct(call)?;
    custodian::on_duty()?;
    let ring = custodian::ring_to_change()?;
    let vault = ring.vault_named(&call.text(0))?;
    vault.require_searchable()?;
    for table in tables_of(vault.number)?.iter().filter(|table| table.kind != "m") {
        run(&format!("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE", table.name), &[])?;
    }
    let old: Vec<&Key> = ring.keys(vault.number, Purpose::Equality).collect();
    let version = old.iter().map(|key| key.version).max().unwrap_or(0) + 1;
    let id = make_key(&ring, vault.number, Purpose::Equality, version, &vault.provider, &vault.kek)?;
    for key in old.into_iter().filter(|key| key.state == KeyState::Active) {
        write_state(key, KeyState::Deactivated, "replaced by the next version")?;
    }
    catalog::changed("key");
    let count = rehash(&ring, vault.number)?;
    audit::record(
        Class::Key,
        &format!("equality key of vault \"{}\" replaced by version {version}, {count} values", vault.name),
    );
    pgrx::notice!(
        "{count} values have a hash under the new key; old row versions keep theirs until VACUUM FULL, backups and constants in definitions for good"
    );
    Ok((id as i64).into())
}

/// Rewrites the stored values, which are found as of now: under the locks nobody adds any.
fn rehash(ring: &Ring, vault: i32) -> Result<u64> {
    let alive = ring.keys(vault, Purpose::Data).filter(|key| key.state.may_reencrypt());
    let keys: Vec<i64> = alive.map(|key| key.id.0 as i64).collect();
    let mut count = 0;
    for Table { name, kind, owner, columns } in tables_of(vault)? {
        if kind == "m" {
            pgrx::warning!("materialized view {name} keeps old hashes until REFRESH MATERIALIZED VIEW");
            continue;
        }
        let only = if kind == "r" { "ONLY" } else { "" };
        for column in columns {
            let statement = format!(
                "UPDATE {only} {name} SET {column} = pci.rehashed({column}) WHERE pci.key_id({column}) = ANY ($1)"
            );
            // This function has the rights of a superuser, and what is written sets off code of the table's owner.
            count += as_owner(owner, || {
                tables::rewriting(|| {
                    Spi::connect_mut(|client| {
                        let updated = client.update(statement.as_str(), None, &[keys.clone().into()])?;
                        Ok::<_, pgrx::spi::Error>(updated.len() as u64)
                    })
                })
            })?;
        }
    }
    Ok(count)
}

fn tables_of(vault: i32) -> Result<Vec<Table>> {
    Ok(Spi::connect(|client| {
        let found = client.select(COLUMNS, None, &[vault.into()])?;
        found
            .map(|row| {
                Ok(Table {
                    name: row.get(1)?.unwrap_or_default(),
                    kind: row.get(2)?.unwrap_or_default(),
                    owner: row.get(3)?.unwrap_or(pg_sys::InvalidOid),
                    columns: row.get::<Vec<String>>(4)?.unwrap_or_default(),
                })
            })
            .collect::<std::result::Result<Vec<_>, pgrx::spi::Error>>()
    })?)
}
