//! VXLAN network identifiers.

use super::Refusal;
use api::state::State;

/// Those below are left to who makes VXLANs by hand.
const FIRST: u32 = 4096;
const LAST: u32 = (1 << 24) - 1;

/// The lowest that no network holds.
pub(super) fn free(state: &State, name: &str) -> Result<u32, Refusal> {
    (FIRST..=LAST)
        .find(|vni| state.vni_holder(*vni).is_none())
        .ok_or_else(|| {
            Refusal(format!(
                "network {name}: all VNIs are taken; remove networks that nothing uses"
            ))
        })
}
