//! The messages of Arrow's stream format, checked before a reader takes memory for them.

use std::io::{Cursor, Read, Result};

use arrow_ipc::{Message, root_as_message};

use crate::memory;

/// What begins a message.
const MARK: [u8; 4] = [0xff; 4];

/// A source of messages in which no packed buffer claims to be larger than the memory that is free.
/// Readers take the memory before they unpack.
pub(super) struct Frames<R> {
    source: R,
    /// What was read ahead.
    ready: Cursor<Vec<u8>>,
    /// Bytes of the message that may pass as they are.
    body: u64,
    /// Whether the messages are over, or are none: the reader says which.
    is_over: bool,
}

impl<R: Read> Frames<R> {
    pub fn new(source: R) -> Self {
        Self { source, ready: Cursor::default(), body: 0, is_over: false }
    }

    /// Reads ahead to the next message, and all of one that is packed.
    fn advance(&mut self) -> Result<()> {
        let mut message = self.ahead(4)?;
        if message == MARK {
            message.extend(self.ahead(4)?);
        }
        let length = message.last_chunk().map_or(0, |it| i32::from_le_bytes(*it));
        let head = message.len();
        message.extend(self.ahead(u64::try_from(length).unwrap_or(0))?);
        let parsed = root_as_message(&message[head..]).ok();
        let body = parsed.and_then(|it| u64::try_from(it.bodyLength()).ok());
        self.is_over = length <= 0 || body.is_none();
        self.body = body.filter(|_| !self.is_over).unwrap_or(0);
        if let Some(buffers) = parsed.filter(|_| !self.is_over).and_then(packed_buffers) {
            let body = self.ahead(self.body)?;
            self.body = 0;
            check(&buffers, &body)?;
            message.extend(body);
        }
        self.ready = Cursor::new(message);
        Ok(())
    }

    /// The next bytes of the source, fewer at its end.
    fn ahead(&mut self, count: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.source.by_ref().take(count).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

/// Where the buffers of a packed message begin.
fn packed_buffers(message: Message) -> Option<Vec<usize>> {
    let of_dictionary = || message.header_as_dictionary_batch()?.data();
    let batch = message.header_as_record_batch().or_else(of_dictionary)?;
    batch.compression()?;
    let buffers = batch.buffers()?;
    Some(buffers.iter().filter_map(|it| usize::try_from(it.offset()).ok()).collect())
}

/// Refuses buffers that claim more together than there is. Each begins with its length when unpacked.
fn check(buffers: &[usize], body: &[u8]) -> Result<()> {
    let length = |&at: &usize| Some(i64::from_le_bytes(*body.get(at..)?.first_chunk()?));
    let lengths = buffers.iter().filter_map(length).filter_map(|it| u128::try_from(it).ok());
    memory::check(lengths.sum(), "a batch of rows", "write smaller batches")
        .map_err(std::io::Error::other)
}

impl<R: Read> Read for Frames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        loop {
            let count = self.ready.read(buffer)?;
            if count > 0 || buffer.is_empty() {
                return Ok(count);
            }
            if self.body > 0 {
                let count = self.source.by_ref().take(self.body).read(buffer)?;
                self.body = if count == 0 { 0 } else { self.body - count as u64 };
                return Ok(count);
            }
            if self.is_over {
                return self.source.read(buffer);
            }
            self.advance()?;
        }
    }
}
