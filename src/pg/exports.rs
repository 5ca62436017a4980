//! Every C symbol that our SQL names, on one screen: the function behind each is safe Rust.

use std::cmp::Ordering;

use pgrx::{pg_guard, pg_sys};

use crate::pg::call::{Call, quick_order};

macro_rules! exports {
    ($($symbol:ident / $info:ident => $body:path;)*) => {$(
        /// The SQL function of this name; see sql/.
        // SAFETY: fmgr calls it with a valid fcinfo, as declared in sql/; the guard turns panics into errors.
        #[pg_guard]
        #[unsafe(no_mangle)]
        pub unsafe extern "C-unwind" fn $symbol(fcinfo: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
            // SAFETY: see above.
            let mut call = unsafe { Call::new(fcinfo) };
            match $body(&mut call) {
                Ok(value) => value,
                Err(error) => error.raise(),
            }
        }

        /// Version-1 calling convention of the function.
        // SAFETY: only its address is taken by fmgr.
        #[unsafe(no_mangle)]
        pub extern "C" fn $info() -> *const pg_sys::Pg_finfo_record {
            static V1: pg_sys::Pg_finfo_record = pg_sys::Pg_finfo_record { api_version: 1 };
            &V1
        }
    )*};
}

/// An index asks these two some twenty times for each value. What can neither fail nor concern anyone's privileges is
/// answered before the guard is set up; all else goes on to the guarded function.
macro_rules! quick {
    ($($symbol:ident else $guarded:ident: $order:ident => $value:expr;)*) => {$(
        /// The SQL function of this name; see sql/.
        // SAFETY: as in `exports`; nothing here has a destructor.
        #[unsafe(no_mangle)]
        pub unsafe extern "C-unwind" fn $symbol(fcinfo: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
            // SAFETY: the SQL declarations say (pan, pan) and STRICT; then the same call.
            unsafe {
                match quick_order(fcinfo) {
                    Some($order) => $value,
                    None => $guarded(fcinfo),
                }
            }
        }
    )*};
}

quick! {
    pan_eq else pan_eq_guarded: order => pg_sys::Datum::from(order == Ordering::Equal);
    pan_cmp else pan_cmp_guarded: order => pg_sys::Datum::from(order as i32);
}

