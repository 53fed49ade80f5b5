//! What the managers want of this node: a copy, kept by applying their messages, and its form on disk.
//!
//! Pure. A full message replaces all, a difference adds to it; applying the same message twice changes
//! nothing more.

use crate::contents::Held;
use api::convert;
use api::proto::{AssignedTask, Assignments, Endpoint, NetworkView, ServiceView};
use bytes::Bytes;
use std::collections::BTreeMap;

type Pair = (Bytes, Bytes);

/// The copy.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Desired {
    /// The state's revision it reflects.
    pub revision: u64,
    /// Tasks by id.
    pub tasks: BTreeMap<Bytes, AssignedTask>,
    /// Networks by id.
    pub networks: BTreeMap<Bytes, NetworkView>,
    /// Endpoints by network and task.
    pub endpoints: BTreeMap<Pair, Endpoint>,
    /// Services by network and service.
    pub services: BTreeMap<Pair, ServiceView>,
    /// What the secrets and configs of its tasks hold. Not part of its form on disk.
    pub contents: Held,
}

/// What a message touched.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Touched {
    /// Tasks came, went or changed.
    pub tasks: bool,
    /// Networks, endpoints or services did.
    pub networks: bool,
    /// Contents of secrets or configs did.
    pub contents: bool,
}

impl Desired {
    /// Takes a message.
    pub fn apply(&mut self, message: Assignments) -> Touched {
        let mut touched = Touched {
            tasks: message.full || !message.tasks.is_empty() || !message.tasks_removed.is_empty(),
            networks: message.full,
            contents: message.full
                || !message.blobs.is_empty()
                || !message.blobs_removed.is_empty(),
        };
        if message.full {
            *self = Self::default();
        }
        self.revision = message.revision;
        for id in message.tasks_removed {
            self.tasks.remove(&id);
        }
        for assigned in message.tasks {
            if let Some(task) = &assigned.task {
                self.tasks.insert(task.id.clone(), assigned);
            }
        }
        touched.networks |= !(message.networks.is_empty()
            && message.networks_removed.is_empty()
            && message.endpoints.is_empty()
            && message.endpoints_removed.is_empty()
            && message.services.is_empty()
            && message.services_removed.is_empty());
        for id in message.networks_removed {
            self.networks.remove(&id);
            // What was on it goes with it, said or not.
            self.endpoints.retain(|(network, _), _| *network != id);
            self.services.retain(|(network, _), _| *network != id);
        }
        for network in message.networks {
            self.networks.insert(network.id.clone(), network);
        }
        for key in message.endpoints_removed {
            self.endpoints.remove(&(key.network, key.task));
        }
        for endpoint in message.endpoints {
            self.endpoints
                .insert((endpoint.network.clone(), endpoint.task.clone()), endpoint);
        }
        for key in message.services_removed {
            self.services.remove(&(key.network, key.service));
        }
        for service in message.services {
            self.services
                .insert((service.network.clone(), service.service.clone()), service);
        }
        for id in message.blobs_removed {
            if let Ok(id) = convert::blob_id(&id) {
                self.contents.remove(&id);
            }
        }
        for blob in message.blobs {
            match (convert::blob_id(&blob.id), blob.data) {
                (Ok(id), Some(data)) => drop(self.contents.insert(id, data.into())),
                _ => tracing::error!("a secret or a config came without its id or its content"),
            }
        }
        touched
    }

    /// As one full message: its form on disk, which holds no secret.
    #[must_use]
    pub fn to_message(&self) -> Assignments {
        Assignments {
            full: true,
            revision: self.revision,
            tasks: self.tasks.values().cloned().collect(),
            networks: self.networks.values().cloned().collect(),
            endpoints: self.endpoints.values().cloned().collect(),
            services: self.services.values().cloned().collect(),
            ..Assignments::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::proto::{AssignedBlob, BlobData, EndpointKey, Task};
    use proptest::prelude::*;
    use prost::Message;

    fn id(n: u8) -> Bytes {
        Bytes::from(vec![n; 16])
    }

    fn task(n: u8) -> AssignedTask {
        AssignedTask {
            task: Some(Task {
                id: id(n),
                ..Task::default()
            }),
            ..AssignedTask::default()
        }
    }

    fn endpoint(network: u8, task: u8) -> Endpoint {
        Endpoint {
            network: id(network),
            task: id(task),
            ..Endpoint::default()
        }
    }

    fn network(n: u8) -> NetworkView {
        NetworkView {
            id: id(n),
            ..NetworkView::default()
        }
    }

    fn blob(n: u8) -> AssignedBlob {
        AssignedBlob {
            id: id(n),
            data: Some(BlobData {
                value: format!("content {n}").into(),
            }),
        }
    }

    fn message() -> impl Strategy<Value = Assignments> {
        let few = || proptest::collection::vec(0u8..4, 0..4);
        let pairs = || proptest::collection::vec((0u8..4, 0u8..4), 0..4);
        let numbers = (any::<u64>(), few(), few());
        (few(), few(), few(), few(), pairs(), pairs(), numbers).prop_map(
            |(
                tasks,
                gone,
                networks,
                networks_gone,
                ends,
                ends_gone,
                (revision, blobs, blobs_gone),
            )| Assignments {
                revision,
                tasks: tasks.into_iter().map(task).collect(),
                tasks_removed: gone.into_iter().map(id).collect(),
                networks: networks.into_iter().map(network).collect(),
                networks_removed: networks_gone.into_iter().map(id).collect(),
                endpoints: ends.into_iter().map(|(n, t)| endpoint(n, t)).collect(),
                endpoints_removed: ends_gone
                    .into_iter()
                    .map(|(n, t)| EndpointKey {
                        network: id(n),
                        task: id(t),
                    })
                    .collect(),
                blobs: blobs.into_iter().map(blob).collect(),
                blobs_removed: blobs_gone.into_iter().map(id).collect(),
                ..Assignments::default()
            },
        )
    }

    proptest! {
        #[test]
        fn a_message_taken_twice_changes_nothing_more(messages in proptest::collection::vec(message(), 1..6)) {
            let mut desired = Desired::default();
            for message in messages {
                desired.apply(message.clone());
                let once = desired.clone();
                desired.apply(message);
                prop_assert_eq!(&desired, &once);
            }
        }

        #[test]
        fn the_disk_gives_back_all_but_secrets(messages in proptest::collection::vec(message(), 1..6)) {
            let mut desired = Desired::default();
            for message in messages {
                desired.apply(message);
            }
            let kept = desired.to_message().encode_to_vec();
            prop_assert!(!kept.windows(7).any(|part| part == b"content"));
            let mut read = Desired::default();
            read.apply(Assignments::decode(kept.as_slice()).expect("readable"));
            desired.contents.clear();
            prop_assert_eq!(read, desired);
        }
    }

    #[test]
    fn a_removed_network_takes_its_endpoints_along() {
        let mut desired = Desired::default();
        desired.apply(Assignments {
            networks: vec![network(1), network(2)],
            endpoints: vec![endpoint(1, 7), endpoint(2, 7)],
            ..Assignments::default()
        });
        desired.apply(Assignments {
            networks_removed: vec![id(1)],
            ..Assignments::default()
        });
        assert_eq!(
            desired.endpoints.keys().collect::<Vec<_>>(),
            [&(id(2), id(7))]
        );
    }
}
