//! Headers by hand.

use super::*;

fn entries(bytes: &[u8]) -> Result<Vec<Entry>, TarError> {
    let mut reader = TarReader::new(bytes, Limits::default());
    let mut entries = Vec::new();
    while let Some(entry) = reader.next_entry()? {
        entries.push(entry);
    }
    Ok(entries)
}

#[test]
fn pax_values_may_hold_newlines() {
    let mut builder = tar::Builder::new(Vec::new());
    let value: &[u8] = b"\x01\n5 a=b\n\x00";
    builder
        .append_pax_extensions([
            ("SCHILY.xattr.security.capability", value),
            ("mtime", b"12.5"),
        ])
        .unwrap();
    let mut header = Header::new_ustar();
    header.set_size(3);
    header.set_mode(0o4755);
    builder
        .append_data(&mut header, "bin/ping", &b"abc"[..])
        .unwrap();
    let entries = entries(&builder.into_inner().unwrap()).unwrap();
    assert_eq!(entries.len(), 1);
    assert_eq!(
        entries[0].xattrs,
        [(b"security.capability".to_vec(), value.to_vec())]
    );
    assert_eq!(entries[0].mtime, (12, 500_000_000));
    assert_eq!(entries[0].mode, 0o4755);
}

#[test]
fn numbers_in_all_their_forms() {
    for (field, value) in [
        (&b"0000644\0"[..], Some(0o644)),
        (b"   644 \0", Some(0o644)),
        (b"\0\0\0\0", Some(0)),
        (b"        ", Some(0)),
        (b"77777777", Some(0o77_777_777)),
        (b"9", None),
        (b"-1", None),
        (b"\x80\0\0\0\0\0\x01\x02", Some(258)),
        (b"\x80\0\0\xff\xff\xff\xff\xff\xff\xff\xff\xff", None),
        (b"\xff\xff\xff\xff", None),
    ] {
        assert_eq!(number(field), value, "{field:?}");
    }
}

#[test]
fn times_before_1970_and_fractions() {
    assert_eq!(pax_time(b"-1.25"), Some((-2, 750_000_000)));
    assert_eq!(pax_time(b"7"), Some((7, 0)));
    assert_eq!(pax_time(b"7.1234567899"), Some((7, 123_456_789)));
    assert_eq!(pax_time(b"x"), None);
    assert_eq!(pax_time(b"1.x"), None);
}

#[test]
fn a_huge_extended_header_is_refused_unread() {
    for kind in [
        EntryType::XHeader,
        EntryType::GNULongName,
        EntryType::GNULongLink,
    ] {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(1 << 40);
        header.set_cksum();
        let error = entries(header.as_bytes()).unwrap_err();
        assert!(
            matches!(error, TarError::Fault(Fault::TooLarge { .. })),
            "{error:?}"
        );
    }
}

#[test]
fn garbage_and_truncation_are_told_apart() {
    assert!(matches!(
        entries(b""),
        Err(TarError::Fault(Fault::NotATar(_)))
    ));
    assert!(matches!(
        entries(&[b'x'; 2000]),
        Err(TarError::Fault(Fault::NotATar(_)))
    ));
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = Header::new_gnu();
    header.set_size(1000);
    builder
        .append_data(&mut header, "f", &[7_u8; 1000][..])
        .unwrap();
    let bytes = builder.into_inner().unwrap();
    assert!(matches!(
        entries(&bytes[..900]),
        Err(TarError::Fault(Fault::Truncated))
    ));
    assert_eq!(entries(&bytes[..1536]).unwrap().len(), 1);
}

proptest::proptest! {
    #[test]
    fn noise_never_panics(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..4096)) {
        let _ = entries(&bytes);
        let mut extended = Extended::default();
        let _ = extended.pax(&bytes);
    }
}
