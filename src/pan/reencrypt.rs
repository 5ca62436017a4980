//! Stored values under their vault's newest key.

use pgrx::prelude::*;

use pgpci_core::key::Purpose;
use pgpci_core::seal::{self, Pan};

use super::store_again;
use crate::access::{custodian, require_duty, tables};
use crate::error::Result;
use crate::key::{self, ring::Ring};
use crate::pg::call::{Call, Value, varlena};
use crate::pg::{session, table};

/// `pci.key_id(pan)`
pub fn key_id(call: &mut Call) -> Result<Value> {
    Ok((call.pan(0)?.key_id().0 as i64).into())
}

/// `pci.is_outdated(pan)`
pub fn is_outdated(call: &mut Call) -> Result<Value> {
    Ok(newer(call.pan(0)?)?.is_some().into())
}

/// `pci.reencrypted(pan)`: digits go from key to key without leaving this function.
pub fn reencrypted(call: &mut Call) -> Result<Value> {
    require_duty(custodian::DUTY)?;
    let pan = call.pan(0)?;
    let Some(vault) = newer(pan)? else {
        return Ok(varlena(pan.bytes()));
    };
    let clear = key::with_any_data(pan.key_id(), |key| seal::open(key, pan))??;
    Ok(varlena(store_again(&clear, vault)?.as_bytes()))
}

/// `pci.rehashed(pan)`: the same for the comparison key.
pub fn rehashed(call: &mut Call) -> Result<Value> {
    require_duty(custodian::DUTY)?;
    let pan = call.pan(0)?;
    let vault = Ring::get()?.key(pan.key_id())?.vault;
    let clear = key::with_any_data(pan.key_id(), |key| seal::open(key, pan))??;
    Ok(varlena(store_again(&clear, vault)?.as_bytes()))
}

/// `pci.count_uses(relation, column, key)`: read without the executor, so that no code of the table's owner runs.
pub fn count_uses(call: &mut Call) -> Result<Value> {
    let (table, column, key) = (call.oid(0), call.i32(1) as usize, call.i64(2));
    let mut uses = 0_i64;
    table::scan(table, |row| {
        session::check_interrupts();
        let value = row.get::<&[u8]>(column.wrapping_sub(1));
        let pan = value.and_then(|bytes| Pan::from_stored(bytes).ok());
        uses += i64::from(pan.is_some_and(|pan| pan.key_id().0 as i64 == key));
    });
    Ok(uses.into())
}

/// `pci.note_reencryption(relation, column, blocks_total, blocks_done, more, is_finished)`
pub fn note(call: &mut Call) -> Result<Value> {
    require_duty(custodian::DUTY)?;
    let (relation, column) = (call.oid(0), call.name(1));
    let (total, done, more, finished) = (call.i64(2), call.i64(3), call.i64(4), call.i32(5) & 1 == 1);
    tables::writing(|| {
        Spi::run_with_args(
            "INSERT INTO pci.reencryption AS r VALUES ($1, $2, clock_timestamp(), clock_timestamp(), NULL, $3, $4, $5, $7) \
             ON CONFLICT (relation, column_name) DO UPDATE SET updated_at = clock_timestamp(), \
             started_at = CASE WHEN r.finished_at IS NULL THEN r.started_at ELSE clock_timestamp() END, \
             started_by = CASE WHEN r.finished_at IS NULL THEN r.started_by ELSE $7 END, \
             finished_at = CASE WHEN $6 THEN clock_timestamp() END, blocks_total = $3, blocks_done = $4, \
             values_done = CASE WHEN r.finished_at IS NULL THEN r.values_done ELSE 0 END + $5",
            &[
                relation.into(),
                column.into(),
                total.into(),
                done.into(),
                more.into(),
                finished.into(),
                session::role_name(session::user()).into(),
            ],
        )
    })?;
    Ok(call.null())
}

/// The value's vault, if that has a newer data key.
fn newer(pan: Pan<'_>) -> Result<Option<i32>> {
    if pan.is_comparand() {
        return Ok(None);
    }
    let ring = Ring::get()?;
    let Ok(key) = ring.key(pan.key_id()) else { return Ok(None) };
    // What a destroyed key sealed stays as it is.
    if !key.state.may_reencrypt() {
        return Ok(None);
    }
    let current = ring.current(key.vault, Purpose::Data)?.id;
    Ok((current != key.id).then_some(key.vault))
}
