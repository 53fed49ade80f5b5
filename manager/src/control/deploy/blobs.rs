//! A stack's secrets and configs: found, or made as a further version.

use super::{Plan, lookup};
use api::model::{Blob, BlobId, BlobKey, BlobSpec, Meta, StackSpec};
use api::state::Op;
use std::collections::{BTreeMap, BTreeSet};

impl Plan {
    /// Makes those that are missing. The ids of all that services may name.
    pub(super) fn blobs(
        &mut self,
        spec: &StackSpec,
        new_id: &mut impl FnMut() -> u128,
    ) -> BTreeMap<BlobKey, BlobId> {
        let mut ids = BTreeMap::new();
        for key in &spec.external_blobs {
            let newest = self.state.blobs_named(key).next_back().map(|blob| blob.id);
            match newest {
                Some(id) => drop(ids.insert(key.clone(), id)),
                None => self.no_external(key),
            }
        }
        let used: BTreeSet<BlobKey> = spec
            .services
            .values()
            .flat_map(|service| service.blobs.iter().map(|file| file.source.clone()))
            .collect();
        for wanted in spec.blobs.iter().filter(|blob| used.contains(&blob.key())) {
            let id = self.blob(wanted, BlobId(new_id()));
            ids.extend(id.map(|id| (wanted.key(), id)));
        }
        ids
    }

    fn no_external(&mut self, key: &BlobKey) {
        let BlobKey { kind, name } = key;
        let of_kind = self.state.blobs().values().filter(|b| b.spec.kind == *kind);
        let names = of_kind.map(|blob| blob.spec.name.as_str());
        let hint = lookup::nearest(name, names).map(|near| format!(", or name {near}"));
        self.problems.push(format!(
            "{key} is external and is not there: make it with `clusterctl {kind} create {name} FILE`{}",
            hint.unwrap_or_default()
        ));
    }

    fn blob(&mut self, wanted: &BlobSpec, id: BlobId) -> Option<BlobId> {
        let key = wanted.key();
        let versions: Vec<_> = self.state.blobs_named(&key).cloned().collect();
        if let Some(other) = versions.iter().find(|b| b.spec.stack != wanted.stack) {
            let owner = other.spec.stack.as_ref().map_or_else(
                || "not of a stack".to_owned(),
                |stack| format!("of stack {stack}"),
            );
            self.problems.push(format!(
                "{key} is there already and {owner}: declare it `external: true`, or name it otherwise"
            ));
            return None;
        }
        // An older version serves as well, if tasks have kept it until now.
        let same = versions.iter().find(|b| b.spec.data == wanted.data);
        if let Some(there) = same {
            if there.spec.labels == wanted.labels {
                self.reply.unchanged.push(key.to_string());
            } else if self.push(Op::UpdateBlob {
                id: there.id,
                labels: wanted.labels.clone(),
                at_revision: there.meta.revision,
            }) {
                self.reply.updated.push(key.to_string());
            }
            return Some(there.id);
        }
        let newest = versions.last().map_or(0, |blob| blob.version);
        let op = Op::CreateBlob(Box::new(Blob {
            id,
            meta: Meta::default(),
            version: newest.saturating_add(1),
            spec: wanted.clone(),
        }));
        if !self.push(op) {
            return None;
        }
        if newest == 0 {
            self.reply.created.push(key.to_string());
        } else {
            self.reply.updated.push(key.to_string());
        }
        Some(id)
    }
}

#[cfg(test)]
mod tests;
