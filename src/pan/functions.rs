//! What can be said of a card number without a key.

use pgpci_core::brand::{brand_of, truncate as display};
use pgpci_core::pan::{self, ClearPan};
use pgpci_core::seal::MAX_SHOWN;

use crate::error::Result;
use crate::pg::call::{Call, Value, varlena};

/// `pci.mask(pan)`, and the casts to text types.
pub fn mask(call: &mut Call) -> Result<Value> {
    let mut out = [0; 19];
    let len = call.pan(0)?.mask(&mut out);
    Ok(varlena(&out[..len]))
}

/// `pci.bin(pan)`: the leading digits that are stored clear, at most 8.
pub fn bin(call: &mut Call) -> Result<Value> {
    let mut out = [0; 8];
    let len = call.pan(0)?.bin(&mut out);
    Ok(varlena(&out[..len]))
}

/// `pci.last4(pan)`
pub fn last4(call: &mut Call) -> Result<Value> {
    let mut out = [0; 4];
    let len = call.pan(0)?.last4(&mut out);
    Ok(varlena(&out[..len]))
}

/// `pci.brand(pan)`: from the digits that are stored clear.
pub fn brand(call: &mut Call) -> Result<Value> {
    let pan = call.pan(0)?;
    let (mut out, len) = ([b'0'; 19], pan.pan_len());
    let mut bin = [0; 8];
    let shown = pan.bin(&mut bin);
    out[..shown].copy_from_slice(&bin[..shown]);
    Ok(varlena(brand_of(&out[..len]).name().as_bytes()))
}

/// `pci.truncate_pan(pan)`: the digits that are stored clear.
pub fn truncate(call: &mut Call) -> Result<Value> {
    let pan = call.pan(0)?;
    let mut out = [0; MAX_SHOWN];
    let len = pan.shown(&mut out);
    Ok(varlena(&out[..len]))
}

/// `pci.brand(text)`
pub fn brand_of_text(call: &mut Call) -> Result<Value> {
    let clear = ClearPan::parse(call.bytes(0))?;
    Ok(varlena(clear.brand().name().as_bytes()))
}

/// `pci.truncate_pan(text)`: the first six and last four digits, fewer for short numbers.
pub fn truncate_text(call: &mut Call) -> Result<Value> {
    let clear = ClearPan::parse(call.bytes(0))?;
    let shown = display(&clear, 6, 4);
    let digits = clear.to_digits();
    let text = digits.as_str();
    let (first, last) = (shown.first as usize, shown.last as usize);
    let (front, back) = (text.get(..first), text.get(text.len() - last..));
    Ok(varlena([front.unwrap_or_default(), back.unwrap_or_default()].concat().as_bytes()))
}

/// `pci.luhn_valid(text)`
pub fn luhn_valid(call: &mut Call) -> Result<Value> {
    Ok(pan::luhn_valid(call.bytes(0)).into())
}
