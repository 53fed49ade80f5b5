use super::*;
use crate::blackbox::dice::Dice;

/// A call from one time to another.
fn call(from: u64, to: u64, ask: Ask, answer: Answer) -> Entry {
    Entry {
        client: 0,
        through: 1,
        key: "k".into(),
        ask,
        answer,
        asked_ns: from,
        answered_ns: to,
    }
}

fn unknown() -> Answer {
    Answer::Unknown("no answer".into())
}

fn judged(entries: &[Entry]) -> bool {
    linearizable(entries).is_ok()
}

#[test]
fn what_happened_one_after_another_is_fine() {
    assert!(judged(&[]));
    assert!(judged(&[
        call(0, 1, Ask::Read, Answer::Holds(None)),
        call(2, 3, Ask::Create(1), Answer::Done),
        call(4, 5, Ask::Create(2), Answer::Exists),
        call(6, 7, Ask::Set(3), Answer::Done),
        call(8, 9, Ask::Read, Answer::Holds(Some(3))),
        call(10, 11, Ask::Remove, Answer::Done),
        call(12, 13, Ask::Remove, Answer::Absent),
        call(14, 15, Ask::Read, Answer::Holds(None)),
    ]));
}

#[test]
fn what_happened_side_by_side_may_have_happened_in_any_order() {
    for seen in [1, 2] {
        assert!(judged(&[
            call(0, 10, Ask::Set(1), Answer::Done),
            call(0, 10, Ask::Set(2), Answer::Done),
            call(11, 12, Ask::Read, Answer::Holds(Some(seen))),
        ]));
    }
}

#[test]
fn a_lost_acknowledgement_is_seen() {
    let lost = [
        call(0, 1, Ask::Set(1), Answer::Done),
        call(2, 3, Ask::Set(2), Answer::Done),
        call(4, 5, Ask::Read, Answer::Holds(Some(1))),
    ];
    let told = linearizable(&lost).unwrap_err().to_string();
    assert!(
        told.contains("Read -> Holds(Some(1))") && told.contains("it holds Some(2)"),
        "{told}"
    );
    assert!(!judged(&[
        call(0, 1, Ask::Create(1), Answer::Done),
        call(2, 3, Ask::Read, Answer::Holds(None)),
    ]));
    // A removal, too, is a write.
    assert!(!judged(&[
        call(0, 1, Ask::Create(1), Answer::Done),
        call(2, 3, Ask::Remove, Answer::Done),
        call(4, 5, Ask::Create(2), Answer::Exists),
    ]));
}

#[test]
fn a_stale_answer_is_seen() {
    // The write is over when the read begins, and another has seen it.
    assert!(!judged(&[
        call(0, 100, Ask::Set(1), Answer::Done),
        call(10, 20, Ask::Read, Answer::Holds(Some(1))),
        call(30, 40, Ask::Read, Answer::Holds(None)),
    ]));
    // The same calls, the reads side by side.
    assert!(judged(&[
        call(0, 100, Ask::Set(1), Answer::Done),
        call(10, 20, Ask::Read, Answer::Holds(Some(1))),
        call(15, 40, Ask::Read, Answer::Holds(None)),
    ]));
}

#[test]
fn a_call_of_unknown_outcome_may_happen_late_or_never_but_once() {
    let write = call(0, 1, Ask::Set(1), unknown());
    let read = |from, value| call(from, from + 1, Ask::Read, Answer::Holds(value));
    assert!(judged(&[write.clone(), read(10, None), read(20, None)]));
    assert!(judged(&[write.clone(), read(10, None), read(20, Some(1))]));
    assert!(!judged(&[write.clone(), read(10, Some(1)), read(20, None)]));
    // Made twice, by whoever tried again: the removal in between would have had to be last.
    assert!(!judged(&[
        call(0, 1, Ask::Create(1), unknown()),
        read(10, Some(1)),
        call(20, 21, Ask::Remove, Answer::Done),
        read(30, Some(1)),
    ]));
    // What a stale read has seen has happened by then.
    let seen = call(5, 6, Ask::StaleRead, Answer::Holds(Some(1)));
    assert!(!judged(&[write.clone(), seen.clone(), read(10, None)]));
    assert!(judged(&[write, seen, read(10, Some(1))]));
}

#[test]
fn what_was_refused_has_not_happened() {
    let refused = Answer::Refused("no".into());
    let write = call(0, 1, Ask::Set(1), refused);
    assert!(judged(&[
        write.clone(),
        call(2, 3, Ask::Read, Answer::Holds(None))
    ]));
    let read = call(2, 3, Ask::Read, Answer::Holds(Some(1)));
    assert!(!judged(&[write.clone(), read.clone()]));
    assert!(
        stale_reads(&[write, read])
            .unwrap_err()
            .contains("was refused")
    );
}

#[test]
fn a_stale_read_sees_what_was_and_nothing_of_the_future() {
    let write = call(10, 20, Ask::Set(1), Answer::Done);
    let next = call(30, 40, Ask::Set(2), Answer::Done);
    let read = |from, value| call(from, from + 1, Ask::StaleRead, Answer::Holds(value));
    let check = |read| stale_reads(&[write.clone(), next.clone(), read]);
    for good in [read(50, Some(1)), read(50, None), read(15, Some(1))] {
        check(good).unwrap();
    }
    assert!(
        check(read(5, Some(1)))
            .unwrap_err()
            .contains("before anybody asked")
    );
    assert!(
        check(read(50, Some(9)))
            .unwrap_err()
            .contains("nobody has written")
    );
}

