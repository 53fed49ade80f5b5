//! The indexes say what the tables say: made anew from a snapshot they are the same.

use super::*;
use crate::convert;

proptest! {
    #[test]
    fn a_snapshot_makes_the_same_state(history in history()) {
        play(history, |_, after, _| {
            let restored = State::from_tables(after.tables());
            assert_eq!(contents(&restored), contents(after));
            assert_eq!(restored.revision(), after.revision());
        });
    }

    /// Through bytes, as managers exchange them.
    #[test]
    fn an_encoded_snapshot_makes_the_same_state(history in history()) {
        let state = play(history, |_, _, _| {});
        let tables = convert::decode_tables(&convert::encode_tables(&state.tables())).expect("readable");
        assert_eq!(contents(&State::from_tables(tables)), contents(&state));
    }

    /// A manager that starts from a snapshot comes to the same state as one that took every transaction.
    #[test]
    fn a_restored_state_goes_on_the_same_way(first in history(), second in history()) {
        let mut one = play(first, |_, _, _| {});
        let mut two = State::from_tables(one.tables());
        for seeds in second {
            let revision = one.revision() + 1;
            let transaction = random::transaction(&one, &seeds);
            let outcome = one.apply(revision, transaction.clone());
            prop_assert_eq!(format!("{outcome:?}"), format!("{:?}", two.apply(revision, transaction)));
        }
        prop_assert_eq!(contents(&one), contents(&two));
    }

    #[test]
    fn objects_are_found_by_name_and_by_who_has_them(history in history()) {
        let state = play(history, |_, _, _| {});
        for (id, service) in state.services() {
            prop_assert_eq!(state.service_by_name(&service.spec.name), Some(service));
            let tasks: Vec<_> = state.tasks().values().filter(|t| t.service == *id).collect();
            prop_assert_eq!(state.tasks_of_service(*id).collect::<Vec<_>>(), tasks);
            if let Some(stack) = &service.spec.stack {
                let of_stack = |s: &&Arc<Service>| s.spec.stack.as_ref() == Some(stack);
                let services: Vec<_> = state.services().values().filter(of_stack).collect();
                prop_assert_eq!(state.services_of_stack(stack).collect::<Vec<_>>(), services);
            }
        }
        for network in state.networks().values() {
            prop_assert_eq!(state.network_by_name(&network.spec.name), Some(network));
            prop_assert_eq!(state.vni_holder(network.vni), Some(network.id));
        }
        for blob in state.blobs().values() {
            let key = blob.spec.key();
            prop_assert!(state.blobs_named(&key).any(|found| found == blob));
            let newest = state.blobs().values().filter(|b| b.spec.key() == key).max_by_key(|b| b.version);
            let found = state.find_blob(key.kind, &key.name);
            prop_assert_eq!(Some(found), newest.map(|b| Lookup::Found(b.clone())));
        }
        for id in state.nodes().keys() {
            let tasks: Vec<_> = state.tasks().values().filter(|t| t.node == Some(*id)).collect();
            prop_assert_eq!(state.tasks_of_node(*id).collect::<Vec<_>>(), tasks);
        }
    }
}
