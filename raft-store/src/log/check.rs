//! What is done to a log before it is used: what a crash has left is removed, and all of it is read.

use super::*;

impl Log {
    /// Removes what a crash has left of unfinished work, and reads all of it: this version can, and nothing is
    /// missing that was durable.
    pub async fn tidy(&mut self) -> io::Result<()> {
        // sled has panics for damage that it doesn't look for.
        let done = AssertUnwindSafe(self.repair()).catch_unwind().await;
        let done = done.unwrap_or_else(|panic| Err(self.panicked(&*panic)));
        done.map_err(|error| said_of_damage(error, &self.dir, &self.suspects))
    }

    fn panicked(&self, panic: &(dyn std::any::Any + Send)) -> io::Error {
        let what = format!("the log in {}", self.dir.display());
        codec::damaged(&what, panic_text(panic))
    }

    /// Does something with the database; a panic of it is an error that names the log.
    pub(super) fn unpanicked<T>(&self, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        std::panic::catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
            let error = self.panicked(&*panic);
            Err(said_of_damage(error, &self.dir, &self.suspects))
        })
    }

    async fn repair(&mut self) -> io::Result<()> {
        self.read_committed().await?;
        if let Some(purged) = self.get::<LogId>("purged")? {
            self.begins.store(purged.index + 1, Ordering::Release);
            self.purger.remove(purged.index)?;
        }
        // A large entry is written from its end: without its part 0 it isn't there.
        let mut piece = Piece::default();
        for pair in self.entries.iter().rev() {
            let (key, value) = pair.map_err(sled_failed)?;
            let (index, part) = self.position(&key)?;
            if part == 0
                || self
                    .entries
                    .contains_key(self::key(index, 0))
                    .map_err(sled_failed)?
            {
                break;
            }
            self.make_room(&mut piece, value.len()).await?;
            piece.remove(&key, value.len());
        }
        self.write(piece).await?;
        let now = self.verify().await?;
        *self.reached() = now;
        self.flusher.barrier().await
    }

    /// Reads it all: no entry is missing between two others, and it reaches as far as it did. How far.
    async fn verify(&mut self) -> io::Result<Reached> {
        let damaged = |why: String| {
            let what = format!("the log in {}", self.dir.display());
            Err(codec::damaged(&what, why))
        };
        let purged = self.get::<LogId>("purged")?;
        let mut last = purged;
        loop {
            let next = last.map_or(0, |id| id.index + 1);
            let (entries, bytes) = self.read_counted(next.., READ_AT_ONCE)?;
            if entries.is_empty() {
                break;
            }
            self.appended.add(bytes);
            for entry in entries {
                let (id, next) = (entry.log_id(), last.map_or(0, |id| id.index + 1));
                if id.index != next {
                    return damaged(format!(
                        "entry {next} is missing, entry {} is there",
                        id.index
                    ));
                }
                if last.is_some_and(|last| last.leader_id > id.leader_id) {
                    return damaged(format!("entry {next} is older than the one before it"));
                }
                last = Some(id);
            }
        }
        let vote = self.get::<Vote>("vote")?;
        let now = Reached {
            vote: vote.as_ref().map(voted),
            last: last.as_ref().map(position),
        };
        let Some(before) = self.before else {
            return Ok(now);
        };
        if now.vote < before.vote {
            return damaged("its last vote is missing".into());
        }
        let Some((leader, index)) = before.last else {
            return Ok(now);
        };
        // Of those that were purged on purpose nothing is left to compare.
        if purged.is_none_or(|purged| purged.index < index) {
            let found = self.read(index..=index, 1)?.pop();
            match found.as_ref().map(|entry| position(&entry.log_id()).0) {
                Some(found) if found >= leader => {}
                Some(_) => return damaged(format!("entry {index} is older than it was")),
                None => {
                    let end = last.map_or("is empty".into(), |id| {
                        format!("ends at entry {}", id.index)
                    });
                    return damaged(format!("it {end}, and entry {index} was acknowledged"));
                }
            }
        }
        Ok(now)
    }
}
