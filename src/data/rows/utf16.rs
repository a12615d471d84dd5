//! UTF-16 → UTF-8.

use std::io::{self, BufRead, Read};

/// Which byte of a pair comes first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum ByteOrder {
    LittleEndian,
    BigEndian,
}

impl ByteOrder {
    /// The order of a UTF-16 text by its byte order mark, or where its first four characters are
    /// ASCII beyond doubt.
    pub fn of(start: &[u8]) -> Option<Self> {
        match start {
            // UTF-32, which has no reader here.
            [0xff, 0xfe, 0, 0, ..] => None,
            [0xff, 0xfe, ..] => Some(Self::LittleEndian),
            [0xfe, 0xff, ..] => Some(Self::BigEndian),
            _ if start.len() < 8 => None,
            _ => {
                let is_text = |byte: u8| matches!(byte, b'\t' | b'\n' | b'\r' | b' '..=b'~');
                let pairs = || start[..8].chunks_exact(2);
                if pairs().all(|it| is_text(it[0]) && it[1] == 0) {
                    Some(Self::LittleEndian)
                } else if pairs().all(|it| it[0] == 0 && is_text(it[1])) {
                    Some(Self::BigEndian)
                } else {
                    None
                }
            }
        }
    }
}

/// The UTF-8 of a UTF-16 text. Half a surrogate pair becomes three bytes that are no UTF-8, so that
/// the row it stands in is bad and no other.
pub(super) struct Utf16<R> {
    source: R,
    order: ByteOrder,
    /// The first half of a pair.
    half: Option<u16>,
    ready: Vec<u8>,
    given: usize,
}

impl<R: BufRead> Utf16<R> {
    pub fn new(source: R, order: ByteOrder) -> Self {
        Self { source, order, half: None, ready: Vec::new(), given: 0 }
    }

    /// Reads on; nothing is ready at the end.
    fn refill(&mut self) -> io::Result<()> {
        const AT_ONCE: u64 = 16 * 1024;
        self.ready.clear();
        self.given = 0;
        let mut bytes = Vec::new();
        self.source.by_ref().take(AT_ONCE).read_to_end(&mut bytes)?;
        if bytes.len() % 2 == 1 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        for pair in bytes.chunks_exact(2) {
            let unit = match self.order {
                ByteOrder::LittleEndian => u16::from_le_bytes([pair[0], pair[1]]),
                ByteOrder::BigEndian => u16::from_be_bytes([pair[0], pair[1]]),
            };
            self.push(unit);
        }
        if bytes.is_empty() {
            self.push_half();
        }
        Ok(())
    }

    fn push(&mut self, unit: u16) {
        if let (Some(high), 0xdc00..=0xdfff) = (self.half, unit) {
            self.half = None;
            let code = 0x10000 + ((u32::from(high) - 0xd800) << 10) + (u32::from(unit) - 0xdc00);
            self.push_char(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
            return;
        }
        self.push_half();
        match char::from_u32(u32::from(unit)) {
            Some(char) => self.push_char(char),
            None => {
                self.half = Some(unit);
                if unit >= 0xdc00 {
                    self.push_half();
                }
            }
        }
    }

    fn push_char(&mut self, char: char) {
        self.ready.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
    }

    fn push_half(&mut self) {
        if let Some(unit) = self.half.take() {
            let [high, low] = unit.to_be_bytes();
            let last = low & 0x3f;
            self.ready.extend([
                0xe0 | high >> 4,
                0x80 | (high & 0x0f) << 2 | low >> 6,
                0x80 | last,
            ]);
        }
    }
}

impl<R: BufRead> Read for Utf16<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.given == self.ready.len() {
            self.refill()?;
        }
        let count = buffer.len().min(self.ready.len() - self.given);
        buffer[..count].copy_from_slice(&self.ready[self.given..][..count]);
        self.given += count;
        Ok(count)
    }
}