#[test]
fn registers_are_judged_apart() {
    let other = |entry: Entry| Entry {
        key: "other".into(),
        ..entry
    };
    let bad = call(2, 3, Ask::Read, Answer::Holds(Some(7)));
    let good = call(0, 1, Ask::Set(7), Answer::Done);
    let refuted = linearizable(&[good.clone(), other(bad.clone())]).unwrap_err();
    assert_eq!(refuted.key, "other");
    assert!(judged(&[good, bad]));
}

/// Every order of the calls is tried, with nothing remembered.
fn by_trying_all(calls: &[Call<'_>], happened: u128, holds: Option<Value>) -> bool {
    let left = || (0..calls.len()).filter(|index| happened & (1 << index) == 0);
    if left().all(|index| calls[index].until.is_none()) {
        return true;
    }
    left().any(|index| {
        let call = &calls[index];
        let may = left().all(|other| {
            let other = &calls[other];
            other.until.is_none_or(|until| until >= call.entry.asked_ns)
        });
        may && call
            .after(holds)
            .is_some_and(|then| by_trying_all(calls, happened | 1 << index, then))
    })
}

/// A few calls at random, right or wrong.
fn any(dice: &mut Dice) -> Vec<Entry> {
    let count = 2 + dice.between(0, 5);
    let value = |dice: &mut Dice| dice.between(0, count);
    (0..count)
        .map(|number| {
            let from = dice.between(0, 40);
            let to = from + 1 + dice.between(0, 15);
            let (ask, answer) = match dice.below(9) {
                0 => (Ask::Set(number), Answer::Done),
                1 => (Ask::Set(number), unknown()),
                2 => (Ask::Create(number), Answer::Done),
                3 => (Ask::Create(number), unknown()),
                4 => (Ask::Create(number), Answer::Exists),
                5 => (Ask::Remove, Answer::Done),
                6 => (Ask::Remove, Answer::Absent),
                7 => (Ask::Read, Answer::Holds(None)),
                _ => (Ask::Read, Answer::Holds(Some(value(dice)))),
            };
            call(from, to, ask, answer)
        })
        .collect()
}

#[test]
fn it_judges_as_trying_all_orders_does() {
    let mut judgements = [0; 2];
    for seed in 0..20_000 {
        let entries = any(&mut Dice::new(seed, 0));
        let refs: Vec<&Entry> = entries.iter().collect();
        let expected = by_trying_all(&calls(&refs), 0, None);
        assert_eq!(judged(&entries), expected, "seed {seed}: {entries:#?}");
        judgements[usize::from(expected)] += 1;
    }
    assert!(
        judgements.iter().all(|count| *count > 1_000),
        "{judgements:?}"
    );
}

/// What clients of a real register see: each call happens at a moment between its ends, and some are never answered.
fn of_a_register(dice: &mut Dice, count: u64) -> Vec<Entry> {
    let mut moments: Vec<(u64, u64)> = (0..count)
        .map(|n| (dice.between(0, count * 10), n))
        .collect();
    moments.sort_unstable();
    let mut holds = None;
    moments
        .into_iter()
        .map(|(moment, number)| {
            let from = moment.saturating_sub(dice.between(0, 30));
            let to = moment + dice.between(0, 30);
            let (ask, answer, then) = match dice.below(4) {
                0 => (Ask::Set(number), Answer::Done, Some(number)),
                1 if holds.is_some() => (Ask::Create(number), Answer::Exists, holds),
                1 => (Ask::Create(number), Answer::Done, Some(number)),
                2 if holds.is_some() => (Ask::Remove, Answer::Done, None),
                2 => (Ask::Remove, Answer::Absent, None),
                _ => (Ask::Read, Answer::Holds(holds), holds),
            };
            let (done, then, answer) = match dice.below(12) {
                0 => (true, then, unknown()),
                1 => (false, holds, unknown()),
                _ => (true, then, answer),
            };
            if done {
                holds = then;
            }
            call(from, to, ask, answer)
        })
        .collect()
}

#[test]
fn what_a_register_did_is_believed_and_what_was_bent_afterwards_mostly_not() {
    let mut refused = 0;
    for seed in 0..300 {
        let dice = &mut Dice::new(seed, 1);
        let mut entries = of_a_register(dice, 60);
        assert!(judged(&entries), "seed {seed}");
        // One acknowledged write that somebody reads later is taken out of the world.
        let reads: Vec<Value> = entries
            .iter()
            .filter_map(|entry| match entry.answer {
                Answer::Holds(value) => value,
                _ => None,
            })
            .collect();
        let Some(value) = reads.first() else { continue };
        let before = entries.len();
        entries.retain(|entry| !matches!(entry.ask, Ask::Set(v) | Ask::Create(v) if v == *value));
        assert_eq!(entries.len() + 1, before);
        refused += u32::from(!judged(&entries));
        assert!(stale_reads(&entries).is_err());
    }
    assert!(refused > 250, "{refused} of 300");
}