exports! {
    pan_in / pg_finfo_pan_in => crate::pan::io::input;
    pan_out / pg_finfo_pan_out => crate::pan::io::output;
    pan_recv / pg_finfo_pan_recv => crate::pan::io::receive;
    pan_send / pg_finfo_pan_send => crate::pan::io::send;
    pan_typmod_in / pg_finfo_pan_typmod_in => crate::pan::io::typmod_in;
    pan_typmod_out / pg_finfo_pan_typmod_out => crate::pan::io::typmod_out;
    pan_typanalyze / pg_finfo_pan_typanalyze => crate::pg::analyze::typanalyze;
    pan_from_text / pg_finfo_pan_from_text => crate::pan::io::from_text;
    pan_comparand / pg_finfo_pan_comparand => crate::pan::comparand::pan;
    text_comparand / pg_finfo_text_comparand => crate::pan::comparand::text;
    pans_comparand / pg_finfo_pans_comparand => crate::pan::comparand::pans;
    texts_comparand / pg_finfo_texts_comparand => crate::pan::comparand::texts;
    pan_length / pg_finfo_pan_length => crate::pan::io::to_vault;
    pan_mask / pg_finfo_pan_mask => crate::pan::functions::mask;
    pan_bin / pg_finfo_pan_bin => crate::pan::functions::bin;
    pan_last4 / pg_finfo_pan_last4 => crate::pan::functions::last4;
    pan_brand / pg_finfo_pan_brand => crate::pan::functions::brand;
    pan_truncate / pg_finfo_pan_truncate => crate::pan::functions::truncate;
    text_brand / pg_finfo_text_brand => crate::pan::functions::brand_of_text;
    text_truncate_pan / pg_finfo_text_truncate_pan => crate::pan::functions::truncate_text;
    text_luhn_valid / pg_finfo_text_luhn_valid => crate::pan::functions::luhn_valid;
    pan_reveal / pg_finfo_pan_reveal => crate::pan::doors::reveal;
    pan_hash_pan / pg_finfo_pan_hash_pan => crate::pan::doors::hash_pan;
    pan_eq_guarded / pg_finfo_pan_eq => crate::pan::compare::eq;
    pan_ne / pg_finfo_pan_ne => crate::pan::compare::ne;
    pan_lt / pg_finfo_pan_lt => crate::pan::compare::lt;
    pan_le / pg_finfo_pan_le => crate::pan::compare::le;
    pan_gt / pg_finfo_pan_gt => crate::pan::compare::gt;
    pan_ge / pg_finfo_pan_ge => crate::pan::compare::ge;
    pan_cmp_guarded / pg_finfo_pan_cmp => crate::pan::compare::cmp;
    pan_hash / pg_finfo_pan_hash => crate::pan::compare::hash;
    pan_hash_extended / pg_finfo_pan_hash_extended => crate::pan::compare::hash_extended;
    pan_eq_text / pg_finfo_pan_eq_text => crate::pan::compare_text::eq;
    pan_ne_text / pg_finfo_pan_ne_text => crate::pan::compare_text::ne;
    pan_lt_text / pg_finfo_pan_lt_text => crate::pan::compare_text::lt;
    pan_le_text / pg_finfo_pan_le_text => crate::pan::compare_text::le;
    pan_gt_text / pg_finfo_pan_gt_text => crate::pan::compare_text::gt;
    pan_ge_text / pg_finfo_pan_ge_text => crate::pan::compare_text::ge;
    pan_cmp_text / pg_finfo_pan_cmp_text => crate::pan::compare_text::cmp;
    text_eq_pan / pg_finfo_text_eq_pan => crate::pan::compare_text::text_eq;
    text_ne_pan / pg_finfo_text_ne_pan => crate::pan::compare_text::text_ne;
    text_lt_pan / pg_finfo_text_lt_pan => crate::pan::compare_text::text_lt;
    text_le_pan / pg_finfo_text_le_pan => crate::pan::compare_text::text_le;
    text_gt_pan / pg_finfo_text_gt_pan => crate::pan::compare_text::text_gt;
    text_ge_pan / pg_finfo_text_ge_pan => crate::pan::compare_text::text_ge;
    text_cmp_text / pg_finfo_text_cmp_text => crate::pan::compare_text::text_cmp;
    text_hash_pan / pg_finfo_text_hash_pan => crate::pan::compare_text::hash;
    text_hash_pan_extended / pg_finfo_text_hash_pan_extended => crate::pan::compare_text::hash_extended;
    pci_audit / pg_finfo_pci_audit => crate::audit::read::audit;
    pci_verify_audit / pg_finfo_pci_verify_audit => crate::audit::verify::verify_audit;
    pci_export_checkpoint / pg_finfo_pci_export_checkpoint => crate::audit::verify::export_checkpoint;
    pci_rotate_audit_key / pg_finfo_pci_rotate_audit_key => crate::audit::rotation::rotate_audit_key;
    pci_audit_status / pg_finfo_pci_audit_status => crate::audit::verify::status;
    pci_init / pg_finfo_pci_init => crate::access::init::init;
    pci_accept_policy / pg_finfo_pci_accept_policy => crate::access::init::accept_policy;
    pci_protect / pg_finfo_pci_protect => crate::access::tables::protect;
    pci_grant_access / pg_finfo_pci_grant_access => crate::access::grant::grant;
    pci_revoke_access / pg_finfo_pci_revoke_access => crate::access::grant::revoke;
    pci_is_active / pg_finfo_pci_is_active => crate::access::init::is_active;
    pci_set_display / pg_finfo_pci_set_display => crate::access::grant::set_display;
    pci_approve / pg_finfo_pci_approve => crate::access::requests::approve;
    pci_reject / pg_finfo_pci_reject => crate::access::requests::reject;
    pci_create_vault / pg_finfo_pci_create_vault => crate::access::vaults::create_vault;
    pci_set_cryptoperiod / pg_finfo_pci_set_cryptoperiod => crate::access::vaults::set_cryptoperiod;
    pci_rekey_equality / pg_finfo_pci_rekey_equality => crate::access::rekey::rekey_equality;
    pan_rehashed / pg_finfo_pan_rehashed => crate::pan::reencrypt::rehashed;
    pci_rotate_key / pg_finfo_pci_rotate_key => crate::access::custodian::rotate_key;
    pci_suspend_key / pg_finfo_pci_suspend_key => crate::access::custodian::suspend_key;
    pci_resume_key / pg_finfo_pci_resume_key => crate::access::custodian::resume_key;
    pci_compromise_key / pg_finfo_pci_compromise_key => crate::access::custodian::compromise_key;
    pci_destroy_key / pg_finfo_pci_destroy_key => crate::access::custodian::destroy_key;
    pci_shred_vault / pg_finfo_pci_shred_vault => crate::access::custodian::shred_vault;
    pci_rewrap_keys / pg_finfo_pci_rewrap_keys => crate::access::rewrap::rewrap_keys;
    pci_confirm_rewrap / pg_finfo_pci_confirm_rewrap => crate::access::rewrap::confirm_rewrap;
    pci_count_uses / pg_finfo_pci_count_uses => crate::pan::reencrypt::count_uses;
    pan_key_id / pg_finfo_pan_key_id => crate::pan::reencrypt::key_id;
    pan_is_outdated / pg_finfo_pan_is_outdated => crate::pan::reencrypt::is_outdated;
    pan_reencrypted / pg_finfo_pan_reencrypted => crate::pan::reencrypt::reencrypted;
    pci_note_reencryption / pg_finfo_pci_note_reencryption => crate::pan::reencrypt::note;
    pci_check_password / pg_finfo_pci_check_password => crate::auth::check_password_function;
    pci_set_account / pg_finfo_pci_set_account => crate::auth::life::set_account;
    pci_lock_account / pg_finfo_pci_lock_account => crate::auth::life::lock_account;
    pci_unlock_account / pg_finfo_pci_unlock_account => crate::auth::life::unlock_account;
    pci_exempt / pg_finfo_pci_exempt => crate::auth::exemptions::exempt;
    pci_end_exemption / pg_finfo_pci_end_exemption => crate::auth::exemptions::end_exemption;
    pci_begin_restore / pg_finfo_pci_begin_restore => crate::auth::exemptions::begin_restore;
    pci_end_restore / pg_finfo_pci_end_restore => crate::auth::exemptions::end_restore;
    pci_exemptions / pg_finfo_pci_exemptions => crate::auth::exemptions::all;
    pci_account / pg_finfo_pci_account => crate::auth::life::account;
    pci_key_status / pg_finfo_pci_key_status => crate::key::status;
}
