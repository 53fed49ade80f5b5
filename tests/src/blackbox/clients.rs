//! Clients that write and read registers through whatever node, each call of which is written down.

use std::{path::PathBuf, sync::Arc, time::Duration};

use tokio::{task::JoinSet, time::sleep};
use tokio_util::sync::CancellationToken;

use super::{
    calls,
    dice::Dice,
    history::{Answer, Ask, Entry, History},
    keys::{Key, Keys, Kind},
    plan::MANAGERS,
};

/// Clients at once.
pub const CLIENTS: u32 = 8;
/// A client rests up to so long between two calls, milliseconds.
const REST_MS: u64 = 60;

/// What clients share.
#[derive(Debug)]
pub struct Shared {
    /// The nodes' sockets, node1's first.
    pub sockets: Vec<PathBuf>,
    /// The registers.
    pub keys: Keys,
    /// The calls.
    pub history: History,
}

/// Runs clients until they are told to stop; their calls then end.
pub async fn run(shared: Arc<Shared>, seed: u64, stop: CancellationToken) {
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        let (shared, stop) = (shared.clone(), stop.clone());
        let dice = Dice::new(seed, 100 + u64::from(number));
        clients.spawn(one(shared, number, dice, stop));
    }
    clients.join_all().await;
}

async fn one(shared: Arc<Shared>, number: u32, mut dice: Dice, stop: CancellationToken) {
    let doors = shared.sockets.iter().map(|path| calls::door(path.clone()));
    let mut doors: Vec<_> = doors.collect();
    while !stop.is_cancelled() {
        let key = shared.keys.draw(&mut dice);
        let ask = ask(&shared.keys, key.kind, &mut dice);
        // Workers pass on calls of who only looks.
        let at = match (key.kind, ask) {
            (Kind::Label, Ask::Read | Ask::StaleRead) => dice.below(doors.len()),
            _ => dice.below(MANAGERS),
        };
        let client = Client {
            number,
            shared: &shared,
        };
        client.call(&mut doors[at], 1 + at, &key, ask).await;
        sleep(Duration::from_millis(dice.between(0, REST_MS))).await;
    }
}

fn ask(keys: &Keys, kind: Kind, dice: &mut Dice) -> Ask {
    match (dice.between(0, 100), kind) {
        (0..35, Kind::Label) => Ask::Set(keys.value()),
        (0..30, Kind::Config) => Ask::Create(keys.value()),
        (0..50, _) => Ask::Remove,
        (50..80, _) => Ask::Read,
        _ => Ask::StaleRead,
    }
}

/// One who calls.
pub struct Client<'a> {
    /// For the history.
    pub number: u32,
    /// With others.
    pub shared: &'a Shared,
}

impl Client<'_> {
    /// Makes a call and writes it down, if it was sent.
    pub async fn call(
        &self,
        door: &mut api::proto::control_client::ControlClient<tonic::transport::Channel>,
        through: usize,
        key: &Key,
        ask: Ask,
    ) -> Option<Answer> {
        let history = &self.shared.history;
        let asked_ns = history.now_ns();
        let answer = calls::call(door, key, ask).await?;
        self.shared.keys.ended(key, &answer);
        history.add(Entry {
            client: self.number,
            through,
            key: key.name.clone(),
            ask,
            answer: answer.clone(),
            asked_ns,
            answered_ns: history.now_ns(),
        });
        Some(answer)
    }
}
