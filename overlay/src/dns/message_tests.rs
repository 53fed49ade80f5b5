use super::*;
use proptest::prelude::*;

fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::query();
    message.metadata.id = 77;
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

fn answer_to(packet: &[u8], transport: Transport, meaning: Meaning) -> Reply {
    let other = meaning.clone();
    reply(
        packet,
        transport,
        |_| meaning,
        |_| other,
        |addrs| addrs.sort(),
    )
}

fn decoded(reply: Reply) -> Message {
    match reply {
        Reply::Answer(bytes) => Message::from_vec(&bytes).unwrap(),
        other => panic!("{other:?}"),
    }
}

fn many(count: u8) -> Meaning {
    Meaning::Addresses((0..count).map(|n| Ipv4Addr::new(10, 0, 0, n)).collect())
}

#[test]
fn a_known_name_has_addresses_of_ttl_1_and_no_ipv6() {
    let packet = question("redis.", RecordType::A).to_vec().unwrap();
    let answer = decoded(answer_to(&packet, Transport::Udp, many(2)));
    assert_eq!(answer.metadata.id, 77);
    assert_eq!(answer.answers.len(), 2);
    assert!(answer.answers.iter().all(|record| record.ttl == 1));
    assert!(answer.metadata.recursion_available && answer.metadata.authoritative);
    let packet = question("redis.", RecordType::AAAA).to_vec().unwrap();
    let answer = decoded(answer_to(&packet, Transport::Udp, many(2)));
    assert_eq!(answer.metadata.response_code, ResponseCode::NoError);
    assert!(answer.answers.is_empty());
}

#[test]
fn what_does_not_fit_is_cut_and_said_to_be() {
    let mut message = question("tasks.a-rather-long-service-name.demo.", RecordType::A);
    let packet = message.to_vec().unwrap();
    let Reply::Answer(bytes) = answer_to(&packet, Transport::Udp, many(200)) else {
        panic!("no answer");
    };
    assert!(bytes.len() <= 512 && bytes.len() > 480, "{}", bytes.len());
    assert!(Message::from_vec(&bytes).unwrap().metadata.truncation);
    let mut edns = hickory_proto::op::Edns::new();
    edns.set_max_payload(4096);
    message.set_edns(edns);
    let packet = message.to_vec().unwrap();
    let Reply::Answer(bytes) = answer_to(&packet, Transport::Udp, many(200)) else {
        panic!("no answer");
    };
    assert!(
        bytes.len() <= UDP_MAX && bytes.len() > 1200,
        "{}",
        bytes.len()
    );
    let whole = decoded(answer_to(&packet, Transport::Tcp, many(200)));
    assert_eq!(whole.answers.len(), 200);
    assert!(!whole.metadata.truncation);
}

#[test]
fn pointers_refusals_and_silence() {
    let packet = question("1.0.0.10.in-addr.arpa.", RecordType::PTR)
        .to_vec()
        .unwrap();
    let pointer = Meaning::Pointer("shop_web.1.demo".into());
    let answer = decoded(answer_to(&packet, Transport::Udp, pointer));
    assert_eq!(answer.answers.len(), 1);
    assert_eq!(
        answer_to(&packet, Transport::Udp, Meaning::Elsewhere),
        Reply::Forward
    );
    let failed = Message::from_vec(&failure(&packet).unwrap()).unwrap();
    assert_eq!(failed.metadata.response_code, ResponseCode::ServFail);
    // A response is no question, or two resolvers would talk forever.
    let response = failed.to_vec().unwrap();
    assert_eq!(answer_to(&response, Transport::Udp, many(1)), Reply::Ignore);
    let mut two = question("a.", RecordType::A);
    two.add_query(Query::query(Name::root(), RecordType::A));
    let answer = decoded(answer_to(&two.to_vec().unwrap(), Transport::Udp, many(1)));
    assert_eq!(answer.metadata.response_code, ResponseCode::FormErr);
    assert_eq!(answer_to(b"short", Transport::Udp, many(1)), Reply::Ignore);
}

#[test]
fn an_answer_must_answer_the_question() {
    let asked = question("example.org.", RecordType::A);
    let packet = asked.to_vec().unwrap();
    let good = response(&asked, ResponseCode::NoError).to_vec().unwrap();
    assert!(answers(&packet, &good));
    assert!(!answers(&packet, &packet));
    let other = question("example.net.", RecordType::A);
    let bad = response(&other, ResponseCode::NoError).to_vec().unwrap();
    assert!(!answers(&packet, &bad));
}

proptest! {
    #[test]
    fn no_packet_is_too_strange(packet in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = answer_to(&packet, Transport::Udp, many(3));
        let _ = failure(&packet);
        let _ = answers(&packet, &packet);
    }

    #[test]
    fn no_damaged_question_is_too_strange(
        at in 0..40_usize, byte in any::<u8>(), cut in 0..60_usize, count in any::<u8>()
    ) {
        let mut packet = question("tasks.web.demo.", RecordType::A).to_vec().unwrap();
        if let Some(place) = packet.get_mut(at) {
            *place = byte;
        }
        packet.truncate(cut);
        if let Reply::Answer(bytes) = answer_to(&packet, Transport::Udp, many(count)) {
            prop_assert!(bytes.len() <= UDP_MAX);
        }
    }
}
