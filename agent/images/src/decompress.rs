//! A layer's or archive's bytes in the clear: gzip, zstd or plain, told by their first bytes.

use std::io::{self, BufReader, Read};

use crate::fault::Fault;

const BUFFER_BYTES: usize = 256 << 10;

/// Decompresses by what the bytes are, not by what they are called: builders get the names wrong.
pub(crate) fn decompress<'a>(
    reader: impl Read + Send + 'a,
) -> io::Result<Box<dyn Read + Send + 'a>> {
    let mut reader = BufReader::with_capacity(BUFFER_BYTES, reader);
    // A short first read (a pipe, a socket) must not hide the magic.
    let mut head = Vec::with_capacity(4);
    reader.by_ref().take(4).read_to_end(&mut head)?;
    let magic = head.clone();
    let whole = io::Cursor::new(head).chain(reader);
    Ok(match magic.as_slice() {
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(whole)),
        [0x28, 0xb5, 0x2f, 0xfd] | [0x50..=0x5f, 0x2a, 0x4d, 0x18] => {
            Box::new(zstd::Decoder::with_buffer(whole)?)
        }
        _ => Box::new(whole),
    })
}

/// What a failed read says about the data; none if it was the system that failed.
pub(crate) fn fault_of(error: &io::Error) -> Option<Fault> {
    if let Some(fault) = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<Fault>())
    {
        return Some(fault.clone());
    }
    match error.kind() {
        io::ErrorKind::UnexpectedEof => Some(Fault::Truncated),
        _ if error.raw_os_error().is_some() => None,
        // Decompressors report damage under several kinds, none with an errno.
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::Other => {
            Some(match error.to_string() {
                text if text.contains("incomplete frame") => Fault::Truncated,
                text => Fault::Corrupt(text),
            })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn gz(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn read(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        decompress(bytes)?.read_to_end(&mut out)?;
        Ok(out)
    }

    #[test]
    fn three_forms_and_several_members() {
        let data = vec![7_u8; 100_000];
        assert_eq!(read(&data).unwrap(), data);
        assert_eq!(read(&gz(&data)).unwrap(), data);
        assert_eq!(
            read(&zstd::encode_all(&data[..], 1).unwrap()).unwrap(),
            data
        );
        assert_eq!(read(&[gz(b"a"), gz(b"b")].concat()).unwrap(), b"ab");
        assert_eq!(read(b"").unwrap(), b"");
        assert_eq!(read(b"abc").unwrap(), b"abc");
    }

    #[test]
    fn damage_is_named() {
        let data: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).collect();
        let mut bent = gz(&data);
        let middle = bent.len() / 2;
        bent[middle..middle + 50].fill(0xff);
        let fault = read(&bent).err().and_then(|error| fault_of(&error));
        assert!(
            matches!(fault, Some(Fault::Corrupt(_) | Fault::Truncated)),
            "{fault:?}"
        );
        for packed in [gz(&data), zstd::encode_all(&data[..], 1).unwrap()] {
            let fault = read(&packed[..packed.len() / 2])
                .err()
                .and_then(|error| fault_of(&error));
            assert_eq!(fault, Some(Fault::Truncated));
        }
    }
}
